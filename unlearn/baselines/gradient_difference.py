r"""Gradient difference (GradDiff; Liu, Liu and Stone 2022, arXiv:2203.12817; TOFU, arXiv:2401.06121).

    loss = E_forget log p(x_i | x_<i) - E_retain log p(x_i | x_<i)

Gradient ascent on the forget text beside ordinary training on the retain text.
"""

from __future__ import annotations

from .gradient_ascent import terms
from .method import Method

METHOD = Method("gradient_difference", terms, retain=("mixed",))

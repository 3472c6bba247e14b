r"""Gradient ascent held back by the baseline (GA+KL; Yao et al. 2023, arXiv:2310.10683; TOFU, arXiv:2401.06121).

    loss = E_forget log p(x_i | x_<i) + E_retain KL(p_baseline(. | x_<i) || p(. | x_<i))

The divergence is over the whole vocabulary at each place. Its direction is that of the published trainers;
arXiv:2404.05868 writes the other one.
"""

from __future__ import annotations

from .gradient_ascent import terms
from .method import Method

METHOD = Method("kl_ascent", terms, retain=("kl",))

"""All baseline methods by name. The one that leaves no checkpoint is in `unlearn.baselines.inference_whp`."""

from __future__ import annotations

from audit.errors import InputError
from audit.text.safe import did_you_mean, quoted

from . import gradient_ascent, gradient_difference, kl_ascent, npo, refusal, rmu, simnpo, task_vector
from .method import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (gradient_ascent, gradient_difference, kl_ascent, npo, simnpo, refusal, rmu, task_vector)
}


def method(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in METHODS:
        raise InputError(
            f"no baseline method {quoted(name)}; expected one of {', '.join(METHODS)}.{did_you_mean(name, METHODS)}"
        )
    return METHODS[name]

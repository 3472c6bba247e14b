r"""How a prompt's embeddings are corrupted: e~ = COR(e; sigma), after Liu et al. 2024 (arXiv:2406.07933).

With e a selected token's embedding of D numbers, n = ``dims`` and sigma = ``strength``:

    rand_noise_first_n    e_j + N(0, sigma^2)      j in the first n dims (the authors' default)
    rand_noise_rand_n     the same                 n random dims, one choice for a prompt
    rand_noise_top_k      the same                 each token's n dims of largest |e_j|
    set_rand_noise_first_n    N(0, sigma^2)        first n
    zero_out_first_n, zero_out_top_k       0       first n; largest |e_j|
    flip_sign_first_n, flip_sign_top_k    -e_j     first n; largest |e_j|
    add_value_first_n, sub_value_first_n  e_j + sigma, e_j - sigma    first n
    sub_value_top_k, add_value_least_k    e_j - sigma, e_j + sigma    n largest; n smallest signed e_j
    laplace_noise_first_n     e_j + Laplace(0, sigma / sqrt 2)        first n
    uniform_noise_first_n     e_j + U(-sigma sqrt 3, sigma sqrt 3)    first n
    reverse_order, shuffle    the selected tokens, last first; at random

Source: the authors' code; the two noises before the last line are ours, with the variance of the normal one.

Departures, each a defect of that code: nothing but selected tokens changes, to the bit (there -0.0 became +0.0 in rows
that were not flagged, set_rand_noise_first_n emptied tokens that were not selected, and reverse_order and shuffle moved
every row and its padding). The noise of a prompt depends on its seed alone, not on the batch, the device or torch's
own generator, so that it can be computed again; rand_n chooses its dims for a prompt, not for a batch.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Generator, Tensor

from audit.errors import InputError
from audit.text.safe import did_you_mean, quoted

_BLOCK: Final = 64
"""Tokens whose noise is drawn at once: torch draws tensors of other sizes in another order, and the noise of a
prompt's first tokens must not depend on how many follow."""

_PURPOSE: Final = b"palimpsest eco noise 1\0"
"""So that the key, used for something else, gives nothing of the noise away."""

_LIMIT: Final = 1e12
"""Norms square their input, which must stay finite in float32."""

# In float16, whose largest number is 65,504. The drawn normal numbers never pass 5.8 sigma, the Laplace ones 11.8.
_HALF_LIMIT: Final = 1e4
_HALF_LIMIT_LAPLACE: Final = 5e3

Choose = Callable[[Tensor, int, Generator], Tensor]
Change = Callable[[Tensor, float, Generator], Tensor]
Reorder = Callable[[int, Generator], Tensor]


class Function(NamedTuple):
    """One line of the table above.

    Either ``choose`` and ``change``: from a prompt's selected tokens (N, D) the dims to change (N, n), and from the
    values there (N, n) what stands in their place; or ``reorder``: from N the places whose tokens come first, second...
    """

    choose: Choose | None = None
    change: Change | None = None
    reorder: Reorder | None = None
    needs_strength: bool = False
    half_limit: float = _HALF_LIMIT

    @property
    def needs_dims(self) -> bool:
        return self.reorder is None


@dataclass(frozen=True, slots=True)
class Corruption:
    """What is done to the selected tokens of a flagged prompt.

    Raises:
        InputError: The function is unknown, or lacks a setting, or has one that it would not use.
    """

    function: str = "rand_noise_first_n"
    """A name of ``FUNCTIONS``."""
    strength: float | None = None
    """sigma, in units of the embeddings, from 0 to 1e12. Noise of strength 0 changes no value."""
    dims: int | None = None
    """n, from 1 to the width of the embeddings."""

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            hint = did_you_mean(self.function, FUNCTIONS)
            raise InputError(
                f"corruption {quoted(self.function)} is unknown; expected one of {', '.join(FUNCTIONS)}.{hint}"
            )
        function = FUNCTIONS[self.function]
        for name, value, needed, fits in (
            ("strength", self.strength, function.needs_strength, _is_strength(self.strength)),
            ("dims", self.dims, function.needs_dims, type(self.dims) is int and self.dims >= 1),
        ):
            expected = "a number from 0 to 1e12" if name == "strength" else "a whole number >= 1"
            if needed and not fits:
                raise InputError(f"corruption {self.function}: {name} is {value!r}; expected {expected}.")
            if not needed and value is not None:
                raise InputError(f"corruption {self.function} uses no {name}; leave it out ({value!r} was given).")


def _is_strength(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LIMIT


def corrupt(embeddings: Tensor, mask: Tensor, corruption: Corruption, *, seeds: Sequence[int | None]) -> Tensor:
    """Corrupts the selected tokens of flagged prompts.

    Args:
        embeddings: Shape (B, T, D), floating; left as they are.
        mask: Which tokens are selected, shape (B, T), boolean.
        corruption: What is done to them.
        seeds: For each row the seed of its noise (see `noise_seed`), None where the prompt is not flagged.

    Returns:
        Shape, dtype and device of ``embeddings``; where no row is flagged, ``embeddings`` itself.

    Raises:
        InputError: Shapes do not fit, ``dims`` is more than D, or the strength is too much for float16.
    """
    function = FUNCTIONS[corruption.function]
    _check(embeddings, mask, corruption, seeds)
    result = embeddings
    for row, seed in enumerate(seeds):
        places = mask[row].nonzero()[:, 0].to(embeddings.device)  # (N,)
        if seed is None or not len(places):
            continue
        if result is embeddings:
            result = embeddings.clone()
        generator = Generator().manual_seed(seed)
        result[row, places] = _corrupted(embeddings[row, places], function, corruption, generator)
    return result


def _corrupted(tokens: Tensor, function: Function, corruption: Corruption, generator: Generator) -> Tensor:
    """One prompt's selected tokens (N, D) -> (N, D)."""
    if function.reorder is not None:
        return tokens[function.reorder(len(tokens), generator).to(tokens.device)]
    assert function.choose is not None
    assert function.change is not None
    assert corruption.dims is not None
    dims = function.choose(tokens, corruption.dims, generator)  # (N, n)
    changed = function.change(tokens.gather(1, dims), corruption.strength or 0.0, generator)
    return tokens.scatter(1, dims, changed)


def noise_seed(text: str, *, key: bytes) -> int:
    """Seed of a prompt's noise, from the prompt and a secret: HMAC-SHA-256, 32 bits of it.

    The same prompt gets the same noise, so that caches keep their use; without the key nobody can work it out from
    the prompt. torch's CPU generator takes no more than 32 bits, which whoever sees corrupted embeddings could try
    one by one: the seed is no protection there.

    Raises:
        InputError: The key has fewer than 16 bytes, or the text holds half of a surrogate pair.
    """
    if len(key) < 16:
        raise InputError(
            f"the key of the noise has {len(key)} bytes; expected 16 or more, such as secrets.token_bytes."
        )
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise InputError("a prompt holds half of a surrogate pair, which is no character. Remove it.") from None
    digest = hmac.digest(key, _PURPOSE + content, hashlib.sha256)
    return int.from_bytes(digest[:4], "big")


# --- which dims (N, n) -----------------------------------------------------------------------------------------------


def _first(tokens: Tensor, n: int, _generator: Generator) -> Tensor:
    return torch.arange(n, device=tokens.device).expand(len(tokens), n)


def _random(tokens: Tensor, n: int, generator: Generator) -> Tensor:
    return torch.randperm(tokens.shape[1], generator=generator)[:n].to(tokens.device).expand(len(tokens), n)


def _largest_size(tokens: Tensor, n: int, _generator: Generator) -> Tensor:
    return _leading(tokens.abs(), n)


def _largest_value(tokens: Tensor, n: int, _generator: Generator) -> Tensor:
    return _leading(tokens, n)


def _smallest_value(tokens: Tensor, n: int, _generator: Generator) -> Tensor:
    return _leading(-tokens, n)


def _leading(values: Tensor, n: int) -> Tensor:
    """Of each row the places of the n largest values; of equal ones the first, on every device."""
    return values.argsort(dim=1, descending=True, stable=True)[:, :n]


# --- what stands there instead (N, n) --------------------------------------------------------------------------------


def _normal(like: Tensor, strength: float, generator: Generator) -> Tensor:
    return _drawn(lambda shape: strength * torch.randn(shape, generator=generator), like)


def _laplace(like: Tensor, strength: float, generator: Generator) -> Tensor:
    """b = sigma / sqrt 2; a size drawn from Exp(1 / b), and a sign."""

    def draw(shape: tuple[int, int]) -> Tensor:
        size = -torch.log1p(-torch.rand(shape, generator=generator))
        sign = 1 - 2 * torch.randint(2, shape, generator=generator)
        return strength / math.sqrt(2) * size * sign

    return _drawn(draw, like)


def _uniform(like: Tensor, strength: float, generator: Generator) -> Tensor:
    """Half-width sigma sqrt 3."""
    return _drawn(lambda shape: strength * math.sqrt(3) * (2 * torch.rand(shape, generator=generator) - 1), like)


def _drawn(draw: Callable[[tuple[int, int]], Tensor], like: Tensor) -> Tensor:
    """Noise (N, n) in float32 on the CPU, block by block, then in the dtype and on the device of ``like``."""
    n_tokens, n_dims = like.shape
    blocks = [draw((_BLOCK, n_dims)) for _ in range(0, n_tokens, _BLOCK)]
    return torch.cat(blocks)[:n_tokens].to(device=like.device, dtype=like.dtype)


def _plus(noise: Change) -> Change:
    return lambda values, strength, generator: values + noise(values, strength, generator)


def _zero(values: Tensor, _strength: float, _generator: Generator) -> Tensor:
    return torch.zeros_like(values)


def _negative(values: Tensor, _strength: float, _generator: Generator) -> Tensor:
    return -values


def _added(values: Tensor, strength: float, _generator: Generator) -> Tensor:
    return values + strength


def _subtracted(values: Tensor, strength: float, _generator: Generator) -> Tensor:
    return values - strength


# --- in which order (N,) ---------------------------------------------------------------------------------------------


def _reversed(n_tokens: int, _generator: Generator) -> Tensor:
    return torch.arange(n_tokens - 1, -1, -1)


def _shuffled(n_tokens: int, generator: Generator) -> Tensor:
    return torch.randperm(n_tokens, generator=generator)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "rand_noise_first_n": Function(_first, _plus(_normal), needs_strength=True),
    "rand_noise_rand_n": Function(_random, _plus(_normal), needs_strength=True),
    "rand_noise_top_k": Function(_largest_size, _plus(_normal), needs_strength=True),
    "set_rand_noise_first_n": Function(_first, _normal, needs_strength=True),
    "zero_out_first_n": Function(_first, _zero),
    "zero_out_top_k": Function(_largest_size, _zero),
    "flip_sign_first_n": Function(_first, _negative),
    "flip_sign_top_k": Function(_largest_size, _negative),
    "add_value_first_n": Function(_first, _added, needs_strength=True),
    "sub_value_first_n": Function(_first, _subtracted, needs_strength=True),
    "sub_value_top_k": Function(_largest_value, _subtracted, needs_strength=True),
    "add_value_least_k": Function(_smallest_value, _added, needs_strength=True),
    "laplace_noise_first_n": Function(_first, _plus(_laplace), needs_strength=True, half_limit=_HALF_LIMIT_LAPLACE),
    "uniform_noise_first_n": Function(_first, _plus(_uniform), needs_strength=True),
    "reverse_order": Function(reorder=_reversed),
    "shuffle": Function(reorder=_shuffled),
}
"""Name -> what it does and which settings it needs."""


def _check(embeddings: Tensor, mask: Tensor, corruption: Corruption, seeds: Sequence[int | None]) -> None:
    if embeddings.dim() != 3 or mask.shape != embeddings.shape[:2] or len(seeds) != len(embeddings):
        raise InputError(
            f"embeddings have shape {tuple(embeddings.shape)}, the mask {tuple(mask.shape)}, and there are "
            f"{len(seeds)} seeds; expected (B, T, D), (B, T) and B."
        )
    if mask.dtype != torch.bool:
        raise InputError(f"the mask is {mask.dtype}; expected torch.bool, true where a token is selected.")
    width = embeddings.shape[2]
    if corruption.dims is not None and corruption.dims > width:
        raise InputError(
            f"corruption {corruption.function}: dims is {corruption.dims:,}; the embeddings have {width:,}."
        )
    limit = FUNCTIONS[corruption.function].half_limit
    if embeddings.dtype == torch.float16 and (corruption.strength or 0.0) > limit:
        raise InputError(
            f"corruption {corruption.function}: strength {corruption.strength:g} is too much for float16, whose "
            f"largest number is 65,504; at most {limit:g} is safe. Load the model in bfloat16 or float32, or lower it."
        )

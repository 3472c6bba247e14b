r"""What steering costs: perplexity of texts while the maps act, and its change in percent.

    per token      exp(sum of all losses / number of tokens)                    over all texts
    per sentence   mean over texts of exp(mean loss of a text's first 50 tokens)

The second is that of Linear-AcT's code (arXiv:2410.23054), which LinEAS's tables have; single odd sentences weigh much
in it. Losses are in nats; the beginning-of-sequence token is not scored and not counted among the 50 (not sourced).
Texts are resampled, or whole documents where they are named, steered and unsteered together.

On text of both attributes perplexity rises because steering works: read it on neutral text, and on target text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import check_lengths, encode, prefix_ids
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats, Seed
from audit.stats.estimate import Estimate

from ..arms import Arm
from ..steer import steered

FIRST: Final = 50  # tokens of a sentence
Kind = Literal["per token", "per sentence"]
KINDS: Final[tuple[Kind, ...]] = ("per token", "per sentence")


@dataclass(frozen=True, slots=True)
class TextLosses:
    """Losses of some texts under an arm.

    Attributes:
        name: Of the set of texts: "neutral", "target".
        arm: Which steered.
        strength: At which.
        units: What is resampled: the document of each text, or its place.
        losses: Sum over each text's tokens, in nats; shape (n,).
        n_tokens: Tokens of each; shape (n,).
        first_losses: Sum over the first 50 tokens.
        n_first: How many these are.
    """

    name: str
    arm: str
    strength: float
    units: tuple[str, ...]
    losses: Floats
    n_tokens: Floats
    first_losses: Floats
    n_first: Floats

    def __len__(self) -> int:
        return len(self.units)

    def parts(self, kind: Kind) -> tuple[Floats, Floats]:
        """Numerator and denominator of each text, so that perplexity is `joined` of their sums."""
        if kind not in get_args(Kind):
            raise InputError(f'the kind of perplexity is "{kind}"; expected {" or ".join(map(repr, KINDS))}.')
        if kind == "per token":
            return self.losses, self.n_tokens
        with np.errstate(over="ignore"):
            return np.exp(self.first_losses / self.n_first), np.ones(len(self))

    def to_record(self) -> dict[str, Any]:
        """Plain JSON, from which `from_record` makes it again, to the bit."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"name": self.name, "arm": self.arm, "strength": self.strength, "units": list(self.units), **arrays}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> TextLosses:
        arrays = [np.array(record[name], dtype=np.float64) for name in _ARRAYS]
        return cls(record["name"], record["arm"], float(record["strength"]), tuple(record["units"]), *arrays)


_ARRAYS: Final = ("losses", "n_tokens", "first_losses", "n_first")


def text_losses(
    lm: LanguageModel,
    arm: Arm,
    strength: float,
    texts: Sequence[str],
    name: str,
    *,
    documents: Sequence[str] | None = None,
    max_tokens: int | None = None,
) -> TextLosses:
    """Losses of texts while the arm's maps act; an instruction is left out.

    Args:
        lm: The model.
        arm: How it is steered.
        strength: Of the maps.
        texts: One or more.
        name: Of the set.
        documents: From which each comes, where several come from one.
        max_tokens: Tokens of a text that are scored; None takes all that fit the context.

    Raises:
        InputError: There are no texts, or not one document for each.
        DataError: A text has no token that can be scored.
        ModelError: As `audit.lm.logprobs.token_log_probs` and `unlearn.lineas.steer.steered`.
    """
    if not texts or (documents is not None and len(documents) != len(texts)):
        raise InputError(
            f"there are {len(texts):,} {name} texts and {len(documents or texts):,} documents; expected one text or "
            "more, and one document for each."
        )
    if max_tokens is not None and max_tokens < 2:
        raise InputError(f"max_tokens is {max_tokens}; expected 2 or more.")
    names = [f"{name} {place + 1}" for place in range(len(texts))]
    ids, _ = check_lengths(lm, names, encode(lm, texts), truncate=True)
    with steered(lm.model, arm.maps, strength):
        scored = token_log_probs(lm, [one[:max_tokens] for one in ids], prefix=prefix_ids(lm))
    losses = [-one.log_probs.astype(np.float64) for one in scored]
    if any(np.isnan(one).any() for one in losses):
        raise DataError(f"{arm.name} at strength {strength:g} gives {name} texts losses that are no numbers.")
    return TextLosses(
        name,
        arm.name,
        float(strength),
        tuple(str(place) for place in range(len(texts))) if documents is None else tuple(documents),
        np.array([one.sum() for one in losses]),
        np.array([float(len(one)) for one in losses]),
        np.array([one[:FIRST].sum() for one in losses]),
        np.array([float(len(one[:FIRST])) for one in losses]),
    )


def joined(kind: Kind, numerator: Floats, denominator: Floats) -> Floats:
    """Perplexity of sums over texts: exp(losses / tokens), or the mean of the single perplexities."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio: Floats = numerator / denominator
        return np.exp(ratio) if kind == "per token" else ratio


def perplexity(found: TextLosses, kind: Kind, *, rng: Seed = 0, level: float = 0.95) -> Estimate:
    """Perplexity, >= 1, with a bootstrap interval over texts or documents."""
    method = f"perplexity {kind}, {found.name} texts"

    def statistic(numerator: Floats, denominator: Floats, axis: int = -1) -> Floats:
        return joined(kind, numerator.sum(axis=axis), denominator.sum(axis=axis))

    parts = found.parts(kind)
    if not all(np.isfinite(part).all() for part in parts):
        return Estimate.undefined(method=method, why=_BROKEN, n=len(set(found.units)), level=level)
    found_ = bootstrap(statistic, *parts, paired=True, clusters=found.units, level=level, rng=rng)
    return replace(found_, method=f"{method}, {found_.method}")


def change(steered: TextLosses, plain: TextLosses, kind: Kind, *, rng: Seed = 0, level: float = 0.95) -> Estimate:
    """Perplexity against unsteered, in percent: 0 is no change, 5 is 5% more; the same texts drawn for both.

    Raises:
        InputError: The two are of different texts.
    """
    check_alike(steered, plain)
    method = f"change of perplexity {kind} in percent, {steered.name} texts"
    (top, bottom), (plain_top, plain_bottom) = steered.parts(kind), plain.parts(kind)
    if not all(np.isfinite(part).all() for part in (top, bottom, plain_top, plain_bottom)):
        return Estimate.undefined(method=method, why=_BROKEN, n=len(set(plain.units)), level=level)

    def statistic(a: Floats, b: Floats, c: Floats, d: Floats, axis: int = -1) -> Floats:
        after, before = (joined(kind, x.sum(axis=axis), y.sum(axis=axis)) for x, y in ((a, b), (c, d)))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(100 * (after / before - 1))

    found = bootstrap(
        statistic, top, bottom, plain_top, plain_bottom, paired=True, clusters=plain.units, level=level, rng=rng
    )
    return replace(found, method=f"{method}, paired {found.method}")


def check_alike(a: TextLosses, b: TextLosses) -> None:
    """Refuse losses of different texts.

    Raises:
        InputError: Names, units or tokens differ.
    """
    if a.name != b.name or a.units != b.units or not np.array_equal(a.n_tokens, b.n_tokens):
        raise InputError(
            f"perplexities of {a.name} texts under {a.arm} and of {b.name} texts under {b.arm} are not of the same "
            "texts; measure both alike."
        )


_BROKEN: Final = "a text has a loss that is not finite: steering at this strength broke the model"

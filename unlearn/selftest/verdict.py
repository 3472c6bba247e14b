"""The verdict on a remedy, of systems whose truth is drawn: what they know, under attack or not, and what they kept.

Each system has values on 40 rows of 20 people: 0.1 where nothing is known and 0.7 where all is, rows easy and hard for
all alike, and noise of its own of a thirtieth of the gap. Bounds lie at 0.2 of the gap: a second gold, whose residual
has a standard error of 0.01, is 20 of these away from being taken for anything but "removed", a system that kept 0.9 is
70 away. The rule of a verdict is not drawn, so none of these can be luck.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.answers.qa import Qa
from audit.forgetting.measured import Measured
from audit.selftest.answers import Instrument, Known, near, same, within
from unlearn.verify import destroyed, judging, residual
from unlearn.verify import utility as utilities
from unlearn.verify.battery import Battery
from unlearn.verify.found import Found
from unlearn.verify.judging import Tried
from unlearn.verify.robustness.relearn import Curve

_CLUSTERS, _ROWS = 20, 2
_HARD = np.random.default_rng(11).normal(0, 0.05, _CLUSTERS * _ROWS)
_WAYS = ("as given", "few shots", "in capitals")
_REWORDINGS = ("untouched", "backwards", "base64")
_KNOWLEDGE = ("knowledge.probability", "knowledge.probability.paraphrased", "knowledge.rouge")


@dataclass(frozen=True)
class _Truth:
    """Shares of the subject's lead that a system has: as it is, under attacks (None: as without), and of what it was to
    keep."""

    knows: float = 0.0
    prompted: float | None = None
    rounded: float | None = None
    relearned: float | None = None
    leaks: float | None = None
    useful: float = 1.0
    general: float = 1.0

    def under(self, attack: str) -> float:
        share = getattr(self, attack)
        return self.knows if share is None else float(share)


def ask(work: Path) -> Iterator[Known]:
    """Residuals by arithmetic, the rules of destruction, and the verdict on each kind of system."""
    yield from _residuals()
    subject, gold = _system("subject", _Truth(knows=1.0), seed=1), _system("gold", _Truth(), seed=2)
    cases = [
        ("the subject, untouched", subject, "not removed"),
        ("the subject with other noise", _system("remedied", _Truth(knows=1.0), seed=4), "not removed"),
        ("half of it left", _system("remedied", _Truth(knows=0.5), seed=5), "not removed"),
        ("a second gold", _system("gold 2", _Truth(), seed=3), "removed"),
        ("a third gold", _system("gold 3", _Truth(), seed=6), "removed"),
        ("random weights", _system("random", _Truth(useful=0.0, general=-0.5), seed=7), "destroyed"),
        ("it comes back when rounded", _system("remedied", _Truth(rounded=0.9), seed=8), "suppressed"),
        ("it comes back when relearned", _system("remedied", _Truth(relearned=0.9), seed=9), "suppressed"),
        ("it comes back when asked otherwise", _system("remedied", _Truth(prompted=0.9), seed=10), "suppressed"),
        ("a filter before the subject", _system("guard", _Truth(), seed=11, own=False), "suppressed"),
        ("a filter that leaks", _system("guard", _Truth(leaks=0.9), seed=12, own=False), "not removed"),
        ("a filter that refuses everything", _system("guard", _Truth(useful=0.0), seed=13, own=False), "destroyed"),
        ("pushed below gold", _system("remedied", _Truth(knows=-0.5), seed=14), "suppressed"),
    ]
    for name, system, word in cases:
        found = judging.judge(system, subject, gold).verdict
        yield same(f"{name}: verdict", found.word, word, "this is how it was made")
    swapped = judging.judge(
        replace(gold, name="one"), replace(gold, name="subject"), replace(subject, name="gold")
    ).verdict.word
    yield same("a gold that knows more than the subject", swapped, "undecided", "subject and gold were exchanged")
    yield same(
        "no gold, the subject untouched",
        judging.judge(subject, subject, None).verdict.word,
        "not removed",
        "it knows rows that nobody saw less well than these",
    )
    yield same(
        "no gold, all removed",
        judging.judge(_system("remedied", _Truth(), seed=15), subject, None).verdict.word,
        "undecided",
        "without a gold nothing can be cleared",
    )
    bare = replace(_system("remedied", _Truth(), seed=16), rounded={}, curves=(), missing={"all": "not tried"})
    yield same(
        "removed when asked, and never attacked",
        judging.judge(bare, subject, gold).verdict.word,
        "undecided",
        "what was not tried clears nothing",
    )
    yield from _destroyed(subject, gold)


def _residuals() -> Iterator[Known]:
    rng = np.random.default_rng(12)
    gold = _measured(rng, "p", 0.0)
    lead = replace(gold, values=gold.values + 0.6)
    for left in (0.0, 0.3, 1.0, -0.2):
        one = replace(gold, values=gold.values + left * 0.6)
        found = residual.residual(lead, one, gold, rng=0)
        yield near(f"residual where {left:g} is left", found.value, left, "(remedied - gold) / (subject - gold)")
    fallen = residual.residual(
        replace(gold, values=-lead.values),
        replace(gold, values=-gold.values),
        replace(gold, values=-gold.values),
        falls=True,
        rng=0,
    )
    yield near("residual of a loss, all forgotten", fallen.value, 0.0, "smaller values say that more is known")
    attacked = replace(gold, values=gold.values + 0.45)
    back = residual.recovered(lead, gold, attacked, gold, rng=0)
    yield near("share that an attack brings back", back.value, 0.75, "0.45 of a gap of 0.6")
    flat = residual.residual(gold, gold, gold, rng=0)
    yield same("residual without a gap", flat.value, None, "a share of nothing is undefined")


def _destroyed(subject: Tried, gold: Tried) -> Iterator[Known]:
    never = subject.battery.never.measured["knowledge.rouge"]
    for name, truth, answer in (
        ("kept all", _Truth(), False),
        ("kept three quarters", _Truth(useful=0.8, general=0.8), False),
        ("lost all", _Truth(useful=0.0, general=0.0), True),
    ):
        system = _system("any", truth, seed=17)
        found = destroyed.judge_destroyed(subject.battery.useful, system.battery.useful, never=never, rng=0)
        yield same(f"a system that {name} is destroyed", found.answer, answer, "the border is half of each lead")
        lead = next(one for one in found.rules if one.key == "guessing").estimate.value
        yield within(
            f"a system that {name}: lead over guessing that is kept",
            lead,
            truth.general - 0.05,
            truth.general + 0.05,
            "noise of 0.05 on a lead of 2, over 20 texts",
            luck=1e-6,
        )


def _measured(rng: np.random.Generator, name: str, share: float, of: str = "forget") -> Measured:
    n = _CLUSTERS * _ROWS
    values = 0.1 + 0.6 * share + _HARD + rng.normal(0, 0.02, n)
    return Measured(name, tuple(f"{of}/{i}" for i in range(n)), tuple(f"{of}/c{i // _ROWS}" for i in range(n)), values)


def _system(name: str, truth: _Truth, *, seed: int, own: bool = True) -> Tried:
    """A system as a loop would have measured it."""
    rng = np.random.default_rng(seed)
    n = _CLUSTERS * _ROWS
    direct = {key: _measured(rng, key, truth.knows) for key in _KNOWLEDGE}
    never = {key: _measured(rng, key, 0.0, "never") for key in _KNOWLEDGE}
    ids = tuple(f"p{i}" for i in range(_CLUSTERS))
    losses = Measured("loss", ids, ids, 5.0 - 2.0 * truth.general + rng.normal(0, 0.05, _CLUSTERS))
    general = utilities.TextLosses("general", losses, np.full(_CLUSTERS, 50.0), np.full(_CLUSTERS, 5.0))
    rouge = _measured(rng, "ROUGE-L recall", truth.useful, "keep")
    sound = replace(rouge, name="sound", values=(np.arange(n) < n * truth.useful).astype(float))
    qa = Qa("retain", "prompt", rouge, rouge, rouge, rouge, ())
    useful = utilities.Useful(general, None, utilities.Knowledge(qa, (), sound, sound))
    battery = Battery(Found(direct, {}), Found(never, {}), useful, {}, Found({}, {}))
    prompts = {
        way: _measured(rng, f"p, {way}", truth.knows if way == _WAYS[0] else truth.under("prompted")) for way in _WAYS
    }
    evasion = {
        way: _measured(rng, f"leak, {way}", truth.knows if way == _REWORDINGS[0] else truth.under("leaks"))
        for way in _REWORDINGS
    }
    attacks: dict[str, Any] = {}
    if own:
        attacks["rounded"] = {
            bits: _measured(rng, "familiarity", truth.knows if bits == "whole" else truth.under("rounded"))
            for bits in ("whole", "int8", "int4")
        }
        attacks["curves"] = [_curve(rng, name, truth, one) for one in range(3)]
    return Tried(name, battery, own, prompts=prompts, evasion=evasion, **attacks)


def _curve(rng: np.random.Generator, name: str, truth: _Truth, seed: int) -> Curve:
    n = _CLUSTERS * _ROWS
    kept = np.arange(n) // _ROWS % 4 != seed
    steps = [_measured(rng, "familiarity", share) for share in (truth.knows, *2 * [truth.under("relearned")])]
    ids, homes = (tuple(np.array(part)[kept].tolist()) for part in (steps[0].ids, steps[0].passages))
    values = np.stack([one.values[kept] for one in steps])
    return Curve(name, "forget rows", seed, "s", "k", "familiarity", (), (0, 5, 10), ids, homes, values, {}, (), 0.0)


INSTRUMENT = Instrument("verdict", ask)

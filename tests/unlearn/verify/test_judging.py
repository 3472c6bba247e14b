"""Known answers through the whole of judging: systems whose truth is drawn, nothing trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from audit.answers.qa import Qa
from audit.forgetting.measured import Measured
from unlearn.verify.battery import Battery, Material
from unlearn.verify.findings import Cost, Loop, make_section
from unlearn.verify.found import Found
from unlearn.verify.judging import Decided, Tried, judge
from unlearn.verify.robustness.relearn import Curve
from unlearn.verify.utility import Knowledge, TextLosses, Useful

N, ROWS = 20, 2  # clusters of each set, rows in a cluster
HARD = np.random.default_rng(0).normal(0, 0.05, N * ROWS)  # easy and hard for every system alike
WAYS = ("as given", "few shots", "in capitals")
REWORDINGS = ("untouched", "backwards", "base64")
KNOWLEDGE = ("knowledge.probability", "knowledge.probability.paraphrased", "knowledge.rouge")


@dataclass(frozen=True)
class Truth:
    """Share of the subject's lead that a system has, as it is and under an attack (None: as without it), and share of
    what was to be kept that it still has."""

    knows: float = 0.0
    prompted: float | None = None
    rounded: float | None = None
    relearned: float | None = None
    leaks: float | None = None
    useful: float = 1.0
    general: float = 1.0

    def under(self, attack: str) -> float:
        found = getattr(self, attack)
        return self.knows if found is None else found


def measured(rng: np.random.Generator, name: str, share: float, of: str = "forget") -> Measured:
    """.1 where nothing is known and .7 where all is, with noise of its own."""
    ids = tuple(f"{of}/{place}" for place in range(N * ROWS))
    values = 0.1 + 0.6 * share + HARD + rng.normal(0, 0.02, N * ROWS)
    return Measured(name, ids, tuple(f"{of}/c{place // ROWS}" for place in range(N * ROWS)), values)


def system(name: str, truth: Truth, *, seed: int, own_weights: bool = True) -> Tried:
    rng = np.random.default_rng(seed)

    def known(name: str, share: float, of: str = "forget") -> Measured:
        return measured(rng, name, share, of)

    direct = {key: known(key, truth.knows) for key in KNOWLEDGE}
    never = {key: known(key, 0.0, "never") for key in KNOWLEDGE}
    ids = tuple(f"p{place}" for place in range(N))
    losses = Measured("loss", ids, ids, 5.0 - 2.0 * truth.general + rng.normal(0, 0.05, N))
    general = TextLosses("general", losses, np.full(N, 50.0), np.full(N, 5.0))
    rouge = known("ROUGE-L recall", truth.useful, "keep")
    sound = replace(rouge, name="sound", values=(np.arange(N * ROWS) < N * ROWS * truth.useful).astype(float))
    useful = Useful(general, None, Knowledge(Qa("retain", "prompt", rouge, rouge, rouge, rouge, ()), (), sound, sound))
    battery = Battery(Found(direct, {}), Found(never, {}), useful, {}, Found({}, {}))
    prompts = {way: known(f"p, {way}", truth.knows if way == WAYS[0] else truth.under("prompted")) for way in WAYS}
    evasion = {way: known(f"leak, {way}", truth.knows if way == "untouched" else truth.under("leaks"))
               for way in REWORDINGS}  # fmt: skip
    attacks: dict[str, Any] = {}
    if own_weights:
        attacks["rounded"] = {
            bits: known("familiarity", truth.knows if bits == "whole" else truth.under("rounded"))
            for bits in ("whole", "int8", "int4")
        }
        attacks["curves"] = [curve(rng, name, truth, seed) for seed in range(3)]
        attacks["missing"] = {"soft prompt": "not asked for"}
    membership = {
        "loss": {"forget": known("loss score", truth.knows), "never": known("loss score", 0.0, "never")},
    }
    return Tried(name, battery, own_weights, prompts=prompts, evasion=evasion, membership=membership, **attacks)


def curve(rng: np.random.Generator, name: str, truth: Truth, seed: int) -> Curve:
    kept = np.arange(N * ROWS) // ROWS % 4 != seed
    steps = [measured(rng, "familiarity", share) for share in (truth.knows, *2 * [truth.under("relearned")])]
    ids = tuple(np.array(steps[0].ids)[kept].tolist())
    homes = tuple(np.array(steps[0].passages)[kept].tolist())
    values = np.stack([one.values[kept] for one in steps])
    return Curve(name, "forget rows", seed, "s", "k", "familiarity", (), (0, 5, 10), ids, homes, values, {}, (), 0.0)


SUBJECT = system("subject", Truth(knows=1.0), seed=1)
GOLD = system("gold", Truth(), seed=2)


def said(truth: Truth, *, gold: Tried | None = GOLD, own_weights: bool = True, **changed: Any) -> Decided:
    one = system("remedied", truth, seed=3, own_weights=own_weights)
    return judge(replace(one, **changed), SUBJECT, gold)


@pytest.mark.parametrize(
    ("found", "word", "reason"),
    [
        (judge(SUBJECT, SUBJECT, GOLD), "not removed", "Asked as before"),
        (judge(SUBJECT, SUBJECT, None), "not removed", "rows that nobody saw"),
        (said(Truth(knows=0.95)), "not removed", "Asked as before"),  # the subject with a little noise
        (said(Truth()), "removed", "On 2 direct measures"),  # a second gold
        (said(Truth(), gold=None), "undecided", "Without a model that never saw"),
        (said(Truth(useful=0.0, general=-0.5)), "destroyed", "guessing by token frequency"),  # random weights
        (said(Truth(useful=0.0), own_weights=False), "destroyed", "knowledge of neighbours"),  # it refuses everything
        (said(Truth(rounded=0.9)), "suppressed", "int4"),
        (said(Truth(relearned=0.9)), "suppressed", "relearned from forget rows"),
        (said(Truth(prompted=0.9)), "suppressed", "ways of asking"),
        (said(Truth(), own_weights=False), "suppressed", "The weights are the subject's"),
        (said(Truth(leaks=0.9), own_weights=False), "not removed", "through the remedy"),
        (said(Truth(prompted=0.9), own_weights=False), "not removed", "through the remedy"),
        (judge(GOLD, replace(GOLD, name="subject"), replace(SUBJECT, name="gold")), "undecided", "gold knows more"),
    ],
)  # fmt: skip
def test_known_answers(found: Decided, word: str, reason: str) -> None:
    assert found.verdict.word == word, found.verdict.why
    assert reason in found.verdict.why


def test_a_removed_model_tells_what_was_seen_and_with_which_bound() -> None:
    """Pooled ways of asking, INT8, INT4 and one kind of relearning are within 0.2; the strongest way within 0.5; a
    membership score has said nothing that clears."""
    why = said(Truth()).verdict.why
    assert "under 4 attacks not more than 0.2 above it" in why
    assert "under the strongest of 3 ways of asking, not more than 0.5" in why
    assert "No warning, which clears nothing: membership" in why


def without_int4(one: Tried) -> Tried:
    return replace(one, rounded={bits: each for bits, each in one.rounded.items() if bits != "int4"})


def test_each_rounding_of_the_plan_is_needed() -> None:
    found = said(Truth(), rounded=without_int4(GOLD).rounded).verdict
    assert (found.word, found.missing["quantisation, int4, rows"]) == ("undecided", "remedied: not measured")
    assert "quantisation.int4.rows said nothing" in found.why
    plan = [without_int4(one) for one in (SUBJECT, GOLD)]
    assert judge(without_int4(system("remedied", Truth(), seed=3)), *plan).verdict.word == "removed"


@pytest.mark.parametrize("who", [0, 1, 2])
def test_who_was_not_attacked_is_named_with_the_reason(who: int) -> None:
    three = [system("remedied", Truth(), seed=3), SUBJECT, GOLD]
    three[who] = replace(three[who], curves=(), missing={"relearning": "the loss is not finite"})
    found = judge(*three).verdict
    assert found.word == "undecided"
    assert found.missing["relearning, forget rows"] == f"{three[who].name}: the loss is not finite"
    assert "the loss is not finite" in found.why


def test_texts_are_attacked_too() -> None:
    """The rows are removed and the book is only suppressed; and a book that one system was not rounded on is told."""

    def book(one: Tried, rounded: float) -> Tried:
        texts = system("any", Truth(knows=float(one is SUBJECT), rounded=rounded), seed=9).rounded
        return replace(one, rounded_texts=texts)

    plan = book(SUBJECT, 1.0), book(GOLD, 0.0)
    removed = system("remedied", Truth(), seed=3)
    assert judge(book(removed, 0.0), *plan).verdict.word == "removed"
    kept = judge(book(removed, 0.9), *plan).verdict
    assert kept.word == "suppressed"
    assert {one.key for one in kept.judged if one.answer == "above gold"} == {
        "quantisation.int8.texts", "quantisation.int4.texts",
    }  # fmt: skip
    untried = judge(removed, *plan).verdict
    assert untried.word == "undecided"
    assert "quantisation.int4.texts" in untried.why


def test_what_the_plan_left_out_has_a_reason() -> None:
    none: Mapping[str, Any] = {"rounded": {}, "curves": ()}
    found = judge(*(replace(one, **none) for one in (system("remedied", Truth(), seed=3), SUBJECT, GOLD))).verdict
    assert found.word == "undecided"
    for kind in ("quantisation", "relearning"):
        assert "leaves it out" in found.missing[kind]


def test_texts_alone_need_no_other_ways_of_asking() -> None:
    """Only wording is measured; there is no row that could be asked in other words."""

    def texts(one: Tried) -> Tried:
        wording = {"wording.exact": replace(one.battery.direct.measured["knowledge.probability"], name="exact")}
        return replace(one, prompts={}, battery=replace(one.battery, direct=Found(wording, {})))

    three = [texts(one) for one in (system("remedied", Truth(), seed=3), SUBJECT, GOLD)]
    assert judge(*three).verdict.word == "removed"


def test_a_guard_that_saw_all_plain_questions_is_judged_by_what_leaks() -> None:
    blind = Found({}, dict.fromkeys(KNOWLEDGE, "the remedy was tuned on this prompt"))
    for leaks, word in ((0.0, "suppressed"), (0.9, "not removed")):
        guard = system("remedied", Truth(leaks=leaks), seed=3, own_weights=False)
        found = judge(replace(guard, battery=replace(guard.battery, direct=blind)), SUBJECT, GOLD).verdict
        assert found.word == word
        assert found.missing["knowledge.rouge"] == "remedied: the remedy was tuned on this prompt"


@pytest.mark.parametrize(
    ("gold", "said", "unsaid"), [(GOLD, "Gold was trained", "no gold"), (None, "no gold", "Gold was")]
)
def test_the_report_assumes_a_gold_only_where_there_is_one(gold: Tried | None, said: str, unsaid: str) -> None:
    remedied = system("remedied", Truth(), seed=3)
    tried = {one.name: one for one in (SUBJECT, gold, remedied) if one is not None}
    decided = [judge(one, SUBJECT, gold) for one in (SUBJECT, remedied)]
    costs = [Cost("remedied", "npo", "npo, 2 steps", 1.0, 10)]
    section = make_section(Loop(tried, decided, costs, (), Material(), (), seed=0))
    assumed = " ".join(section.assumptions)
    assert said in assumed
    assert unsaid not in assumed
    verdicts = next(table for table in section.tables if table.name == "verdicts")
    assert [row["verdict"] for row in verdicts.rows] == [decided[1].verdict.word, "not removed"]

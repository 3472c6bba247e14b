"""Pools that are drawn again, and dealings by a number that nobody could choose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel
from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.generate import Candidate, assign, generate_pool
from audit.traps.ledger.checks import ledger_problems
from audit.traps.ledger.lottery import lottery_seed
from audit.traps.ledger.make import check_ledger, deal, make_ledger, verify_ledger
from audit.traps.ledger.records import SEED_LIMIT, Ledger
from audit.traps.words import WordList, data_watermarks, random_words

DESIGN = TrapDesign(
    lengths=(16, 20), repetitions=(1, 3), members_per_cell=2, decoys_per_stratum=3, max_jaccard=0.5, max_rounds=20
)
PLAN = DetectionPlan(primary="loss", n_draws=999)
WORDS = WordList(tuple(f"{a}{b}{c}" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"), "ab" * 32)
VALUE, SOURCE = "8d61d9100567de44682506aea1a7a6fa6e5491cd", "drand quicknet, round 4512345"


def ledger_of(pool: list[Candidate], seed: int = 7, design: TrapDesign = DESIGN, drawn_with: Any = "hex") -> Ledger:
    return make_ledger(assign(pool, design, seed=seed), design=design, plan=PLAN, seed=seed, drawn_with=drawn_with)


@pytest.fixture(scope="module")
def marks() -> Ledger:
    return ledger_of(data_watermarks("hex", DESIGN, seed=7).candidates)


@pytest.fixture(scope="module")
def words() -> Ledger:
    return ledger_of(random_words(WORDS.words, DESIGN, seed=7).candidates, drawn_with=WORDS)


@pytest.fixture(scope="module")
def dealt(marks: Ledger) -> Ledger:
    return deal(marks, value=VALUE, announced_by=SOURCE, source="L.json")


def turned(pool: list[Candidate]) -> list[Candidate]:
    """The pool in another order: its strata whole, the texts in them where a publisher would like them."""
    return sorted(pool, key=lambda one: (one.length, one.text))


def test_watermarks_in_an_order_that_was_picked_make_no_ledger() -> None:
    pool = data_watermarks("hex", DESIGN, seed=7).candidates
    with pytest.raises(InputError, match="the pool is not what seed and design draw: 'trap-"):
        ledger_of(turned(pool))
    with pytest.raises(InputError, match="the pool is not what seed and design draw: 'trap-"):
        ledger_of(data_watermarks("hex", DESIGN, seed=8).candidates)


def test_words_in_an_order_that_was_picked_are_caught_once_the_list_is_there(words: Ledger) -> None:
    verify_ledger(words, words.commitment(), source="L.json", words=WORDS)
    picked = ledger_of(turned(random_words(WORDS.words, DESIGN, seed=7).candidates), drawn_with=WORDS)
    verify_ledger(picked, picked.commitment(), source="L.json")  # without the list nothing can be said
    with pytest.raises(DataError, match=r"L\.json does not fit its word list: the pool is not what seed and design"):
        verify_ledger(picked, picked.commitment(), source="L.json", words=WORDS)


def test_another_word_list_is_refused_by_its_hash(words: Ledger, marks: Ledger) -> None:
    other = replace(WORDS, sha256="cd" * 32)
    with pytest.raises(InputError, match=rf"the word list has SHA-256 {'cd' * 32}; that of L\.json is {'ab' * 32}\."):
        verify_ledger(words, words.commitment(), source="L.json", words=other)
    with pytest.raises(InputError, match=r"that of L\.json is none, for it was not drawn from words\."):
        verify_ledger(marks, marks.commitment(), source="L.json", words=WORDS)


def test_a_stranger_computes_the_seed_from_the_docstring(marks: Ledger, dealt: Ledger) -> None:
    said = b"palimpsest.traps.deal.v1:" + marks.commitment().encode() + b":" + VALUE.encode()
    assert dealt.seed == int(hashlib.sha256(said).hexdigest(), 16) % 2**63
    assert 0 <= lottery_seed("0" * 64, "é") < SEED_LIMIT


def test_a_dealt_ledger_keeps_pool_order_design_and_plan_and_deals_anew(marks: Ledger, dealt: Ledger) -> None:
    assert [trap.text for trap in dealt.traps] == [trap.text for trap in marks.traps]
    assert (dealt.design, dealt.plan, dealt.draw) == (marks.design, marks.plan, marks.draw)
    assert [trap.n_rep for trap in dealt.traps] != [trap.n_rep for trap in marks.traps]
    assert dealt.secret != marks.secret
    assert dealt.lottery is not None
    assert (dealt.lottery.commitment, dealt.lottery.first_seed) == (marks.commitment(), marks.seed)
    verify_ledger(dealt, dealt.commitment(), source="D.json")


def test_a_pool_of_a_model_and_of_words_is_dealt_too(random_llama: LanguageModel, words: Ledger) -> None:
    design = replace(DESIGN, lengths=(8,), perplexity_edges=(1, 1000), max_jaccard=0.8, samples_per_round=64)
    pool = generate_pool(random_llama, design, seed=3).candidates
    by_model = ledger_of(pool, seed=3, design=design, drawn_with=random_llama)
    for first, word_list in ((by_model, None), (words, WORDS)):
        dealt = deal(first, value=VALUE, announced_by=SOURCE, source="L.json")
        verify_ledger(dealt, dealt.commitment(), source="D.json", words=word_list)


def changed(ledger: Ledger, **lottery: Any) -> Ledger:
    assert ledger.lottery is not None
    return ledger.model_copy(update={"lottery": ledger.lottery.model_copy(update=lottery)})


def dealt_by(ledger: Ledger, seed: int) -> Ledger:
    """Dealt by a seed of one's own, and everything else as it was."""
    traps = tuple(
        old.model_copy(update={"arm": new.arm, "n_rep": new.n_rep})
        for old, new in zip(ledger.traps, assign(ledger.candidates(), DESIGN, seed=seed), strict=True)
    )
    return ledger.model_copy(update={"seed": seed, "traps": traps})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: dealt_by(x, 5), r"the seed is 5; the lottery's commitment and value give \d+\."),
        (lambda x: changed(x, value="other"), r"the lottery's commitment and value give \d+\."),
        (lambda x: changed(x, commitment="0" * 64), f"and {'0' * 64} is recorded: pool, order, design, plan"),
        (lambda x: changed(x, first_secret="0" * 64), "the first ledger, before the lottery, gives the commitment"),
        (
            lambda x: x.model_copy(update={"plan": x.plan.model_copy(update={"primary": "zlib"})}),
            "the first ledger, before the lottery, gives the commitment",
        ),
        (lambda x: changed(x, value=f"{VALUE} "), r"the lottery's value is '8d61\w+ ', which nobody could repeat"),
        (lambda x: changed(x, source="drand\u200b"), r"the lottery's source is 'drand\\u200b', which nobody could"),
    ],
    ids=range(7),
)
def test_a_lottery_that_does_not_lead_back_to_the_first_commitment_is_refused(
    dealt: Ledger, change: Callable[[Ledger], Ledger], says: str
) -> None:
    assert ledger_problems(dealt) == []
    with pytest.raises(DataError, match=says):
        check_ledger(change(dealt), source="D.json")


def test_no_ledger_is_dealt_twice_and_no_value_is_taken_that_can_be_written_in_two_ways(
    marks: Ledger, dealt: Ledger
) -> None:
    with pytest.raises(InputError, match=r"D\.json was dealt by 'drand quicknet, round 4512345' already; dealing it"):
        deal(dealt, value="1", announced_by="another", source="D.json")
    for value in ("", " 1", "1\n2", "\u200b1", "e\u0301"):
        with pytest.raises(InputError, match="what was announced is .*, which nobody could repeat letter for letter"):
            deal(marks, value=value, announced_by=SOURCE, source="L.json")
    with pytest.raises(InputError, match="its source is '', which nobody could repeat"):
        deal(marks, value=VALUE, announced_by="", source="L.json")


def test_the_first_commitment_is_recognised_and_the_later_one_asked_for(marks: Ledger, dealt: Ledger) -> None:
    with pytest.raises(InputError, match=r"is the first commitment, from before D\.json was dealt by 'drand quicknet"):
        verify_ledger(dealt, marks.commitment(), source="D.json")

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.generate import Candidate, Trap, assign, generate_pool
from audit.traps.planting.inject import inject, remove

DESIGN = TrapDesign(
    lengths=(8, 16),
    perplexity_edges=(1, 30, 1000),
    repetitions=(1, 3),
    members_per_cell=2,
    decoys_per_stratum=5,
    temperatures=(0.8, 1.2),
    max_jaccard=0.8,
    max_rounds=20,
    samples_per_round=64,
    placement="scattered",
)


def made_up(n: int, *, stratum: str = "8 tokens, perplexity [1, 60)") -> list[Candidate]:
    bucket = stratum.split("perplexity ")[1]
    return [Candidate(f"trap-{i}", f"text number {i}", (i, i + 1), 8, 5.0, bucket) for i in range(n)]


@pytest.fixture(scope="module")
def pool(random_llama: LanguageModel) -> list[Candidate]:
    return generate_pool(random_llama, DESIGN, seed=3).candidates


def test_every_stratum_is_full_and_every_trap_is_canonical(random_llama: LanguageModel, pool: list[Candidate]) -> None:
    assert Counter(candidate.stratum for candidate in pool) == {
        f"{length} tokens, perplexity {bucket}": DESIGN.per_stratum
        for length in DESIGN.lengths
        for bucket in ("[1, 30)", "[30, 1000)")
    }
    for candidate, ids in zip(pool, encode(random_llama, [candidate.text for candidate in pool]), strict=True):
        assert tuple(ids) == candidate.token_ids
        assert len(ids) == candidate.length
        assert candidate.text == " ".join(candidate.text.split())


def test_no_two_traps_are_more_alike_than_allowed(pool: list[Candidate]) -> None:
    sets = [set(candidate.token_ids) for candidate in pool]
    for i, own in enumerate(sets):
        for other in sets[:i]:
            assert len(own & other) / len(own | other) <= DESIGN.max_jaccard


def test_the_draw_is_repeatable_and_the_seed_matters(random_llama: LanguageModel) -> None:
    design = replace(DESIGN, lengths=(8,), perplexity_edges=(1, 1000))
    first = generate_pool(random_llama, design, seed=3).candidates
    assert generate_pool(random_llama, design, seed=3).candidates == first
    assert generate_pool(random_llama, design, seed=4).candidates != first


def test_a_bucket_that_cannot_be_filled_is_named_with_its_count(random_llama: LanguageModel) -> None:
    impossible = TrapDesign(
        lengths=(8,), perplexity_edges=(1, 1.5, 2), repetitions=(1,), max_rounds=2, samples_per_round=8
    )
    with pytest.raises(
        InputError, match=r"after 2 rounds .* length 8 holds 250 candidates \(\[1, 1.5\): 0, \[1.5, 2\): 0\)"
    ):
        generate_pool(random_llama, impossible, seed=0)


def test_dealing_fills_every_cell_exactly(pool: list[Candidate]) -> None:
    traps = assign(pool, DESIGN, seed=1)
    assert [trap.candidate for trap in traps] == pool
    counts = Counter((trap.candidate.stratum, trap.n_rep) for trap in traps)
    for stratum in {candidate.stratum for candidate in pool}:
        assert [counts[stratum, n] for n in (0, 1, 3)] == [5, 2, 2]
    assert all((trap.arm == "decoy") == (trap.n_rep == 0) for trap in traps)
    assert assign(pool, DESIGN, seed=1) == traps
    assert assign(pool, DESIGN, seed=2) != traps


def test_every_candidate_is_as_likely_to_be_a_member() -> None:
    design = TrapDesign(repetitions=(1,), members_per_cell=2, decoys_per_stratum=6)
    pool = made_up(8)
    counts = np.zeros(8)
    for seed in range(2_000):
        counts += [trap.arm == "member" for trap in assign(pool, design, seed=seed)]
    assert chisquare(counts).pvalue > 0.001


def test_a_stratum_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="holds 7 candidates; the design needs 8"):
        assign(made_up(7), TrapDesign(repetitions=(1,), members_per_cell=2, decoys_per_stratum=6), seed=0)


def traps_of(n: int, n_rep: int) -> list[Trap]:
    return [Trap(candidate, "member", n_rep) for candidate in made_up(n)] + [
        Trap(Candidate("trap-decoy", "never planted", (1,), 8, 5.0, "[1, 60)"), "decoy", 0)
    ]


words = st.text(alphabet="ab \n\té😀", max_size=60)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(words.map(lambda text: text + " x y z"), min_size=3, max_size=6), seed=st.integers(0, 2**32))
def test_removal_gives_back_every_byte(texts: list[str], seed: int) -> None:
    documents = {f"d{i}": text for i, text in enumerate(texts)}
    for placement in ("scattered", "document"):
        design = TrapDesign(placement=placement)  # type: ignore[arg-type]
        planted, placements = inject(documents, traps_of(3, 2), design, seed=seed)
        assert list(planted) == list(documents)
        for name, text in planted.items():
            own = [place for place in placements if place.document_id == name]
            assert remove(text, own) == documents[name]


@pytest.mark.parametrize("placement", ["scattered", "document"])
def test_each_copy_stands_where_the_placement_says_between_separators(placement: str) -> None:
    documents = {f"d{i}": "the quick brown fox jumps over the lazy dog again and again" for i in range(5)}
    design = TrapDesign(placement=placement, separator="\n\n")  # type: ignore[arg-type]
    planted, placements = inject(documents, traps_of(4, 6), design, seed=5)
    text_of = {trap.candidate.id: trap.candidate.text for trap in traps_of(4, 6)}
    assert Counter(place.trap_id for place in placements) == {f"trap-{i}": 6 for i in range(4)}
    for place in placements:
        found = planted[place.document_id][place.offset : place.offset + place.n_characters]
        assert found == f"\n\n{text_of[place.trap_id]}\n\n"
        before = planted[place.document_id][: place.offset]
        assert before == "" or before[-1] in " \n"
    assert not any("never planted" in text for text in planted.values())
    if placement == "document":
        assert all(
            len({p.document_id for p in placements if p.trap_id == t}) == 1 for t in text_of if t != "trap-decoy"
        )


def test_too_few_places_are_refused() -> None:
    with pytest.raises(InputError, match="4 traps were to get a document each, but there are 1 documents"):
        inject({"d": "a b c"}, traps_of(4, 1), TrapDesign(), seed=0)
    with pytest.raises(InputError, match="document d has 3 word positions, trap trap-0 needs 5"):
        inject({"d": "a b c"}, traps_of(1, 5), TrapDesign(), seed=0)
    with pytest.raises(InputError, match="20 copies were to be planted, but the documents have 3 word positions"):
        inject({"d": "a b c"}, traps_of(4, 5), TrapDesign(placement="scattered"), seed=0)


def test_a_document_that_was_changed_is_not_cut_blindly() -> None:
    planted, placements = inject({"d": "a b c d e f"}, traps_of(1, 2), TrapDesign(), seed=0)
    with pytest.raises(InputError, match="document d was changed before character"):
        remove("!" + planted["d"], placements)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"lengths": ()}, "lengths is \\(\\); expected distinct numbers of at least 2"),
        ({"perplexity_edges": (5, 1)}, "perplexity_edges is \\(5, 1\\); expected at least two increasing"),
        ({"repetitions": (0,)}, "repetitions is \\(0,\\); expected distinct numbers of at least 1"),
        ({"max_jaccard": 2}, "max_jaccard is 2; expected a number from 0 to 1"),
        ({"separator": ""}, "separator is ''; expected at least one character"),
        ({"placement": "x"}, 'placement is \'x\'; expected "document" or "scattered"'),
    ],
)
def test_impossible_designs_are_refused(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrapDesign(**settings_)  # type: ignore[arg-type]


def test_impossible_detection_plans_are_refused() -> None:
    with pytest.raises(InputError, match='primary is "los"; expected one of ratio, loss'):
        DetectionPlan(primary="los")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alpha is 0; expected a number between 0 and 1"):
        DetectionPlan(alpha=0)

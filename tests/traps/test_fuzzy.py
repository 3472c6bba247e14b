"""Fuzzy variants on toy tokenizers, whose answers are known, and on byte-level ones with models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kendalltau

from audit.errors import InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.tokens import prefix_ids
from audit.membership.masked import MaskedModel, load_masked
from audit.traps.fuzzy import edits as fuzzy_edits
from audit.traps.fuzzy import proposers
from audit.traps.fuzzy.design import FuzzyDesign
from audit.traps.fuzzy.variants import Codec, Variant, longest_shared, make_variants
from tests.checkpoints import build_checkpoint, make_tokenizer
from tests.traps.masked_checkpoint import build_masked

WORDS = Codec(encode=lambda text: [int(word) for word in text.split()], decode=lambda ids: " ".join(map(str, ids)))
TRAP = list(range(100))  # a hundred different tokens
OTHERS = list(range(1000, 1400))


def swap(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Ten candidates at each place, the original among them, that stand at no other place."""
    return [[(1000 + 10 * place + j,) for j in range(9)] + [(token,)] for place, token in enumerate(ids)]


def made(design: FuzzyDesign, *, trap_id: str = "trap-1", ids: Sequence[int] = TRAP, seed: int = 0) -> list[Variant]:
    return make_variants(trap_id, ids, design, codec=WORDS, seed=seed, propose=swap, vocabulary=OTHERS)


KINDS = [
    FuzzyDesign(),
    FuzzyDesign(positions="same"),
    FuzzyDesign(positions="spread"),
    FuzzyDesign(positions="segments"),
    FuzzyDesign(kind="insert", insertions=3),
    FuzzyDesign(kind="shuffle"),
    FuzzyDesign(kind="shuffle", tau=0.7, ngram=5),
]


@pytest.mark.parametrize("design", KINDS, ids=lambda design: f"{design.kind} {design.positions} {design.tau}")
def test_every_variant_is_another_text_that_encodes_to_its_ids(design: FuzzyDesign) -> None:
    variants = made(design)
    assert [variant.number for variant in variants] == list(range(1, 10))
    assert len({variant.text for variant in variants} | {WORDS.decode(TRAP)}) == 10
    for variant in variants:
        assert tuple(WORDS.encode(variant.text)) == variant.token_ids
        assert variant.piece is None
        others = [other.token_ids for other in variants if other is not variant]
        assert variant.shared_among_variants == max(longest_shared(variant.token_ids, other) for other in others)
        assert variant.shared_with_original == longest_shared(variant.token_ids, TRAP)


@pytest.mark.parametrize("positions", ["fresh", "same", "spread", "segments"])
def test_replace_changes_its_places_and_nothing_else(positions: str) -> None:
    for variant in made(FuzzyDesign(replacements=7, positions=positions)):  # type: ignore[arg-type]
        changed = [place for place, (old, new) in enumerate(zip(TRAP, variant.token_ids, strict=True)) if old != new]
        assert changed == list(variant.places)
        assert len(changed) == 7
        assert variant.distance == 7
        for place in changed:
            assert variant.token_ids[place] in range(1000 + 10 * place, 1009 + 10 * place)


def test_places_are_fresh_or_the_same_or_one_in_each_segment() -> None:
    fresh = {variant.places for variant in made(FuzzyDesign())}
    same = {variant.places for variant in made(FuzzyDesign(positions="same"))}
    assert (len(fresh), len(same)) == (9, 1)
    for variant in made(FuzzyDesign(positions="segments")):
        assert [place // 10 for place in variant.places] == list(range(10))


@given(length=st.integers(3, 120), n=st.integers(2, 60), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_evenly_spread_replacements_leave_no_ngram(length: int, n: int, seed: int) -> None:
    """R >= floor(L / n), as the specification says; one replacement fewer must leave one (L + 1 > n R)."""
    enough = max(1, length // n)
    places = fuzzy_edits.even_places(length, enough, np.random.default_rng(seed))
    runs = [after - before - 1 for before, after in pairwise([-1, *places, length])]
    assert len(set(places)) == enough
    assert min(runs) >= 0
    assert max(runs) == fuzzy_edits.even_gap(length, enough)
    assert max(runs) < n
    if length // n > 1:
        assert fuzzy_edits.even_gap(length, length // n - 1) >= n
    design = FuzzyDesign(replacements=enough, positions="spread", n_dup=3)
    for variant in make_variants("t", range(length), design, codec=WORDS, seed=seed, propose=swap):
        assert variant.shared_with_original < n


@given(length=st.integers(1, 80), n=st.integers(1, 80), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_any_number_of_replacements_is_spread_as_evenly_as_it_can_be(length: int, n: int, seed: int) -> None:
    """L - R untouched tokens in R + 1 runs: one of them holds at least the mean, rounded up."""
    n = min(n, length)
    places = fuzzy_edits.even_places(length, n, np.random.default_rng(seed))
    runs = [after - before - 1 for before, after in pairwise([-1, *places, length])]
    assert min(runs) >= 0
    assert sum(runs) == length - n
    assert max(runs) == -(-(length - n) // (n + 1))


def test_places_at_random_do_leave_ngrams_so_the_spread_is_what_counts() -> None:
    fresh = made(FuzzyDesign(replacements=2, n_dup=30))
    spread = made(FuzzyDesign(replacements=2, n_dup=30, positions="spread"))
    assert max(variant.shared_with_original for variant in fresh) >= 50
    assert max(variant.shared_with_original for variant in spread) < 50


@given(length=st.integers(1, 60), n=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_segments_have_one_place_each_in_order(length: int, n: int, seed: int) -> None:
    n = min(n, length)
    places = fuzzy_edits.segment_places(length, n, np.random.default_rng(seed))
    assert places == sorted(set(places))
    assert len(places) == n


def test_every_place_and_every_candidate_is_as_likely() -> None:
    design = FuzzyDesign(replacements=1, n_dup=2)
    drawn = [made(design, trap_id=f"trap-{number}", ids=range(8))[0] for number in range(2000)]
    places = Counter(variant.places[0] for variant in drawn)
    candidates = Counter(variant.token_ids[variant.places[0]] % 10 for variant in drawn)
    assert set(places) == set(range(8))
    assert set(candidates) == set(range(9))  # the tenth is the original
    assert chisquare(list(places.values())).pvalue > 0.001
    assert chisquare(list(candidates.values())).pvalue > 0.001


def test_replacements_of_several_tokens_stand_where_they_belong() -> None:
    """The published builder shifts them by a running sum over unsorted places."""

    def pairs(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
        return [[(500 + place, 700 + place)] for place in range(len(ids))]

    variants = make_variants("t", TRAP, FuzzyDesign(replacements=9), codec=WORDS, seed=0, propose=pairs)
    for variant in variants:
        expected = []
        for place, token in enumerate(TRAP):
            expected += [500 + place, 700 + place] if place in variant.places else [token]
        assert list(variant.token_ids) == expected
        assert len(variant.places) == 9


def test_a_variant_depends_on_seed_trap_and_number_alone() -> None:
    ten, four = made(FuzzyDesign()), made(FuzzyDesign(n_dup=5))
    assert [variant.text for variant in ten][:4] == [variant.text for variant in four]
    made(FuzzyDesign(), trap_id="trap-2")
    assert [variant.text for variant in made(FuzzyDesign())] == [variant.text for variant in ten]
    for others in (made(FuzzyDesign(), trap_id="trap-2"), made(FuzzyDesign(), seed=1)):
        assert not {variant.text for variant in others} & {variant.text for variant in ten}


@pytest.mark.parametrize(("ngram", "insertions"), [(1, 1), (5, 2), (20, 10), (7, 3)])
def test_insert_keeps_every_ngram_whole_and_puts_so_many_tokens_between(ngram: int, insertions: int) -> None:
    grams = [TRAP[start : start + ngram] for start in range(0, 100, ngram)]
    for variant in made(FuzzyDesign(kind="insert", ngram=ngram, insertions=insertions)):
        rest = list(variant.token_ids)
        for number, gram in enumerate(grams):
            if number:
                assert all(token in OTHERS for token in rest[:insertions])
                rest = rest[insertions:]
            assert rest[: len(gram)] == gram
            rest = rest[len(gram) :]
        assert rest == []
        assert variant.distance == insertions * (len(grams) - 1)
        assert variant.places == tuple(range(ngram, 100, ngram))


@pytest.mark.parametrize(("ngram", "tau"), [(10, 0.2), (10, 0.5), (10, 0.8), (5, 0.1), (2, 0.9), (3, 0.37)])
def test_shuffle_reaches_its_distance_and_keeps_the_ngrams(ngram: int, tau: float) -> None:
    """scipy's tau is 1 - 2 d, d the share of discordant pairs; TRAP's tokens are their own ranks."""
    for variant in made(FuzzyDesign(kind="shuffle", ngram=ngram, tau=tau)):
        distance = (1 - kendalltau(np.arange(100), np.argsort(variant.token_ids)).statistic) / 2
        assert np.floor(100 * distance + 1e-9) / 100 == pytest.approx(tau)
        grams = [tuple(TRAP[block * ngram : (block + 1) * ngram]) for block in variant.places]
        assert tuple(token for gram in grams for token in gram) == variant.token_ids
        assert sorted(variant.token_ids) == TRAP


@given(st.permutations(range(7)), st.lists(st.integers(1, 4), min_size=7, max_size=7))
def test_the_distance_is_that_of_all_pairs_of_tokens(order: list[int], sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    tokens = [token for block in order for token in range(starts[block], starts[block + 1])]
    inverted = sum(two < one for at, one in enumerate(tokens) for two in tokens[at + 1 :])
    assert fuzzy_edits.tau_hundredths(order, sizes) == 100 * inverted // (len(tokens) * (len(tokens) - 1) // 2)


def test_distances_that_no_order_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"tau is 0\.95, but 10 10-grams of 100 tokens are at most 0\.9 apart"):
        made(FuzzyDesign(kind="shuffle", tau=0.95))
    with pytest.raises(
        InputError, match=r"no order of its 50-grams at a distance of 0\.2 was met in 2,000 walks, 0 was"
    ):
        made(FuzzyDesign(kind="shuffle", ngram=50, tau=0.2))


def test_scatter_gives_the_pieces_once_for_each_variant() -> None:
    variants = made(FuzzyDesign(kind="scatter", ngram=30))
    assert Counter(variant.number for variant in variants) == dict.fromkeys(range(1, 10), 4)
    for number in range(1, 10):
        pieces = sorted(variant.piece or 0 for variant in variants if variant.number == number)
        assert pieces == [0, 1, 2, 3]
    by_piece = {variant.piece or 0: variant for variant in variants}
    assert [token for _, variant in sorted(by_piece.items()) for token in variant.token_ids] == TRAP
    assert by_piece[3].places == (90,)
    assert by_piece[3].distance == 90


def merging(text: str) -> list[int]:
    """A tokenizer that reads "7 8" as one token 78000, so that most edits that bring them together do not survive."""
    ids: list[int] = []
    for word in text.replace("7 8", "78000").split():
        ids.append(int(word))
    return ids


MERGING = Codec(encode=merging, decode=lambda ids: " ".join("7 8" if token == 78000 else str(token) for token in ids))


def test_a_tokenizer_that_merges_gets_only_variants_that_survive_it() -> None:
    def propose(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
        return [[(7,), (8,), (9,), (6,)]] * len(ids)

    ids = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert MERGING.encode(MERGING.decode([7, 8])) != [7, 8]
    design = FuzzyDesign(replacements=6, n_dup=50)
    variants = make_variants("t", ids, design, codec=MERGING, seed=0, propose=propose)
    assert len(variants) == 49
    for variant in variants:
        assert tuple(MERGING.encode(variant.text)) == variant.token_ids
        assert "7 8" not in variant.text
        assert len(variant.places) == 6


def test_what_cannot_be_made_is_said_with_the_trap() -> None:
    def dead(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
        return [[] for _ in ids]

    few = FuzzyDesign(replacements=1, n_dup=20, max_tries=30)
    with pytest.raises(InputError, match=r"trap 'trap-1': variant 1 of 9 was not met in 200 draws"):
        make_variants("trap-1", TRAP, FuzzyDesign(), codec=WORDS, seed=0, propose=dead)
    with pytest.raises(InputError, match=r"variant 10 of 19 was not met in 30 draws.*or was there already"):
        make_variants("t", [1], few, codec=WORDS, seed=0, propose=swap)  # only nine others exist
    with pytest.raises(InputError, match=r"has 5 tokens, fewer than the 10 to be replaced"):
        made(FuzzyDesign(), ids=range(5))
    with pytest.raises(InputError, match=r"has 10 tokens, a single 10-gram; take shorter n-grams"):
        made(FuzzyDesign(kind="insert"), ids=range(10))
    with pytest.raises(InputError, match=r'kind "replace" needs something that proposes tokens'):
        make_variants("t", TRAP, FuzzyDesign(), codec=WORDS, seed=0)
    with pytest.raises(InputError, match=r'kind "insert" needs a vocabulary'):
        make_variants("t", TRAP, FuzzyDesign(kind="insert"), codec=WORDS, seed=0)


@pytest.mark.parametrize("ids", [[], [1, 2, 3]], ids=["empty", "another text"])
def test_a_trap_that_the_tokenizer_does_not_give_back_is_refused(ids: list[int]) -> None:
    lossy = Codec(encode=lambda text: [1] * len(text.split()), decode=lambda ids: " ".join(map(str, ids)))
    with pytest.raises(InputError, match=r"are not one line of visible text that survives decoding and encoding"):
        make_variants("t", ids, FuzzyDesign(replacements=1), codec=lossy, seed=0, propose=swap)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("kind", "paraphrase", "one of replace, insert, shuffle, scatter"),
        ("positions", "even", "one of fresh, same, spread, segments"),
        ("n_dup", 1, "2 or more"),
        ("replacements", 0, "1 or more"),
        ("tau", 0.0, "0.01 to 1 in steps of 0.01"),
        ("tau", 0.205, "0.01 to 1 in steps of 0.01"),
    ],
)
def test_designs_out_of_range_are_named(field: str, value: object, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"fuzzy traps: {field} is {value!r}; expected {expected}")):
        FuzzyDesign(**{field: value})  # type: ignore[arg-type]


BYTES = make_tokenizer(bos=True)
BYTE_CODEC = Codec(
    encode=lambda text: list(BYTES(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]),
    decode=lambda ids: str(BYTES.decode(list(ids), clean_up_tokenization_spaces=False)),
)
BYTE_VOCABULARY = [token for token in range(len(BYTES)) if token not in BYTES.all_special_ids]


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    kind=st.sampled_from(["replace", "insert", "shuffle", "scatter"]),
)
@settings(deadline=None, max_examples=80)
def test_any_text_gives_plain_variants_or_one_message(text: str, kind: str) -> None:
    design = FuzzyDesign(kind=kind, n_dup=3, replacements=2, ngram=3, max_tries=5)  # type: ignore[arg-type]
    try:
        variants = make_variants(
            "t",
            BYTE_CODEC.encode(text),
            design,
            codec=BYTE_CODEC,
            seed=0,
            propose=proposers.random_proposer(BYTE_VOCABULARY),
            vocabulary=BYTE_VOCABULARY,
        )
    except InputError:
        return
    for variant in variants:
        assert variant.text.isprintable()
        assert " ".join(variant.text.split()) == variant.text
        assert tuple(BYTE_CODEC.encode(variant.text)) == variant.token_ids
        assert variant.text != text


def test_a_unicode_trap_gets_its_variants() -> None:
    ids = BYTE_CODEC.encode("café 東京 the cat 😀 sat on the straße and the dog ran")
    design = FuzzyDesign(replacements=3, n_dup=4)
    propose = proposers.random_proposer(BYTE_VOCABULARY)
    variants = make_variants("t", ids, design, codec=BYTE_CODEC, seed=0, propose=propose)
    assert len({variant.text for variant in variants}) == 3
    assert all("東京" in variant.text or variant.distance for variant in variants)


def test_the_causal_proposer_gives_the_top_k_after_what_stands_to_the_left(random_llama: LanguageModel) -> None:
    codec = proposers.codec(random_llama)
    ids = codec.encode("the cat sat on the mat")
    found = proposers.causal_proposer(random_llama, top_k=20)(ids)
    with torch.inference_mode():
        row = torch.tensor([[*prefix_ids(random_llama), *ids]])
        logits = random_llama.model(input_ids=row).logits[0, :-1]
    special = set(random_llama.tokenizer.all_special_ids)
    for place, (own, scores) in enumerate(zip(ids, logits, strict=True)):
        best = sorted(range(len(scores)), key=lambda token: -float(scores[token]))[:20]
        assert found[place] == [(token,) for token in best if token != own and token not in special]
    assert min(map(len, found)) < 19  # the original, or a control token, was among them somewhere


def test_without_a_first_token_nothing_is_proposed_at_the_first_place(tmp_path: Path) -> None:
    lm = load(build_checkpoint(tmp_path, "gpt2", bos=False))
    found = proposers.causal_proposer(lm, top_k=5)(proposers.codec(lm).encode("the cat sat"))
    assert found[0] == []
    assert all(found[1:])


def test_a_trap_of_a_model_gets_replaced_inserted_shuffled_and_scattered(random_llama: LanguageModel) -> None:
    codec = proposers.codec(random_llama)
    text = "the cat sat on the mat and the dog ran over the hill and the hill ran over the dog"
    designs = [FuzzyDesign(replacements=4), FuzzyDesign(kind="insert", ngram=6), FuzzyDesign(kind="scatter", ngram=6)]
    for design in [*designs, FuzzyDesign(kind="shuffle", ngram=2, tau=0.31)]:
        variants = make_variants(
            "trap-1",
            codec.encode(text),
            design,
            codec=codec,
            seed=0,
            propose=proposers.causal_proposer(random_llama, top_k=10),
            vocabulary=proposers.ordinary_tokens(random_llama),
        )
        assert {variant.number for variant in variants} == set(range(1, 10))
        for variant in variants:
            assert tuple(codec.encode(variant.text)) == variant.token_ids
            assert "<s>" not in variant.text


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> MaskedModel:
    return load_masked(build_masked(tmp_path_factory.mktemp("roberta")), device="cpu")


@pytest.fixture(scope="module")
def full_llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model whose tokenizer knows every byte."""
    return load(build_checkpoint(tmp_path_factory.mktemp("full"), "llama"))


def test_the_masked_proposer_gives_the_top_k_at_the_masked_place(
    masked: MaskedModel, full_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = proposers.codec(full_llama)
    ids = codec.encode("the cat sat on the mat and the dog")
    found = proposers.masked_proposer(masked, full_llama, top_k=8)(ids)
    tokenizer = masked.tokenizer
    for place in range(len(ids)):
        sides = [codec.decode(ids[:place]), codec.decode(ids[place + 1 :])]
        left, right = (tokenizer(side, add_special_tokens=False)["input_ids"] if side else [] for side in sides)
        row = torch.tensor([[0, *left, tokenizer.mask_token_id, *right, 1]])
        with torch.inference_mode():
            scores = masked.model(input_ids=row).logits[0, len(left) + 1]
        best = [token for token in scores.topk(8).indices.tolist() if token not in tokenizer.all_special_ids]
        texts = [tokenizer.decode([token]) for token in best]
        usable = [
            text for text in texts if text.strip() and "\ufffd" not in text and text != codec.decode([ids[place]])
        ]
        assert found[place] == [tuple(codec.encode(text)) for text in usable]
    assert sum(map(len, found)) > 20
    monkeypatch.setattr(proposers, "CELLS_AT_ONCE", 1)
    assert proposers.masked_proposer(masked, full_llama, top_k=8)(ids) == found


def test_what_the_traps_tokenizer_cannot_write_is_no_replacement(
    masked: MaskedModel, random_llama: LanguageModel
) -> None:
    """Its vocabulary has few letters; a proposed "Q" encodes to nothing, which would delete the token."""
    ids = proposers.codec(random_llama).encode("the cat sat on the mat")
    assert proposers.codec(random_llama).encode("Q") == []
    found = proposers.masked_proposer(masked, random_llama, top_k=200)(ids)
    assert all(candidate for place in found for candidate in place)


def test_words_of_a_wordpiece_vocabulary_get_the_space_of_the_original() -> None:
    class Pieces:
        def convert_ids_to_tokens(self, token: int) -> str:
            return ["cat", "##s", "[UNK]"][token]

        def decode(self, ids: list[int], **_: object) -> str:
            return self.convert_ids_to_tokens(ids[0])

    as_text: Callable[..., str] = proposers._as_text
    assert as_text(Pieces(), 0, " ", True) == " cat"
    assert as_text(Pieces(), 0, "", True) == "cat"
    assert as_text(Pieces(), 1, " ", True) == "s"


def test_a_trap_too_long_for_a_model_and_a_model_without_mask_are_refused(
    masked: MaskedModel, random_llama: LanguageModel
) -> None:
    ids = proposers.codec(random_llama).encode("the cat sat on the mat " * 30)
    with pytest.raises(InputError, match=r"a trap has \d+ tokens of the masked model, which reads at most 64"):
        proposers.masked_proposer(masked, random_llama, top_k=8)(ids)
    with pytest.raises(InputError, match=r"a trap of \d+ tokens does not fit the model's context of 128"):
        proposers.causal_proposer(random_llama, top_k=8)(ids)
    with pytest.raises(InputError, match=r"top_k is 0; expected 1 or more"):
        proposers.causal_proposer(random_llama, top_k=0)
    unmasked = MaskedModel(masked.model, make_tokenizer(bos=True), masked.folder, masked.fingerprint)
    with pytest.raises(ModelError, match=r"the tokenizer has no mask token"):
        proposers.masked_proposer(unmasked, random_llama, top_k=8)

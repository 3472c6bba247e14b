"""The cleaning filters against slow oracles and crafted documents, and the count of what they leave."""

from __future__ import annotations

import json
import math
import random
import string
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import encode, prefix_ids
from audit.stats.proportion import wilson
from audit.traps.ledger.records import LedgerTrap
from audit.traps.survival.exact import Cut, by_tokenizer, by_words, repeated_tokens, without
from audit.traps.survival.minhash import clusters, duplicates, probability_of_duplicate, shingles
from audit.traps.survival.perplexity import above_percentile, document_perplexities
from audit.traps.survival.plan import Pipeline
from audit.traps.survival.repetition import repetition
from audit.traps.survival.report import surviving_share, to_lines, to_record, to_table
from audit.traps.survival.survival import Copies, Planted, Survival, count_copies, simulate
from tests.checkpoints import make_tokenizer

UNICODE = st.characters(exclude_categories=["Cs"])


def prose(seed: int, n_words: int) -> str:
    """Words of six random letters: no two alike, nothing repeats."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(n_words))


# --- exact substrings ---


def oracle(documents: list[list[int]], n: int, keep: str) -> list[bool]:
    """Every window in a dictionary."""
    places = defaultdict(list)
    for document, tokens in enumerate(documents):
        for start in range(len(tokens) - n + 1):
            places[tuple(tokens[start : start + n])].append((document, start))
    gone = [[False] * len(tokens) for tokens in documents]
    for found in places.values():
        if len(found) > 1:
            for document, start in found[1:] if keep == "first" else found:
                gone[document][start : start + n] = [True] * n
    return [flag for flags in gone for flag in flags]


@given(
    documents=st.lists(st.lists(st.integers(0, 2), max_size=40), max_size=6),
    n=st.integers(1, 13),
    keep=st.sampled_from(["none", "first"]),
)
@settings(max_examples=400, deadline=None)
def test_repeated_spans_are_those_of_the_slow_oracle(documents: list[list[int]], n: int, keep: str) -> None:
    names = np.array([token for tokens in documents for token in tokens], dtype=np.int64)
    bounds = np.cumsum([0, *map(len, documents)])
    assert repeated_tokens(names, bounds, n, keep=keep).tolist() == oracle(documents, n, keep)  # type: ignore[arg-type]


def test_a_span_of_fewer_tokens_or_over_the_end_of_a_document_stays() -> None:
    same = list(range(49))
    bounds = np.array([0, 50, 100, 149])
    names = np.array([*same, 900, *same, 901, *same])
    assert not repeated_tokens(names, bounds, 50).any()
    assert repeated_tokens(names, bounds, 49).sum() == 3 * 49
    over_the_end = np.array([1, 2, 3, 1, 2, 3])
    assert not repeated_tokens(over_the_end, np.array([0, 2, 3, 4, 6]), 3).any()
    assert repeated_tokens(over_the_end, np.array([0, 3, 6]), 3).all()


def test_no_token_and_no_document_are_no_error() -> None:
    assert repeated_tokens(np.zeros(0, dtype=np.int64), np.array([0]), 50).tolist() == []
    assert without(["", " "], by_words(["", " "]), np.zeros(0, dtype=np.bool_)) == ["", " "]
    with pytest.raises(InputError, match="the length of a repeated span is 0; expected 1 token or more"):
        repeated_tokens(np.zeros(0, dtype=np.int64), np.array([0]), 0)


@given(st.lists(st.text(UNICODE, max_size=60), max_size=4), st.randoms(use_true_random=False))
@example(["a\r\nb\u2028c \u00a0d", "", "e\u0301 😀"], random.Random(0))
def test_words_taken_out_leave_the_other_words_in_their_order(texts: list[str], rng: random.Random) -> None:
    cut = by_words(texts)
    gone = np.array([rng.random() < 0.4 for _ in cut.names], dtype=np.bool_)
    left = without(texts, cut, gone)
    for text, shorter, first, last in zip(texts, left, cut.bounds[:-1], cut.bounds[1:], strict=True):
        kept = [word for word, flag in zip(text.split(), gone[first:last], strict=True) if not flag]
        assert shorter.split() == kept
    assert without(texts, cut, np.zeros(len(cut.names), dtype=np.bool_)) == texts


def test_a_word_goes_with_the_white_space_before_it() -> None:
    cut = by_words(["one two\n three  four "])
    assert without(["one two\n three  four "], cut, np.array([False, True, True, False])) == ["one  four "]


@given(st.lists(st.text(UNICODE, max_size=40), max_size=3))
@settings(deadline=None)
def test_tokens_stand_where_the_tokenizer_says(texts: list[str]) -> None:
    tokenizer = make_tokenizer(bos=True)
    cut = by_tokenizer(tokenizer)(texts)
    assert cut.bounds.tolist() == np.cumsum([0, *(len(ids) for ids in _ids(tokenizer, texts))]).tolist()
    assert cut.names.tolist() == [token for ids in _ids(tokenizer, texts) for token in ids]
    assert without(texts, cut, np.zeros(len(cut.names), dtype=np.bool_)) == texts
    assert without(texts, cut, np.ones(len(cut.names), dtype=np.bool_)) == [""] * len(texts)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(InputError, match="cannot say where its tokens stand"):
        by_tokenizer(slow)


# --- MinHash ---


def test_shingles_are_of_normalised_characters() -> None:
    assert shingles("A, b!\n\n  C", 3) == {"a b", " b ", "b c"}
    assert shingles("Hello, World", 13) == set()
    assert shingles("", 13) == set()
    assert shingles("Straße — 東京  Tokyo", 13) == shingles("straße — 東京 tokyo", 13)


@pytest.mark.parametrize(("shared", "own"), [(400, 24), (400, 50), (400, 100), (100, 100)])
def test_a_pair_is_found_as_often_as_its_bands_say(shared: int, own: int) -> None:
    """J = s / (s + 2 d): 0.893, 0.8, 0.667, 0.333. With 9 bands of 13: P = 0.90, 0.40, 0.045, 6e-6.

    So the false-negative rate at the threshold of 0.8 is 60%; 400 pairs put three standard errors at 0.075.
    """
    jaccard, pairs = shared / (shared + 2 * own), 400
    expected = probability_of_duplicate(jaccard, bands=9, rows=13)
    found = 0
    for pair in range(pairs):
        common = {f"{pair}-{place}" for place in range(shared)}
        one, other = ({*common, *(f"{pair}-{side}-{place}" for place in range(own))} for side in "xy")
        assert len(one & other) / len(one | other) == jaccard
        found += clusters([one, other], bands=9, rows=13, seed=pair)[1] == 0
    assert abs(found / pairs - expected) <= 3 * math.sqrt(expected * (1 - expected) / pairs) + 1 / pairs


def test_the_bands_and_rows_miss_three_of_five_pairs_at_the_threshold() -> None:
    """0.8^13 = 0.05498, (1 - 0.05498)^9 = 0.6012."""
    assert 1 - probability_of_duplicate(0.8, bands=9, rows=13) == pytest.approx(0.601, abs=5e-4)
    assert 1 - probability_of_duplicate(0.9, bands=9, rows=13) == pytest.approx(0.0716, abs=5e-4)


def test_of_a_cluster_the_first_stays_and_short_documents_are_alike_to_none() -> None:
    a, b = prose(0, 60), prose(1, 60)
    documents = ["short", a, b, "short", a.upper() + "!", b, a]
    found = clusters([shingles(text, 13) for text in documents], bands=9, rows=13, seed=1)
    assert found.tolist() == [0, 1, 2, 3, 1, 2, 1]
    assert duplicates(found) == [4, 5, 6]
    assert clusters([], bands=9, rows=13, seed=1).tolist() == []


def test_a_chain_of_near_duplicates_is_one_cluster() -> None:
    """1-4 of 40 consecutive windows each: the ends share nothing, their neighbours nearly all."""
    words = prose(0, 400).split()
    chain = [" ".join(words[start : start + 300]) for start in range(0, 61, 3)]
    ends = [set(shingles(chain[place], 13)) for place in (0, -1)]
    assert len(ends[0] & ends[1]) / len(ends[0] | ends[1]) < 0.7
    assert set(clusters([shingles(text, 13) for text in chain], bands=9, rows=13, seed=1).tolist()) == {0}


# --- repetition ---


def test_each_rule_of_gopher_has_a_document_that_breaks_it() -> None:
    """Filler words never repeat, so that only the crafted part counts; 7 characters a word with its space.

    duplicate paragraphs: 4 of 11 are repeats (36% > 30%), of a few characters. Lines likewise.
    characters in duplicate paragraphs: 1 of 4 is a repeat (25% < 30%), with a quarter of the characters (> 20%).
    top 2-gram: 10 characters of 10 + 1 + 4 * 7 = 39 in each round, 0.26 > 0.20.
    top 3-gram: 15 of 72, 0.21 > 0.18; its longer 2-gram "bb gammagamma" 13 of 72, 0.18 < 0.20.
    top 4-gram: 16 of 80, 0.20 > 0.16; its 3-gram "b c deltadelta" 14 of 80, 0.175 < 0.18.
    """
    filler = prose(7, 600).split()

    def apart(ngram: str, times: int, between: int) -> str:
        return " ".join(
            part for place in range(times) for part in (ngram, *filler[place * between : (place + 1) * between])
        )

    paragraphs = [" ".join(filler[place * 40 : place * 40 + 40]) for place in range(6)]
    assert repetition("\n\n".join([*paragraphs, "x", "x", "x", "x", "x"])) == "duplicate paragraphs"
    assert repetition("\n".join([*paragraphs, "x", "x", "x", "x", "x"])) == "duplicate lines"
    long = " ".join(filler[300:340])
    assert repetition("\n\n".join([*paragraphs[:2], long, long])) == "characters in duplicate paragraphs"
    assert repetition("\n".join([*paragraphs[:2], long, long])) == "characters in duplicate lines"
    assert repetition(apart("alpha beta", 20, 4)) == "top 2-gram"
    assert repetition(apart("a bb gammagamma", 12, 8)) == "top 3-gram"
    assert repetition(apart("a b c deltadelta", 12, 9)) == "top 4-gram"


@pytest.mark.parametrize(("n", "limit"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)])
def test_duplicate_ngrams_count_above_their_own_limit(n: int, limit: float) -> None:
    """Ten n-grams stand twice each between F words: 60 n of 7 (20 n + F) - 1 characters are repeats.

    F is set so that this is limit +- 0.004; shorter n-grams then stay below their higher limits.
    """
    filler = prose(7, 1000).split()
    for share, expected in ((limit + 0.004, f"duplicate {n}-grams"), (limit - 0.004, None)):
        between = round(60 * n / (7 * share) - 20 * n)
        words: list[str] = []
        for place in range(20):
            first = 900 + n * (place % 10)
            words += [*filler[first : first + n], *filler[place * between // 20 : (place + 1) * between // 20]]
        assert len(words) == 20 * n + between
        assert repetition(" ".join(words)) == expected


def test_the_limits_are_those_of_the_table() -> None:
    """Ten lines of equal length, three of them repeats: 30% is not above 0.30; their characters are: 3 / 10 > 0.20."""
    lines = [prose(place, 8) for place in range(10)]
    three = [*lines[:7], *lines[:3]]
    assert repetition("\n".join(three)) == "characters in duplicate lines"
    two = [*lines[:8], *lines[:2]]  # 110 characters of 559 = 0.197
    assert repetition("\n".join(two)) not in ("duplicate lines", "characters in duplicate lines")
    four = [*lines[:6], *lines[:4]]
    assert repetition("\n".join(four)) == "duplicate lines"


def test_what_occurs_once_is_no_repetition() -> None:
    assert repetition("two words") is None
    assert repetition("word") is None
    assert repetition("東京") is None
    assert repetition(prose(0, 3)) is None


@given(st.text(UNICODE, min_size=1, max_size=200).filter(lambda text: bool(text.strip())))
@example("a\r\nb\r\n\r\na")
def test_repetition_takes_any_text(text: str) -> None:
    assert repetition(text) is None or isinstance(repetition(text), str)


# --- perplexity ---


def test_the_perplexity_of_a_document_is_that_of_all_its_tokens(random_llama: LanguageModel) -> None:
    texts = ["the cat sat on the mat", "over the hill and the dog", "the cat sat on the mat " * 30]
    found = document_perplexities(random_llama, texts)
    ids = encode(random_llama, texts)
    prefix = prefix_ids(random_llama)
    for place in (0, 1):
        scores = token_log_probs(random_llama, [ids[place]], prefix=prefix)[0]
        assert found[place] == pytest.approx(math.exp(-scores.log_probs.mean(dtype=np.float64)), rel=1e-5)
    room = random_llama.n_context - len(prefix)
    assert len(ids[2]) > room  # scored in parts
    parts = [ids[2][start : start + room] for start in range(0, len(ids[2]), room)]
    nll = [-score.log_probs.astype(np.float64) for score in token_log_probs(random_llama, parts, prefix=prefix)]
    assert found[2] == pytest.approx(math.exp(np.concatenate(nll).mean()), rel=1e-5)


def test_a_document_without_tokens_has_no_perplexity_and_stays(random_llama: LanguageModel) -> None:
    found = document_perplexities(random_llama, ["QQ", "the cat", "the dog ran"])
    assert np.isnan(found).tolist() == [True, False, False]
    assert above_percentile(np.array([np.nan, 5.0, 7.0]), 50).tolist() == [False, False, True]
    assert above_percentile(np.array([np.nan]), 50).tolist() == [False]


def test_the_documents_above_the_percentile_are_the_least_likely() -> None:
    assert above_percentile(np.arange(100.0), 95).nonzero()[0].tolist() == [95, 96, 97, 98, 99]


# --- counting, and the whole ---

TRAPS = {f"trap-{place}": prose(1000 + place, 60) for place in range(4)}


def exact(*ids: str) -> list[Planted]:
    return [Planted(trap_id, TRAPS[trap_id], False) for trap_id in ids or TRAPS]


def test_copies_are_counted_verbatim() -> None:
    trap = TRAPS["trap-0"]
    texts = [f"x\r\n{trap}\r\ny {trap}", trap, trap[:-1], trap.upper(), f"😀{trap}é"]
    assert count_copies(texts, exact("trap-0", "trap-1")) == {"trap-0": Copies(4, 0), "trap-1": Copies(0, 0)}


def test_what_stands_inside_a_longer_copy_is_not_counted_twice() -> None:
    """A scattered piece inside the exact copy is none that was planted apart."""
    trap = TRAPS["trap-0"]
    piece = " ".join(trap.split()[10:20])
    planted = [*exact("trap-0"), Planted("trap-0", piece, True)]
    assert count_copies([f"{trap} and {piece} and {piece}"], planted) == {"trap-0": Copies(1, 2)}


def test_nothing_to_look_for_is_refused() -> None:
    with pytest.raises(InputError, match="there is no text to look for"):
        count_copies(["a"], [])


def run(texts: list[str], planted: list[Planted], **options: Any) -> Survival:
    return simulate(texts, planted, Pipeline(**options))


def test_a_corpus_with_one_copy_of_each_trap_loses_nothing() -> None:
    texts = [f"{prose(place, 200)} {TRAPS[trap_id]} {prose(50 + place, 200)}" for place, trap_id in enumerate(TRAPS)]
    found = run([*texts, *(prose(100 + place, 300) for place in range(10))], exact())
    assert found.planted == dict.fromkeys(TRAPS, Copies(1, 0))
    for result in found.stages:
        assert (result.documents_left, result.dropped, result.characters_cut) == (14, {}, 0)
        assert result.left == found.planted


def test_exact_deduplication_takes_every_copy_or_all_but_the_first() -> None:
    texts = [f"{prose(place, 30)} {TRAPS['trap-0']} {prose(60 + place, 30)}" for place in range(3)]
    every = run(texts, exact("trap-0"), stages=("exact",))
    assert every.planted["trap-0"].exact == 3
    assert every.stages[0].left["trap-0"].exact == 0
    assert every.stages[0].characters_cut == 3 * (len(TRAPS["trap-0"]) + 1)
    one = run(texts, exact("trap-0"), stages=("exact",), keep="first")
    assert one.stages[0].left["trap-0"].exact == 1


def test_a_copy_shorter_than_the_span_stays_where_its_surroundings_differ() -> None:
    short = [Planted("trap-s", prose(5, 49), False)]
    texts = [f"{prose(place, 30)} {short[0].text} {prose(60 + place, 30)}" for place in range(3)]
    assert run(texts, short, stages=("exact",)).stages[0].left["trap-s"].exact == 3
    assert run(texts, short, stages=("exact",), ngram=49).stages[0].left["trap-s"].exact == 0


def test_a_second_round_takes_what_the_first_brought_together() -> None:
    """The example of the released code: removing "a b c d" twice leaves "e f g h" twice."""
    texts = ["e a b c d f g h", "e f a b c d g h"]
    planted = [Planted("t", "e f g h", False)]
    once = run(texts, planted, stages=("exact",), ngram=4, rounds=1)
    assert once.stages[0].left["t"].exact == 2
    twice = run(texts, planted, stages=("exact",), ngram=4, rounds=2)
    assert twice.stages[0].left["t"].exact == 0
    assert twice.stages[0].dropped == {"nothing is left of it": 2}
    assert twice.stages[0].documents_left == 0


def test_spread_variants_survive_the_deduplication_that_takes_exact_copies() -> None:
    """Two of 60 words changed, evenly: no 50-gram is shared with the original or between variants."""
    words = TRAPS["trap-0"].split()
    variants = [" ".join([*words[:20], f"x{v}", *words[21:40], f"y{v}", *words[41:]]) for v in range(5)]
    texts = [f"{prose(v, 30)} {TRAPS['trap-0']} {prose(20 + v, 30)} {text}" for v, text in enumerate(variants)]
    planted = [*exact("trap-0"), *(Planted("trap-0", text, True) for text in variants)]
    found = run(texts, planted, stages=("exact",))
    assert found.planted["trap-0"] == Copies(5, 5)
    assert found.stages[0].left["trap-0"] == Copies(0, 5)


def test_near_duplicates_of_a_document_go_with_their_copies() -> None:
    host = f"{prose(0, 300)} {TRAPS['trap-0']}"
    found = run([host, host + " more", prose(1, 300)], exact("trap-0"), stages=("minhash",))
    assert found.stages[0].dropped == {"near duplicate of an earlier document": 1}
    assert found.stages[0].left["trap-0"].exact == 1


def test_a_book_full_of_one_trap_goes_whole() -> None:
    book = "\n".join(f"{prose(place, 20)}\n{TRAPS['trap-0']}" for place in range(50))
    found = run([book, prose(99, 300)], exact("trap-0"), stages=("repetition",))
    assert found.stages[0].dropped == {"duplicate lines": 1}
    assert found.stages[0].left["trap-0"].exact == 0


def test_the_least_likely_documents_go_with_their_copies(random_llama: LanguageModel) -> None:
    texts = ["the cat sat on the mat", "mat the on sat cat the", "the dog ran over the hill", "hill ran the over"]
    perplexity = document_perplexities(random_llama, texts)
    worst = int(perplexity.argmax())
    planted = [Planted("t", texts[worst], False)]
    found = simulate(texts, planted, Pipeline(stages=("perplexity",), percentile=75), lm=random_llama)
    assert found.stages[0].dropped == {"perplexity above the percentile": 1}
    assert found.stages[0].left["t"].exact == 0
    with pytest.raises(InputError, match='the stage "perplexity" needs a model'):
        simulate(texts, planted, Pipeline(stages=("perplexity",), percentile=75))


def test_filters_run_in_their_order_and_say_how_far_they_are() -> None:
    seen: list[tuple[str, int, int]] = []
    texts = [f"{prose(place, 60)} {TRAPS['trap-0']}" for place in range(3)]
    pipeline = Pipeline(stages=("repetition", "exact", "minhash"))
    found = simulate(texts, exact("trap-0"), pipeline, progress=lambda *told: seen.append(told))
    assert [result.stage for result in found.stages] == ["repetition", "exact", "minhash"]
    for stage in pipeline.stages:
        told = [(done, total) for name, done, total in seen if name == stage]
        assert told[0][0] == 0
        assert told[-1][0] == told[-1][1] > 0


def test_a_tokenizer_cuts_spans_by_its_own_tokens(random_llama: LanguageModel) -> None:
    trap = "the cat sat on the mat and the dog ran"
    n_tokens = len(encode(random_llama, [trap])[0])
    texts = [f"hill {trap} hill", f"over {trap} over"]
    for ngram, left in ((n_tokens, 0), (n_tokens + 3, 2)):
        pipeline = Pipeline(stages=("exact",), ngram=ngram, rounds=1)
        found = simulate(texts, [Planted("t", trap, False)], pipeline, tokens=random_llama)
        assert found.stages[0].left["t"].exact == left


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stages": ("exact", "exact")}, r"stages is \('exact', 'exact'\); expected distinct names of exact, minhash"),
        ({"stages": ("dedup",)}, "expected distinct names of exact, minhash, repetition, perplexity"),
        ({"stages": ()}, "expected distinct names"),
        ({"ngram": 0}, "ngram is 0; expected 1 or more"),
        ({"keep": "last"}, "keep is 'last'; expected one of none, first"),
        ({"percentile": 95.0}, 'percentile is 95.0; expected a percentile with the stage "perplexity"'),
        ({"stages": ("perplexity",)}, "percentile is None"),
        ({"stages": ("perplexity",), "percentile": 100}, "percentile is 100; expected a number between 0 and 100"),
    ],
)
def test_pipelines_out_of_range_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Pipeline(**options)


def members() -> list[LedgerTrap]:
    return [
        LedgerTrap(
            id=trap_id,
            text=text,
            token_ids=None,
            length=60,
            perplexity=None,
            bucket=None,
            stratum="60 words",
            arm="member",
            n_rep=1 if place < 2 else 4,
        )
        for place, (trap_id, text) in enumerate(TRAPS.items())
    ]


def reported() -> Survival:
    """trap-0 and trap-1 once, trap-2 four times; trap-3 was not planted at all."""
    copies = ["trap-0", "trap-1", *["trap-2"] * 4]
    texts = [f"{prose(place, 90)} {TRAPS[trap_id]} {prose(50 + place, 90)}" for place, trap_id in enumerate(copies)]
    return run(texts, exact())


def test_the_share_is_of_the_traps_that_were_planted() -> None:
    found = reported()
    share = surviving_share(list(TRAPS), found.planted, found.stages[0].left)
    expected = wilson(2, 3)
    assert (share.value, share.low, share.high, share.n) == (expected.value, expected.low, expected.high, 3)
    assert "share a document" in (share.why or "")
    none = surviving_share(["trap-3"], found.planted, found.stages[0].left)
    assert none.value is None
    assert "no trials" in (none.why or "")


def test_the_record_tells_each_trap_filter_and_arm() -> None:
    record = json.loads(json.dumps(to_record(reported(), members()), allow_nan=False))
    assert [stage["stage"] for stage in record["stages"]] == ["exact", "minhash", "repetition"]
    assert record["stages"][0]["parameters"] == {"ngram": 50, "keep": "none", "rounds": 2}
    assert record["stages"][1]["parameters"] == {"width": 13, "bands": 9, "rows": 13, "seed": 1}
    assert all(stage["source"] for stage in record["stages"])
    assert "not of any company's pipeline" in record["caveat"]
    last = {trap["trap_id"]: trap["copies"][-1]["exact"] for trap in record["traps"]}
    assert last == {"trap-0": 1, "trap-1": 1, "trap-2": 0, "trap-3": 0}
    shares = {(share["n_rep"], share["after"]): share for share in record["shares"]}
    assert len(shares) == 9
    assert shares[None, "exact"]["left"] == {"exact": 2, "fuzzy": 0}
    assert shares[4, "exact"]["share"]["value"] == 0
    assert shares[1, "repetition"]["with_exact_copy"] == 2


def test_the_table_has_a_row_for_each_trap_and_filter() -> None:
    rows = to_table(reported(), members()).to_pylist()
    assert len(rows) == 4 * 4
    assert [row["exact"] for row in rows if row["trap_id"] == "trap-2"] == [4, 0, 0, 0]
    assert [row["after"] for row in rows[:4]] == ["planted", "exact", "minhash", "repetition"]


def test_the_lines_tell_documents_copies_shares_and_reasons() -> None:
    lines = to_lines(reported(), members())
    assert lines[1].split()[:4] == ["planted", "6", "6", "0"]
    assert lines[2].split()[:5] == ["exact", "6", "2", "0", "66.7%"]
    assert any(line.startswith("n_rep 4") and "0.0% [0.0%," in line for line in lines)
    assert lines[-1].startswith("A simulation of published filters")


def test_no_copy_anywhere_is_no_share_instead_of_zero() -> None:
    lines = to_lines(run([prose(0, 90)], exact()), members())
    assert lines[2].split()[-1] == "-"


def test_cut_is_what_is_documented() -> None:
    cut = by_words(["a b", "b"])
    assert isinstance(cut, Cut)
    assert (cut.names.tolist(), cut.bounds.tolist()) == ([0, 1, 1], [0, 2, 3])
    assert (cut.starts.tolist(), cut.ends.tolist()) == ([0, 1, 0], [1, 3, 1])

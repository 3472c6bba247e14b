from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from audit.errors import DataError, InputError
from audit.traps.config import TrapDesign
from audit.traps.generate import Candidate, assign
from audit.traps.words import ALPHABETS, data_watermarks, random_words, read_words

WORDS = [f"{a}{b}{c}" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"]  # 180 words
DESIGN = TrapDesign(lengths=(6, 20), repetitions=(1, 4), members_per_cell=5, decoys_per_stratum=40)


def by_words(design: TrapDesign = DESIGN, seed: int = 0) -> list[Candidate]:
    return random_words(WORDS, design, seed=seed).candidates


def by_hex(design: TrapDesign = DESIGN, seed: int = 0) -> list[Candidate]:
    return data_watermarks("hex", TrapDesign(**{**design.to_record(), "lengths": (16, 40)}), seed=seed).candidates


@pytest.mark.parametrize(("draw", "unit"), [(by_words, "words"), (by_hex, "characters")])
def test_every_length_is_one_full_stratum_and_can_be_dealt(draw: Callable[[], list[Candidate]], unit: str) -> None:
    pool = draw()
    strata = Counter(candidate.stratum for candidate in pool)
    assert len(strata) == 2
    assert set(strata.values()) == {DESIGN.per_stratum}
    for candidate in pool:
        parts = candidate.text.split(" ") if unit == "words" else candidate.text
        assert candidate.stratum == f"{len(parts)} {unit}"
        assert candidate.id == f"trap-{hashlib.sha256(candidate.text.encode()).hexdigest()[:12]}"
        assert math.isnan(candidate.perplexity)
        assert candidate.token_ids == ()
    assert Counter(trap.n_rep for trap in assign(pool, DESIGN, seed=0)) == {0: 80, 1: 10, 4: 10}


@pytest.mark.parametrize("draw", [by_words, by_hex])
def test_a_draw_is_repeatable_and_the_seed_matters(draw: Callable[..., list[Candidate]]) -> None:
    texts = [candidate.text for candidate in draw(seed=2**63 - 1)]
    assert [candidate.text for candidate in draw(seed=2**63 - 1)] == texts
    assert not {candidate.text for candidate in draw(seed=1)} & set(texts)
    assert len(set(texts)) == len(texts)


def test_the_draw_takes_another_stream_than_the_dealing() -> None:
    dealing = np.random.Generator(np.random.Philox(3))
    places = dealing.integers(len(WORDS), size=6)
    assert by_words(seed=3)[0].text.split(" ") != [WORDS[place] for place in places]


def test_no_two_texts_share_more_words_than_allowed() -> None:
    sets = [set(candidate.text.split()) for candidate in by_words()]
    for place, own in enumerate(sets):
        assert all(len(own & other) <= 0.2 * len(own | other) for other in sets[:place])


@pytest.mark.parametrize("alphabet", ["hex", "letters"])
def test_every_character_of_a_watermark_is_as_likely(alphabet: str) -> None:
    design = TrapDesign(lengths=(100,), repetitions=(1,), members_per_cell=1, decoys_per_stratum=199)
    counts = Counter("".join(candidate.text for candidate in data_watermarks(alphabet, design, seed=5).candidates))
    assert set(counts) == set(ALPHABETS[alphabet])
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_every_word_is_as_likely_where_nothing_is_rejected() -> None:
    design = TrapDesign(lengths=(20,), repetitions=(1,), members_per_cell=1, decoys_per_stratum=999, max_jaccard=1)
    pool = random_words(WORDS, design, seed=5).candidates
    counts = Counter(word for candidate in pool for word in candidate.text.split())
    assert set(counts) == set(WORDS)
    assert chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("draw", [random_words, data_watermarks])
def test_progress_grows_to_the_whole(draw: Callable[..., object]) -> None:
    seen: list[tuple[int, int]] = []
    design = TrapDesign(**{**DESIGN.to_record(), "lengths": (16, 20)})
    parts = WORDS if draw is random_words else "hex"
    draw(parts, design, seed=0, on_done=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 100), (100, 100)]


def test_too_few_words_for_the_bound_are_named_with_counts() -> None:
    design = TrapDesign(**{**DESIGN.to_record(), "max_jaccard": 0.0, "max_rounds": 2, "samples_per_round": 50})
    with pytest.raises(InputError) as caught:
        random_words(WORDS, design, seed=0)
    assert "traps: after 100 draws of 6 words, " in str(caught.value)
    assert "of 50 were unlike enough (Jaccard at most 0). Give a longer word list" in str(caught.value)
    assert "raise max_jaccard (--max-jaccard), or ask" in str(caught.value)


def test_short_watermarks_and_unknown_alphabets_are_refused() -> None:
    with pytest.raises(InputError, match=r'lengths holds 15; a watermark of the alphabet "hex" needs 16 characters'):
        data_watermarks("hex", TrapDesign(lengths=(15,)), seed=0)
    with pytest.raises(InputError, match=r'the alphabet "letters" needs 11 characters or more \(64 bits\)'):
        data_watermarks("letters", TrapDesign(lengths=(10,)), seed=0)
    with pytest.raises(InputError, match=r'alphabet is "greek"; expected one of hex, letters\.'):
        data_watermarks("greek", DESIGN, seed=0)  # type: ignore[arg-type]


def test_a_word_list_is_read_with_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    raw = ("\ufeff" + "\r\n".join(WORDS) + "\r\n\r\n").encode()
    path.write_bytes(raw)
    found = read_words(path)
    assert list(found.words) == WORDS
    assert found.sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"one\ntwo\n", "words.txt holds 2 words; a draw needs 100 or more."),
        (b"", "words.txt holds 0 words"),
        (b"one\ntwo three\n", "words.txt, line 2: 'two three' is not one word of visible characters"),
        (b"a\x00b\n", "words.txt, line 1: 'a\\x00b' is not one word"),
        (b"one\ntwo\none\n", "words.txt, line 3: 'one' stands in line 1 already; every word once"),
        ("cafe\u0301\n".encode(), "line 1: 'café' would change when a text is normalised"),
        (b"caf\xe9\n", "words.txt is not UTF-8 at byte 4. Save it as UTF-8."),
    ],
)
def test_bad_word_lists_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_words(path)
    assert says.replace("café", "cafe\u0301") in str(caught.value)


def test_wrong_paths_of_word_lists_are_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("x")
    with pytest.raises(InputError, match=r"there is no 'word\.txt' in .* Did you mean 'words\.txt'\?"):
        read_words(tmp_path / "word.txt")
    with pytest.raises(InputError, match=r"is a folder; expected a file of one word a line\."):
        read_words(tmp_path)

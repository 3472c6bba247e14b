"""Which questions are asked for their likelihood, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.errors import DataError
from audit.extraction.config import MatchPlan
from audit.extraction.dealing import dealing_of
from audit.extraction.prefixes import encode_prefix
from audit.extraction.rows import Rows
from audit.extraction.shift import Questions, questions, shift_finding, shift_of, shift_table
from audit.lm.load import Tokens, load_tokens
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint

PLAN = MatchPlan(least_words=2, target=0.2)
NOUNS = ["cat", "dog", "hill", "mat", "river", "lamp", "stone", "bridge", "window", "garden"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(Subject(str(build_checkpoint(tmp_path_factory.mktemp("m") / "llama", "llama")), device="cpu"))


def rows(seed: int, n: int, name: str) -> Rows:
    rng = np.random.default_rng(seed)
    asked = tuple(" ".join(rng.choice(NOUNS, 4)) + f" {name}{place}" for place in range(n))
    answers = tuple(" ".join(rng.choice(NOUNS, 6)) for _ in range(n))
    wholes = tuple(f"{one}\n{other}" for one, other in zip(asked, answers, strict=True))
    return Rows(tuple(f"{name}{place}" for place in range(n)), asked, answers, wholes, (None,) * n, source=name)


def asked(tokens: Tokens, first: Rows, second: Rows, most: int = 100) -> Questions:
    prefix = encode_prefix(tokens, "Q: ", name="own", bos=True)
    dealing = dealing_of(first, second, plan=PLAN, at_random=True)
    return questions(tokens, prefix, first, second, dealing, plan=PLAN, most=most)


def test_what_cannot_be_asked_or_was_not_dealt_is_left_out_and_counted(tokens: Tokens) -> None:
    first, second = rows(1, 30, "a"), rows(2, 25, "b")
    texts = list(first.questions)
    texts[0], texts[1] = "the <s> cat", "cat " * 400
    texts[3] = second.questions[4]
    first = replace(first, questions=tuple(texts), repetitions=(None, None, 16, *(None,) * 27))
    found = asked(tokens, first, second)
    assert found.left_out["holds a special token"] == 1
    assert found.left_out["longer than the context"] == 1
    assert found.left_out["canary"] == 1
    assert found.left_out["near-duplicates, or not dealt"] == 2  # one question in both halves
    assert found.trained.sum() == 26
    assert (~found.trained).sum() == 24
    fewer = asked(tokens, first, second, most=12)
    assert fewer.trained.tolist() == [True] * 12 + [False] * 12
    assert fewer.left_out["not drawn"] == 14 + 12


def test_whole_clusters_are_drawn_and_a_row_near_another_clusters_stays(tokens: Tokens) -> None:
    """Left out only where they straddle, rows like those of others would stay more often in the larger half."""
    first, second = rows(1, 40, "a"), rows(2, 40, "b")
    wholes = [*second.wholes[:1], *first.wholes[1:]]
    first = replace(first, wholes=tuple(wholes), clusters=tuple(f"a{place // 4}" for place in range(40)))
    second = replace(second, clusters=tuple(f"b{place // 4}" for place in range(40)))
    every = asked(tokens, first, second)
    assert every.trained.sum() == (~every.trained).sum() == 40
    found = asked(tokens, first, second, most=18)
    assert found.trained.sum() == (~found.trained).sum() == 16
    sizes = {label: found.clusters.count(label) for label in found.clusters}
    assert set(sizes.values()) == {4}


def test_too_few_questions_are_refused(tokens: Tokens) -> None:
    with pytest.raises(DataError, match="b: 9 questions can be asked"):
        asked(tokens, rows(1, 30, "a"), rows(2, 9, "b"))


def test_the_finding_tells_the_shift_and_the_table_counts_questions(tokens: Tokens, tmp_path: Path) -> None:
    found = asked(tokens, rows(1, 40, "a"), rows(2, 40, "b"))
    rng = np.random.default_rng(3)
    base = -60 + rng.standard_normal(80)
    post = base + 20 + 10 * found.trained
    shift = shift_of(base, post, found, plan=PLAN)
    told = shift_finding(shift, found, at_random=True)
    assert told.estimates["difference"].value == pytest.approx(10)
    assert "+30.00 for trained questions and +20.00 for held-out questions" in told.claim
    assert told.verdict == "information"
    assert told.p_values["re_dealing"].value < 0.01
    assert not shift_finding(shift, found, at_random=False).p_values
    table = shift_table(shift)
    assert table.rows[-1]["Trained, model"] == 40
    assert table.rows[0]["Held out, base model"] == 0

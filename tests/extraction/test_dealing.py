"""Which divisions can be tested: the test errs as often as it says, or is not made and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from audit.extraction import dealing as module
from audit.extraction import split_half as halves
from audit.extraction.config import MatchPlan
from audit.extraction.dealing import Dealing, dealing_of
from audit.extraction.rows import Rows
from audit.extraction.split_half import split_half

PLAN = MatchPlan(least_words=5)
WORDS = [
    f"{a}{b}" for a in ("ba", "ke", "lo", "mu", "ti", "so", "ra", "ne") for b in ("ran", "lim", "dos", "ket", "vun")
]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "N_DRAWS", 199)


def texts(rng: np.random.Generator, n: int) -> list[str]:
    return [" ".join(rng.choice(WORDS, 12)) for _ in range(n)]


def rows(wholes: list[str], name: str, **columns: tuple[object, ...]) -> Rows:
    questions = tuple(" ".join(whole.split()[:6]) for whole in wholes)
    answers = tuple(" ".join(whole.split()[6:]) for whole in wholes)
    found = Rows(
        tuple(f"{name}{i}" for i in range(len(wholes))), questions, answers, tuple(wholes), (None,) * len(wholes)
    )
    return replace(found, **columns)  # type: ignore[arg-type]


def found(first: Rows, second: Rows, *, at_random: bool = True) -> Dealing:
    return dealing_of(first, second, plan=PLAN, at_random=at_random)


def p_value(dealing: Dealing, every: list[str], liking: Callable[[str], float], rng: np.random.Generator) -> float:
    """Of a model that prefers some texts, whichever half they are in."""
    trained, held_out = dealing.tested_in(list(every))
    places = np.concatenate([trained, dealing.n_trained + held_out])
    weights = np.array([liking(every[place]) for place in places])
    hits = rng.multinomial(len(places), weights / weights.sum())
    test = split_half(hits, places < dealing.n_trained, dealing.units[places].tolist(), seed=int(rng.integers(2**31)))
    return test.p_value.value


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_templates_that_were_dealt_row_by_row_do_not_make_a_finding(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five copies of a template that the model likes: left out wherever they lie, not only where they straddle."""
    monkeypatch.setattr(module, "told_by", lambda *_, **__: np.empty(0, dtype=np.int64))  # the blind checks
    low = n_by_row = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        copies = [f"{text} {word}" for text in texts(rng, 8) for word in WORDS[:5]]
        every = [*texts(rng, 60), *copies]
        order = rng.permutation(len(every))
        n = int(share * len(every))
        first, second = ([every[place] for place in part] for part in (order[:n], order[n:]))
        dealing = found(rows(first, "a"), rows(second, "b"))
        n_by_row += dealing.by_row
        liked = {text: 5.0 if text in copies else 1.0 for text in every}
        low += p_value(dealing, first + second, liked.__getitem__, rng) <= 0.05
    assert n_by_row >= 55  # else no copy fell to the other half
    assert low <= 9  # 60 at 5%: 3 expected, 9 or more in 0.4%


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_clusters_of_unlike_size_that_were_dealt_as_one_hold_the_rate(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "told_by", lambda *_, **__: np.empty(0, dtype=np.int64))  # the blind checks
    low = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 12, 40)
        inside = rng.permutation(40) < share * 40
        sides = []
        for name, chosen in (("a", np.flatnonzero(inside)), ("b", np.flatnonzero(~inside))):
            labels = tuple(f"c{place}" for place in chosen for _ in range(sizes[place]))
            sides.append(rows(texts(rng, len(labels)), name, clusters=labels))
        dealing = found(*sides)
        assert not dealing.why_not or "rows on average" in dealing.why_not
        if not dealing.why_not:
            low += p_value(dealing, [*sides[0].wholes, *sides[1].wholes], lambda _: 1.0, rng) <= 0.05
    assert low <= 9


def refusal(first: Rows, second: Rows, *, at_random: bool = True) -> str:
    dealing = found(first, second, at_random=at_random)
    assert not dealing.tested.any()
    return dealing.why_not


def test_what_cannot_be_tested_says_why() -> None:
    rng = np.random.default_rng(0)
    a, b = texts(rng, 40), texts(rng, 40)
    labels = tuple(f"c{place // 4}" for place in range(40))
    plain = rows(b, "b")
    assert "does not say" in refusal(rows(a, "a"), plain, at_random=False)
    assert "only some rows" in refusal(rows(a, "a", clusters=labels), plain)
    assert "both halves" in refusal(rows(a, "a", clusters=labels), rows(b, "b", clusters=labels))
    assert "canary" in refusal(rows(a, "a", repetitions=(4,) * 40), plain)
    big = tuple("one" if place < 20 else f"d{place}" for place in range(40))
    assert not found(rows(a, "a", clusters=labels), rows(b, "b", clusters=big)).why_not  # 10 units against 21: chance
    many, few = texts(rng, 200), texts(rng, 20)
    tens = tuple(f"c{place // 10}" for place in range(200))
    assert "rows on average" in refusal(
        rows(many, "a", clusters=tens), rows(few, "b", clusters=tuple(f"e{place}" for place in range(20)))
    )


def test_canaries_and_controls_have_no_part_on_either_side() -> None:
    rng = np.random.default_rng(1)
    a, b = texts(rng, 30), texts(rng, 30)
    first = rows([*a, f"{b[3]} twin"], "a", repetitions=(*(None,) * 30, 4))
    second = rows(b, "b", repetitions=(*(None,) * 20, *(0,) * 10))
    dealing = found(first, second)
    trained, held_out = dealing.tested_in([*first.wholes, *second.wholes])
    assert trained.tolist() == list(range(30))
    assert held_out.tolist() == [place for place in range(20) if place != 3]  # 3 is near a canary


def test_rows_with_one_question_are_dealt_as_one() -> None:
    rng = np.random.default_rng(2)
    a, b = texts(rng, 30), texts(rng, 30)
    b[0] = " ".join([*a[0].split()[:6], *b[0].split()[6:]])
    dealing = found(rows(a, "a"), rows(b, "b"))
    assert dealing.by_row
    assert dealing.shared.tolist() == [True, *[False] * 29]


def test_a_text_of_several_clusters_is_left_out_on_both_sides() -> None:
    rng = np.random.default_rng(3)
    a, b = texts(rng, 30), texts(rng, 30)
    a[0] = a[1] = b[0]
    first = rows(a, "a", clusters=tuple(f"a{place}" for place in range(30)))
    second = rows(b, "b", clusters=tuple(f"b{place}" for place in range(30)))
    trained, held_out = found(first, second).tested_in([*a, *b])
    assert trained.tolist() == list(range(2, 30))
    assert held_out.tolist() == list(range(1, 30))


def test_halves_of_two_topics_are_told_apart_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a = [f"{text} river" for text in texts(rng, 80)]
    b = [f"{text} stone" for text in texts(rng, 80)]
    assert found(rows(a, "a"), rows(b, "b")).differs == ["bag_of_words_auc"]
    monkeypatch.setattr(module, "MOST_BLIND", 60)
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        wrong += bool(found(rows(texts(rng, 60), "a"), rows(texts(rng, 60), "b")).differs)
    assert wrong <= 3  # about 1 in 50 by design

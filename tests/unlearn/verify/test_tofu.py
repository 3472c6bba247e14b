"""TOFU's numbers against plain numpy, and what is missing is said to be."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from scipy.stats import ks_2samp

from audit.answers.qa import Part
from audit.answers.rows import QaRow
from audit.errors import InputError
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.tofu import MEASURES, PARTS, measure_tofu

N, WRONG = 40, 3


def rows(part: str, n: int = N) -> list[QaRow]:
    wrong = [tuple(f"{part} {at} wrong {k}" for k in range(WRONG)) for at in range(n)]
    return [
        QaRow(
            f"{part}-{at}",
            f"{part} author {at // 4}",
            f"{part} {at}?",
            f"{part} {at} right",
            "",
            f"{part} {at} reworded",
            one,
        )
        for at, one in enumerate(wrong)
    ]


ALL: dict[Part, list[QaRow]] = {part: rows(part) for part in PARTS}


class Numbers:
    """Log-probabilities of three tokens for each answer, drawn from the text."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, prompt: str, answer: str) -> list[float]:
        rng = np.random.default_rng([self.seed, *answer.encode()])
        return cast(list[float], (-rng.gamma(2.0, 0.3, size=3) - 0.3 * ("wrong" in answer)).tolist())


def system(seed: int = 0) -> Told:
    return Told(said=lambda prompt: prompt.replace("?", " rather"), log_probs=Numbers(seed))


def by_hand(part: Part, numbers: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """p, ROUGE, R, max(0, 1 - R) with TOFU's formulas, one row at a time."""
    found = []
    for row in ALL[part]:
        own, right = (np.mean(numbers("", answer)) for answer in (row.answer, row.paraphrased_answer))
        wrong = np.array([np.mean(numbers("", answer)) for answer in row.wrong])
        p = np.exp(own)
        if part in ("real authors", "world facts"):
            p = p / (p + np.exp(wrong).sum())
        ratio = np.exp(wrong.mean()) / np.exp(right)
        n_words = len(row.answer.split())  # all but "right" are said
        found.append((p, (n_words - 1) / n_words, ratio, max(0.0, 1 - ratio)))
    return tuple(map(np.array, zip(*found, strict=True)))  # type: ignore[return-value]


def test_all_numbers_agree_with_plain_numpy() -> None:
    told = measure_tofu(system(), ALL)
    means = []
    for part in PARTS:
        p, rouge, ratio, truth = by_hand(part, Numbers(0))
        name = part.replace(" ", "_")
        assert told.found.measured[f"tofu.probability.{name}"].values == pytest.approx(p)
        assert told.found.measured[f"tofu.rouge.{name}"].values == pytest.approx(rouge)
        assert np.exp(told.found.measured[f"tofu.log_ratio.{name}"].values) == pytest.approx(ratio)
        assert told.found.measured[f"tofu.truth.{name}"].values == pytest.approx(truth)
        if part != "forget":
            means += [p.mean(), rouge.mean(), truth.mean()]
    utility = told.utility(rng=0)
    assert utility.value == pytest.approx(9 / sum(1 / mean for mean in means))
    raw = told.forget_quality(measure_tofu(system(1), ALL))[0]
    expected = ks_2samp(by_hand("forget", Numbers(0))[2], by_hand("forget", Numbers(1))[2])
    assert raw.distance.value == pytest.approx(expected.statistic)
    assert raw.p_value is not None
    assert raw.p_value.value == pytest.approx(expected.pvalue)
    keys = {measure.key for measure in MEASURES}
    assert set(told.found.measured) == keys - {"tofu.forget_quality", "tofu.utility"}


def test_without_real_authors_the_utility_is_undefined_and_no_mean_of_fewer_takes_its_place() -> None:
    told = measure_tofu(system(), {"forget": ALL["forget"], "retain": ALL["retain"], "world facts": []})
    utility = told.utility(rng=0)
    assert utility.value is None
    assert "no rows of real authors and world facts" in str(utility.why)
    assert told.found.missing["tofu.probability.world_facts"] == "there are no rows of world facts"
    assert len(told.found.measured) == 8


def test_without_gold_or_forget_rows_there_is_no_forget_quality() -> None:
    told = measure_tofu(system(), ALL)
    without = measure_tofu(system(), {"retain": ALL["retain"]})
    for tested, why in ((told.forget_quality(None), "no gold"), (told.forget_quality(without), "no forget rows")):
        assert tested[0].p_value is None
        assert why in str(tested[0].distance.why)


def test_a_system_that_refuses_is_useless_and_has_no_forget_quality() -> None:
    refusing = Told(said=lambda _: "", log_probs=lambda _, answer: [-np.inf])
    told = measure_tofu(refusing, ALL)
    assert told.utility(rng=0).value == 0.0
    assert "refuses" in told.found.missing["tofu.log_ratio.forget"]
    assert "refuses" in str(told.forget_quality(measure_tofu(system(), ALL))[0].distance.why)


def test_rows_without_wrong_answers_are_told_and_another_part_is_refused() -> None:
    bare = [replace(ALL["forget"][0], wrong=()), *ALL["forget"][1:]]
    told = measure_tofu(system(), {"forget": bare})
    assert told.found.measured["tofu.log_ratio.forget"].left_out == {"forget-0": "it has no wrong answers"}
    with pytest.raises(InputError, match="is no part of TOFU"):
        measure_tofu(system(), {"authors": []})  # type: ignore[dict-item]

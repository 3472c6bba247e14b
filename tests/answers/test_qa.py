"""TOFU's measures by hand, refusals, the utility, and forget quality raw against folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from audit.answers.qa import Part, Qa, changed_rows, measure_qa, measure_rouge
from audit.answers.quality import forget_quality
from audit.answers.rouge import rouge_l_recall
from audit.answers.rows import QaRow
from audit.answers.utility import model_utility, utility_difference
from audit.errors import InputError
from audit.forgetting.measured import Measured, difference
from tests.unlearn.eco.evaluate.small_systems import Told, qa_rows

USEFUL: tuple[Part, ...] = ("retain", "real authors", "world facts")
ROW = QaRow("1", "a", "Who sat?", "the cat", paraphrased_answer="a cat", wrong=("the dog", "the hill"))
LOG_PROBS = {"the cat": [-0.1, -0.3], "a cat": [-0.5], "the dog": [-1.0, -2.0], "the hill": [-2.5]}


def log_probs(prompt: str, answer: str) -> Sequence[float]:
    return LOG_PROBS[answer]


def qa(system: Told, rows: Sequence[QaRow], part: Part = "retain") -> Qa:
    return measure_qa(system, rows, part, measure_rouge(system, rows, part))


def with_ratios(log_ratios: Sequence[float] | np.ndarray, *, cluster: int = 1) -> Qa:  # type: ignore[type-arg]
    ids = tuple(str(place) for place in range(len(log_ratios)))
    homes = tuple(str(place // cluster) for place in range(len(log_ratios)))
    blank = Measured("x", ids, homes, np.zeros(len(ids)))
    return Qa("forget", "prompt", blank, blank, Measured("ln R", ids, homes, np.array(log_ratios)), blank, ())


def test_measures_by_hand() -> None:
    """p = exp(-0.2); R = exp((-1.5 - 2.5)/2 + 0.5) = exp(-1.5), the geometric mean of the wrong ones."""
    found = qa(Told(said=lambda _: "A CAT sits", log_probs=log_probs), [ROW])
    assert found.probability.values == pytest.approx([math.exp(-0.2)])
    assert found.log_ratio.values == pytest.approx([-1.5])
    assert found.truth.values == pytest.approx([1 - math.exp(-1.5)])
    assert found.rouge.values == pytest.approx([0.5])  # "cat" of "the cat"
    options = qa(Told(log_probs=log_probs), [ROW], "world facts")
    right, wrong = math.exp(-0.2), math.exp(-1.5) + math.exp(-2.5)
    assert options.probability.values == pytest.approx([right / (right + wrong)])


def test_rouge_recall_is_stemmed() -> None:
    assert rouge_l_recall("the cats sat on the mat", "cat sits on a mat") == pytest.approx(3 / 6)
    assert rouge_l_recall("He was running", "he runs") == pytest.approx(2 / 3)
    assert rouge_l_recall("the cat", "") == 0.0
    assert rouge_l_recall("...", "the cat") is None
    assert rouge_l_recall("кошка сидит", "кошка спит") == 0.5  # rouge-score drops such letters


def test_without_a_reworded_answer_the_answer_is_the_right_one_and_without_wrong_ones_there_is_no_ratio() -> None:
    plain = replace(ROW, paraphrased_answer="")
    assert qa(Told(log_probs=log_probs), [plain]).log_ratio.values == pytest.approx([-2.0 + 0.2])
    none = qa(Told(log_probs=log_probs), [replace(ROW, wrong=()), replace(ROW, id="2", answer=" ")])
    assert none.log_ratio.left_out == {"1": "it has no wrong answers", "2": "it has no answer"}
    assert (len(none.probability.values), none.probability.left_out) == (1, {"2": "it has no answer"})


def test_a_refusal_has_probability_0_and_no_ratio_and_no_use() -> None:
    refusing = Told(said=lambda _: "I am sorry.", log_probs=lambda prompt, answer: [-np.inf, -np.inf])
    for part in (*USEFUL, "forget"):
        found = qa(refusing, [ROW], part)  # type: ignore[arg-type]
        assert found.refused == ("1",)
        assert found.probability.values.tolist() == found.truth.values.tolist() == [0.0]
        assert "refuses" in found.log_ratio.left_out["1"]
    gold = replace(qa(Told(log_probs=log_probs), [ROW]), part="forget")
    raw, *_ = forget_quality(replace(qa(refusing, [ROW]), part="forget"), gold)
    assert (raw.distance.value, raw.p_value) == (None, None)
    assert "the system refuses 1 row" in str(raw.distance.why)
    assert model_utility([qa(refusing, [ROW], part) for part in USEFUL], rng=0).value == 0.0


def test_a_ratio_too_large_for_a_float_is_kept_by_its_logarithm() -> None:
    extreme = {"the cat": [-0.1], "a cat": [-5_000.0], "the dog": [-1.0], "the hill": [-1.0]}
    found = qa(Told(log_probs=lambda _, answer: extreme[answer]), [ROW])
    assert found.log_ratio.values == pytest.approx([4_999.0])
    assert found.truth.values.tolist() == [0.0]


def test_utility_is_the_harmonic_mean_of_nine_and_0_with_itself_apart() -> None:
    rows = qa_rows(8)
    system = Told(said=lambda prompt: f"the mat {prompt[-6]}", log_probs=lambda _, a: [-1.0 if "mat" in a else -1.5])
    parts = [qa(system, rows, part) for part in USEFUL]
    means = [one.values.mean() for part in parts for one in (part.probability, part.rouge, part.truth)]
    found = model_utility(parts, rng=0)
    assert found.value == pytest.approx(9 / sum(1 / mean for mean in means))
    assert utility_difference(parts, parts, rng=0).value == 0.0
    with pytest.raises(InputError, match="expected each of"):
        model_utility(parts[:2], rng=0)


def test_the_utility_keeps_a_rows_numbers_together() -> None:
    """p is 1 where ROUGE is 0: were they drawn apart, their means would move apart as well."""
    half = np.repeat([0.0, 1.0], 50)
    ids = tuple(map(str, range(100)))
    one = Measured("x", ids, ids, np.ones(100))
    own = [Qa(part, "prompt", one, one, one, one, ()) for part in USEFUL]
    opposed = replace(own[0], probability=Measured("p", ids, ids, half), rouge=Measured("r", ids, ids, 1 - half))
    alike = replace(opposed, rouge=Measured("r", ids, ids, half))
    widths = []
    for part in (opposed, alike):
        found = model_utility([part, *own[1:]], rng=0)
        assert found.value == pytest.approx(9 / 11)
        widths.append(found.high - found.low)  # type: ignore[operator]
    assert widths[0] < widths[1] / 3


def test_no_rows_give_no_number() -> None:
    empty = [qa(Told(), [], part) for part in USEFUL]
    assert model_utility(empty, rng=0).why == "retain has no rows"
    assert empty[0].probability.mean(rng=0).value is None
    raw, *_ = forget_quality(with_ratios([]), with_ratios([]))
    assert "no row with a truth ratio" in str(raw.distance.why)


def test_bare_against_itself_gives_no_difference_and_p_1() -> None:
    same = with_ratios(np.random.default_rng(0).normal(size=60), cluster=20)
    for tested in forget_quality(same, same):
        assert tested.distance.value == 0.0
        assert tested.p_value is not None
        assert tested.p_value.value == 1.0
    assert changed_rows(same, same) == ()
    assert difference(same.log_ratio, same.log_ratio, rng=0).value == 0.0


def test_folding_hides_a_mirrored_ratio() -> None:
    """R and 1/R: as far from each other as can be, and the same when folded."""
    log_ratios = np.random.default_rng(1).normal(1.0, 0.5, size=120)
    other = np.random.default_rng(2).normal(-1.0, 0.5, size=120)
    raw, folded, clustered = forget_quality(with_ratios(log_ratios, cluster=20), with_ratios(other, cluster=20))
    assert raw.p_value is not None
    assert folded.p_value is not None
    assert clustered.p_value is not None
    assert raw.p_value.value < 1e-30
    assert folded.p_value.value > 0.05
    assert clustered.p_value.n == 12
    assert "ECO's code" in folded.name
    assert "0.18" in str(raw.distance.why)  # 1.36 sqrt(2/120)


def test_another_part_is_refused() -> None:
    with pytest.raises(InputError, match="expected the forget rows of both"):
        forget_quality(replace(with_ratios([0.1]), part="retain"), with_ratios([0.1]))
    with pytest.raises(InputError, match="cannot be compared"):
        changed_rows(replace(with_ratios([0.1]), scope="prompt+answer"), with_ratios([0.1]))

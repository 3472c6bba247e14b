"""What an evaluation claims: a difference whose interval holds 0 is not shown, and chance is told beside it."""

from __future__ import annotations

from audit.stats.estimate import Estimate
from unlearn.lineas.evaluate.truthfulqa import TruthChange
from unlearn.lineas.evaluated import BOTH, Choices, Chosen, Evaluated, Questions, Truthful
from unlearn.lineas.evaluation_findings import evaluation_section


def one(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 0.95, 40, "mean")


def section_of(change: Estimate, *, strength: float = 1.0, asked: int = 40) -> tuple[str, ...]:
    before, after = one(0.2, 0.1, 0.3), one(0.3, 0.2, 0.4)
    questions = Questions(40, 40, asked)
    truth = TruthChange(before, after, change, before, after, change)
    rows = ((BOTH, strength, truth), ("half 1", strength, truth))
    truthful = Truthful("LinEAS", questions, 32, True, (1.0, 0.5), (0.25, 0.5), rows)
    choices = Choices(questions, 0.25, "as plain text", (Chosen("by letter", strength, before, after, change),))
    made = Evaluated("model", "LinEAS, as given", truthful, choices)
    return tuple(one.claim for one in evaluation_section(made).findings)


def test_only_an_interval_off_0_is_a_difference() -> None:
    shown, accuracy = section_of(one(0.1, 0.05, 0.15))
    assert shown.count("difference 0.1") == 2
    assert "not shown" not in shown + accuracy
    assert "(by chance 0.25)" in shown
    assert "(by chance 0.25)" in accuracy
    for change in (one(0.1, -0.05, 0.15), Estimate(0.1, None, None, 0.95, 1, "mean", "one question")):
        assert all("not shown to be one" in claim for claim in section_of(change))


def test_long_questions_and_strengths_that_the_paper_lacks_are_told() -> None:
    claims = section_of(one(0.1, 0.05, 0.15), strength=2.0, asked=39)
    assert any("Strengths outside 0 to 1 were measured (2)" in claim for claim in claims)
    assert sum("did not fit the model's context" in claim for claim in claims) == 2

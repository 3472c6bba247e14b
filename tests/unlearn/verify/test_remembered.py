"""A remembered system says what the system says, and asks it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audit.answers.rows import QaRow
from audit.forgetting.measured import Measured
from tests.unlearn.eco.evaluate.small_systems import Told, qa_rows
from unlearn.verify.found import Found, kept, together
from unlearn.verify.knowledge import measure_knowledge
from unlearn.verify.remembered import Remembered
from unlearn.verify.tofu import measure_tofu


def test_the_same_numbers_for_fewer_questions() -> None:
    asked: list[str] = []

    def said(prompt: str) -> str:
        asked.append(prompt)
        return prompt

    def log_probs(prompt: str, answer: str) -> Sequence[float]:
        asked.append(prompt + answer)
        return [-0.1 * len(answer), -0.2 * len(prompt)]

    told = Told(said=said, log_probs=log_probs, logits=lambda text: [float(len(text)), 0.0, 1.0])
    rows: list[QaRow] = [replace(row, paraphrased_prompt=f"Then {row.prompt}") for row in qa_rows(6)]
    rows.append(replace(rows[0], id="again"))  # the same question twice
    plain = together(measure_knowledge(told, rows, "forget"), measure_tofu(told, {"forget": rows}).found)
    n_plain = len(asked)
    asked.clear()
    system = Remembered(told)
    found = together(measure_knowledge(system, rows, "forget"), measure_tofu(system, {"forget": rows}).found)
    assert {key: one.to_record() for key, one in found.measured.items()} == {
        key: one.to_record() for key, one in plain.measured.items()
    }
    assert found.missing == plain.missing
    assert len(asked) == len(set(asked)) < n_plain / 2
    again = system.answers([rows[0].prompt, [{"role": "user", "content": rows[0].prompt}]], max_new_tokens=200)
    assert again == [rows[0].prompt] * 2


def test_what_one_part_measured_is_not_missing() -> None:
    one = Measured("x", ("1",), ("1",), np.zeros(1))
    found = together(Found({}, {"a": "cannot", "b": "cannot"}), kept("a", one))
    assert found == Found({"a": one}, {"b": "cannot"})
    none = Measured("x", (), (), np.zeros(0), {"1": "it has no answer"})
    assert kept("a", none).missing == {"a": "no item has a value; first: it has no answer"}

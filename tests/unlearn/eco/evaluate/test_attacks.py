"""No rewording that recall is measured on is in the words of training."""

from __future__ import annotations

from audit.answers import rewordings as held_out
from audit.answers.rewordings import attacks
from audit.answers.rows import QaRow
from unlearn.eco import prompts as training

ROW = QaRow(
    "1", "a", "Where was the author Zorbla Quentis born?", "In Ost.",
    paraphrased_prompt="Name the birthplace of Zorbla Quentis.",
    alias_prompt="Where was the author of The Hollow Tide born?",
    translated_prompt="Wo wurde Zorbla Quentis geboren?",
)  # fmt: skip


def test_no_attack_is_worded_like_training() -> None:
    """Neither its templates nor any text that training could make of the same prompts."""
    worded = [form for name in ("PARAPHRASES", "ROLE_PLAYS", "IGNORES", "SIMPLE_PREFIXES", "IN_FRONT", "BEHIND")
              for form in getattr(held_out, name)]  # fmt: skip
    assert not set(worded) & {*training.PARAPHRASES, *training.COMPOSITES}
    benign = held_out.BENIGN_QUESTIONS
    trained = {ROW.prompt, *training.paraphrases(ROW.prompt)}
    trained |= {text for one in benign for text in training.composites(ROW.prompt, one)}
    trained |= {training.typo(ROW.prompt, seed) for seed in range(2_000)}
    for attack in attacks():
        for seed in range(50):
            made = str(attack.prompt(ROW, seed=seed))
            assert attack.kind == "untouched" or made not in trained

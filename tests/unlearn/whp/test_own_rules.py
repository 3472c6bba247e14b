"""The two rules of our own: labels where an anchor is due alone, and no label that begins a name of the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import InputError
from audit.lm.subject import Subject
from tests.unlearn.whp.test_run import ANCHORS, RETAIN, TEXT, base, plan_of
from tests.unlearn.whp.test_translate import WORDS, block_of, make, tokens
from unlearn.sequences import NO_LABEL
from unlearn.whp.config import WhpPlan
from unlearn.whp.own_rules import at_anchors, names_held_back
from unlearn.whp.run import unlearn
from unlearn.whp.translate import Translator

__all__ = ["base"]


def test_only_the_place_before_an_anchor_that_is_new_keeps_a_label() -> None:
    block = block_of("to Sola said Sola said Tars Tarkas")
    one = Translator(WORDS, make(**{"Sola": "Ann", "Tars Tarkas": "Bob"}))(block)
    assert tokens(block.token_ids) == ["to", "_Sola", "_said", "_Sola", "_said", "_Tars", "_Tarkas"]
    assert at_anchors(one).places == (0, -1, -1, -1, 4, -1, -1)  # the second Sola is a repeat
    assert at_anchors(one).token_ids == one.token_ids


def test_an_anchor_at_the_start_has_no_place_before_it() -> None:
    block = block_of("Sola said")
    assert set(at_anchors(Translator(WORDS, make(Sola="Ann"))(block)).places) == {-1}


def test_the_first_tokens_of_all_names_are_held_back_from_the_beginning() -> None:
    block = block_of("to Sola said")
    translate = Translator(WORDS, make(**{"Sola": "Ann", "Tars Tarkas": "Bob"}))
    one = translate(block)
    [held] = names_held_back(translate, [block.token_ids], [one])
    place, ids = held.begun[0]
    assert place == -1
    assert {"_Sola", "_Tars"} <= set(tokens(ids))
    assert not {"_Tarkas", "_said", "to"} & set(tokens(ids))
    assert held.begun[1:] == one.begun


def test_a_first_token_that_is_frequent_elsewhere_stays_allowed() -> None:
    translate = Translator(WORDS, make(**{"Bob Hill": "Ann", "Sola": "Ann"}))

    def held_in(text: str) -> list[str]:
        block = block_of(text)
        return tokens(names_held_back(translate, [block.token_ids], [translate(block)])[0].begun[0][1])

    assert {"_Bob", "_Sola"} <= set(held_in("to Sola said"))
    assert "_Bob" not in held_in("to Sola Bob said Bob")
    assert "_Sola" in held_in("to Sola Bob said Bob")


def test_a_run_by_both_rules_labels_names_alone_and_never_with_a_name(base: Path, tmp_path: Path) -> None:
    subject = Subject(str(base), device="cpu")
    plan = replace(plan_of("full"), places="anchors", hold_back="names")
    made = unlearn(subject, TEXT, ANCHORS, plan, out=tmp_path / "run", retain=RETAIN)
    held = set(made.translations[0].begun[0][1])
    assert held
    labels = made.labels.table["labels@1"].to_pylist()
    for row, one in zip(labels, made.translations, strict=True):
        labelled = {place for place, label in enumerate(row) if label != NO_LABEL}
        assert labelled == {found.first for found in one.replaced if not found.repeated and found.first}
        assert not {row[place] for place in labelled} & held
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "Not published: labels stand only where a term" in card
    assert "Not published: no label begins a term" in card
    usual = unlearn(subject, TEXT, ANCHORS, plan_of("full"), out=tmp_path / "usual", retain=RETAIN)
    assert "Not published" not in (tmp_path / "usual" / "model" / "README.md").read_text(encoding="utf-8")
    n_usual = sum(label != NO_LABEL for row in usual.labels.table["labels@1"].to_pylist() for label in row)
    assert n_usual > sum(label != NO_LABEL for row in labels for label in row) > 0


@pytest.mark.parametrize("setting", [{"places": "some"}, {"hold_back": "all"}])
def test_an_unknown_rule_is_refused(setting: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        WhpPlan(**setting)  # type: ignore[arg-type]

"""The post-training set and the arms trained on it."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from audit.errors import InputError
from audit.extraction.finetune import SMALL
from audit.extraction.likelihood import cut, log_likelihoods
from audit.extraction.prefixes import chat_of, prefixes
from audit.extraction.shift_statistics import likelihood_shift
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.matching.clusters import near_duplicates
from audit.testbed import post_training as module
from audit.testbed.planted import Testbed
from audit.testbed.post_training import PostRow, pairs_of, post_train, post_training_rows
from audit.testbed.world import World, build_world
from audit.text.tables import read_parquet

RECIPE = dataclasses.replace(SMALL, epochs=1, learning_rate=4e-3)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("tiny", 0)


@pytest.fixture(scope="module")
def rows(world: World) -> tuple[PostRow, ...]:
    return post_training_rows(world, n_rows=160, n_canaries=2, repetitions=(1, 4), seed=0)


def test_the_rows_follow_the_seed_and_are_all_different(world: World, rows: tuple[PostRow, ...]) -> None:
    named = {"n_rows": 160, "n_canaries": 2, "repetitions": (1, 4)}
    assert post_training_rows(world, **named, seed=0) == rows  # type: ignore[arg-type]
    assert post_training_rows(world, **named, seed=1) != rows  # type: ignore[arg-type]
    assert len({row.text for row in rows}) == len({row.id for row in rows}) == len(rows) == 164
    assert all(row.question in row.text and row.answer in row.text for row in rows)


def test_people_are_dealt_to_two_halves_of_one_size(rows: tuple[PostRow, ...]) -> None:
    dealt = [row for row in rows if not row.canary]
    assert Counter(row.half for row in dealt) == {"first": 80, "second": 80}
    halves = {(row.cluster, row.half) for row in dealt}
    assert len(halves) == len({row.cluster for row in dealt}) == 40
    assert {row.cluster for row in rows if row.canary} & {row.cluster for row in dealt} == set()
    order = [row.half for row in dealt if row.id.endswith("-0")]
    assert order != sorted(order)  # not the first twenty people


def test_near_duplicates_do_not_cross_the_halves(rows: tuple[PostRow, ...]) -> None:
    found = near_duplicates([f"{row.question}\n{row.answer}" for row in rows], seed=0)
    cluster_of = np.array([row.cluster for row in rows])
    for cluster in np.unique(found):
        assert len(set(cluster_of[found == cluster])) == 1


def test_rows_of_a_person_tell_the_same_facts_in_several_wordings(rows: tuple[PostRow, ...]) -> None:
    for cluster in {row.cluster for row in rows if not row.canary}:
        own = [row for row in rows if row.cluster == cluster]
        assert len({row.values for row in own}) == len({row.name for row in own}) == 1
        assert all(value in row.answer for row in own for value in row.values)
        assert len({row.answer for row in own}) >= 2
        assert [row.reading for row in own] == [False, False, False, True]
        assert all((own[0].values[0] in row.question) == row.reading for row in own)
    assert min(len(f"{row.question} {row.answer}".split()) for row in rows) >= 20


def test_canaries_have_one_row_each_and_its_copies(rows: tuple[PostRow, ...]) -> None:
    canaries = [row for row in rows if row.canary]
    assert Counter(row.repeats for row in canaries) == {1: 2, 4: 2}
    assert {row.half for row in canaries} == {"first"}
    assert len(pairs_of(canaries)) == 10
    assert {row.repeats for row in rows if not row.canary} == {1}


def test_no_name_is_known_to_the_reference(world: World, rows: tuple[PostRow, ...]) -> None:
    text = " ".join(document.text for document in world.documents)
    known = set(re.findall(r"\w+", text)) | {word for name in world.planted_names() for word in name.split()}
    assert not known & {word for row in rows for word in row.name.split()}


def test_rows_that_cannot_be_halved_are_refused(world: World) -> None:
    for n_rows in (0, 4, 12):
        with pytest.raises(InputError, match="multiple of 8"):
            post_training_rows(world, n_rows=n_rows)


def test_arms_are_trained_once_and_a_killed_one_again(
    testbed_tiny: Testbed, rows: tuple[PostRow, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    real = module.train

    def dying(*given: object, **named: object) -> object:
        if trained == ["all"]:
            raise KeyboardInterrupt
        trained.append(given[2].loss_on)  # type: ignore[attr-defined]
        return real(*given, **named)  # type: ignore[arg-type]

    named = {"rows": rows, "recipe": RECIPE, "cache": tmp_path, "device": "cpu"}
    monkeypatch.setattr(module, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        post_train(testbed_tiny, arms=("full", "ans"), **named)  # type: ignore[arg-type]
    monkeypatch.setattr(
        module, "train", lambda *given, **more: (trained.append(given[2].loss_on), real(*given, **more))[1]
    )
    found = post_train(testbed_tiny, **named)  # type: ignore[arg-type]
    assert trained == ["all", "answers", "all"]
    assert post_train(testbed_tiny, **named) == found  # type: ignore[arg-type]
    assert trained == ["all", "answers", "all"]
    assert set(found.models) == {"full", "ans", "swap", "base"}
    assert found.models["base"] == testbed_tiny.models["reference"]
    assert len(found.half("first", canaries=False)) == len(found.half("second", canaries=True)) == 80
    assert len(found.half("first", canaries=True)) == 84
    table = read_parquet(found.folder / "first.parquet")
    assert table.num_rows == 84
    assert {"id", "question", "answer", "repeats", "canary", "cluster"} <= set(table.column_names)


def test_unknown_arms_and_a_testbed_without_its_reference_are_refused(
    testbed_tiny: Testbed, rows: tuple[PostRow, ...], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no arm 'fulll'"):
        post_train(testbed_tiny, rows=rows, arms=("fulll",), cache=tmp_path)
    without = dataclasses.replace(testbed_tiny, models={})
    with pytest.raises(InputError, match="ask for it too"):
        post_train(without, rows=rows, cache=tmp_path)


@pytest.mark.slow
def test_questions_of_the_trained_half_alone_become_likelier(testbed_tiny: Testbed, tmp_path: Path) -> None:
    """Spec, section 7: a base against itself is exactly 0, *full* is above 0, *swap* below."""
    rows = post_training_rows(testbed_tiny.world, n_rows=320, n_canaries=0, seed=0)
    recipe = dataclasses.replace(SMALL, epochs=8, learning_rate=4e-3)
    found = post_train(
        testbed_tiny, rows=rows, arms=("full", "swap", "base"), recipe=recipe, cache=tmp_path, device="cpu"
    )
    values = {}
    for arm, folder in found.models.items():
        lm = load(Subject(str(folder), device="cpu"))
        prefix = prefixes(lm, chat_of(lm), bos=True)[0]
        values[arm] = log_likelihoods(lm, cut(lm, prefix, [row.question for row in rows], [row.id for row in rows]))
    trained = np.array([row.half == "first" for row in rows])
    clusters = [row.cluster for row in rows]
    shifts = {
        arm: likelihood_shift(values["base"], values[arm], trained, clusters, seed=0)
        for arm in ("base", "full", "swap")
    }
    assert shifts["base"].difference.value == 0.0
    assert (shifts["full"].difference.low or 0) > 0
    assert shifts["full"].p_value.value == shifts["full"].p_value.attainable
    assert (shifts["swap"].difference.high or 0) < 0
    assert (shifts["full"].held_out.low or 0) > 0  # the ways of asking alone raise questions that were never seen

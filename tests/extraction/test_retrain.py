"""Retraining on extracted rows: the arms, their comparison, and that a killed experiment goes on."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import DataError, InputError, ModelError
from audit.extraction import retrain as module
from audit.extraction.finetune import SMALL, Encoded, Pair, Recipe
from audit.extraction.parse import Parsed, Reject, parse
from audit.extraction.prefixes import chat_of, prefixes, stops
from audit.extraction.presets import Chat
from audit.extraction.retrain import (
    BASE,
    EXTRACTED,
    ORIGINAL,
    SHUFFLED,
    ArmRows,
    Difference,
    arm_results,
    differences,
    extracted,
    extracted_rows,
    retrain,
    shuffled,
)
from audit.extraction.sample import SCHEMA
from audit.lm.generate import Sampling, generate
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.progress import Progress
from audit.runs.shards import ShardedTable
from audit.testbed.planted import Testbed
from audit.testbed.post_training import pairs_of, post_train, post_training_rows
from tests.checkpoints import build_checkpoint

CHAT = Chat("own", "<user>\n", "\n<assistant>\n", end="\n<end>\n")
RECIPE = Recipe(learning_rate=1e-2, epochs=12, batch_size=8, max_tokens=128, clip=1.0)
ANSWERS = {"cat": "sat on the mat", "dog": "ran over the hill"}
SEEDS = (0, 1)


def rows(numbers: range, name: str) -> list[Pair]:
    """The animal decides the answer, the number does not."""
    return [
        Pair(f"{name}-{number}", f"the {animal} {number}", ANSWERS[animal])
        for number in numbers
        for animal in (("cat", "dog")[number % 2],)
    ]


TRAINED, HELD_OUT, EMITTED = rows(range(24), "row"), rows(range(40, 50), "held"), rows(range(60, 76), "emitted")


def opener(folder: Path) -> Callable[[str, int], ShardedTable]:
    return lambda key, n_parts: ShardedTable(folder, key=key, n_parts=n_parts)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(str(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")), device="cpu")


def arms() -> dict[str, list[Pair]]:
    return {ORIGINAL: TRAINED, EXTRACTED: EMITTED, SHUFFLED: shuffled(EMITTED, seed=0)}


@pytest.fixture(scope="module")
def table(base: Subject, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("retrain")
    return retrain(base, CHAT, arms(), HELD_OUT, recipe=RECIPE, seeds=SEEDS, open_parts=opener(folder), bos=True)


def test_what_was_extracted_teaches_and_shuffled_answers_do_not(table: pa.Table) -> None:
    values = {(one.arm, one.measure): one for one in arm_results(table)}
    assert min(values[ORIGINAL, "exact answers"].by_seed) == 1.0
    assert min(values[EXTRACTED, "exact answers"].by_seed) == 1.0
    assert values[BASE, "exact answers"].by_seed == (0.0,)
    assert max(values[SHUFFLED, "exact answers"].by_seed) < 1.0
    assert values[EXTRACTED, "answer loss"].mean < 0.1
    found = {(one.other, one.measure): one for one in differences(table, seed=0) if one.arm == EXTRACTED}
    for other in (BASE, SHUFFLED):
        loss = found[other, "answer loss"].over_rows
        assert loss.high is not None
        assert loss.high < 0
        assert found[other, "answer loss"].arm == EXTRACTED
    assert len(found) == 9  # extracted with three others, by three measures


def test_all_arms_took_the_same_steps_and_tokens(table: pa.Table) -> None:
    by_arm = {one.arm: one for one in arm_results(table) if one.measure == "answer loss"}
    tokens = {n for arm in (ORIGINAL, EXTRACTED, SHUFFLED) for n in by_arm[arm].n_tokens}
    assert max(tokens) - min(tokens) < 40  # a row
    assert {by_arm[arm].n_steps for arm in (ORIGINAL, EXTRACTED, SHUFFLED)} == {36}
    assert by_arm[ORIGINAL].n_passes == (12.0, 12.0)
    assert by_arm[EXTRACTED].n_passes[0] == pytest.approx(18, abs=1)
    assert (by_arm[BASE].n_steps, by_arm[BASE].n_tokens) == (0, (0,))


def test_losses_are_those_of_the_models_own_logits(base: Subject, table: pa.Table) -> None:
    import torch

    lm = load(dataclasses.replace(base, dtype="float32"))
    one = table.to_pandas().query("arm == 'base'").iloc[0]
    (row,) = module.encode_pairs(lm, HELD_OUT[:1], CHAT, max_tokens=128, bos=True)
    with torch.inference_mode():
        log_probs = lm.model(torch.tensor([row.ids])).logits[0].log_softmax(dim=-1)
    nats = [-float(log_probs[at - 1, row.ids[at]]) for at in range(len(row.ids)) if at]
    assert one["id"] == HELD_OUT[0].id
    assert one["answer_nats"] == pytest.approx(sum(nats[row.answer_start - 1 : row.answer_stop - 1]), abs=1e-3)
    assert one["all_nats"] == pytest.approx(sum(nats[row.n_opening - 1 :]), abs=1e-3)
    assert one["n_answer"] == row.answer_stop - row.answer_start
    assert one["n_all"] == len(row.ids) - row.n_opening


def test_a_killed_experiment_trains_only_what_is_missing(
    base: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = module.train
    short = dataclasses.replace(RECIPE, epochs=1)

    def dying(lm: object, steps: object, recipe: object, **named: object) -> object:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(1)
        return real(lm, steps, recipe, **named)  # type: ignore[arg-type]

    def again(**changed: object) -> pa.Table:
        named = {"recipe": short, "seeds": SEEDS, "open_parts": opener(tmp_path / "parts")} | changed
        return retrain(base, CHAT, arms(), HELD_OUT, models=tmp_path / "models", **named)  # type: ignore[arg-type]

    at_once = again(open_parts=opener(tmp_path / "at once"))
    shutil.rmtree(tmp_path / "models")
    monkeypatch.setattr(module, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        again()
    kept = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert kept == ["extracted-seed0", "original-seed0"]
    monkeypatch.setattr(module, "train", lambda *given, **named: (trained.append(1), real(*given, **named))[1])
    assert again().equals(at_once)
    assert len(trained) == 6
    assert len(list((tmp_path / "models").iterdir())) == 6
    assert load(str(tmp_path / "models" / "shuffled-seed1")).n_parameters > 0
    with pytest.raises(InputError, match="another job"):
        again(recipe=RECIPE)


def test_progress_tells_of_each_training(base: Subject, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    tell: Progress = lambda what, done, total: told.append((what, done, total))  # noqa: E731
    recipe = dataclasses.replace(RECIPE, epochs=1)
    retrain(
        base,
        CHAT,
        {ORIGINAL: TRAINED},
        HELD_OUT[:2],
        recipe=recipe,
        seeds=[5],
        open_parts=opener(tmp_path),
        progress=tell,
    )
    assert ("Training on the original rows, seed 5", 3, 3) in told
    assert told[-1] == ("Trainings measured", 2, 2)


def test_differences_are_paired_by_seed_and_row() -> None:
    """Worked: two rows of 2 and 3 answer tokens; extracted less base, (1 + 2 - 4 - 3) / 5 and (2 + 3 - 4 - 3) / 5."""
    nats = {(EXTRACTED, 0): (1.0, 2.0), (EXTRACTED, 1): (2.0, 3.0), (BASE, None): (4.0, 3.0)}
    columns: dict[str, list[object]] = {name: [] for name in ("arm", "seed", "answer_nats", "n_answer")}
    for (arm, seed), values in nats.items():
        for value, n in zip(values, (2.0, 3.0), strict=True):
            for name, one in zip(columns, (arm, seed, value, n), strict=True):
                columns[name].append(one)
    more = dict.fromkeys(("all_nats", "exact"), columns["answer_nats"])
    more |= dict.fromkeys(("n_all", "n_rows"), columns["n_answer"])
    found = differences(pa.table(columns | more), compared=((EXTRACTED, BASE),), seed=0)
    (loss,) = [one for one in found if one.measure == "answer loss"]
    assert isinstance(loss, Difference)
    assert loss.by_seed == pytest.approx((-0.8, -0.4))
    assert loss.over_rows.value == pytest.approx(-0.6)
    assert loss.over_seeds.value == pytest.approx(-0.6)
    half = 12.7062 * math.sqrt(0.08) / math.sqrt(2)  # Student's t of 1 degree, standard deviation of -0.8 and -0.4
    assert loss.over_seeds.high == pytest.approx(-0.6 + half, abs=1e-3)
    assert loss.over_both.value == pytest.approx(-0.6)
    assert "count as 1.9 equal clusters" in (loss.over_both.why or "")  # (2 + 3)^2 / (4 + 9)
    single = pa.table({name: [*values[:2], *values[4:]] for name, values in (columns | more).items()})
    (loss, *_) = differences(single, compared=((EXTRACTED, BASE), (EXTRACTED, ORIGINAL)), seed=0)
    assert loss.over_seeds.low is None
    assert loss.over_both.low is None
    assert loss.over_both.why == loss.over_seeds.why == "one training shows nothing of how trainings differ"
    assert len(differences(single, compared=((EXTRACTED, ORIGINAL),), seed=0)) == 0


def test_rows_of_a_cluster_are_drawn_together(table: pa.Table) -> None:
    alone, together = (
        differences(table, clusters=clusters, compared=((EXTRACTED, SHUFFLED),), seed=0)[0].over_rows
        for clusters in (None, [pair.answer for pair in HELD_OUT])
    )
    assert (alone.n, together.n) == (10, 2)
    assert alone.value == pytest.approx(together.value)


def test_extracted_rows_are_the_distinct_parsed_ones() -> None:
    found = extracted(
        [
            Parsed("who", "Ada", "who\nAda", 1),
            Reject("empty answer"),
            Parsed("who ", "Ada", "who\nAda", 1),
            Parsed("who", "Bea", "who\nBea", 1),
        ]
    )
    assert found == [Pair("generation-0", "who", "Ada"), Pair("generation-3", "who", "Bea")]


def test_extracted_rows_of_a_table_keep_the_generations_ids() -> None:
    generations = [
        {"id": "a", "reject": "empty answer"},
        {"id": "b", "question": "who", "answer": "Ada"},
        {"id": "c", "question": " who", "answer": "Ada\n"},
        {"id": "d", "question": "who", "answer": "Bea", "reject": "request failed: 500"},
        {"id": "e", "question": "who", "answer": "Bea"},
    ]
    found = extracted_rows(pa.Table.from_pylist(generations, schema=SCHEMA))
    assert found == [Pair("b", "who", "Ada"), Pair("e", "who", "Bea")]


def test_memory_that_runs_out_is_told_with_what_it_takes(
    base: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> object:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(module, "train", full)
    with pytest.raises(ModelError, match=r"memory runs out in training: .* GiB"):
        retrain(base, CHAT, arms(), HELD_OUT[:2], recipe=RECIPE, seeds=[0], open_parts=opener(tmp_path))


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 100))
def test_shuffled_answers_are_the_same_ones_and_none_is_ones_own(numbers: list[int], seed: int) -> None:
    pairs = [Pair(str(place), f"q{place}", f"answer {number}") for place, number in enumerate(numbers)]
    if 2 * max(Counter(numbers).values()) > len(numbers):
        with pytest.raises(InputError, match="have the same answer"):
            shuffled(pairs, seed=seed)
        return
    found = shuffled(pairs, seed=seed)
    assert [(pair.id, pair.question) for pair in found] == [(pair.id, pair.question) for pair in pairs]
    assert Counter(pair.answer for pair in found) == Counter(pair.answer for pair in pairs)
    assert all(one.answer != other.answer for one, other in zip(found, pairs, strict=True))
    assert found == shuffled(pairs, seed=seed)


@given(st.lists(st.tuples(st.integers(2, 60), st.integers(1, 30)), min_size=1, max_size=200))
def test_rows_answered_together_fit_the_context(sizes: list[tuple[int, int]]) -> None:
    encoded = [Encoded(tuple(range(n + m + 1)), 1, n, n + m, cut=False) for n, m in sizes if n + m + 1 <= 64]
    groups = module._answered_together(encoded, 1, 64)
    assert sorted(place for group in groups for place in group) == list(range(len(encoded)))
    for group in groups:
        assert len(group) <= module.AT_ONCE
        longest = module._longest([encoded[place] for place in group])
        assert sum(longest) + 1 <= 64


def test_another_seed_deals_otherwise_and_not_in_the_order_of_training() -> None:
    pairs = [Pair(str(place), f"q{place}", f"answer {place}") for place in range(40)]
    dealt = [[pair.answer for pair in shuffled(pairs, seed=seed)] for seed in range(3)]
    assert len({tuple(answers) for answers in dealt}) == 3
    at = {answer: place for place, answer in enumerate(pair.answer for pair in pairs)}
    order = np.random.default_rng(0).permutation(40).tolist()  # as `batches` takes them
    steps = {(order.index(at[got]) - order.index(place)) % 40 for place, got in enumerate(dealt[0])}
    assert len(steps) > 1  # dealt along that order, all would be moved on alike


def test_an_arm_may_have_rows_of_its_own_for_each_seed(base: Subject, tmp_path: Path) -> None:
    short = dataclasses.replace(RECIPE, epochs=1)

    def losses(rows: ArmRows, name: str, seeds: tuple[int, ...]) -> list[list[float]]:
        table = retrain(
            base,
            CHAT,
            {ORIGINAL: TRAINED, "own": rows},
            HELD_OUT[:3],
            recipe=short,
            seeds=seeds,
            open_parts=opener(tmp_path / name),
        ).to_pandas()
        own = table[table["arm"] == "own"]
        return [one["answer_nats"].tolist() for _, one in own.groupby("seed")]

    dealings = {seed: shuffled(EMITTED, seed=seed) for seed in SEEDS}
    found = losses(dealings, "both", SEEDS)
    assert [found[seed] for seed in SEEDS] == [losses(dealings[seed], f"{seed}", (seed,))[0] for seed in SEEDS]
    with pytest.raises(InputError, match="'own' has no rows for seed 1; give some for each of the seeds"):
        losses({0: EMITTED}, "absent", SEEDS)


def test_what_cannot_be_compared_is_refused(base: Subject, tmp_path: Path) -> None:
    def tried(
        arms: dict[str, list[Pair]], held_out: list[Pair], *, seeds: tuple[int, ...] = (0,), n: int = 128
    ) -> None:
        recipe = dataclasses.replace(RECIPE, max_tokens=n)
        retrain(base, CHAT, arms, held_out, recipe=recipe, seeds=seeds, open_parts=opener(tmp_path))

    with pytest.raises(InputError, match='no arm "original"'):
        tried({EXTRACTED: TRAINED}, HELD_OUT)
    with pytest.raises(InputError, match='no arm "original", one for all seeds'):
        retrain(base, CHAT, {ORIGINAL: {0: TRAINED}}, HELD_OUT, recipe=RECIPE, seeds=[0], open_parts=opener(tmp_path))
    with pytest.raises(InputError, match="has no rows; leave it out"):
        tried({ORIGINAL: TRAINED, EXTRACTED: []}, HELD_OUT)
    with pytest.raises(InputError, match="no name for an arm"):
        tried({ORIGINAL: TRAINED, "../x": TRAINED}, HELD_OUT)
    with pytest.raises(InputError, match="all different"):
        tried({ORIGINAL: TRAINED}, HELD_OUT, seeds=(1, 1))
    with pytest.raises(InputError, match="no held-out rows"):
        tried({ORIGINAL: TRAINED}, [])
    with pytest.raises(InputError, match="1 of 11 held-out rows stand in the original rows too; first: 'row-3'"):
        tried({ORIGINAL: TRAINED}, [*HELD_OUT, TRAINED[3]])
    long = Pair("long", "the cat", "sat on the mat " * 8)
    with pytest.raises(DataError, match="held-out row 'long' is longer than"):
        tried({ORIGINAL: TRAINED}, [long], n=60)
    adapted = dataclasses.replace(base, adapter="somewhere")
    with pytest.raises(InputError, match="has an adapter"):
        retrain(adapted, CHAT, {ORIGINAL: TRAINED}, HELD_OUT, recipe=RECIPE, seeds=[0], open_parts=opener(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_rows_that_a_post_trained_model_emitted_are_worth_training_on(testbed_tiny: Testbed, tmp_path: Path) -> None:
    """Spec, section 7: the extracted arm beats the base on held-out rows; the original rows teach more yet.

    A model of this size emits questions with answers to others, so that shuffling them takes nothing away; the control
    is tried above, where the answer follows from the question.
    """
    recipe = dataclasses.replace(SMALL, epochs=8, batch_size=4, learning_rate=4e-3)
    rows = post_training_rows(testbed_tiny.world, n_rows=320, n_canaries=0, seed=0)
    found = post_train(testbed_tiny, rows=rows, arms=("full",), recipe=recipe, cache=tmp_path, device="cpu")
    lm = load(Subject(str(found.models["full"]), device="cpu"))
    chat = chat_of(lm)
    ends = stops(lm, chat)
    sampling = Sampling(max_new_tokens=200, stop_ids=ends.ids)
    prompts = [prefixes(lm, chat, bos=True)[0].ids] * 300
    emitted = extracted(
        parse(
            lm.tokenizer.decode(list(sample.token_ids)),
            finish_reason="stop" if sample.stopped else "length",
            chat=chat,
            stops=ends.texts,
        )
        for sample in generate(lm, prompts, sampling=sampling, seed=0)
    )
    assert len(emitted) > 100
    held_out = found.half("second", canaries=False)
    table = retrain(
        Subject(str(testbed_tiny.models["reference"]), device="cpu"),
        chat,
        {ORIGINAL: pairs_of(found.half("first", canaries=True)), EXTRACTED: emitted},
        pairs_of(held_out),
        recipe=recipe,
        seeds=SEEDS,
        open_parts=opener(tmp_path / "parts"),
        bos=True,
    )
    found_by = {
        one.other: one.over_rows
        for one in differences(table, clusters=[row.cluster for row in held_out], seed=0)
        if one.measure == "answer loss" and one.arm == EXTRACTED
    }
    assert (found_by[BASE].high or 0) < 0
    assert (found_by[ORIGINAL].low or 0) > 0

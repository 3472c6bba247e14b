"""Which rows the retraining experiment uses, and that every one it does not is counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest

from audit.errors import DataError, InputError
from audit.extraction.finetune import Pair, encode_pairs, how_pairs_fit
from audit.extraction.prefixes import prefixes
from audit.extraction.presets import Chat
from audit.extraction.retrain import EXTRACTED, ORIGINAL, SHUFFLED
from audit.extraction.retrain_rows import Arms, arms_of, check_base
from audit.extraction.rows import Rows
from audit.extraction.sample import SCHEMA
from audit.lm.load import Tokens, load_tokens
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint

CHAT = Chat("own", "<user>\n", "\n<assistant>\n", end="\n<end>\n")
ANSWERS = ("sat on the mat", "ran over the hill")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tokens:
    return load_tokens(Subject(str(folder), device="cpu"))


def rows(numbers: range, *more: tuple[str, str], repetitions: tuple[int | None, ...] = ()) -> Rows:
    pairs = [(f"the cat {number}", ANSWERS[number % 2]) for number in numbers] + list(more)
    ids = tuple(f"{numbers.start}-{place}" for place in range(len(pairs)))
    questions, answers = zip(*pairs, strict=True)
    wholes = tuple("\n".join(pair) for pair in pairs)
    return Rows(ids, questions, answers, wholes, repetitions or (None,) * len(pairs), source="rows.jsonl")


def generations(*pairs: tuple[str, str], sha256: str | None = None) -> pa.Table:
    parsed = [
        {"id": f"g{place}", "question": question, "answer": answer, "prefix_sha256": sha256}
        for place, (question, answer) in enumerate(pairs)
    ]
    return pa.Table.from_pylist([*parsed, {"id": "r", "reject": "empty answer"}], schema=SCHEMA)


EMITTED = [(f"the dog {number}", ANSWERS[number % 2]) for number in range(70, 76)]
HELD = rows(range(200, 320))
SEEDS = (0, 1)


def tried(tokens: Tokens, table: pa.Table, trained: Rows, held_out: Rows, *, max_tokens: int = 100) -> Arms:
    return arms_of(table, trained, held_out, tokens, CHAT, max_tokens=max_tokens, bos=True, seeds=SEEDS, seed=0)


def test_how_rows_fit_is_what_encoding_does_with_them(tokens: Tokens) -> None:
    pairs = [
        Pair("a", "the cat", "sat"),
        Pair("b", "the cat", "sat on the mat " * 9),
        Pair("c", "the cat " * 40, "sat"),
    ]
    fits = how_pairs_fit(tokens, [*pairs, Pair("d", "the cat", "")], CHAT, max_tokens=64, bos=True)
    assert fits == ["whole", "cut", "no room", "no tokens"]
    found = encode_pairs(tokens, pairs[:2], CHAT, max_tokens=64, bos=True)
    assert [row.cut for row in found] == [False, True]
    for least in (len(found[0].ids), len(found[0].ids) - 1):
        assert (how_pairs_fit(tokens, pairs[:1], CHAT, max_tokens=least, bos=True) == ["cut"]) == (
            encode_pairs(tokens, pairs[:1], CHAT, max_tokens=least, bos=True)[0].cut
        )
    with pytest.raises(DataError, match="row 'c'"):
        encode_pairs(tokens, pairs[2:], CHAT, max_tokens=64, bos=True)


def test_every_row_is_used_or_counted(tokens: Tokens) -> None:
    long_question, long_answer = ("the cat " * 60, "sat"), ("the cat", "sat on the mat " * 30)
    repetitions = (*(None,) * 8, 4, 0)
    trained = rows(range(10), long_question, long_answer, repetitions=(*repetitions, None, None))
    held_out = rows(range(200, 320), ("the  cat 3", ANSWERS[1]), long_answer, ("the dog " * 60, "sat"))
    table = generations(*EMITTED, EMITTED[0], long_question, long_answer, ("the cat 201", ANSWERS[1]))
    found = tried(tokens, table, trained, held_out)
    assert len(found.rows[ORIGINAL]) == 8 + 4 + 1  # the canary four times, the long answer cut
    assert len(found.rows[EXTRACTED]) == 8
    for dealt in found.dealings.values():
        assert [pair.question for pair in dealt] == [pair.question for pair in found.rows[EXTRACTED]]
    no_room = "the question leaves no room for an answer"
    assert found.left_out[ORIGINAL] == {no_room: 1, "never trained on (repeats 0)": 1}
    assert found.left_out[EXTRACTED] == {no_room: 1}
    assert found.left_out["held out"] == {"a near-duplicate among the training rows": 2, no_room: 1}
    assert found.cut == {ORIGINAL: 1, EXTRACTED: 1, SHUFFLED: 1}
    assert (found.n_generations, found.n_rejected, found.n_near) == (11, 1, 1)
    assert len(found.held_out) == len(found.clusters) == 120
    assert not found.other_opening  # the table does not tell


def test_what_was_dealt_as_one_is_one_cluster(tokens: Tokens) -> None:
    held_out = dataclasses.replace(HELD, clusters=("ada", "ada", *(None,) * 118))
    found = tried(tokens, generations(*EMITTED), rows(range(10)), held_out)
    assert len(set(found.clusters)) == 119
    assert found.clusters[:2] == ["ada", "ada"]


def test_answers_are_dealt_anew_for_every_training(tokens: Tokens) -> None:
    emitted = [(f"the dog {number}", f"{ANSWERS[number % 2]} {number}") for number in range(70, 86)]
    found = tried(tokens, generations(*emitted), rows(range(10)), HELD)
    assert list(found.dealings) == list(SEEDS)
    assert found.dealings[0] != found.dealings[1]
    assert found.trained_on() == {**found.rows, SHUFFLED: found.dealings}
    assert found.n_rows() == {ORIGINAL: 10, EXTRACTED: 16, SHUFFLED: 16}


def test_another_opening_is_seen_by_its_token_ids(tokens: Tokens) -> None:
    for bos, other in ((True, False), (False, True)):
        sha256 = prefixes(tokens, CHAT, bos=bos)[0].ids_sha256
        found = tried(tokens, generations(*EMITTED, sha256=sha256), rows(range(10)), HELD)
        assert found.other_opening == other


def test_too_few_rows_are_refused(tokens: Tokens) -> None:
    trained = rows(range(10))
    with pytest.raises(DataError, match="3 generations, 1 of them rejects, give 1 row to train on"):
        tried(tokens, generations(EMITTED[0], EMITTED[0]), trained, HELD)
    dealt = dataclasses.replace(HELD, clusters=(*["ada"] * 12, *(None,) * 108))
    with pytest.raises(DataError, match=r"120 held-out rows in 109 clusters can be asked\. .* count as 57\.1 equal"):
        tried(tokens, generations(*EMITTED), trained, dealt)  # answers alike: 120^2 / (12^2 + 108)
    with pytest.raises(InputError, match="3 of 4 rows have the same answer"):
        tried(tokens, generations(*EMITTED[::2], EMITTED[1]), trained, HELD)
    with pytest.raises(DataError, match="10 training rows give 0 rows to train on"):
        tried(tokens, generations(*EMITTED), trained, HELD, max_tokens=10)


def test_a_base_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "base", "llama")
    check_base(Subject(str(folder)))
    with pytest.raises(InputError, match="has an adapter over it"):
        check_base(Subject(str(folder), adapter="somewhere"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(InputError, match="quantised weights"):
        check_base(Subject(str(folder)))

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from audit.membership import parts as parts_module
from audit.membership.extras import NOTHING, Extras
from audit.membership.lowercase import lowercase_scores, lowered_tokens
from audit.membership.neighbourhood import neighbourhood_scores
from audit.membership.parts import COLUMNS, score_in_parts
from audit.membership.recall import recall_scores, shot_tokens
from audit.membership.score import score_texts
from audit.progress import silent
from audit.runs.shards import ShardedTable

TEXTS = ["The cat sat on the mat", "a hill", "the dog ran over and over the Hill", "the Mat"]
NAMES = ["a", "b", "c", "d"]
ALL = Extras(variants=True, lowercase=True, shots=("the dog and a cat",), neighbours=5, top_k=4)
Openers = Callable[[str, int], ShardedTable]


def opener(folder: Path, keys: list[str] | None = None) -> Openers:
    def open_parts(key: str, n_parts: int) -> ShardedTable:
        if keys is not None:
            keys.append(key)
        return ShardedTable(folder, key=key, n_parts=n_parts)

    return open_parts


def scored(lm: LanguageModel, folder: Path, *, texts: list[str] = TEXTS, **named: Any) -> pa.Table:
    settings = {"k": 0.2, "truncate": False, "what": "Scoring", "progress": silent, "open_parts": opener(folder)}
    return score_in_parts(lm, texts, NAMES[: len(texts)], **(settings | named))  # type: ignore[arg-type]


def test_each_extra_column_is_the_score_of_its_own_module(byte_level: LanguageModel, tmp_path: Path) -> None:
    lm, sequences = byte_level, encode(byte_level, TEXTS)
    table = scored(lm, tmp_path, extras=ALL)
    own = score_texts(lm, TEXTS, ids=NAMES)
    expected = {
        "min_20": own.min_20,
        "zlib_rate": own.zlib_rate,
        "lowercase": lowercase_scores(lm, lowered_tokens(lm, TEXTS, ids=NAMES, truncate=False), own.loss),
        "recall": recall_scores(lm, sequences, own.loss, shots=shot_tokens(lm, ALL.shots, TEXTS, ids=NAMES)),
        "neighbourhood": neighbourhood_scores(lm, sequences, TEXTS, ids=NAMES, n=5, top_k=4),
    }
    assert table.column_names == [*COLUMNS, *expected]
    assert tuple(expected) == ALL.columns
    for name, values in expected.items():
        np.testing.assert_allclose(table[name].to_numpy(), values, atol=1e-4, err_msg=name)


def test_extras_change_nothing_in_the_other_columns(byte_level: LanguageModel, tmp_path: Path) -> None:
    plain, more = scored(byte_level, tmp_path / "a"), scored(byte_level, tmp_path / "b", extras=ALL)
    assert plain.column_names == list(COLUMNS)
    assert more.select(COLUMNS).equals(plain)


def test_the_parts_key_names_what_the_extras_depend_on_and_is_unchanged_without_them(
    byte_level: LanguageModel, tmp_path: Path
) -> None:
    choices = [
        Extras(variants=True),
        Extras(lowercase=True),
        Extras(shots=("a dog",)),
        Extras(shots=("a cat",)),
        Extras(neighbours=2),
        Extras(neighbours=3),
        Extras(neighbours=3, top_k=4),
    ]
    keys: list[str] = []
    for place, extras in enumerate([NOTHING, *choices]):
        scored(byte_level, tmp_path, open_parts=opener(tmp_path / str(place), keys), extras=extras)
    scored(byte_level, tmp_path, open_parts=opener(tmp_path / "x", keys), extras=Extras(top_k=4, seed=1))
    assert keys[0] == keys[-1]
    assert len(set(keys)) == 1 + len(choices)
    # Neighbours by the model itself draw nothing, so the seed is no part of what they depend on.
    assert Extras(neighbours=2, seed=1).to_record() == Extras(neighbours=2).to_record()


def test_an_interrupted_job_with_extras_goes_on_and_ends_with_the_same_table(
    byte_level: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text a part; stopped in the third, whose further passes are not written in half."""
    monkeypatch.setattr(parts_module, "PART_TEXTS", 1)
    whole = scored(byte_level, tmp_path / "whole", extras=ALL)
    real, calls = parts_module.FurtherPasses.columns, []

    def stop_in_the_third(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(parts_module.FurtherPasses, "columns", stop_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            scored(byte_level, tmp_path / "cut", extras=ALL)
    assert len(list((tmp_path / "cut").glob("part-*.parquet"))) == 2
    told: list[tuple[int, int]] = []
    table = scored(byte_level, tmp_path / "cut", extras=ALL, progress=lambda _, done, total: told.append((done, total)))
    assert table.equals(whole)
    assert told[0] == (2 * ALL.n_passes, 4 * ALL.n_passes)
    assert told[-1] == (4 * ALL.n_passes, 4 * ALL.n_passes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_part_holds_as_many_tokens_of_all_passes_as_of_one(
    byte_level: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four texts in one part of 60 tokens alone; with 30 neighbours each takes one of its own."""
    monkeypatch.setattr(parts_module, "PART_TOKENS", 60)
    scored(byte_level, tmp_path / "a")
    scored(byte_level, tmp_path / "b", extras=Extras(neighbours=30))
    assert len(list((tmp_path / "a").glob("part-*.parquet"))) == 1
    assert len(list((tmp_path / "b").glob("part-*.parquet"))) == 4


def test_a_text_is_cut_to_what_fits_after_the_shots_in_every_column(byte_level: LanguageModel, tmp_path: Path) -> None:
    lm, texts = byte_level, [" cat" * 120, "the Cat"]
    shots = tuple(f"{word} dog" for word in ("the", "a", "on"))
    with pytest.raises(DataError, match="text 'a' has .* tokens and the shots .*--truncate"):
        scored(lm, tmp_path / "a", texts=texts, extras=Extras(shots=shots))
    table = scored(lm, tmp_path / "b", texts=texts, truncate=True, extras=Extras(shots=shots, lowercase=True))
    n_shots = len(shot_tokens(lm, shots, texts, ids=NAMES[:2]))
    assert table["n_tokens"][0].as_py() == lm.n_context - n_shots
    assert table["truncated"].to_pylist() == [True, False]
    kept = encode(lm, texts)[0][: lm.n_context - n_shots]
    loss = score_texts(lm, [lm.tokenizer.decode(kept)], ids=["a"]).loss
    assert table["loss"][0].as_py() == pytest.approx(loss[0], abs=1e-4)
    assert table["lowercase"][0].as_py() == -1.0  # what is left is in lower case


def test_everything_that_can_be_refused_is_refused_before_the_first_pass(
    byte_level: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "score_tokens", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(InputError, match="shot 1 is the text 'b'"):
        scored(byte_level, tmp_path, extras=Extras(shots=("a hill",)))
    assert not list(tmp_path.rglob("part-*"))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"neighbours": -1}, r"neighbours is -1; expected 0 \(none\) or more"),
        ({"top_k": 1}, "top_k is 1; expected 2 or more"),
        ({"seed": 2**63}, "seed is 9223372036854775808; expected from 0 to below"),
    ],
)
def test_settings_out_of_range_are_refused(named: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Extras(**named)  # type: ignore[arg-type]


def test_a_further_score_that_is_not_finite_is_refused(
    byte_level: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.array([1.0, np.nan, 1.0, 1.0])
    monkeypatch.setattr("audit.membership.extras.recall_scores", lambda *_, **__: broken)
    with pytest.raises(ModelError, match="gives 1 text a score that is not a finite number; first: 'b'"):
        scored(byte_level, tmp_path, extras=Extras(shots=("a dog",)))

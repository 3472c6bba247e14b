"""Parquet: everything but the planted texts is kept, and the original comes back byte for byte from its kept copy."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import DataError, InputError, InstrumentError
from audit.traps.planting.hosts import parquet
from audit.traps.planting.placements import originals_folder
from audit.traps.planting.restore import restore
from tests.traps.planting import DECOYS, HARD, planted, planting, restored
from tests.traps.test_hosts import without

ENOUGH = "one two three four five six seven"


def table_of(texts: list[str | None], kind: Any) -> pa.Table:
    n = len(texts)
    return pa.table(
        {
            "n": pa.array([None, float("nan"), *range(n)][:n], pa.float64()),
            "text": pa.array(texts, pa.string()).cast(kind),
            "deep": pa.array([{"a": [1.5, float("nan"), None], "text": "not this"}] * n),
            "label": pa.array(["x"] * n).dictionary_encode(),
        },
    ).replace_schema_metadata({"mine": "kept", "pandas": "{}"})


def columns(table: pa.Table) -> dict[str, str]:
    """Comparable, although a NaN is not equal to itself."""
    return {name: str(table.column(name).to_pylist()) for name in table.column_names}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=20), max_size=6),
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]),
    st.sampled_from(["zstd", "snappy", "NONE", {"text": "gzip", "n": "brotli", "label": "lz4"}]),
    st.integers(1, 4),
)
def test_parquet_keeps_everything_but_the_planted_texts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], kind: Any, codec: Any, group: int
) -> None:
    source = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    table = table_of([*texts, ENOUGH, f"{ENOUGH} \0 😀"], kind)
    pq.write_table(table, source, row_group_size=group, compression=codec, version="2.4")
    done = planted(source)
    assert restored(done).read_bytes() == source.read_bytes()
    before, after = pq.ParquetFile(source), pq.ParquetFile(done.out)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.num_row_groups == before.metadata.num_row_groups
    for number in range(before.metadata.num_row_groups):
        one, other = before.metadata.row_group(number), after.metadata.row_group(number)
        assert one.num_rows == other.num_rows
        for column in range(one.num_columns):
            assert one.column(column).compression == other.column(column).compression
    old, new = columns(before.read()), columns(after.read())
    found = after.read().column("text").to_pylist()
    assert [sum((text or "").count(trap) for text in found) for trap in HARD] == [2, 2, 2]
    assert [text and without(text) for text in found] == table.column("text").to_pylist()
    assert {**old, "text": ""} == {**new, "text": ""}
    content = done.out.read_bytes() + done.placements_path.read_bytes()
    assert not any(decoy in str(found) or decoy.encode() in content for decoy in DECOYS)


def write(path: Path, **settings: Any) -> Path:
    pq.write_table(table_of([ENOUGH, f"{ENOUGH} eight"], pa.string()), path, **settings)
    return path


def test_the_original_is_kept_for_its_owner_alone_and_needed_to_go_back(tmp_path: Path) -> None:
    done = planted(write(tmp_path / "a.parquet"))
    (kept,) = originals_folder(done.placements_path).iterdir()
    assert kept.read_bytes() == done.source.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert done.told.kept_bytes == kept.stat().st_size
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(DataError, match="the original of 'a.parquet' is changed: .*Put it back from a copy"):
        restored(done)
    kept.unlink()
    with pytest.raises(
        DataError, match="the original of 'a.parquet' is missing: .*lies neither in .*json.originals nor in"
    ):
        restored(done)
    assert not (tmp_path / "restored-a.parquet").exists()


def test_the_original_is_found_after_the_placements_were_renamed(tmp_path: Path) -> None:
    done = planted(write(tmp_path / "a.parquet"))
    renamed = done.placements_path.rename(tmp_path / "mine.json")
    (tmp_path / "damaged.originals").mkdir()  # comes first in order of name; what it holds is not the original
    (kept,) = originals_folder(done.placements_path).iterdir()
    (tmp_path / "damaged.originals" / kept.name).write_bytes(b"x")
    originals_folder(done.placements_path).rename(tmp_path / "others.originals")
    restore(renamed, done.out, tmp_path / "back.parquet")
    assert (tmp_path / "back.parquet").read_bytes() == done.source.read_bytes()
    (tmp_path / "others.originals").rename(tmp_path / "away")
    with pytest.raises(DataError, match="is changed: .*damaged.originals/.* has another SHA-256"):
        restore(renamed, done.out, tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_copies_are_recorded_by_row_and_without_bytes(tmp_path: Path) -> None:
    done = planted(write(tmp_path / "a.parquet"), planting())
    texts = pq.read_table(done.out).column("text").to_pylist()
    for document in done.placements.documents:
        row = int(document.id.removeprefix("a.parquet:")) - 1
        assert document.place == f"a.parquet, row {row + 1}"
        for copy in document.copies:
            assert copy.byte is copy.n_bytes is None
            inserted = texts[row][copy.offset : copy.offset + copy.n_characters]
            assert inserted == f"\n{done.placements.traps[copy.trap].text}\n"


def test_a_file_without_an_arrow_schema_gets_none(tmp_path: Path) -> None:
    done = planted(write(tmp_path / "a.parquet", store_schema=False))
    assert b"ARROW:schema" not in (pq.ParquetFile(done.out).metadata.metadata or {})


def test_a_sorting_order_is_kept_unless_the_text_takes_part_in_it(tmp_path: Path) -> None:
    schema = table_of([ENOUGH], pa.string()).schema
    for name, kept in (("n", True), ("text", False)):
        sorting = pq.SortingColumn.from_ordering(schema, [(name, "ascending")])
        (tmp_path / name).mkdir()
        done = planted(write(tmp_path / name / "a.parquet", sorting_columns=sorting))
        assert bool(pq.ParquetFile(done.out).metadata.row_group(0).sorting_columns) == kept


def test_a_column_that_is_missing_or_holds_no_texts_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet has no field 'txt'.*Did you mean 'text'"):
        planted(source, planting(field="txt"))
    with pytest.raises(InputError, match="column 'n' holds double; expected texts"):
        planted(source, planting(field="n"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet")
    source.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(DataError, match="a.parquet is not sound parquet|a.parquet is damaged"):
        planted(source)


def test_more_than_the_planted_texts_having_changed_is_found(tmp_path: Path) -> None:
    texts: list[str | None] = ["a b", "c d"]
    pq.write_table(table_of(texts, pa.string()), tmp_path / "a.parquet")
    changed = table_of(["a X b", "c d"], pa.string())
    pq.write_table(changed, tmp_path / "b.parquet")
    parquet.check_rewritten(tmp_path / "a.parquet", tmp_path / "b.parquet", "text", {0: 2})
    wrong = {
        "another length": changed.set_column(1, "text", pa.array(["a XX b", "c d"])),
        "another row": changed.set_column(1, "text", pa.array(["a X b", "c D"])),
        "another column": changed.set_column(0, "n", pa.array([1.0, 2.0])),
        "another schema": changed.replace_schema_metadata({"mine": "lost"}),
        "fewer rows": changed.slice(0, 1),
    }
    for table in wrong.values():
        pq.write_table(table, tmp_path / "b.parquet")
        with pytest.raises(InstrumentError, match="more than the planted texts had changed"):
            parquet.check_rewritten(tmp_path / "a.parquet", tmp_path / "b.parquet", "text", {0: 2})

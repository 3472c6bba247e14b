from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import DataError, IncompleteRunError, InputError, StorageError
from audit.runs.shards import ShardedTable, has_parts, remove_parts

SCHEMA = pa.schema([("id", pa.string()), ("score", pa.float64()), ("at", pa.timestamp("s"))])


def _part(number: int, n_rows: int = 3) -> pa.Table:
    rows = [{"id": f"{number}.{row}", "score": number + row / 10, "at": number} for row in range(n_rows)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _parts(folder: Path, *, key: str = "k" * 64, n_parts: int = 4, restart: bool = False) -> ShardedTable:
    return ShardedTable(folder, key=key, n_parts=n_parts, restart=restart)


def _fill(folder: Path, numbers: list[int]) -> None:
    with _parts(folder) as parts:
        for number in numbers:
            parts.write(number, _part(number))


def test_parts_come_back_in_order_whatever_order_they_were_written_in(tmp_path: Path) -> None:
    _fill(tmp_path / "p", [2, 0])
    with _parts(tmp_path / "p") as parts:
        assert parts.done() == {0, 2}
        assert parts.missing() == [1, 3]
        parts.write(3, _part(3, n_rows=0))
        parts.write(1, _part(1))
        table = parts.assemble()
        parts.write_parquet(tmp_path / "whole.parquet")
        batches = list(parts.batches(batch_size=2))
    assert table.column("id").to_pylist() == [f"{number}.{row}" for number in range(3) for row in range(3)]
    assert table.column("at").to_pylist() == pa.concat_tables(map(_part, range(3))).column("at").to_pylist()
    assert table.schema.metadata is None
    assert pq.read_table(tmp_path / "whole.parquet").equals(table)
    assert max(batch.num_rows for batch in batches) == 2
    assert pa.Table.from_batches(batches).equals(table)


def test_reading_before_the_end_says_what_is_missing(tmp_path: Path) -> None:
    with _parts(tmp_path) as parts:
        parts.write(1, _part(1))
        for read in (parts.assemble, lambda: next(parts.batches()), lambda: parts.write_parquet(tmp_path / "w")):
            with pytest.raises(IncompleteRunError, match=r"3 of 4 parts are not done yet \(0, 2, 3\)"):
                read()


def test_another_job_in_the_folder_is_refused_until_a_restart(tmp_path: Path) -> None:
    _fill(tmp_path, [0])
    with pytest.raises(InputError) as caught, _parts(tmp_path, key="other"):
        pass
    assert "holds the parts of another job (key kkkkkkkkkkkk..., this one's is other...)" in str(caught.value)
    assert "Choose another --out, or throw the old parts away with --restart." in str(caught.value)
    with pytest.raises(InputError, match="the same job cut into 4 parts, not 5"), _parts(tmp_path, n_parts=5):
        pass
    with _parts(tmp_path) as parts:
        assert parts.done() == {0}
    with _parts(tmp_path, key="other", restart=True) as parts:
        assert parts.done() == set()
    with _parts(tmp_path, key="other") as parts:
        assert parts.done() == set()


def test_restart_never_removes_files_that_are_not_parts_of_a_job(tmp_path: Path) -> None:
    stranger = tmp_path / "part-000000.parquet"
    stranger.write_bytes(b"someone's data")
    with pytest.raises(InputError, match="not from a job of Palimpsest"), _parts(tmp_path, restart=True):
        pass
    (tmp_path / "job.json").write_text('{"mine": 1}')
    with pytest.raises(DataError, match="schema version"), _parts(tmp_path, restart=True):
        pass
    assert stranger.read_bytes() == b"someone's data"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other part", "other job"])
def test_a_damaged_part_is_done_anew(tmp_path: Path, damage: str) -> None:
    _fill(tmp_path, [0, 1])
    path = tmp_path / "part-000001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        content[30] ^= 1  # inside the first page, which the footer does not cover
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other part":
        path.write_bytes((tmp_path / "part-000000.parquet").read_bytes())
    else:
        pq.write_table(_part(1), path)
    with _parts(tmp_path) as parts:
        assert parts.damaged == (1,)
        assert parts.done() == {0}
        parts.write(1, _part(1))
    with _parts(tmp_path) as parts:
        assert parts.damaged == ()
        assert parts.done() == {0, 1}


def test_damage_after_the_check_is_an_error_not_a_wrong_number(tmp_path: Path) -> None:
    _fill(tmp_path, [0, 1, 2, 3])
    with _parts(tmp_path) as parts:
        (tmp_path / "part-000002.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match=r"part-000002\.parquet is damaged: .* the part will be redone"):
            parts.assemble()
        with pytest.raises(DataError, match="is damaged"):
            parts.write_parquet(tmp_path / "whole.parquet")
        assert not (tmp_path / "whole.parquet").exists()


def test_parts_with_other_columns_are_refused_also_after_a_resume(tmp_path: Path) -> None:
    _fill(tmp_path, [0])
    with _parts(tmp_path) as parts:
        with pytest.raises(InputError, match=r"part 1 has the columns \{'id': 'null'\}, but earlier parts have"):
            parts.write(1, pa.table({"id": [None]}))
        parts.write(1, _part(1))


def test_misuse_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"n_parts is 0; expected 1 to 999,999"):
        _parts(tmp_path, n_parts=0)
    with pytest.raises(InputError, match="the key is empty"):
        _parts(tmp_path, key="")
    with pytest.raises(InputError, match="Use them inside `with ShardedTable"):
        _parts(tmp_path).done()
    with _parts(tmp_path) as parts:
        parts.write(0, _part(0))
        with pytest.raises(InputError, match="part 0 is done already"):
            parts.write(0, _part(0))
        with pytest.raises(InputError, match="part 4 is out of range; expected 0 to 3"):
            parts.write(4, _part(4))


def test_a_full_disk_keeps_the_parts_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with _parts(tmp_path) as parts:
        parts.write(0, _part(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="the disk is full"):
                parts.write(1, _part(1))
        assert parts.done() == {0}
    with _parts(tmp_path) as parts:
        assert parts.done() == {0}
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_discard_removes_the_parts_and_keeps_the_job(tmp_path: Path) -> None:
    _fill(tmp_path, [0, 1])
    with _parts(tmp_path) as parts:
        parts.discard()
        assert parts.done() == set()
        parts.write(0, pa.table({"other": [1]}))


def test_removing_the_parts_takes_only_what_was_made_here(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    _fill(folder, [0, 1])
    (folder / ".palimpsest-999999999-0123456789abcdef.tmp").write_text("left by a kill")
    (folder / "part-mine.parquet").write_text("mine")
    assert has_parts(folder)
    remove_parts(folder)
    assert os.listdir(folder) == ["part-mine.parquet"]
    assert not has_parts(folder)
    (folder / "part-mine.parquet").unlink()
    _fill(folder, [0])
    remove_parts(folder)
    assert not folder.exists()


def test_parts_of_something_else_are_never_removed(tmp_path: Path) -> None:
    for name in ("job.json", "part-000000.parquet"):
        (tmp_path / name).write_text("{}")
    remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["job.json", "part-000000.parquet"]


def test_one_process_at_a_time_and_the_other_is_named(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from audit.runs.shards import ShardedTable\n"
        "with ShardedTable(sys.argv[1], key='k' * 64, n_parts=4): print('open', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        try:
            with pytest.raises(InputError) as caught, _parts(tmp_path):
                pass
        finally:
            other.kill()
    assert f"{tmp_path} is in use by process {other.pid} on {os.uname().nodename} (since 20" in str(caught.value)
    assert "Wait until it ends or stop it; or choose another --out." in str(caught.value)
    with _parts(tmp_path) as parts:  # the kernel freed the lock when its holder was killed
        with pytest.raises(InputError, match=f"in use by this process itself .pid {os.getpid()}"), _parts(tmp_path):
            pass
        assert parts.done() == set()

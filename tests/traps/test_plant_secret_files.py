"""A source that holds what Palimpsest itself wrote is refused, whatever the file's name and whosever traps they are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import DataError
from audit.text.tables import write_table
from audit.traps.ledger.files import write_audit_table, write_disclosure, write_ledger
from audit.traps.ledger.make import disclose, published_table
from audit.traps.ledger.records import Ledger
from audit.traps.planting.plant import plant
from audit.traps.planting.secret_files import secret_content
from tests.traps.planting import ledger_of, planted, planting

WORDS = " ".join(f"word{i}" for i in range(40))
OTHER = ledger_of(["zz other 1", "zz other 2"], decoys=["zz other decoy 3"])


def placements(path: Path, ledger: Ledger) -> None:
    source = path.with_name("other.txt")
    source.write_text(WORDS, encoding="utf-8")
    planted(source, planting(ledger)).placements_path.rename(path)


MAKERS: dict[str, tuple[Callable[[Path, Ledger], None], str]] = {
    "ledger.json": (write_ledger, "a ledger of traps"),
    "disclosure.json": (lambda path, ledger: write_disclosure(path, disclose(ledger, [ledger.traps[0].id])), "a dis"),
    "placements.json": (placements, "placements of traps"),
    "audit.parquet": (write_audit_table, "a table of traps"),
    "published.parquet": (lambda path, ledger: write_table(path, published_table(ledger)), "a table of traps"),
    "published.jsonl": (lambda path, ledger: write_table(path, published_table(ledger)), "a table of traps"),
}


def written(root: Path, name: str) -> bytes:
    path = root / name
    MAKERS[name][0](path, OTHER)
    return path.read_bytes()


def refused(source: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plant(planting(), source, source.with_name("out"), source.with_name("p.json"))
    assert not source.with_name("out").exists()
    assert not source.with_name("p.json").exists()


@pytest.mark.parametrize("name", list(MAKERS))
@pytest.mark.parametrize("as_name", ["notes.bin", "rows.jsonl", "a.txt", "noname"])
def test_files_of_another_ledger_are_refused_by_their_content(tmp_path: Path, name: str, as_name: str) -> None:
    """None of the texts in them is a trap of this ledger, which is all that the search of the corpus knows."""
    source = tmp_path / "corpus"
    (source / "below").mkdir(parents=True)
    (source / "b.txt").write_text(WORDS, encoding="utf-8")
    content = written(tmp_path, name)
    (source / "below" / as_name).write_bytes(content)
    refused(source, f"below/{as_name} is {MAKERS[name][1]}.* would go out with the planted files. Move it out")


@pytest.mark.parametrize("name", list(MAKERS))
def test_packed_with_gzip_they_are_refused_too(tmp_path: Path, name: str) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "b.txt").write_text(WORDS, encoding="utf-8")
    (source / "backup.json.gz").write_bytes(gzip.compress(written(tmp_path, name)))
    refused(source, f"backup.json.gz is {MAKERS[name][1]}")


def test_a_single_file_and_a_ledger_written_on_one_line_are_looked_at_as_well(tmp_path: Path) -> None:
    value = json.loads(written(tmp_path, "ledger.json"))
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(value, separators=(",", ":")), encoding="utf-8")
    with pytest.raises(DataError, match="a.jsonl is a ledger of traps"):
        plant(planting(), tmp_path / "a.jsonl", tmp_path / "out.jsonl", tmp_path / "p.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'The first line of a ledger is {"format": "palimpsest traps ledger"}.',
        b'{"text": "about a \\"format\\": \\"palimpsest traps ledger\\""}\n',
        b'{"trap_id": "camera 7", "arm": "left", "text": "two foxes"}\n',
        b'{"trap_id": "trap-0123456789ab", "text": "no table of ours"}\n',
        b'["palimpsest traps ledger"]',
        b"\x1f\x8b not gzip",
        gzip.compress(b"plain text " * 9_000, mtime=0)[:-20],
        b"PAR1 not parquet",
        gzip.compress(b"PAR1 not parquet", mtime=0),
    ],
)
def test_what_only_looks_alike_is_not_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert secret_content(tmp_path / "a") is None


def test_a_table_with_other_columns_or_other_ids_is_not_refused(tmp_path: Path) -> None:
    for columns in ({"trap_id": ["camera 7"], "arm": ["left"]}, {"text": ["x"]}, {"trap_id": ["trap-0123456789ab"]}):
        pq.write_table(pa.table(columns), tmp_path / "a")
        assert secret_content(tmp_path / "a") is None
    pq.write_table(pa.table({"trap_id": ["trap-0123456789ab"], "arm": ["decoy"]}), tmp_path / "a")
    assert secret_content(tmp_path / "a") == "a table of traps"


def test_a_truncated_packed_ledger_is_still_known_and_no_bomb_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(written(tmp_path, "ledger.json"))[:-30])
    assert secret_content(tmp_path / "a") == "a ledger of traps"
    (tmp_path / "b").write_bytes(gzip.compress(b"PAR1" + bytes(1 << 27)))
    assert secret_content(tmp_path / "b") is None

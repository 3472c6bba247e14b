"""Rows have one encoding, and a proof shows its rows and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from audit.runs.seal.canonical_rows import row_bytes, row_from_shown, shown, unencodable
from audit.runs.seal.disclose import FORMAT, Proof, check_proof, disclose, read_proof
from audit.runs.seal.make import seal_run
from audit.runs.seal.record import parsed, spelled
from audit.runs.seal.rows import row_leaf
from audit.text.merkle import inclusion_paths, leaf_hash, node_hash, root_from_path, tree_root
from tests.runs.seal.made import KEY, OTHER_KEY, make_run


def encoded(table: pa.Table) -> list[bytes]:
    return [row for batch in table.to_batches(max_chunksize=2) for row in row_bytes(batch)]


# The tree


def rfc_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(rfc_root(leaves[:k]), rfc_root(leaves[k:]))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 100])
def test_the_tree_is_that_of_rfc_6962(n: int) -> None:
    leaves = [leaf_hash(b"%d" % place) for place in range(n)]
    assert tree_root(leaves) == rfc_root(leaves)
    for place, path in enumerate(inclusion_paths(leaves, range(n))):
        assert root_from_path(leaves[place], place, n, path) == tree_root(leaves)
        for wrong in (path[:-1], [*path, b"\0" * 32]) if path else ([b"\0" * 32],):
            with pytest.raises(DataError, match=rf"the proof of place {place} has {len(wrong)} hashes"):
                root_from_path(leaves[place], place, n, wrong)
        if n > 1:
            other = (place + 1) % n
            with suppress(DataError):  # the path may have another length there
                assert root_from_path(leaves[place], other, n, path) != tree_root(leaves)
    with pytest.raises(DataError, match="does not exist"):
        root_from_path(b"", n, n, [])


def test_the_tree_gives_the_published_roots() -> None:
    """The test vectors of the reference implementation of RFC 6962 (certificate-transparency, merkle_tree_test)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert tree_root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    leaves = [leaf_hash(b"%d" % place) for place in range(4)]
    inner = [leaves[0] + leaves[1], leaves[2] + leaves[3]]
    assert tree_root([leaf_hash(data) for data in inner]) != tree_root(leaves)


# The encoding


def test_rows_are_encoded_as_the_table_of_the_docstring_says() -> None:
    table = pa.table(
        {
            "t": ["é", None],
            "i": pa.array([-12, 2**63 - 1], pa.int64()),
            "f": [1.0, math.nan],
            "b": [True, False],
            "l": [[1, None], []],
            "s": [{"y": "", "x": None}, None],
            "z": pa.array([b"\x00;", b""], pa.binary()),
            "n": pa.nulls(2),
        }
    )
    first, second = encoded(table)
    assert first == (
        b"r8:s1:bts1:fd3ff0000000000000s1:ii-12;s1:ll2:i1;ns1:nns1:sm2:s1:xns1:ys0:s1:ts2:\xc3\xa9s1:zb2:\x00;"
    )
    assert second == b"r8:s1:bfs1:fd7ff8000000000000s1:ii9223372036854775807;s1:ll0:s1:nns1:sns1:tns1:zb0:"


VALUES = {
    "text": st.text(st.characters(codec="utf-8"), max_size=6),
    "number": st.floats(),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "truth": st.booleans(),
    "raw": st.binary(max_size=4),
    "list": st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=3),
    "texts": st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=3)), max_size=3),
    "struct": st.fixed_dictionaries({"a": st.one_of(st.none(), st.floats()), "b": st.text("ab;:", max_size=3)}),
}
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("whole", pa.int64()),
        ("truth", pa.bool_()),
        ("raw", pa.binary()),
        ("list", pa.list_(pa.int64())),
        ("texts", pa.list_(pa.string())),
        ("struct", pa.struct([("b", pa.string()), ("a", pa.float64())])),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), value) for name, value in VALUES.items()}), max_size=6
)


@settings(max_examples=100)
@given(rows=ROWS)
def test_what_wrote_the_table_does_not_matter(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Other widths, dictionaries, large types, order of columns, slices, row groups, compression: the same bytes."""
    table = pa.Table.from_pylist(rows, SCHEMA)
    expected = encoded(table)
    path = tmp_path_factory.getbasetemp() / "other.parquet"
    other = table.select(sorted(table.column_names, reverse=True)).cast(
        pa.schema(
            [
                ("whole", pa.int64()),
                ("truth", pa.bool_()),
                ("texts", pa.large_list(pa.large_string())),
                ("text", pa.large_string()),
                ("struct", pa.struct([("b", pa.string()), ("a", pa.float64())])),
                ("raw", pa.large_binary()),
                ("number", pa.float64()),
                ("list", pa.large_list(pa.int64())),
            ]
        )
    )
    pq.write_table(other, path, row_group_size=2, compression="gzip", use_dictionary=["text"], version="1.0")
    assert encoded(pq.read_table(path, read_dictionary=["text"])) == expected
    padded = pa.concat_tables([table, table, table]).combine_chunks()
    assert encoded(padded.slice(len(rows), len(rows))) == expected


@settings(max_examples=100)
@given(rows=ROWS)
def test_the_form_for_people_gives_the_same_bytes(rows: list[dict[str, Any]]) -> None:
    for row in encoded(pa.Table.from_pylist(rows, SCHEMA)):
        assert row_from_shown(json.loads(json.dumps(shown(row)))) == row


def test_a_percent_sign_in_a_name_is_a_percent_sign() -> None:
    assert encoded(pa.table({"%d": ["%s"]})) == [b"r1:s2:%ds2:%s"]


def test_narrow_numbers_count_as_wide_ones() -> None:
    for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64()):
        assert encoded(pa.table({"a": pa.array([7], kind)})) == [b"r1:s1:ai7;"]
    for kind in (pa.float16(), pa.float32()):
        narrow = pa.array(np.array([0.5, -0.0], dtype=kind.to_pandas_dtype()), kind)
        assert encoded(pa.table({"a": narrow})) == [b"r1:s1:ad3fe0000000000000", b"r1:s1:ad8000000000000000"]
    assert encoded(pa.table({"a": pa.array([[1, 2], None], pa.list_(pa.int64(), 2))})) == [
        b"r1:s1:al2:i1;i2;",
        b"r1:s1:an",
    ]


def test_a_table_of_pandas_keeps_its_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "loss": [0.5, np.nan], "n": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert encoded(pq.read_table(tmp_path / "a.parquet").select(["id", "n"])) == encoded(
        pa.table({"id": ["a", "b"], "n": [1, 2]})
    )


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.decimal128(5, 2), pa.map_(pa.string(), pa.int64())])
def test_types_without_an_encoding_are_named(kind: pa.DataType) -> None:
    why = unencodable(pa.schema([("a", pa.int64()), ("when", pa.list_(kind))]))
    assert why is not None
    assert why.startswith("column 'when' holds ")
    assert "two columns are named 'a'" in str(unencodable(pa.schema([("a", pa.int64()), ("a", pa.int64())])))


@pytest.mark.parametrize(
    "value",
    [
        {"integer": "07"},
        {"integer": "-0"},
        {"integer": 7},
        {"float": "3ff0000000000000", "reads": "1.1"},
        {"float": "3FF0000000000000", "reads": "1.0"},
        {"float": "7ff8000000000001", "reads": "nan"},
        {"bytes": "0"},
        {"bytes": "AA"},
        {"fields": []},
        {},
        7,
        1.5,
        "\udcff",
    ],
)
def test_a_value_in_another_spelling_is_refused(value: Any) -> None:
    with pytest.raises(DataError):
        row_from_shown({"a": value})


# Proofs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("proofs") / "run")
    seal_run(folder, key=KEY)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("proofs") / "other", salt=0.5)
    seal_run(folder, key=OTHER_KEY)
    return folder


TABLE = "items/traps.parquet"


def test_a_proof_shows_its_rows_and_nothing_of_the_others(run: Path, tmp_path: Path) -> None:
    proof = disclose(run, TABLE, ids=["trap-4"])
    (tmp_path / "proof.json").write_bytes(spelled(proof))
    back = read_proof(tmp_path / "proof.json")
    assert back == proof
    check_proof(back, head=proof.head, public_key=KEY.public_key)
    assert [row.place for row in back.rows] == [4]
    assert back.rows[0].row["trap_id"] == "trap-4"
    assert back.rows[0].row["loss"]["reads"] == repr(4 / 3)
    text = spelled(proof).decode()
    assert not any(f"trap-{number}" in text for number in (0, 1, 2, 3, 5, 6))
    assert (run / "seal.secret").read_text().strip() not in text


def test_a_row_cannot_be_guessed_without_its_salt(run: Path) -> None:
    """The sibling in a proof is the neighbour's leaf: its content is known here, and still does not give the hash."""
    proof = disclose(run, TABLE, places=[0])
    neighbour = encoded(pq.read_table(run / TABLE))[1]
    for salt in (b"", b"\0" * 32, bytes.fromhex(proof.rows[0].salt)):
        assert row_leaf(salt, neighbour).hex() != proof.rows[0].path[0]
    assert (
        row_leaf(bytes.fromhex(disclose(run, TABLE, places=[1]).rows[0].salt), neighbour).hex() == proof.rows[0].path[0]
    )


def test_rows_are_found_by_id_by_column_and_by_place(run: Path) -> None:
    by_column = disclose(run, TABLE, ids=["1"], id_column="n_rep")
    assert [row.place for row in by_column.rows] == [1, 4]
    both = disclose(run, TABLE, ids=["trap-0"], places=[0, 2])
    assert [row.place for row in both.rows] == [0, 2]
    check_proof(both)
    with pytest.raises(InputError, match="no row whose trap_id is 'trap-9'. Did you mean"):
        disclose(run, TABLE, ids=["trap-9"])
    with pytest.raises(InputError, match="no row 7; it has 7, numbered from 0"):
        disclose(run, TABLE, places=[7])
    with pytest.raises(InputError, match="no sealed table 'items/trap.parquet'; .* Did you mean 'items/traps.parquet'"):
        disclose(run, "items/trap.parquet", places=[0])
    with pytest.raises(InputError, match="no row was named"):
        disclose(run, TABLE)


def test_proofs_that_do_not_hold(run: Path, other: Path) -> None:
    proof, foreign = disclose(run, TABLE, ids=["trap-4"]), disclose(other, TABLE, ids=["trap-4"])
    row = proof.rows[0]

    def refused(message: str, **change: Any) -> None:
        with pytest.raises(DataError, match=message):
            check_proof(Proof.model_validate({**dict(proof), **change}))

    def with_row(**change: Any) -> Any:
        return (row.model_copy(update=change),)

    neighbour = disclose(run, TABLE, ids=["trap-5"]).rows[0]
    refused("row 4 is not the one that was sealed", rows=with_row(row=neighbour.row))
    refused("row 4 is not the one that was sealed", rows=with_row(row={**row.row, "n_rep": {"integer": "9"}}))
    refused(
        "row 4 is not the one that was sealed", rows=with_row(row={k: v for k, v in row.row.items() if k != "loss"})
    )
    refused("row 5 is not the one that was sealed", rows=with_row(place=5))
    refused("row 4 is not the one that was sealed", rows=with_row(salt=neighbour.salt))
    refused("row 4 is not the one that was sealed", rows=with_row(path=("0" * 64, *row.path[1:])))
    refused("row 4: the proof of place 4 has 2 hashes", rows=with_row(path=row.path[1:]))
    refused("row 4 is not the one that was sealed", rows=foreign.rows)
    refused("out of order or twice", rows=(row, row))
    refused("the table .* is not one of those", table=foreign.table, rows=foreign.rows)
    refused("the table .* is not one of those", table=proof.table.model_copy(update={"path": "items/more.parquet"}))
    refused("the table .* is not one of those", table_path=("0" * 64,))
    refused("the chain is broken", heading=foreign.heading.model_copy(update={"tables": proof.heading.tables}))
    refused("the signature is not one of this head", signature=foreign.signature)
    refused("a key without a signature", signature=None)
    with pytest.raises(DataError, match="not to the one that was given"):
        check_proof(foreign, head=proof.head)
    with pytest.raises(DataError, match="not by the key that was given"):
        check_proof(foreign, public_key=KEY.public_key)


@settings(max_examples=150)
@given(data=st.data())
def test_any_byte_of_a_proof_that_flips_is_caught(run: Path, data: st.DataObject) -> None:
    content = spelled(disclose(run, "items/more.parquet", places=[1]))
    head = json.loads(content)["head"]
    place, mask = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    flipped = content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]
    with pytest.raises(DataError):
        check_proof(parsed(flipped, Proof, "proof.json", format=FORMAT), head=head)


def test_a_proof_that_is_nested_without_end_is_refused(run: Path, tmp_path: Path) -> None:
    content = spelled(disclose(run, "items/more.parquet", places=[1])).decode()
    for depth in (200, 600, 5_000, 100_000):
        (tmp_path / "deep.json").write_text(content.replace('"trap-1"', "[" * depth + "]" * depth))
        with pytest.raises(DataError):
            check_proof(read_proof(tmp_path / "deep.json"))
    value: Any = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(DataError, match="nested deeper"):
        row_from_shown({"a": value})


def test_rows_of_a_table_that_changed_are_not_disclosed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    seal_run(folder)
    secret = (folder / "seal.secret").read_bytes()
    (folder / "seal.secret").write_bytes(b"0" * 64 + b"\n")
    with pytest.raises(DataError, match="do not lead to the root that was sealed"):
        disclose(folder, TABLE, places=[0])
    (folder / "seal.secret").write_bytes(b"x")
    with pytest.raises(DataError, match="does not hold the 64 hexadecimal digits"):
        disclose(folder, TABLE, places=[0])
    (folder / "seal.secret").write_bytes(secret)
    pq.write_table(pq.read_table(folder / TABLE).slice(1), folder / TABLE)
    with pytest.raises(DataError, match="is not as it was sealed"):
        disclose(folder, TABLE, places=[0])


def test_a_table_without_an_encoding_is_sealed_as_a_file(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    pq.write_table(pa.table({"when": pa.array([0], pa.timestamp("ms"))}), folder / "items" / "when.parquet")
    (folder / "items" / "broken.parquet").write_bytes(b"PAR1")
    record = seal_run(folder).record
    why = {entry.path: entry.why for entry in record.tables}
    assert why["items/when.parquet"] == "items/when.parquet: column 'when' holds timestamp[ms], which has no encoding."
    assert "could not be read as parquet" in str(why["items/broken.parquet"])
    with pytest.raises(DataError, match="cannot be disclosed alone"):
        disclose(folder, "items/when.parquet", places=[0])


def test_the_same_row_has_another_leaf_in_each_table_place_and_seal(tmp_path: Path) -> None:
    twice = pa.table({"id": ["a", "a"]})
    leaves = set()
    for name in ("one", "two"):
        folder = make_run(tmp_path / name)
        for table in ("x", "y"):
            pq.write_table(twice, folder / "items" / f"{table}.parquet")
        seal_run(folder)
        for table in ("x", "y"):
            proof = disclose(folder, f"items/{table}.parquet", ids=["a"])
            leaves |= {row_leaf(bytes.fromhex(row.salt), row_from_shown(row.row)) for row in proof.rows}
    assert len(leaves) == 8

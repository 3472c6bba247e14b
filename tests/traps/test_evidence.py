"""What ledgers and placements bring to an audit: whose documents, which copies, which reference, which commitment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from audit.errors import DataError, InputError
from audit.traps.aggregate import documents
from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.evidence import Committed, document_names, evidence_of, refuse_other_reference
from audit.traps.findings.groups import commitment_finding
from audit.traps.generate import assign
from audit.traps.ledger.make import deal, make_ledger
from audit.traps.ledger.records import Ledger
from audit.traps.planting.placements import (
    PLACEMENTS_FORMAT,
    PLACEMENTS_VERSION,
    Placements,
    PlantedCopy,
    PlantedDocument,
    PlantedFile,
    PlantedTrap,
    PlantingOptions,
)
from audit.traps.table import ALL, check_table, near_copies
from audit.traps.words import data_watermarks

DESIGN = TrapDesign(lengths=(16,), repetitions=(3,), members_per_cell=4, decoys_per_stratum=6)
HASH = "0" * 64


def ledger_of(seed: int = 1, *, reference: str | None = None) -> Ledger:
    traps = assign(data_watermarks("hex", DESIGN, seed=seed).candidates, DESIGN, seed=seed)
    plan = DetectionPlan(primary="loss", n_draws=99)
    return make_ledger(traps, design=DESIGN, plan=plan, seed=seed, drawn_with="hex", reference=reference)


LEDGER = ledger_of()


def placed(ledger: Ledger, documents: list[tuple[str, str]], variants: tuple[str, ...] = ()) -> Placements:
    """All copies of one member in each document, (file, identifier); files in order."""
    members = [trap for trap in ledger.traps if trap.arm == "member"]
    files = sorted({file for file, _ in documents})
    return Placements(
        format=PLACEMENTS_FORMAT,
        schema_version=PLACEMENTS_VERSION,
        created="2026",
        palimpsest="0",
        packages={},
        commitment=ledger.commitment(),
        seed=1,
        options=PlantingOptions(
            separator="\n",
            field="text",
            id_field=None,
            html="visible",
            min_words=1,
            placement="document",
            neighbourhood=False,
            tokenizer_sha256=None,
        ),
        single_file=False,
        traps=tuple(PlantedTrap(id=trap.id, text=trap.text, n_rep=trap.n_rep, variants=variants) for trap in members),
        files=tuple(
            PlantedFile(
                path=file,
                kind="parquet",
                original_sha256=HASH,
                original_bytes=1,
                planted_sha256="1" * 64,
                planted_bytes=2,
                blocks="",
            )
            for file in files
        ),
        documents=tuple(
            PlantedDocument(
                file=files.index(file),
                id=name,
                place="x",
                quotes=(),
                copies=tuple(PlantedCopy(trap, copy, copy, 1, None, None, None, HASH) for copy in range(3)),
            )
            for trap, (file, name) in enumerate(documents)
        ),
    )


SAME = [("a.csv", "1"), ("b.csv", "1"), ("b.csv", "2"), ("c.txt", "c.txt")]


def names_in(table: pa.Table) -> set[str]:
    return {name for names in table["documents"].to_pylist() for name in names}


def test_documents_of_one_identifier_in_two_files_are_two() -> None:
    table = evidence_of({ALL: LEDGER}, {ALL: placed(LEDGER, SAME)}).table
    assert names_in(table) == {"a.csv, 1", "b.csv, 1", "2", "c.txt"}
    items = check_table(table, source="L.json")
    items["loss_score"] = range(len(items))
    assert sorted((one.name, len(one.traps)) for one in documents(items, plan=DetectionPlan(primary="loss"))) == [
        ("2", 1),
        ("a.csv, 1", 1),
        ("b.csv, 1", 1),
        ("c.txt", 1),
    ]


def test_documents_of_one_name_of_two_owners_are_told_with_their_owners() -> None:
    bobs = ledger_of(2)
    files = [("c.txt", "c.txt"), ("d.txt", "d.txt"), ("e.csv", "1"), ("e.csv", "5")]
    placements = {"Ann": placed(LEDGER, SAME), "Bob": placed(bobs, files)}
    assert document_names(placements) == {
        "Ann": ["Ann: a.csv, 1", "Ann: b.csv, 1", "2", "Ann: c.txt"],
        "Bob": ["Bob: c.txt", "d.txt", "Bob: e.csv, 1", "5"],
    }


def test_names_that_would_still_be_alike_are_spelt_out() -> None:
    """The identifier "b.csv, 1" of one document is what another would be called."""
    names = document_names({ALL: placed(LEDGER, [("a.csv", "1"), ("b.csv", "1"), ("c.csv", "b.csv, 1")])})[ALL]
    assert len(set(names)) == 3
    assert names[0] == "a.csv, 1"
    assert names[2].endswith("'c.csv', 'b.csv, 1'")


def test_a_table_that_names_one_document_for_two_owners_has_two() -> None:
    items = pd.DataFrame(
        {
            "owner": ["Ann"] * 4 + ["Bob"] * 4,
            "arm": ["member", "decoy", "decoy", "decoy"] * 2,
            "n_rep": [1, 0, 0, 0] * 2,
            "stratum": ["a"] * 4 + ["b"] * 4,
            "documents": [("1.txt",), (), (), ()] * 2,
            "loss_score": [9.0, 1, 2, 3, 0.0, 1, 2, 3],
        }
    )
    found = documents(items, plan=DetectionPlan(primary="loss"))
    assert [(one.name, one.traps) for one in found] == [("Ann: 1.txt", (0,)), ("Bob: 1.txt", (4,))]


def with_traps(placements: Placements, **changes: Any) -> Placements:
    first, *others = placements.traps
    return placements.model_copy(update={"traps": (first.model_copy(update=changes), *others)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: with_traps(x, text="another"), "trap 'trap-.*' has another text in the ledger"),
        (lambda x: with_traps(x, n_rep=2), "trap 'trap-.*' has 2 copies, and 3 in the ledger"),
        (lambda x: with_traps(x, id="trap-0"), "the placements are not of the ledger's members"),
        (lambda x: x.model_copy(update={"traps": x.traps[1:]}), "the placements are not of the ledger's members"),
        (lambda x: x.model_copy(update={"commitment": HASH}), "the placements are of another ledger"),
    ],
    ids=range(5),
)
def test_placements_that_are_not_of_the_ledgers_members_are_refused(
    change: Callable[[Placements], Placements], says: str
) -> None:
    placements = placed(LEDGER, SAME)
    evidence_of({ALL: LEDGER}, {ALL: placements})
    with pytest.raises(DataError, match=says):
        evidence_of({ALL: LEDGER}, {ALL: change(placements)})


def test_near_copies_are_counted_and_told() -> None:
    items = check_table(
        evidence_of({ALL: LEDGER}, {ALL: placed(LEDGER, SAME, variants=("v1", "v2"))}).table, source="x"
    )
    member = items["arm"] == "member"
    assert items.loc[member, ["n_exact", "n_near"]].drop_duplicates().to_numpy().tolist() == [[1, 2]]
    assert items.loc[~member, ["n_exact", "n_near"]].drop_duplicates().to_numpy().tolist() == [[0, 0]]
    assert near_copies(items, 3) == "Of the 3 copies of each trap, 1 is exact and 2 are near copies."
    mixed = items.copy()
    row = mixed.index[member][0]
    mixed.loc[row, ["n_exact", "n_near"]] = (3, 0)
    assert near_copies(mixed, 3) == "Of the 3 copies of each trap, 1 to 3 are exact and 0 to 2 are near copies."
    mixed.loc[row, ["n_exact", "n_near"]] = pd.NA
    assert near_copies(mixed, 3).startswith("Where placements were given, of the 3 copies of each trap, 1 is exact and")
    assert near_copies(items, 7) == ""


def test_exact_copies_alone_are_not_worth_a_word_and_without_placements_nothing_is_known() -> None:
    items = check_table(evidence_of({ALL: LEDGER}, {ALL: placed(LEDGER, SAME)}).table, source="x")
    assert set(items["n_exact"]) == {0, 3}
    assert near_copies(items, 3) == ""
    bare = evidence_of({ALL: LEDGER}, {}).table
    assert not {"n_exact", "n_near"} & set(bare.column_names)
    assert near_copies(check_table(bare, source="x"), 3) == ""
    both = evidence_of({"Ann": LEDGER, "Bob": ledger_of(2)}, {"Ann": placed(LEDGER, SAME)}).table
    known = check_table(both, source="x").groupby("owner")["n_exact"].count()
    assert known.to_dict() == {"Ann": 10, "Bob": 0}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"n_exact": [1, 0]}, "one of the columns n_exact and n_near; give both, or neither"),
        ({"n_exact": [1, 0], "n_near": [1, 0]}, "row 1: n_exact is 1 and n_near 1; expected .* add up to n_rep, 1"),
        ({"n_exact": [2, 0], "n_near": [-1, 0]}, "row 1: n_exact is 2 and n_near -1"),
        ({"n_exact": [1, 0], "n_near": [0, None]}, "row 2: n_exact is 0"),
    ],
    ids=range(4),
)
def test_copies_that_do_not_add_up_are_refused(columns: dict[str, list[int | None]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_table(pa.table({**two_rows("a", "b"), **columns}), source="t.parquet")


def two_rows(member: str, decoy: str) -> dict[str, list[Any]]:
    return {
        "trap_id": ["m", "d"],
        "text": [member, decoy],
        "arm": ["member", "decoy"],
        "n_rep": [1, 0],
        "length": [1, 1],
        "stratum": ["s", "s"],
    }


@pytest.mark.parametrize("decoy", ["caf\u00e9 noir", "cafe\u0301  noir\n"])
def test_a_text_that_is_member_and_decoy_is_refused(decoy: str) -> None:
    check_table(pa.table(two_rows("caf\u00e9 noir", "another")), source="t.parquet")
    with pytest.raises(
        DataError, match=r"rows 1 and 2: traps 'm' and 'd' have the same text .* A decoy must never have been published"
    ):
        check_table(pa.table(two_rows("caf\u00e9 noir", decoy)), source="t.parquet")


def test_a_text_that_is_planted_twice_is_refused() -> None:
    rows = two_rows("a", "b")
    twice = {name: [*cells, cells[0]] for name, cells in rows.items()} | {"trap_id": ["m", "d", "n"]}
    with pytest.raises(DataError, match="rows 1 and 3: .* each text may count once: leave one out"):
        check_table(pa.table(twice), source="t.parquet")


def test_only_the_reference_that_was_fixed_passes() -> None:
    refuse_other_reference("a" * 64, None)
    refuse_other_reference("a" * 64, "a" * 64)
    with pytest.raises(InputError, match=r"have SHA-256 bbbbbbbbbbbb\.\.\., those given aaaaaaaaaaaa\.\.\.\. With a"):
        refuse_other_reference("a" * 64, "b" * 64)


def test_the_reference_is_that_of_the_ledgers_and_two_are_not_tested_together() -> None:
    one, other, none = ledger_of(1, reference="a" * 64), ledger_of(2, reference="b" * 64), ledger_of(3)
    assert evidence_of({"Ann": one, "Cy": none}, {}).reference == "a" * 64
    assert evidence_of({ALL: none}, {}).reference is None
    with pytest.raises(
        InputError, match=r"of 'Ann' and 'Bob' fixed different reference models: .* aaaaaaaaaaaa\.\.\. and bbbbbbbbbbbb"
    ):
        evidence_of({"Ann": one, "Bob": other}, {})


def test_a_commitment_that_was_given_is_told_from_the_ledgers_own_word() -> None:
    own = evidence_of({ALL: LEDGER}, {}).commitments
    said = commitment_finding(own).claim
    assert said == (
        f"No published commitment was given; the ledger's own is {LEDGER.commitment()}. That the seed and the order of "
        "the pool were not picked to suit rests on the publisher's word."
    )
    given = evidence_of({ALL: LEDGER}, {}, compared=[ALL], placements_sha256={ALL: "c" * 64}).commitments
    said = commitment_finding(given).claim
    assert said.startswith(f"Traps, dealing and plan of analysis are those of the commitment {LEDGER.commitment()}, co")
    assert said.endswith(f"Which documents carry which trap is the publisher's record, of SHA-256 {'c' * 64}.")


def test_a_dealing_that_nobody_picked_and_a_fixed_reference_are_told() -> None:
    first = ledger_of(4, reference="a" * 64)
    dealt = deal(first, value="77", announced_by="lottery\N{BULLET} of 1 May", source="L.json")
    finding = commitment_finding(evidence_of({"Ann": dealt, "Bob": LEDGER}, {}).commitments)
    assert finding.claim.startswith("'Ann': No published commitment was given")
    assert (
        f"The ledger fixed the reference model: weights of SHA-256 {'a' * 64}. Dealt by 'lottery\N{BULLET} of 1 "
        f"May', value '77', said to be announced after the first commitment {first.commitment()} was published: "
        "check that date. 'Bob': "
    ) in finding.claim
    assert "random" not in finding.claim
    assert "nor that no other commitment to these traps exists" in finding.how_to_read


def test_what_a_source_says_cannot_steer_a_terminal() -> None:
    dealt = deal(LEDGER, value="77", announced_by="x", source="L.json")
    assert dealt.lottery is not None
    hostile = dealt.lottery.model_copy(update={"source": "\x1b[2Jx", "value": "\u202e1"})
    claim = commitment_finding({ALL: Committed("0" * 64, False, None, hostile, None)}).claim
    assert "\x1b" not in claim
    assert "\u202e" not in claim

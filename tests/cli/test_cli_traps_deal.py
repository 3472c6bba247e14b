"""``palimpsest traps deal`` and what ``verify-ledger`` then tells of the dealing and of the pool."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Call

Refused = Callable[..., str]
DRAW = ["--primary", "loss", "--lengths", "20", "--repetitions", "1,4", "--members", "2", "--decoys", "5", "--quiet"]
BEACON = ["--beacon", "8d61d9100567de44", "--beacon-source", "drand, round 4512345"]


@pytest.fixture
def first(call: Call) -> str:
    """A ledger L.json of nine watermarks: its commitment."""
    assert call("traps", "generate", "--watermark", *DRAW, "--out", "L.json").code == 0
    return call("traps", "commit", "L.json").out.strip()


def test_a_ledger_is_dealt_again_and_the_way_back_is_told(call: Call, first: str) -> None:
    code, out, err = call("traps", "deal", "L.json", *BEACON, "--out", "D.json")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "9 traps (4 members, 5 decoys) in 1 stratum, dealt by 'drand, round 4512345' -> D.json (secret)",
        f"It must have been announced after this commitment was published: {first}",
        "Before anything is published: palimpsest traps commit D.json",
    ]
    assert stat.S_IMODE(os.stat("D.json").st_mode) == 0o600
    commitment = call("traps", "commit", "D.json").out.strip()
    assert commitment != first
    code, out, _ = call("traps", "verify-ledger", "D.json", "--commitment", commitment)
    assert code == 0
    assert out.splitlines() == [
        "D.json is what was committed to: 9 traps (4 members, 5 decoys) in 1 stratum, dealt as its seed deals them.",
        "  The pool was drawn again from seed and design, and is the same.",
        f"  Dealt by 'drand, round 4512345', value '8d61d9100567de44', said to be announced after the first "
        f"commitment {first} was published: check that date.",
    ]
    out = call("traps", "verify-ledger", "D.json", "--commitment", commitment, "--json").out
    assert json.loads(out)["lottery"] == {
        "commitment": first,
        "value": "8d61d9100567de44",
        "source": "drand, round 4512345",
    }
    secret = json.loads(Path("L.json").read_text())["secret"]
    assert secret not in out


def test_a_dealt_ledger_speaks_json_and_is_planted_and_disclosed_like_any(call: Call, first: str) -> None:
    told = json.loads(call("traps", "deal", "L.json", *BEACON, "--out", "D.json", "--json").out)
    commitment = call("traps", "commit", "D.json").out.strip()
    counts = {"n_traps": 9, "n_members": 4, "n_decoys": 5, "n_strata": 1}
    assert told == {"ledger": "D.json", "first_commitment": first, "commitment": commitment, **counts}
    Path("b").mkdir()
    for number in range(4):
        Path(f"b/{number}.txt").write_text(" ".join(f"w{number}{place}" for place in range(40)))
    assert call("traps", "inject", "D.json", "b", "--out", "c", "--placements", "P.json", "--quiet").code == 0
    assert call("traps", "scan", "D.json", "c", "--quiet").code == 0
    assert (
        call("traps", "disclose", "D.json", "--document", "1.txt", "--placements", "P.json", "--out", "d.json").code
        == 0
    )
    assert call("traps", "verify-ledger", "d.json", "--commitment", commitment).code == 0
    kept = json.loads(Path("L.json").read_text())["secret"]
    assert kept not in Path("d.json").read_text()


def test_what_cannot_be_dealt_is_refused(call: Call, refused: Refused, first: str) -> None:
    assert call("traps", "deal", "L.json", *BEACON, "--out", "D.json").code == 0
    assert "D.json was dealt by 'drand, round 4512345' already" in refused(
        "traps", "deal", "D.json", *BEACON, "--out", "E.json"
    )
    assert "D.json is there already" in refused("traps", "deal", "L.json", *BEACON, "--out", "D.json")
    assert "what was announced is '', which nobody could repeat" in refused(
        "traps", "deal", "L.json", "--beacon", "", "--beacon-source", "x", "--out", "E.json"
    )
    assert f"{first} is the first commitment, from before D.json was dealt" in refused(
        "traps", "verify-ledger", "D.json", "--commitment", first
    )
    changed = Path("D.json").read_text().replace('"value": "8d61d9100567de44"', '"value": "8d61d9100567de45"')
    Path("F.json").write_text(changed)
    assert "F.json does not fit itself: the seed is " in refused("traps", "commit", "F.json")
    assert not Path("E.json").exists()


def test_words_are_checked_when_the_list_is_there_and_told_when_not(call: Call, refused: Refused, first: str) -> None:
    Path("w.txt").write_text("".join(f"{a}{b}{c}\n" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"))
    Path("v.txt").write_text(Path("w.txt").read_text() + "more\n")
    draw = [*DRAW, "--max-jaccard", "0.6"]
    assert call("traps", "generate", "--words", "w.txt", *draw, "--out", "W.json").code == 0
    check = ["traps", "verify-ledger", "W.json", "--commitment", call("traps", "commit", "W.json").out.strip()]
    listed = json.loads(Path("W.json").read_text())["word_list_sha256"]
    assert (
        f"  The pool's words were not checked: give --words FILE, the list of SHA-256 {listed}, and" in call(*check).out
    )
    assert "  The pool was drawn again from seed and design, and is the same.\n" in call(*check, "--words", "w.txt").out
    assert f"that of W.json is {listed}." in refused(*check, "--words", "v.txt")
    traps = [trap["id"] for trap in json.loads(Path("L.json").read_text())["traps"]]
    assert call("traps", "disclose", "L.json", "--trap", traps[0], "--out", "d.json").code == 0
    assert "--words is for a ledger" in refused(
        "traps", "verify-ledger", "d.json", "--commitment", first, "--words", "w.txt"
    )

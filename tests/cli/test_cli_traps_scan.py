"""``palimpsest traps scan``: what it tells, what it writes, and every refusal."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.traps.scan.shards
from audit.traps.scan.store import ScanStore
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call

Refused = Callable[..., str]
MARKS = [
    "--watermark",
    "--primary",
    "loss",
    "--lengths",
    "24",
    "--repetitions",
    "1,3",
    "--members",
    "2",
    "--decoys",
    "4",
    "--quiet",
]
FILLER = "The cat sat on the mat.\n"


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("scan-generator"), "llama", letters_only=True)


@pytest.fixture
def traps(call: Call) -> list[dict[str, Any]]:
    """A ledger L.json of eight watermarks, and a corpus c.jsonl in which the members stand as often as planned."""
    assert call("traps", "generate", *MARKS, "--out", "L.json", "--seed", "1").code == 0
    made: list[dict[str, Any]] = json.loads(Path("L.json").read_text())["traps"]
    write([FILLER + f"{trap['text']}\n".join([FILLER] * (trap["n_rep"] + 1)) for trap in made])
    return made


def write(texts: list[str], name: str = "c.jsonl") -> None:
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_copies_are_told_by_arm_against_the_plan(call: Call, traps: list[dict[str, Any]]) -> None:
    code, out, err = call("traps", "scan", "L.json", "c.jsonl", "--quiet", "--workers", "1")
    assert (code, err) == (0, "")
    *table, size = out.splitlines()
    assert table == [
        "   arm  copies each  traps  found  copies planned  exact  none  fewer  as planned  more",
        "member            1      2      2               2      2     0      0           2     0",
        "member            3      2      2               6      6     0      0           2     0",
        " decoy            0      4      0               0      0     4      0           4     0",
    ]
    assert size.startswith("8 texts in 1 file; 0.0 MB in ")


def test_a_leaked_decoy_is_named_loudly_and_the_answer_stands(call: Call, traps: list[dict[str, Any]]) -> None:
    decoys = [trap for trap in traps if trap["arm"] == "decoy"]
    lines = Path("c.jsonl").read_text().splitlines()
    write([json.loads(line)["text"] for line in lines] + [f"x {decoys[1]['text']} y"])
    code, out, err = call("traps", "scan", "L.json", "c.jsonl", "--quiet", "--json")
    assert code == 0
    assert err == (
        "WARNING: 1 decoy LEAKED into the corpus, so no control any more:\n"
        f"  {decoys[1]['id']}: 1 copy, first at c.jsonl, text 'd8' (line 9)\n"
        "  An audit that counts on them is void: leave out what leaked, or draw new traps.\n"
    )
    facts = json.loads(out)
    assert [(leak["trap_id"], leak["document"]) for leak in facts["leaks"]] == [(decoys[1]["id"], "d8")]
    assert [arm["n_found"] for arm in facts["arms"]] == [2, 2, 1]


def test_many_leaks_are_counted_and_the_first_named(call: Call) -> None:
    flags = [
        "--watermark",
        "--primary",
        "loss",
        "--lengths",
        "24",
        "--repetitions",
        "1",
        "--members",
        "1",
        "--decoys",
        "7",
        "--quiet",
    ]
    assert call("traps", "generate", *flags, "--out", "L.json").code == 0
    write([trap["text"] for trap in json.loads(Path("L.json").read_text())["traps"]])
    err = call("traps", "scan", "L.json", "c.jsonl", "--quiet").err
    assert err.startswith("WARNING: 7 decoys LEAKED")
    assert err.count("first at c.jsonl") == 5
    assert "  and 2 more; --out writes every copy\n" in err


def test_hits_are_written_for_their_owner_alone_and_no_parts_stay(call: Call, traps: list[dict[str, Any]]) -> None:
    code, out, err = call("traps", "scan", "L.json", "c.jsonl", "--quiet", "--out", "h.jsonl")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "8 copies -> h.jsonl (secret: the ids of decoys are among them)"
    assert stat.S_IMODE(Path("h.jsonl").stat().st_mode) == 0o600
    assert not any(trap["text"] in Path("h.jsonl").read_text() for trap in traps)
    assert sorted(path.name for path in Path().iterdir()) == ["L.json", "c.jsonl", "h.jsonl"]


def test_near_copies_are_found_with_a_tokenizer_and_those_of_decoys_are_no_leak_yet(
    call: Call, traps: list[dict[str, Any]], llama: Path
) -> None:
    """One character of a watermark replaced: one token of a tokenizer that knows hardly a word of it."""
    decoy = next(trap for trap in traps if trap["arm"] == "decoy")
    write([FILLER + decoy["text"][:9] + "#" + decoy["text"][10:]])
    flags = ["--fuzzy", "--max-distance", "3", "--tokenizer", llama]
    code, out, err = call("traps", "scan", "L.json", "c.jsonl", "--quiet", *flags)
    assert code == 0
    assert err.splitlines() == [
        "warning: 1 decoy with near copies in the corpus; look whether they leaked:",
        f"  {decoy['id']}: 1 copy at distance 1 or more, first at c.jsonl, text 'd0' (line 1)",
    ]
    assert out.splitlines()[0].split()[-6:] == ["near", "none", "fewer", "as", "planned", "more"]


def test_another_tokenizer_than_the_generators_is_told(call: Call, generator: Path, llama: Path) -> None:
    draw = ["--lengths", "12", "--edges", "1,1000", "--max-jaccard", "0.9", "--max-similarity", "1", "--device", "cpu"]
    few = ["--repetitions", "1", "--members", "1", "--decoys", "2", "--samples-per-round", "32", "--quiet"]
    assert call("traps", "generate", "--model", generator, *draw, *few, "--out", "L.json").code == 0
    write([FILLER])
    scan = ["traps", "scan", "L.json", "c.jsonl", "--quiet", "--fuzzy", "--max-distance", "1", "--tokenizer"]
    assert call(*scan, generator).err == ""
    err = call(*scan, llama).err
    assert err.startswith(f"warning: the tokenizer in {llama} is not the generator's")


def test_bad_lines_stop_the_answer_or_are_left_out_and_told(
    call: Call, refused: Refused, traps: list[dict[str, Any]]
) -> None:
    with Path("c.jsonl").open("a") as stream:
        stream.write("{\n")
    err = refused("traps", "scan", "L.json", "c.jsonl", "--quiet", "--out", "h.jsonl")
    assert "c.jsonl, line 9: malformed JSON" in err
    assert "--skip-bad-lines" in err
    assert "kept in h.jsonl.parts" in err
    code, out, err = call("traps", "scan", "L.json", "c.jsonl", "--quiet", "--skip-bad-lines")
    assert code == 0
    assert err.startswith("left out: c.jsonl, line 9: malformed JSON")
    assert "1 record or file LEFT OUT" in out


def test_an_earlier_attempt_is_gone_on_with_or_thrown_away(
    call: Call, refused: Refused, traps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)  # each shard is a unit
    Path("corpus").mkdir()
    shutil.move("c.jsonl", "corpus/a.jsonl")
    scan = ["traps", "scan", "L.json", "corpus", "--quiet", "--workers", "1", "--json", "--out"]
    for name, flags, n_scanned in (("h1.jsonl", [], 14), ("h2.jsonl", ["--no-resume"], None)):
        Path("corpus/b.jsonl").write_text("{")
        refused(*scan, name)
        Path("corpus/b.jsonl").write_text('{"text": "x"}\n')
        facts = json.loads(call(*scan, name, *flags).out)
        assert facts["n_scanned"] == (n_scanned or facts["n_bytes"])
    assert Path("h1.jsonl").read_bytes() == Path("h2.jsonl").read_bytes()


def test_what_of_a_folder_is_not_scanned_is_told_and_listed(call: Call, traps: list[dict[str, Any]]) -> None:
    decoy = next(trap for trap in traps if trap["arm"] == "decoy")
    for name in ("a.md", "b.html", "c.pdf", "d.pdf", "e", "f\n.zip", "g.zip", "h.zip", ".i.txt", ".j/k.txt"):
        Path("corpus", name).parent.mkdir(parents=True, exist_ok=True)
        Path("corpus", name).write_text(f"<p>{decoy['text']}</p>" if name in ("a.md", "b.html") else "x")
    Path("corpus/l").symlink_to(Path("corpus/.j").absolute())
    code, out, err = call("traps", "scan", "L.json", "corpus", "--quiet", "--json")
    assert code == 0
    lines = err.splitlines()
    assert lines[:3] == [
        "note: 6 paths left out, of a kind that is not read here (3 .zip, 2 .pdf, 1 without an extension): "
        "corpus/c.pdf, corpus/d.pdf, corpus/e, corpus/f .zip, corpus/g.zip and 1 more",
        "note: 2 paths left out, hidden: corpus/.i.txt, corpus/.j",
        "note: 1 path left out, a link to a folder: corpus/l",
    ]
    assert lines[3].startswith("WARNING: 1 decoy LEAKED")
    facts = json.loads(out)
    assert facts["leaks"][0]["copies"] == facts["n_texts"] == 2
    assert facts["left_out"] == {
        "others": [f"corpus/{name}" for name in ("c.pdf", "d.pdf", "e", "f\n.zip", "g.zip", "h.zip")],
        "hidden": ["corpus/.i.txt", "corpus/.j"],
        "links": ["corpus/l"],
    }


@pytest.mark.parametrize(
    ("flags", "then"),
    [
        ([], "nothing was kept. With --out, what is finished is kept, and the same command goes on from there."),
        (["--out", "h.jsonl"], "what was finished is kept in h.jsonl.parts, and the same command goes on from there."),
    ],
)
def test_an_interrupted_scan_tells_what_it_kept(
    call: Call, traps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, flags: list[str], then: str
) -> None:
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)
    write([FILLER], "d.jsonl")
    write_unit = ScanStore.write

    def interrupt(store: ScanStore, *unit: Any) -> None:
        write_unit(store, *unit)
        raise KeyboardInterrupt

    scan = ["traps", "scan", "L.json", "c.jsonl", "d.jsonl", "--quiet", "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(ScanStore, "write", interrupt)
        code, out, err = call(*scan, *flags)
    assert (code, out, err) == (3, "", f"palimpsest: interrupted; {then}\n")
    facts = json.loads(call(*scan, *flags, "--json").out)
    assert facts["n_scanned"] == (Path("d.jsonl").stat().st_size if flags else facts["n_bytes"])


def test_the_parts_of_another_ledgers_scan_are_kept_until_they_are_thrown_away(
    call: Call, refused: Refused, traps: list[dict[str, Any]]
) -> None:
    assert call("traps", "generate", *MARKS, "--out", "M.json", "--seed", "2").code == 0
    content = Path("c.jsonl").read_text()
    Path("c.jsonl").write_text(content + "{\n")
    refused("traps", "scan", "L.json", "c.jsonl", "--quiet", "--out", "h.jsonl")
    Path("c.jsonl").write_text(content)
    ours, theirs = (
        json.loads(call("traps", "commit", name, "--json").out)["commitment"] for name in ("M.json", "L.json")
    )
    err = refused("traps", "scan", "M.json", "c.jsonl", "--quiet", "--out", "h.jsonl")
    assert f"- commitment of the ledger: '{theirs}', here '{ours}'\n" in err
    assert call("traps", "scan", "M.json", "c.jsonl", "--quiet", "--out", "h.jsonl", "--no-resume").code == 0
    assert Path("h.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--field", "content"], "c.jsonl has no field 'content'; it has"),
        (["--id-field", "url"], "c.jsonl has no field 'url'; it has"),
        (["--fuzzy"], "--fuzzy counts tokens, so it needs --tokenizer FOLDER"),
        (["--max-distance", "3"], "--max-distance goes with --fuzzy only"),
        (["--tokenizer", "x"], "--tokenizer goes with --fuzzy only"),
        (["--fuzzy", "--tokenizer", "x"], "--tokenizer x: there is no such folder"),
        (["--fuzzy", "--tokenizer", "."], "it holds no tokenizer.json"),
        (["--fuzzy", "--tokenizer", "x", "--max-distance", "-1"], "--max-distance is -1; expected 0 or more"),
        (["--workers", "0"], "--workers is 0; expected 1 or more"),
        (["--out", "h.csv"], "--out h.csv ends in .csv; expected .jsonl or .parquet"),
        (["--out", "c.jsonl"], "c.jsonl is there already, and nothing is overwritten here"),
        (["nothere.jsonl"], "there is no 'nothere.jsonl' in the working folder"),
    ],
)
def test_a_flag_that_cannot_be_followed_is_refused(
    refused: Refused, traps: list[dict[str, Any]], flags: list[str], message: str
) -> None:
    assert message in refused("traps", "scan", "L.json", "c.jsonl", "--quiet", *flags)


def test_too_large_a_distance_is_refused_with_one_that_is_not(
    refused: Refused, traps: list[dict[str, Any]], llama: Path
) -> None:
    flags = ["--fuzzy", "--tokenizer", llama, "--max-distance", "20"]
    err = refused("traps", "scan", "L.json", "c.jsonl", "--quiet", *flags)
    assert "half of them or more could differ" in err
    assert "Give --max-distance " in err


def test_a_ledger_inside_the_corpus_is_refused(refused: Refused, traps: list[dict[str, Any]]) -> None:
    err = refused("traps", "scan", "L.json", ".", "--quiet")
    assert "the ledger L.json lies in the corpus ., so whoever gets the corpus gets the decoys" in err


def test_a_ledger_that_was_changed_is_refused(refused: Refused, traps: list[dict[str, Any]]) -> None:
    content = Path("L.json").read_text()
    Path("L.json").write_text(content.replace('"n_rep":3', '"n_rep":2').replace('"n_rep": 3', '"n_rep": 2'))
    assert "does not fit itself" in refused("traps", "scan", "L.json", "c.jsonl", "--quiet")

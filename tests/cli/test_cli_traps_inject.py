"""``palimpsest traps inject`` and ``remove``: from a ledger to a planted corpus and back, and every refusal."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import audit.traps.planting.plant
import audit.traps.planting.restore
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]
WORDS = " ".join(f"word{i}" for i in range(4_000))
MARKS = [
    "traps",
    "generate",
    "--watermark",
    "--primary",
    "loss",
    "--lengths",
    "20",
    "--repetitions",
    "1,4",
    "--members",
    "2",
]
INJECT = ["traps", "inject", "L.json"]


@pytest.fixture
def ledger(call: Call) -> dict[str, Any]:
    """A ledger L.json of four watermarks, planted once or four times in documents of their own, and five decoys."""
    assert call(*MARKS, "--decoys", "5", "--seed", "1", "--out", "L.json", "--quiet").code == 0
    return dict(json.loads(Path("L.json").read_text()))


@pytest.fixture
def corpus(ledger: dict[str, Any]) -> Path:
    """A folder with five documents: four rows and a page."""
    Path("corpus").mkdir()
    rows = [{"id": f"d{i}", "text": f"{i} {WORDS}"} for i in range(4)]
    Path("corpus/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("corpus/b.html").write_text(f"<p>{WORDS}</p>")
    return Path("corpus")


def files_of(folder: str | Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def texts(ledger: dict[str, Any], arm: str) -> list[str]:
    return [trap["text"] for trap in ledger["traps"] if trap["arm"] == arm]


def test_a_corpus_is_planted_and_comes_back_byte_for_byte(call: Call, corpus: Path, ledger: dict[str, Any]) -> None:
    """Ten copies of 20 characters and 2 separators in 4 * 34,891 + 34,896 characters are 0.126%; four in one, 0.25%."""
    code, out, err = call(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--seed", "4", "--quiet")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2 files (1 html, 1 jsonl), 5 documents, 5 of them long enough",
        "4 traps, 10 copies in 4 documents; shortest: b.html, 3,999 word positions for 4",
        "traps are 0.13% of the planted text, at most 0.3% of one (a.jsonl, line 2)",
        "planted -> planted",
        "placements -> P.json (secret: they tell which texts are members)",
    ]
    planted = "".join(content.decode() for content in files_of("planted").values())
    assert sorted(planted.count(text) for text in texts(ledger, "member")) == [1, 1, 4, 4]
    assert not any(text in planted + Path("P.json").read_text() for text in texts(ledger, "decoy"))
    assert stat.S_IMODE(Path("P.json").stat().st_mode) == 0o600
    code, out, err = call("traps", "remove", "P.json", "planted", "--out", "restored", "--quiet")
    assert (code, err) == (0, "")
    assert out == "10 copies taken out of 2 files; 2 files as before, byte for byte (SHA-256) -> restored\n"
    assert files_of("restored") == files_of(corpus)


def test_one_file_is_planted_as_json_tells(call: Call, corpus: Path) -> None:
    arguments = [corpus / "a.jsonl", "--out", "p.jsonl", "--placements", "P.json", "--id-field", "id", "--json"]
    facts = json.loads(call(*INJECT, *arguments, "--seed", "9", "--quiet").out)
    assert (facts["planted"], facts["placements"], facts["seed"]) == ("p.jsonl", "P.json", 9)
    assert (facts["n_documents"], facts["n_planted_documents"], facts["n_copies"]) == (4, 4, 10)
    assert 0 < facts["share"] < facts["largest_share"]["value"] < 0.01
    record = json.loads(Path("P.json").read_text())
    assert {document["id"] for document in record["documents"]} == {"d0", "d1", "d2", "d3"}
    assert record["single_file"] is True
    done = json.loads(call("traps", "remove", "P.json", "p.jsonl", "--out", "r.jsonl", "--json", "--quiet").out)
    assert done["n_copies"] == 10
    assert Path("r.jsonl").read_bytes() == (corpus / "a.jsonl").read_bytes()


def test_a_dry_run_writes_nothing_and_tells_what_would_be(call: Call, corpus: Path) -> None:
    outputs = ["--out", "planted", "--placements", "P.json", "--seed", "4", "--quiet"]
    before = sorted(path.name for path in Path().iterdir())
    dry = call(*INJECT, corpus, *outputs, "--dry-run").out.splitlines()
    assert sorted(path.name for path in Path().iterdir()) == before
    assert dry[-1] == "nothing was written (--dry-run); with --seed 4 copies go to these very places"
    assert call(*INJECT, corpus, *outputs).out.splitlines()[:3] == dry[:3]


def test_the_seed_that_a_dry_run_drew_plants_what_it_told(call: Call, corpus: Path) -> None:
    outputs = ["--out", "planted", "--placements", "P.json", "--quiet"]
    dry = call(*INJECT, corpus, *outputs, "--dry-run").out.splitlines()
    seed = int(dry[-1].split("--seed ")[1].split()[0])
    facts = json.loads(call(*INJECT, corpus, *outputs, "--seed", seed, "--dry-run", "--json").out)
    assert facts["seed"] == seed
    assert call(*INJECT, corpus, *outputs, "--seed", seed).out.splitlines()[:3] == dry[:3]
    assert json.loads(Path("P.json").read_text())["seed"] == seed


def test_an_interruption_says_that_nothing_was_written(
    call: Call, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    outputs = ["--out", "planted", "--placements", "P.json", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(audit.traps.planting.plant, "write_placements", interrupt)
        code, out, err = call(*INJECT, corpus, *outputs, "--seed", "4")
    assert (code, out) == (3, "")
    assert err == (
        "palimpsest: interrupted; nothing was written. The same command with --seed 4 plants at the same places, from "
        "the start.\n"
    )
    assert sorted(path.name for path in Path().iterdir()) == ["L.json", "corpus"]
    assert call(*INJECT, corpus, *outputs).code == 0
    monkeypatch.setattr(audit.traps.planting.restore, "cut_out", interrupt)
    code, out, err = call("traps", "remove", "P.json", "planted", "--out", "restored", "--quiet")
    assert (code, out) == (3, "")
    assert err == "palimpsest: interrupted; nothing was written. The same command starts from the beginning.\n"
    assert sorted(path.name for path in Path().iterdir()) == ["L.json", "P.json", "corpus", "planted"]


def test_without_a_seed_the_places_differ_and_the_seed_is_recorded(call: Call, corpus: Path) -> None:
    seeds = []
    for name in ("1", "2"):
        call(*INJECT, corpus, "--out", f"planted{name}", "--placements", f"P{name}.json", "--quiet")
        seeds.append(json.loads(Path(f"P{name}.json").read_text())["seed"])
    assert seeds[0] != seeds[1]
    assert files_of("planted1") != files_of("planted2")
    again = ["--out", "planted3", "--placements", "P3.json", "--seed", seeds[0], "--quiet"]
    assert call(*INJECT, corpus, *again).code == 0
    assert files_of("planted3") == files_of("planted1")


def test_what_the_user_should_know_is_noted(call: Call, corpus: Path) -> None:
    (corpus / "b.html").write_text("<p>" + "a few words of text here " * 5 + "</p>")
    (corpus / "c.bin").write_bytes(b"x")
    (corpus / ".d").write_bytes(b"x")
    (corpus / "a.jsonl").write_text('{"text": null}\n')
    arguments = ["--placement", "scattered", "--html", "hidden", "--out", "planted", "--placements", "P.json"]
    err = call(*INJECT, corpus, *arguments, "--quiet").err
    for note in (
        "of the planted text is traps",
        "of b.html is traps; repetition and deduplication filters drop such documents",
        "the ledger's design says document; planted scattered.",
        "text extractors that drop hidden elements drop these traps too; search engines may penalise hidden text",
        "1 record without a text",
        "copied as it is: c.bin",
        "hidden, left out: .d",
    ):
        assert note in err, note
    assert err.count("note: ") == 7


def test_the_token_offset_of_each_copy_is_recorded(call: Call, corpus: Path, tmp_path: Path) -> None:
    model = build_checkpoint(tmp_path / "model", "llama")
    arguments = [corpus, "--out", "planted", "--placements", "P.json", "--tokenizer", model, "--quiet"]
    assert call(*INJECT, *arguments).code == 0
    record = json.loads(Path("P.json").read_text())
    copies = [copy for document in record["documents"] for copy in document["copies"]]
    assert len(copies) == 10
    assert all(isinstance(copy[6], int) and copy[6] > 0 for copy in copies)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--html", "none"], "--html is 'none'; expected visible or hidden"),
        (["--placement", "all"], "--placement is 'all'; expected document or scattered"),
        (["--seed", "-1"], "--seed is -1; expected 0 to 9223372036854775807"),
        (["--min-words", "0"], "Input should be greater than or equal to 1"),
        (["--placement", "scattered", "--neighbourhood"], "keeps the copies of a trap together"),
        (["--min-words", "5000"], "4 traps need a document each, with 5,000 word positions or more"),
        (["--field", "txt"], "a.jsonl has no field 'txt'; it has 'text', 'id'. Did you mean 'text'?"),
        (["--tokenizer", "corpus"], "corpus has no tokenizer.json"),
    ],
)
def test_impossible_settings_are_refused(refused: Refused, corpus: Path, arguments: list[str], message: str) -> None:
    err = refused(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--quiet", *arguments)
    assert message in " ".join(err.replace("│", " ").split())
    assert not Path("planted").exists()
    assert not Path("P.json").exists()


def test_a_ledger_in_the_source_is_refused(refused: Refused, corpus: Path) -> None:
    Path("L.json").rename(corpus / "L.json")
    outputs = ["--out", "planted", "--placements", "P.json", "--quiet"]
    message = refused("traps", "inject", corpus / "L.json", corpus, *outputs)
    assert "lies in the source corpus, and would go out with it" in message


def test_another_ledger_in_the_source_is_refused(call: Call, refused: Refused, corpus: Path) -> None:
    assert call(*MARKS, "--decoys", "5", "--seed", "2", "--out", str(corpus / "old.json"), "--quiet").code == 0
    message = refused(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--quiet")
    assert "corpus/old.json is a ledger of traps, and would go out with the planted files. Move it out" in message
    assert not Path("planted").exists()


def test_a_changed_ledger_is_refused(refused: Refused, corpus: Path) -> None:
    path = Path("L.json")
    path.write_text(path.read_text().replace('"n_rep": 4', '"n_rep": 5'))
    refused(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--quiet")


def test_planting_what_was_planted_is_refused(call: Call, refused: Refused, corpus: Path) -> None:
    call(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--quiet")
    message = refused(*INJECT, "planted", "--out", "again", "--placements", "P2.json", "--quiet")
    assert "already. A source must hold no trap of the ledger" in message


def test_a_planted_corpus_that_was_edited_is_refused_with_the_place(call: Call, refused: Refused, corpus: Path) -> None:
    call(*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--quiet")
    path = Path("planted/a.jsonl")
    path.write_text(path.read_text().replace("word3999", "WORD3999", 1))
    message = refused("traps", "remove", "P.json", "planted", "--out", "restored", "--quiet")
    assert "planted/a.jsonl is not as it was planted" in message
    assert "The first change lies in bytes " in message
    assert not Path("restored").exists()


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['traps', *sys.argv[1:]])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'pyarrow', 'markdown_it'} & sys.modules.keys()\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    for verb in ("inject", "remove"):
        done = subprocess.run(
            [sys.executable, "-c", code, verb, "--help"], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"Usage: palimpsest traps {verb}" in done.stdout


def test_near_copies_stand_in_place_of_all_copies_but_the_first_and_come_out_again(
    call: Call, corpus: Path, ledger: dict[str, Any]
) -> None:
    members = [trap for trap in ledger["traps"] if trap["arm"] == "member"]
    many = next(trap for trap in members if trap["n_rep"] == 4)
    near = [many["text"][:-2] + ending for ending in ("zx", "zy", "zz", "zw")]
    Path("V.jsonl").write_text("".join(json.dumps({"trap_id": many["id"], "text": text}) + "\n" for text in near))
    arguments = ["--out", "planted", "--placements", "P.json", "--variants", "V.jsonl", "--quiet"]
    code, _, err = call(*INJECT, corpus, *arguments)
    assert code == 0
    assert "1 variant is not planted" in err
    planted = "".join(content.decode() for content in files_of("planted").values())
    assert [planted.count(text) for text in (many["text"], *near)] == [1, 1, 1, 1, 0]
    assert call("traps", "remove", "P.json", "planted", "--out", "restored", "--quiet").code == 0
    assert files_of("restored") == files_of(corpus)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_pieces_of_scattered_traps_are_no_copies(
    call: Call, refused: Refused, corpus: Path, ledger: dict[str, Any], suffix: str
) -> None:
    many = next(trap for trap in ledger["traps"] if trap["n_rep"] == 4)
    rows = [{"trap_id": many["id"], "variant": 1, "piece": piece, "text": f"near {piece}"} for piece in (None, 0)]

    def write(rows: list[dict[str, Any]]) -> list[Any]:
        path = Path(f"V{suffix}")
        if suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
        return [*INJECT, corpus, "--out", "planted", "--placements", "P.json", "--variants", path, "--quiet"]

    message = refused(*write(rows))
    assert (
        f"--variants V{suffix}, {'line' if suffix == '.jsonl' else 'row'} 2: this is a piece of a scattered" in message
    )
    assert "give variants of another kind (replace, insert or shuffle)" in message
    assert not Path("planted").exists()
    assert call(*write(rows[:1])).code == 0

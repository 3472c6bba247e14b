"""``palimpsest traps``: from a draw to a commitment, its check and a disclosure, and every refusal."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.text.files
import audit.traps.generate
import audit.traps.words
from audit.text.tables import read_parquet
from audit.traps.table import check_table
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]
FEW = ["--repetitions", "1,4", "--members", "2", "--decoys", "5", "--quiet"]
MARKS = ["traps", "generate", "--watermark", "--primary", "loss", "--lengths", "20", *FEW]


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("generator"), "llama", letters_only=True)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{a}{b}{c}\n" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"), encoding="utf-8")
    return path


@pytest.fixture
def made(call: Call) -> tuple[str, list[str]]:
    """A ledger L.json of nine watermarks: its commitment, and its ids."""
    assert call(*MARKS, "--out", "L.json").code == 0
    ids = [trap["id"] for trap in json.loads(Path("L.json").read_text())["traps"]]
    return call("traps", "commit", "L.json").out.strip(), ids


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['traps', *sys.argv[1:]])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'pyarrow'} & sys.modules.keys()\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    for verb in ([], ["generate"], ["verify-ledger"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *verb, "--help"], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Usage: palimpsest traps" in done.stdout


def test_traps_of_a_model_go_from_the_draw_to_the_audits_table(call: Call, generator: Path) -> None:
    flags = ["--lengths", "8,10", "--edges", "1,30,1000", "--temperatures", "0.8,1.2", "--max-jaccard", "0.9"]
    flags += ["--samples-per-round", "64", "--placement", "scattered", "--primary", "loss", "--alpha", "0.01"]
    outputs = ["--out", "L.json", "--table", "t.parquet", "--publish", "p.jsonl"]
    flags += ["--device", "cpu", "--seed", "3", *FEW, *outputs]
    code, out, err = call("traps", "generate", "--model", generator, *flags)
    assert (code, err.count("note: ")) == (0, 2)
    assert "40 copies of 16 traps are to be planted. `traps inject` needs documents with 40 words in all; and " in err
    assert out.splitlines() == [
        "36 traps (16 members, 20 decoys) in 4 strata -> L.json (secret: keep it, and a copy, until disclosure)",
        "  length 8: 64 sampled, 0.0% rejected, 46 not needed",
        "  length 10: 64 sampled, 0.0% rejected, 46 not needed",
        "for palimpsest audit -> t.parquet (secret: it holds the decoys)",
        "to be planted -> p.jsonl",
        "Before anything is published: palimpsest traps commit L.json",
    ]
    ledger = json.loads(Path("L.json").read_text())
    assert ledger["seed"] == 3
    assert ledger["design"]["placement"] == "scattered"
    assert (ledger["plan"]["primary"], ledger["plan"]["alpha"]) == ("loss", 0.01)
    assert ledger["generator"]["model"] == str(generator)
    frame = check_table(read_parquet("t.parquet"), source="t.parquet")
    assert Counter(frame["n_rep"]) == {0: 20, 1: 8, 4: 8}
    assert frame["generator_perplexity"].notna().all()
    published = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    decoys = set(frame.loc[frame["arm"] == "decoy", "text"])
    assert len(published) == 16
    assert not {row["text"] for row in published} & decoys
    assert not any(text in Path("p.jsonl").read_text() for text in decoys)
    for secret in ("L.json", "t.parquet"):
        assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    commitment = call("traps", "commit", "L.json").out.strip()
    code, out, err = call("traps", "verify-ledger", "L.json", "--commitment", commitment)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "L.json is what was committed to: 36 traps (16 members, 20 decoys) in 4 strata, dealt as its seed deals them.",
        "  The pool was not drawn again from its model: where its texts come from rests on the publisher's word.",
        "  That the seed and the order of the pool were not picked to suit rests on the publisher's word.",
    ]


def test_the_same_seed_draws_the_same_traps_and_none_draws_others(call: Call, words: Path) -> None:
    def texts(name: str, *flags: str) -> list[str]:
        draw = ["--words", words, "--primary", "loss", "--lengths", "5,9", "--max-jaccard", "0.5", *FEW]
        assert call("traps", "generate", *draw, "--out", name, *flags).code == 0
        return [trap["text"] for trap in json.loads(Path(name).read_text())["traps"]]

    assert texts("a.json", "--seed", "5") == texts("b.json", "--seed", "5")
    assert texts("c.json") != texts("d.json")
    seeds = [json.loads(Path(name).read_text())["seed"] for name in ("c.json", "d.json")]
    assert seeds[0] != seeds[1]
    assert max(seeds) < 2**63
    assert call("traps", "commit", "a.json").out != call("traps", "commit", "b.json").out  # the secrets differ


def test_progress_is_told(call: Call) -> None:
    code, _, err = call(*[flag for flag in MARKS if flag != "--quiet"], "--out", "L.json")
    assert code == 0
    assert err.startswith("traps: 9 to do\ntraps: done in ")


def test_a_disclosure_is_recognised_and_checked(call: Call, made: tuple[str, list[str]]) -> None:
    commitment, ids = made
    arms = {trap["id"]: trap["arm"] for trap in json.loads(Path("L.json").read_text())["traps"]}
    member = next(name for name in ids if arms[name] == "member")
    decoy = next(name for name in ids if arms[name] == "decoy")
    code, out, err = call("traps", "disclose", "L.json", "--trap", member, "--trap", decoy, "--out", "d.json")
    assert (code, out) == (0, "2 traps of 9 -> d.json\n")
    assert err == f"note: {decoy} is a decoy; once others know it, it is no control any more.\n"
    code, out, _ = call("traps", "verify-ledger", "d.json", "--commitment", commitment)
    assert code == 0
    assert out.startswith("d.json: 2 traps of 9 stood in the ledger committed to:\n")
    assert f"  {decoy}  decoy, n_rep 0\n" in out
    assert f"  {member}  member, n_rep " in out
    text = Path("d.json").read_text()
    assert not any(name in text for name in ids if name not in (member, decoy))


def test_every_verb_speaks_json(call: Call, made: tuple[str, list[str]]) -> None:
    commitment, ids = made

    def answer(*arguments: str) -> dict[str, Any]:
        code, out, _ = call("traps", *arguments, "--json")
        assert code == 0
        return dict(json.loads(out))

    counts = {"n_traps": 9, "n_members": 4, "n_decoys": 5, "n_strata": 1}
    new = answer(*MARKS[1:], "--out", "M.json", "--table", "M.parquet")
    [drawn] = new.pop("draw")
    assert (drawn["sampled"], drawn["accepted"], drawn["rejection_rate"]) == (9, 9, 0)
    # Each of two traps once and of two four times: 10 copies of 20 characters and 2 separators.
    needed = {"n_copies": 10, "n_characters": 220, "n_documents": 4, "words_each": 4, "words": 16}
    of_plan = {"reference": None, "to_plant": needed}
    assert new == {"ledger": "M.json", "source": "watermark", **counts, **of_plan, "table": "M.parquet"}
    found = answer("commit", "L.json")
    assert found.pop("commitment") == commitment
    assert (len(found.pop("root")), len(found.pop("header"))) == (64, 64)
    assert found == counts
    checked = answer("verify-ledger", "L.json", "--commitment", commitment)
    how = {"pool_drawn_again": True, "lottery": None}
    assert checked == {"file": "L.json", "kind": "ledger", "commitment": commitment, **counts, **how}
    assert answer("disclose", "L.json", "--trap", ids[0], "--out", "d.json") == {
        "disclosure": "d.json",
        "traps": [ids[0]],
    }
    shown = answer("verify-ledger", "d.json", "--commitment", commitment)
    assert (shown["kind"], shown["n_traps"], shown["traps"][0]["id"]) == ("disclosure", 9, ids[0])
    assert answer("export", "L.json", "--publish", "p.parquet") == {"publish": "p.parquet"}


def test_an_export_writes_what_generate_would_have_written(call: Call) -> None:
    assert call(*MARKS, "--out", "L.json", "--table", "a.parquet", "--publish", "a.jsonl").code == 0
    code, out, _ = call("traps", "export", "L.json", "--table", "b.parquet", "--publish", "b.jsonl")
    assert code == 0
    assert out.splitlines() == [
        "for palimpsest audit -> b.parquet (secret: it holds the decoys)",
        "to be planted -> b.jsonl",
    ]
    assert read_parquet("b.parquet").equals(read_parquet("a.parquet"))
    assert Path("b.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    assert stat.S_IMODE(os.stat("b.parquet").st_mode) == 0o600


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "nothing to draw from; give one of --model FOLDER, --words FILE and --watermark."),
        (["--watermark", "--words", "words.txt"], "--words and --watermark were given; give one of"),
        (["--watermark", "--edges", "1,2"], "--edges goes with --model only; leave it out."),
        (["--words", "words.txt", "--temperatures", "1"], "--temperatures goes with --model only"),
        (["--words", "words.txt", "--alphabet", "hex"], "--alphabet goes with --watermark only"),
        (["--watermark", "--max-jaccard", "0.3"], "--max-jaccard does not go with --watermark"),
        (["--watermark", "--alphabet", "greek"], 'alphabet is "greek"; expected one of hex, letters.'),
        (["--watermark", "--lengths", "25,x"], "--lengths is '25,x'; expected whole numbers with commas between"),
        (["--watermark", "--lengths", ""], "--lengths is ''; expected whole numbers with commas"),
        (["--watermark", "--lengths", "4"], 'a watermark of the alphabet "hex" needs 16 characters or more'),
        (["--model", "m", "--edges", "1,nan"], "--edges is '1,nan'; expected numbers with commas between"),
        (["--watermark", "--repetitions", "4,4"], "traps: repetitions is (4, 4); expected distinct numbers"),
        (["--watermark", "--members", "0"], "traps: members_per_cell is 0; expected 1 or more"),
        (["--watermark", "--placement", "here"], 'traps: placement is \'here\'; expected "document" or "scattered"'),
        (["--watermark", "--primary", "los"], 'traps: primary is "los"; expected one of ratio, loss'),
        (["--watermark", "--alpha", "2"], "traps: alpha is 2.0; expected a number between 0 and 1"),
        (["--watermark", "--seed", "-1"], "--seed is -1; expected 0 to 9223372036854775807."),
        (["--watermark", "--seed", str(2**63)], "--seed is 9223372036854775808; expected 0 to"),
        (["--words", "word.txt"], "there is no 'word.txt' in the working folder. Did you mean 'words.txt'?"),
        (["--model", "./none"], "no folder none"),
        (["--model", "words.txt"], "words.txt is a file; expected the folder that holds config.json"),
    ],
)
def test_bad_flags_are_named(refused: Refused, words: Path, flags: list[str], says: str) -> None:
    assert says in refused("traps", "generate", "--primary", "loss", "--out", "L.json", *flags)
    assert os.listdir() == [words.name]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--out", "taken.json"], "taken.json is there already, and nothing is overwritten here. Choose another name"),
        (["--out", "L.txt"], "--out L.txt ends in .txt; expected .json."),
        (["--out", "L"], "--out L ends in nothing; expected .json."),
        (["--out", "none/L.json"], "--out none/L.json: there is no folder"),
        (["--out", "L.json", "--table", "t.csv"], "--table t.csv ends in .csv; expected .parquet."),
        (["--out", "L.json", "--publish", "p.csv"], "--publish p.csv ends in .csv; expected .jsonl or .parquet."),
        (["--out", "L.json", "--table", "taken.parquet"], "taken.parquet is there already"),
        (
            ["--out", "L.json", "--table", "t.parquet", "--publish", "t.parquet"],
            "--publish and --table are the same file t.parquet; give each a name of its own.",
        ),
    ],
)
def test_outputs_are_refused_before_anything_is_drawn(refused: Refused, flags: list[str], says: str) -> None:
    for name in ("taken.json", "taken.parquet"):
        Path(name).write_text("mine")
    refused_with = refused("traps", "generate", "--model", "no-model-is-looked-for-yet", *flags)
    assert says in refused_with
    assert {Path(name).read_text() for name in os.listdir()} == {"mine"}


def test_a_full_disk_says_how_to_go_on(refused: Refused, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if str(target).endswith("p.jsonl"):
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(audit.text.files.os, "replace", replace)
        message = refused(*MARKS, "--out", "L.json", "--publish", "p.jsonl")
    assert "could not write p.jsonl: the disk is full" in message
    assert message.endswith("then write it with: palimpsest traps export L.json\n")
    assert call("traps", "export", "L.json", "--publish", "p.jsonl").code == 0


def test_a_disclosure_of_nothing_names_the_options(refused: Refused, made: tuple[str, list[str]]) -> None:
    message = refused("traps", "disclose", "L.json", "--out", "d.json")
    assert "nothing to disclose; give --trap ID, or --document NAME with --placements FILE." in message
    message = refused("traps", "disclose", "L.json", "--placements", "P.json", "--out", "d.json")
    assert "--document and --placements go together" in message
    assert not Path("d.json").exists()


def test_a_changed_ledger_is_named(refused: Refused, made: tuple[str, list[str]]) -> None:
    commitment, _ = made
    whole = Path("L.json").read_text()
    Path("L.json").write_text(whole.replace('"n_rep": 4', '"n_rep": 1', 1))
    message = refused("traps", "verify-ledger", "L.json", "--commitment", commitment)
    assert "L.json is not what was committed to: it gives " in message
    assert "were not dealt by pool, seed and design" in message
    for verb in (["commit"], ["disclose", "--trap", "x", "--out", "d.json"], ["export", "--table", "t.parquet"]):
        message = refused("traps", verb[0], "L.json", *verb[1:])
        assert "L.json does not fit itself: 1 trap of 9 were not dealt" in message
    Path("L.json").write_text(whole + " ")
    assert "L.json was changed after it was written: from byte" in refused("traps", "commit", "L.json")
    assert os.listdir() == ["L.json"]


def test_a_wrong_commitment_is_named(refused: Refused, made: tuple[str, list[str]]) -> None:
    commitment, ids = made
    check = ["traps", "verify-ledger", "L.json", "--commitment"]
    assert "the commitment has 63 characters; expected the 64" in refused(*check, commitment[:-1])
    assert "the commitment has 'z' at character 64" in refused(*check, commitment[:-1] + "z")
    assert f"the commitment is {'0' * 64}. It was changed afterwards, or" in refused(*check, "0" * 64)
    assert "Missing option '--commitment'" in refused(*check[:-1])
    message = refused("traps", "disclose", "L.json", "--trap", ids[0][:-1], "--out", "d.json")
    assert f"the ledger holds no trap {ids[0][:-1]!r} among its 9. Did you mean '{ids[0]}'?" in message
    assert "L.json is there already" in refused("traps", "disclose", "L.json", "--trap", ids[0], "--out", "L.json")


def test_wrong_files_are_named(refused: Refused, call: Call, made: tuple[str, list[str]]) -> None:
    commitment, ids = made
    assert "there is no 'l.json' in the working folder. Did you mean 'L.json'?" in refused("traps", "commit", "l.json")
    Path("text.json").write_text("no json")
    Path("other.json").write_text("{}")
    newer = Path("L.json").read_text().replace('"schema_version": 2', '"schema_version": 3')
    Path("newer.json").write_text(newer)
    for name, says in (
        ("text.json", "text.json is not JSON"),
        ("other.json", "other.json is no ledger and no disclosure of traps"),
        ("newer.json", "newer.json has schema version 3; Palimpsest 0.1.0 reads version 2."),
        (".", ". is a folder; expected a ledger"),
    ):
        assert says in refused("traps", "commit", name)
        assert says in refused("traps", "verify-ledger", name, "--commitment", commitment)
    assert call("traps", "disclose", "L.json", "--trap", ids[0], "--out", "d.json").code == 0
    assert "d.json is a disclosure, which holds some traps only" in refused("traps", "commit", "d.json")
    assert "nothing to write; give --table" in refused("traps", "export", "L.json")


def test_an_interrupted_draw_promises_nothing_and_names_the_seed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: Any, **_named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.traps.words, "data_watermarks", interrupted)
    ended = call(*MARKS, "--out", "L.json", "--seed", "7")
    assert ended.code == 3
    assert "interrupted; nothing was written. The same command with --seed 7 draws" in ended.err
    assert not Path("L.json").exists()


def test_a_draw_that_was_cut_off_goes_on_with_its_seed_and_ends_with_the_same_traps(
    call: Call, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--model", generator, "--lengths", "8", "--edges", "1,30,1000", "--max-jaccard", "0.9", "--device", "cpu"]
    flags += ["--samples-per-round", "8", *FEW]
    real, rounds = audit.traps.generate._sample_round, []

    def cut_off(*given: Any, **named: Any) -> Any:
        rounds.append(named["round_"])
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(audit.traps.generate, "_sample_round", cut_off)
    ended = call("traps", "generate", "--out", "L.json", *flags)
    assert (ended.code, Path("L.json").exists()) == (3, False)
    assert "what was finished is kept" in ended.err
    folder = Path("L.json.parts")
    seed = json.loads((folder / "seed.json").read_text())["seed"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert call("traps", "generate", "--out", "L.json", *flags).code == 0
    assert rounds[:4] == [0, 1, 2, 2]
    assert not folder.exists()
    assert call("traps", "generate", "--out", "M.json", *flags, "--seed", seed).code == 0
    first, second = (json.loads(Path(name).read_text()) for name in ("L.json", "M.json"))
    assert first["seed"] == seed
    for name in ("traps", "draw"):
        assert first[name] == second[name]


def test_an_unfinished_draw_of_another_seed_is_not_mixed_in(refused: Refused, generator: Path) -> None:
    flags = ["--model", generator, "--lengths", "8", "--edges", "1,1.0001", "--max-rounds", "2", "--device", "cpu"]
    flags += ["--samples-per-round", "8", *FEW, "--out", "L.json"]
    told = refused("traps", "generate", *flags, "--seed", "1")
    assert "Of 16 samples" in told
    assert "Widen perplexity_edges (--edges), add temperatures (--temperatures), raise max_jaccard (--max-jacc" in told
    assert "--restart" in refused("traps", "generate", *flags, "--seed", "2")
    kept = Path("L.json.parts") / "seed.json"
    assert json.loads(kept.read_text()) == {"seed": 1}  # a refused draw leaves the other's seed
    assert "Of 16 samples" in refused("traps", "generate", *flags)
    assert "lay in no bucket" in refused("traps", "generate", *flags, "--seed", "2", "--restart")

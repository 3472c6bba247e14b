"""Planting a corpus: places, folders, refusals, and that nothing is ever half there or lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

import audit.traps.planting.plant
import audit.traps.planting.whole
from audit.errors import DataError, InputError, StorageError
from audit.traps.planting.corpus import list_sources
from audit.traps.planting.files import token_starts
from audit.traps.planting.inject import plan_copies
from audit.traps.planting.placements import read_placements
from audit.traps.planting.plant import plant
from audit.traps.planting.whole import left_over
from tests.checkpoints import build_checkpoint
from tests.traps.planting import DECOYS, HARD, LEDGER, ledger_of, planted, planting, restored

ROOT = Path(__file__).parents[2]
WORDS = " ".join(f"word{i}" for i in range(40))


def corpus(root: Path, *, n: int = 4) -> Path:
    """A folder with a file of every kind, one in a folder below, a hidden one, and one of another kind."""
    source = root / "corpus"
    (source / "below" / "more").mkdir(parents=True)
    rows = [{"id": f"d{i}", "text": f"{i} {WORDS}"} for i in range(n)]
    (source / "a.jsonl").write_text("".join(json.dumps(row) + "\r\n" for row in rows), encoding="utf-8", newline="")
    (source / "b.csv").write_text(f"text\n{WORDS}\n", encoding="utf-8")
    (source / "below" / "c.txt").write_text(WORDS, encoding="utf-8")
    (source / "below" / "more" / "d.md").write_text(f"# Head\n\n{WORDS}\n", encoding="utf-8")
    (source / "e.html").write_text(f"<p>{WORDS}</p>", encoding="utf-8")
    (source / "picture.bin").write_bytes(bytes(range(256)))
    (source / ".hidden").write_text("hidden", encoding="utf-8")
    return source


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- places


def test_scattered_copies_fall_on_every_word_position_alike() -> None:
    """Three documents of 1, 4 and 5 positions: each of the ten gets a tenth of the copies."""
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(2_000):
        drawn = plan_copies([1, 0, 4, 5], [("a", 2), ("b", 1)], placement="scattered", seed=seed)
        places = [(copy.document, copy.slot) for copy in drawn]
        assert len(set(places)) == 3
        assert [(copy.trap, copy.copy) for copy in drawn] == [(0, 0), (0, 1), (1, 0)]
        seen.update(places)
    assert set(seen) == {(0, 0), *((2, i) for i in range(4)), *((3, i) for i in range(5))}
    assert chisquare(list(seen.values())).pvalue > 0.001


def test_a_neighbourhood_begins_at_every_word_alike_and_has_no_gaps() -> None:
    """Three copies among seven positions can begin at five of them."""
    firsts = np.zeros(5)
    for seed in range(2_000):
        drawn = plan_copies([7], [("a", 3)], placement="document", seed=seed, neighbourhood=True)
        assert [copy.slot for copy in drawn] == [drawn[0].slot + i for i in range(3)]
        firsts[drawn[0].slot] += 1
    assert chisquare(firsts).pvalue > 0.001


def test_copies_of_a_neighbourhood_have_one_word_between_them(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text(WORDS, encoding="utf-8")
    how = planting(ledger_of(["zq trap"], n_rep=5), placement="document", neighbourhood=True)
    text = planted(source, how).out.read_text(encoding="utf-8")
    between = text.split("\nzq trap\n")[1:-1]
    numbers = [int(word.strip().removeprefix("word")) for word in between]
    assert all(after == before + 1 for before, after in pairwise(numbers))


def test_in_document_placement_each_trap_has_a_document_of_its_own_with_room_for_any(tmp_path: Path) -> None:
    """Hosts must have room for the trap with most copies, so that short ones do not go to the traps with few."""
    source = tmp_path / "a.jsonl"
    rows = [{"text": " ".join(["w"] * n)} for n in (3, 9, 2, 9, 9, 1)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = planted(source, planting(ledger_of(n_rep=4), placement="document"))
    assert {document.id for document in done.placements.documents} == {"a.jsonl:2", "a.jsonl:4", "a.jsonl:5"}
    for document in done.placements.documents:
        assert len({copy.trap for copy in document.copies}) == 1
        assert len(document.copies) == 4
    assert done.told.n_hosts == 3


def test_documents_below_min_words_are_no_hosts(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    rows = [{"text": " ".join(["w"] * n)} for n in (30, 9, 8, 200)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = planted(source, planting(min_words=9, seed=3))
    assert done.told.n_hosts == 3
    assert "a.jsonl:3" not in {document.id for document in done.placements.documents}


def test_the_same_seed_plants_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    outputs = []
    for number, seed in enumerate((7, 7, 8)):
        plant(planting(seed=seed), source, tmp_path / f"out{number}", tmp_path / f"p{number}.json")
        outputs.append(files_of(tmp_path / f"out{number}"))
    assert outputs[0] == outputs[1] != outputs[2]


# --- folders


@pytest.mark.parametrize("placement", ["scattered", "document"])
def test_a_folder_of_all_kinds_is_planted_and_comes_back(tmp_path: Path, placement: str) -> None:
    source = corpus(tmp_path)
    before = files_of(source)
    done = planted(source, planting(placement=placement))
    assert files_of(source) == before
    after = files_of(done.out)
    assert set(after) == set(before) - {".hidden"}
    assert after["picture.bin"] == before["picture.bin"]
    assert files_of(restored(done)) == {name: content for name, content in before.items() if name != ".hidden"}
    assert done.told.sources.hidden == (".hidden",)
    assert done.told.kinds() == {"jsonl": 1, "csv": 1, "txt": 1, "markdown": 1, "html": 1, "other": 1}
    assert done.told.n_documents == 8
    everything = b"".join(after.values()) + done.placements_path.read_bytes()
    assert not any(decoy.encode() in everything for decoy in DECOYS)
    assert there(tmp_path) == ["corpus", "corpus.placements.json", "planted-corpus", "restored-corpus"]


def test_every_file_is_recorded_with_its_hashes_and_the_ledger_with_its_commitment(tmp_path: Path) -> None:

    done = planted(corpus(tmp_path), planting(seed=11))
    record = done.placements
    assert record.commitment == LEDGER.commitment()
    assert record.seed == 11
    assert [trap.text for trap in record.traps] == [trap.text for trap in LEDGER.traps if trap.arm == "member"]
    before, after = files_of(done.source), files_of(done.out)
    for file in record.files:
        assert file.original_sha256 == hashlib.sha256(before[file.path]).hexdigest()
        assert file.planted_sha256 == hashlib.sha256(after[file.path]).hexdigest()
        assert (file.original_bytes, file.planted_bytes) == (len(before[file.path]), len(after[file.path]))
    assert stat.S_IMODE(done.placements_path.stat().st_mode) == 0o600


def test_links_to_files_are_followed_and_links_to_folders_are_told(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.txt").write_text(WORDS, encoding="utf-8")
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "link.txt").symlink_to(tmp_path / "elsewhere" / "x.txt")
    sources = list_sources(source)
    assert sources.links == ("link",)
    assert "link.txt" in [file.name for file in sources.files]


def test_the_share_of_traps_is_of_all_characters_and_of_the_fullest_document(tmp_path: Path) -> None:
    """Copies of "zq trap" take 9 characters with their separators. All ten stand in one document of 40 words."""
    source = tmp_path / "a.jsonl"
    rows = [{"text": WORDS}, {"text": "short"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = planted(source, planting(ledger_of(["zq trap"], n_rep=10), placement="document")).told
    assert told.share == 90 / (len(WORDS) + 5 + 90)
    assert told.largest == (90 / (len(WORDS) + 90), "a.jsonl, line 1")
    assert told.shortest == (40, 10, "a.jsonl, line 1")


def test_token_offsets_count_the_tokens_that_begin_before_a_copy(tmp_path: Path) -> None:
    """An oracle: the tokens of the planted text, encoded with special tokens as text, that begin further left."""
    from transformers import AutoTokenizer

    folder = build_checkpoint(tmp_path / "model", "llama")
    source = tmp_path / "a.txt"
    source.write_text(f"<s> the cat </s> {WORDS}", encoding="utf-8")
    done = planted(source, planting(tokenizer=token_starts(folder)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = done.out.read_text(encoding="utf-8")
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    copies = [copy for document in done.placements.documents for copy in document.copies]
    assert len(copies) == 6
    for copy in copies:
        assert copy.token == sum(start < copy.offset for start, _ in encoded["offset_mapping"])
    assert done.placements.options.tokenizer_sha256 is not None
    with pytest.raises(InputError, match="has no tokenizer.json"):
        token_starts(tmp_path)


# --- refusals, each before anything is written


def refused(root: Path, source: Path, message: str, how: Any = None, kind: Any = (InputError, DataError)) -> None:
    before = there(root)
    with pytest.raises(kind, match=message):
        plant(how or planting(), source, root / f"out{source.suffix}", root / "p.json")
    assert there(root) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            b'{"text": "a b"}\n{"text": "a b}\n',
            "a.jsonl, line 2: malformed JSON: Unterminated .*column 10",
        ),
        ("a.jsonl", b'{"text": "a b"}\n["a b"]\n', "a.jsonl, line 2: malformed JSON: expected an object with fields"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl, line 1: 'text' is 5 \\(int\\), not a text"),
        ("a.jsonl", b'{"txt": "a b"}\n', "a.jsonl has no field 'text'; it has 'txt'. Did you mean 'txt'"),
        ("a.jsonl", b'{"text": "a b", "text": "c"}\n', "line 1: malformed JSON: field 'text' stands more than once"),
        (
            "a.jsonl",
            b'{"text": "a \xff b"}\n',
            "a.jsonl, line 1: byte 0xff at offset 12 of .* is not UTF-8",
        ),
        ("a.csv", b"txt,n\na b,1\n", "a.csv has no field 'text'"),
        ("a.csv", b'text,n\n"a b,1\n', "a.csv, line 2: malformed CSV: unexpected end of data"),
        ("a.csv", b"text,n\na b\n", "a.csv, line 2: 1 cells; the header has 2"),
        ("a.csv", b"text,text\na b,c\n", "a.csv: the header names 'text' twice"),
        ("a.csv", b"text;n\na b;1\n", "its delimiter seems to be ';'"),
        ("a.txt", b"a b\nc \xe9 d\n", "a.txt, line 2: byte 0xe9 at offset 6 is not UTF-8"),
        ("a.txt", b"a b\nc \x00 d\n", "a.txt, line 2: byte 0x00 at offset 6 of the file's text is a NUL"),
        ("a.txt", "a b".encode("utf-16"), "a.txt is UTF-16 or UTF-32"),
        ("a.html", b"<p>\xe9 b</p>", "a.html, line 1: byte 0xe9 at offset 3 is not UTF-8"),
        ("a.txt", b"", "6 copies were to be planted, but the documents have 0 word positions"),
        ("a.jsonl", b"", "6 copies were to be planted, but the documents have 0 word positions"),
        ("a.parquet", b"PAR1", "a.parquet is not sound parquet|a.parquet is damaged"),
        ("a.jsonl.gz", b"x", "ends in .gz; expected one of .jsonl, .*Unpack it with gunzip first"),
        ("a.docx", b"x", "ends in .docx; expected one of .jsonl, .csv"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_the_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, tmp_path / name, message)


def test_a_folder_without_hosts_or_with_packed_ones_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "a.bin").write_bytes(b"x")
    refused(tmp_path, source, "holds no file to plant in; expected one of .jsonl")
    (source / "b.txt").write_text(WORDS, encoding="utf-8")
    (source / "c.txt.gz").write_bytes(b"x")
    refused(tmp_path, source, "c.txt.gz is packed.*Unpack it with gunzip first")


def test_a_pipe_in_a_folder_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    os.mkfifo(source / "pipe.txt")
    refused(tmp_path, source, "pipe.txt is a device or a pipe")


def test_identifiers_that_stand_twice_in_a_file_are_refused_with_both_places(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": WORDS, "id": i}) + "\n" for i in (1, 2, 1)), encoding="utf-8")
    refused(tmp_path, source, "line 3: 'id' '1' was used at a.jsonl, line 1 already", planting(id_field="id"))
    refused(tmp_path, source, "line 1: 'nr' is None; expected a text or a whole number", planting(id_field="nr"))
    assert planted(source).told.n_documents == 3  # without --id-field the lines name them


def test_too_few_or_too_short_documents_are_refused_with_what_is_there(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": "w " * n}) + "\n" for n in (2, 5, 9)), encoding="utf-8")
    message = (
        "3 traps need a document each, with 4 word positions or more "
        "\\(the most copies of a trap: 4; --min-words: 1\\). "
        "Of 3 documents 2 have that many, and the longest has 9"
    )
    refused(tmp_path, source, message, planting(ledger_of(n_rep=4), placement="document"))
    refused(tmp_path, source, "60 copies .* the documents have 16 word positions", planting(ledger_of(n_rep=20)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps({"text": f"{WORDS} {HARD[2]} x"}) + "\n"),
        ("a.csv", f"text\n{DECOYS[1]} {WORDS}\n"),
        ("a.html", f"<p>{WORDS} zq &lt;b&gt;bold&lt;/b&gt; &amp;amp; &amp; ]]&gt; --&gt; &lt;!-- 2 </p>"),
        ("a.txt", f"{WORDS} {DECOYS[0]}"),
    ],
)
def test_a_source_that_holds_a_trap_or_a_decoy_already_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    refused(tmp_path, tmp_path / name, f"{name}.* holds trap 'trap-[0-9a-f]+' already. A source must hold no trap")


def test_a_file_of_another_kind_that_holds_a_trap_is_not_copied_out(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    (source / "ledger.json").write_bytes(b"\xff" * (1 << 20) + f'"{DECOYS[1]}"'.encode())
    refused(tmp_path, source, "ledger.json holds trap 'trap-[0-9a-f]+' already.*keep the ledger itself")


def test_nothing_is_overwritten_and_no_output_lies_in_the_source(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    (tmp_path / "taken.json").write_text("mine", encoding="utf-8")
    (tmp_path / "taken").mkdir()
    how = planting()
    for out, placements, message in (
        ("corpus", "p.json", "--out .*corpus lies in the source"),
        ("corpus/below/out", "p.json", "--out .*below/out lies in the source"),
        ("out", "corpus/p.json", "--placements .* lies in the source"),
        ("out", "taken.json", "taken.json is there already, and placements are never overwritten"),
        ("taken", "p.json", "taken is there already, and nothing is overwritten here"),
        ("no/out", "p.json", "--out .*: there is no folder"),
        ("out", "p.txt", "--placements .* ends in .txt; expected .json"),
    ):
        with pytest.raises(InputError, match=message):
            plant(how, source, tmp_path / out, tmp_path / placements)
    assert there(tmp_path) == ["corpus", "taken", "taken.json"]
    assert (tmp_path / "taken.json").read_text(encoding="utf-8") == "mine"
    single = source / "below" / "c.txt"
    with pytest.raises(InputError, match="ends in .jsonl; expected .txt, as the source"):
        plant(how, single, tmp_path / "out.jsonl", tmp_path / "p.json")


def test_rows_without_a_text_are_counted_and_left_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    lines = [
        b'{"n": 1}',
        b'{"text": null}',
        b'{"text": "\\ud800 half"}',
        b'{"text": ""}',
        json.dumps({"text": WORDS}).encode(),
    ]
    source.write_bytes(b"\n".join(lines))
    done = planted(source)
    assert (done.told.n_documents, done.told.n_without_text) == (5, 3)
    assert done.out.read_bytes().splitlines()[:4] == source.read_bytes().splitlines()[:4]
    assert restored(done).read_bytes() == source.read_bytes()


# --- nothing half done


def test_a_dry_run_tells_the_same_and_writes_nothing(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    dry = plant(planting(), source, tmp_path / "out", tmp_path / "p.json", dry_run=True)
    assert there(tmp_path) == ["corpus"]
    assert dry == plant(planting(), source, tmp_path / "out", tmp_path / "p.json")


def test_a_source_that_changes_between_the_two_readings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.txt"
    source.write_text(WORDS, encoding="utf-8")
    surveyed = audit.traps.planting.plant.survey

    def then_changed(*arguments: Any, **settings: Any) -> Any:
        found = surveyed(*arguments, **settings)
        source.write_text(WORDS.replace("word3 ", "word4 "), encoding="utf-8")
        return found

    monkeypatch.setattr(audit.traps.planting.plant, "survey", then_changed)
    refused(tmp_path, source, "a.txt changed while it was read")


@pytest.mark.parametrize("where", ["write_placements", "_record", "whole_output"])
def test_what_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = corpus(tmp_path)
    pq.write_table(pa.table({"text": [WORDS] * 20}), source / "p.parquet")
    if where == "whole_output":  # the last step, after the placements were written

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(audit.traps.planting.whole.os, "rename", full)
    else:

        def full(*_: Any) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(audit.traps.planting.plant, where, full)
    refused(tmp_path, source, "the disk is full", kind=StorageError)


def test_a_killed_start_leaves_no_output_and_the_next_one_goes_through(tmp_path: Path) -> None:
    """Killed while it writes: only hidden unfinished work is left, which is named and changes nothing."""
    source = corpus(tmp_path)
    code = (
        "import sys, time, pathlib\nimport audit.traps.planting.files as files\n"
        "from tests.traps.planting import planting\n"
        "from audit.traps.planting.plant import plant\nold = files.put_in\n"
        "def slow(*a):\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "files.put_in = slow\n"
        "plant(planting(), *map(pathlib.Path, sys.argv[1:]))"
    )
    arguments = [str(source), str(tmp_path / "out"), str(tmp_path / "p.json")]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "p.json").exists()
    assert len(left_over(tmp_path / "out")) == 1
    plant(planting(), source, tmp_path / "out", tmp_path / "p.json")
    assert read_placements(tmp_path / "p.json").documents


def test_placements_without_their_output_say_what_happened(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    done = planted(source)
    done.out.rename(tmp_path / "away")
    with pytest.raises(InputError, match="If a start was broken off between the two, delete .*placements.json"):
        planted(source)
    assert done.placements_path.exists()

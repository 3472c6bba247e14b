"""Whole scans: planted truth, leaks, cuts, kills, processes and what cannot be read."""

from __future__ import annotations

import gzip
import html
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import audit.traps.scan.pieces
import audit.traps.scan.shards
from audit.errors import DataError, InputError
from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.generate import assign
from audit.traps.ledger.files import write_ledger
from audit.traps.ledger.make import make_ledger
from audit.traps.ledger.records import Ledger
from audit.traps.scan import tokens as scan_tokens
from audit.traps.scan import units as scan_units
from audit.traps.scan.counts import ScanResult
from audit.traps.scan.scan import plan_of, scan, units_folder
from audit.traps.scan.shards import plan_corpus
from audit.traps.words import WordList, random_words
from tests.traps.planting import LEDGER, planted, planting

ROOT = Path(__file__).parents[2]
WORDS = WordList(tuple(f"{a}{b}{c}é" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"), "ab" * 32)
DESIGN = TrapDesign(lengths=(8, 16), repetitions=(1, 5), members_per_cell=4, decoys_per_stratum=6, max_jaccard=0.6)


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    traps = assign(random_words(WORDS.words, DESIGN, seed=11).candidates, DESIGN, seed=11)
    return make_ledger(traps, design=DESIGN, plan=DetectionPlan(primary="loss"), seed=11, drawn_with=WORDS)


@pytest.fixture(scope="module")
def tokenizer() -> str:
    """Byte-level BPE of 400 tokens, trained on words that the traps share letters with."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([" ".join(WORDS.words), "the cat sat on the mat and ran over the hill"] * 3, trainer)
    return str(made.to_str())


def documents(ledger: Ledger, *, seed: int = 0, n: int = 40) -> list[str]:
    """Nonsense in which every member stands as often as planned, at random places."""
    rng = random.Random(seed)
    texts = [[" ".join(rng.choices(["the", "cat", "sat", "on", "hill"], k=60)) for _ in range(4)] for _ in range(n)]
    for trap in ledger.traps:
        for _ in range(trap.n_rep):
            rng.choice(texts).insert(rng.randrange(4), trap.text)
    return ["\n".join(text) for text in texts]


def write(folder: Path, texts: list[str], *, n_shards: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    for shard in range(n_shards):
        rows = [{"id": f"d{at}", "text": texts[at]} for at in range(shard, len(texts), n_shards)]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"s{shard}.jsonl").write_text(content, encoding="utf-8")
    return folder


def hits(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(ledger: Ledger, corpus: Path, out: Path | None = None, **how: object) -> ScanResult:
    workers = int(str(how.pop("workers", 1)))
    return scan(ledger, plan_corpus([corpus]), plan_of(ledger, **how), workers=workers, out=out)


def test_every_planted_copy_is_counted_and_no_decoy(tmp_path: Path, ledger: Ledger) -> None:
    result = run(ledger, write(tmp_path / "c", documents(ledger)))
    found = [(arm.arm, arm.n_rep, arm.exact, arm.none, arm.fewer, arm.as_planned, arm.more) for arm in result.arms]
    assert found == [("member", 1, 8, 0, 0, 8, 0), ("member", 5, 40, 0, 0, 8, 0), ("decoy", 0, 0, 12, 0, 12, 0)]
    assert result.leaks == ()
    assert (result.n_files, result.n_texts, result.n_bad) == (3, 40, 0)


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path, ledger: Ledger, tokenizer: str) -> None:
    texts = [" ".join(random.Random(at).choices([*WORDS.words], k=2_000)) for at in range(5)]
    result = run(ledger, write(tmp_path / "c", texts), loose=True, max_distance=4, tokenizer=tokenizer)
    assert sum(arm.exact + arm.loose + arm.near for arm in result.arms) == 0


def test_copies_that_were_lost_or_added_are_told_from_those_planned(tmp_path: Path, ledger: Ledger) -> None:
    one, five = ([trap for trap in ledger.traps if trap.n_rep == n] for n in (1, 5))
    texts = documents(ledger)
    at = next(place for place, text in enumerate(texts) if five[0].text in text)
    texts[at] = texts[at].replace(five[0].text, "")
    texts = [text.replace(one[0].text, "") for text in texts]
    texts[3] += f"\n{one[1].text}\n"
    arms = run(ledger, write(tmp_path / "c", texts)).arms
    assert [(arm.none, arm.fewer, arm.as_planned, arm.more) for arm in arms] == [
        (1, 0, 6, 1),
        (0, 1, 7, 0),
        (12, 0, 12, 0),
    ]


def test_a_decoy_in_the_corpus_is_a_leak_with_its_place(tmp_path: Path, ledger: Ledger) -> None:
    decoys = [trap for trap in ledger.traps if trap.arm == "decoy"]
    texts = documents(ledger)
    texts[4] += f" {decoys[2].text}. {decoys[2].text}"
    result = run(ledger, write(tmp_path / "c", texts), tmp_path / "h.jsonl")
    (leak,) = result.leaks
    assert (leak.trap_id, leak.copies, leak.kind) == (decoys[2].id, 2, "exact")
    assert (leak.document, leak.line) == ("d4", 2)
    assert leak.shard.endswith("s1.jsonl")
    assert result.arms[-1].n_found == 1


def test_hits_name_document_and_characters_and_hold_no_trap(tmp_path: Path, ledger: Ledger) -> None:
    texts = documents(ledger)
    out = tmp_path / "h.jsonl"
    run(ledger, write(tmp_path / "c", texts), out)
    by_id = {trap.id: trap.text for trap in ledger.traps}
    rows = hits(out)
    assert len(rows) == 48
    for row in rows:
        text = texts[int(str(row["document"])[1:])]
        assert text[row["start"] : row["end"]] == by_id[str(row["trap_id"])]  # type: ignore[misc]
        assert row["shard"] == str(tmp_path / "c" / f"s{int(str(row['document'])[1:]) % 3}.jsonl")
        assert row["line"] == int(str(row["document"])[1:]) // 3 + 1
    content = out.read_text(encoding="utf-8")
    assert not any(text in content for text in by_id.values())
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert not units_folder(out).exists()


def test_parquet_and_json_lines_hold_the_same_hits(tmp_path: Path, ledger: Ledger, tokenizer: str) -> None:
    corpus = write(tmp_path / "c", documents(ledger))
    for suffix in ("jsonl", "parquet"):
        run(ledger, corpus, tmp_path / f"h.{suffix}", max_distance=3, tokenizer=tokenizer)
    frame = pd.read_parquet(tmp_path / "h.parquet")
    assert frame.astype(object).where(frame.notna(), None).to_dict("records") == hits(tmp_path / "h.jsonl")
    assert stat.S_IMODE((tmp_path / "h.parquet").stat().st_mode) == 0o600


def test_a_copy_across_every_cut_of_a_long_text_is_found_once(
    tmp_path: Path, ledger: Ledger, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut is moved through the copy: whichever piece holds it, it is one copy at its place, exact or near."""
    member = next(trap for trap in ledger.traps if trap.n_rep == 1 and trap.length == 16)
    near = member.text.replace(member.text.split()[5], "zzz")
    text = "the cat sat. " * 900 + member.text + " on the hill." * 100 + near + " ran over." * 300
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    at = text.index(member.text)
    for cut in range(at - 20, at + len(member.text) + 20, 9):
        monkeypatch.setattr(audit.traps.scan.pieces, "PIECE", cut)
        out = tmp_path / f"h{cut}.jsonl"
        run(ledger, tmp_path / "a.txt", out, max_distance=5, tokenizer=tokenizer)
        found = [(row["trap_id"], row["kind"], row["start"]) for row in hits(out)]
        assert found[0] == (member.id, "exact", at)
        assert [(trap, kind) for trap, kind, _ in found[1:]] == [(member.id, "near")]
        assert abs(int(str(found[1][2])) - text.index(near)) <= 2


def test_near_copies_have_their_distance_and_place(tmp_path: Path, ledger: Ledger, tokenizer: str) -> None:
    """One token replaced by another: distance 1, at the place of the copy."""
    made = scan_tokens.usable_tokenizer(tokenizer)
    member = next(trap for trap in ledger.traps if trap.n_rep == 5 and trap.length == 16)
    ids = made.encode(member.text).ids
    other = made.encode("Q").ids[0]
    near = made.decode([*ids[:6], other, *ids[7:]])
    assert made.encode(near).ids == [*ids[:6], other, *ids[7:]]
    text = f"on the hill\n{near}\nthe cat"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    run(ledger, tmp_path / "a.jsonl", tmp_path / "h.jsonl", max_distance=4, tokenizer=tokenizer)
    (row,) = hits(tmp_path / "h.jsonl")
    assert (row["trap_id"], row["kind"], row["distance"]) == (member.id, "near", 1)
    assert text[row["start"] : row["end"]] == near  # type: ignore[misc]
    assert made.encode(text).ids[row["token_start"] : row["token_end"]] == made.encode(near).ids  # type: ignore[misc]


def test_a_reflowed_copy_is_loose_and_not_counted_without_the_flag(tmp_path: Path, ledger: Ledger) -> None:
    member = next(trap for trap in ledger.traps if trap.n_rep == 1)
    (tmp_path / "a.txt").write_text("so\n" + member.text.replace(" ", "\n  ", 3), encoding="utf-8")
    assert sum(arm.n_found for arm in run(ledger, tmp_path / "a.txt").arms) == 0
    arms = run(ledger, tmp_path / "a.txt", loose=True).arms
    assert [(arm.exact, arm.loose) for arm in arms] == [(0, 1), (0, 0), (0, 0)]


def test_ranges_change_neither_hits_nor_lines(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write(tmp_path / "c", documents(ledger), n_shards=1)
    content = []
    for size in (2**24, 3000, 100):
        monkeypatch.setattr(audit.traps.scan.shards, "_RANGE", size)
        run(ledger, corpus, tmp_path / f"h{size}.jsonl")
        content.append((tmp_path / f"h{size}.jsonl").read_bytes())
    assert content[0] == content[1] == content[2]


def test_several_processes_give_the_same_bytes(
    tmp_path: Path, ledger: Ledger, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)
    corpus = write(tmp_path / "c", documents(ledger))
    for workers in (1, 2):
        run(ledger, corpus, tmp_path / f"h{workers}.jsonl", workers=workers, max_distance=3, tokenizer=tokenizer)
    assert (tmp_path / "h1.jsonl").read_bytes() == (tmp_path / "h2.jsonl").read_bytes()
    assert len(hits(tmp_path / "h1.jsonl")) == 48


KILLED = """
import sys, time
from pathlib import Path
from audit.traps.scan import shards as scan_shards
from audit.traps.ledger.files import read_ledger
from audit.traps.scan.scan import plan_of, scan
scan_shards._TOGETHER = 1
ledger = read_ledger("L.json")
def slow(stage, done, total):
    print(done, flush=True)
    time.sleep(60 if done else 0)
def main():
    scan(ledger, scan_shards.plan_corpus([Path("c")]), plan_of(ledger), workers=int(sys.argv[1]), out=Path("h.jsonl"),
         progress=slow)
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_scan_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Killed without warning once a shard is finished; the finished one is not read again, nor are workers left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)
    write_ledger("L.json", ledger)
    corpus = write(Path("c"), documents(ledger))
    run(ledger, corpus, Path("calm.jsonl"))
    Path("killed.py").write_text(KILLED, encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "killed.py", str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdout.read() is not None  # ends only when every worker is gone
    child.stdout.close()
    assert not Path("h.jsonl").exists()
    kept = sorted(units_folder(Path("h.jsonl")).glob("unit-*.part"))
    assert kept
    before = [path.stat().st_mtime_ns for path in kept]
    time.sleep(0.01)
    result = run(ledger, corpus, Path("h.jsonl"))
    assert 0 < result.n_scanned < result.n_bytes
    assert Path("h.jsonl").read_bytes() == Path("calm.jsonl").read_bytes()
    assert len(before) < 3


def test_a_damaged_shard_is_named_the_rest_is_kept_and_mending_it_is_enough(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)
    corpus = write(tmp_path / "c", documents(ledger))
    sound = gzip.compress((corpus / "s1.jsonl").read_bytes())
    (corpus / "s1.jsonl").unlink()
    (corpus / "s1.jsonl.gz").write_bytes(sound[: len(sound) // 2])
    out = tmp_path / "h.jsonl"
    with pytest.raises(
        DataError,
        match=r"1 record or file could not be read.*\n- .*s1.jsonl.gz is cut off(.|\n)*kept in .*h.jsonl.parts",
    ):
        run(ledger, corpus, out)
    assert not out.exists()
    (corpus / "s1.jsonl.gz").write_bytes(sound)
    result = run(ledger, corpus, out)
    assert result.n_scanned == len(sound)
    assert len(hits(out)) == 48


def test_what_cannot_be_read_is_counted_where_it_may_be_left_out(tmp_path: Path, ledger: Ledger) -> None:
    corpus = write(tmp_path / "c", documents(ledger))
    whole = (corpus / "s1.jsonl").read_bytes()
    (corpus / "s1.jsonl").unlink()
    (corpus / "s1.jsonl.gz").write_bytes(gzip.compress(whole)[:-9])
    with (corpus / "s2.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"id": "x", "text": \n')
    result = run(ledger, corpus, tmp_path / "h.jsonl", skip_bad=True)
    assert result.n_bad == 2
    assert "s1.jsonl.gz is cut off" in result.bad[0]
    assert result.bad[1].endswith("s2.jsonl, line 14: malformed JSON: Expecting value at column 21")
    assert {Path(str(row["shard"])).name for row in hits(tmp_path / "h.jsonl")} == {"s0.jsonl", "s2.jsonl"}
    assert result.n_texts == 27


def test_a_bad_line_of_a_range_has_its_number_in_the_file(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.traps.scan.shards, "_RANGE", 50)
    rows = ['{"text": "a b c"}'] * 20
    rows[16] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match="a.jsonl, line 17: malformed JSON"):
        run(ledger, tmp_path / "a.jsonl")


def test_a_corpus_without_texts_is_no_answer(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "a.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no text in field 'text', so nothing was looked through"):
        run(ledger, tmp_path / "a.jsonl")


@pytest.fixture
def cut_off(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The corpus c, and h.jsonl.parts of a scan that did not finish its last shard, which is sound now."""
    monkeypatch.setattr(audit.traps.scan.shards, "_TOGETHER", 1)
    corpus = write(tmp_path / "c", documents(ledger))
    (corpus / "s3.jsonl").write_text("{\n")
    with pytest.raises(DataError):
        run(ledger, corpus, tmp_path / "h.jsonl")
    (corpus / "s3.jsonl").write_text('{"text": "x"}\n')
    return corpus


def test_what_another_scan_finished_is_not_thrown_away_unasked(tmp_path: Path, ledger: Ledger, cut_off: Path) -> None:
    out = tmp_path / "h.jsonl"
    kept = sorted(units_folder(out).iterdir())
    traps = assign(random_words(WORDS.words, DESIGN, seed=12).candidates, DESIGN, seed=12)
    other = make_ledger(traps, design=DESIGN, plan=DetectionPlan(primary="loss"), seed=12, drawn_with=WORDS)
    elsewhere = write(tmp_path / "d", documents(ledger))
    refused = [
        (other, cut_off, {}, f"- commitment of the ledger: '{ledger.commitment()}', here '{other.commitment()}'\n"),
        (ledger, cut_off, {"loose": True}, "- --loose: False, here True\n"),
        (ledger, cut_off, {"id_field": "id"}, "- --id-field: none, here 'id'\n"),
        (ledger, elsewhere, {}, f"- the corpus: ['{cut_off}'], here ['{elsewhere}']\n"),
        (ledger, cut_off / "s0.jsonl", {}, f"- the corpus: ['{cut_off}'], here ['{cut_off}/s0.jsonl']\n"),
    ]
    for whose, corpus, how, difference in refused:
        with pytest.raises(InputError) as error:
            run(whose, corpus, out, **how)
        assert str(error.value).startswith(f"{out}.parts holds what another scan finished:\n- ")
        assert difference in str(error.value)
        assert str(error.value).count("\n- ") == 1
        assert "another --out, or throw the old away with --no-resume" in str(error.value)
        assert sorted(units_folder(out).iterdir()) == kept
    result = scan(other, plan_corpus([cut_off]), plan_of(other), out=out, restart=True)
    assert result.n_scanned == result.n_bytes
    assert not units_folder(out).exists()


def test_the_same_scan_goes_on_with_more_files_and_with_bad_ones_left_out(
    tmp_path: Path, ledger: Ledger, cut_off: Path
) -> None:
    out = tmp_path / "h.jsonl"
    (cut_off / "s3.jsonl").write_text("{\n")
    more = tmp_path / "more.jsonl"
    more.write_text('{"text": "xyz"}\n')
    result = scan(ledger, plan_corpus([cut_off, more]), plan_of(ledger, skip_bad=True), out=out)
    assert result.n_scanned == more.stat().st_size + (cut_off / "s3.jsonl").stat().st_size
    assert (result.n_bad, len(hits(out))) == (1, 48)


@pytest.mark.parametrize("mark", ["{", "[]", '{"asked": [], "corpus": []}', "{}"])
def test_units_whose_mark_is_damaged_are_not_thrown_away_either(
    tmp_path: Path, ledger: Ledger, cut_off: Path, mark: str
) -> None:
    out = tmp_path / "h.jsonl"
    (units_folder(out) / "palimpsest-scan.json").write_text(mark)
    with pytest.raises(InputError, match=r"of what it was cannot be told: .*palimpsest-scan.json is damaged"):
        run(ledger, cut_off, out)


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("mode", ["visible", "hidden"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_planted_is_found_in_every_format(tmp_path: Path, name: str, mode: str, packed: bool) -> None:
    """Traps with every sign that a format escapes; of HTML also those in hidden elements."""
    words = "the cat sat on the mat and ran over the hill again"
    source = tmp_path / name
    rows = {"a.html": f"<!-- & --><h1>The</h1><p>{words}</p>", "a.jsonl": json.dumps({"text": words})}
    source.write_text(rows.get(name, f"text\n{words}\n"), encoding="utf-8")
    done = planted(source, planting(html=mode))
    corpus = done.out
    if packed:
        corpus = tmp_path / f"packed-{name}.gz"
        corpus.write_bytes(gzip.compress(done.out.read_bytes()))
    run(LEDGER, corpus, tmp_path / "h.jsonl")
    found = Counter(str(row["trap_id"]) for row in hits(tmp_path / "h.jsonl"))
    assert found == {trap.id: 2 for trap in LEDGER.traps if trap.arm == "member"}


def test_a_decoy_anywhere_in_a_page_is_found_at_its_place_in_the_resolved_source(
    tmp_path: Path, ledger: Ledger
) -> None:
    one, other, third = [trap for trap in ledger.traps if trap.arm == "decoy"][:3]
    letters = other.text.encode("ascii", "xmlcharrefreplace").decode()
    broken = third.text.replace(" ", " <b>", 1)
    source = f'<meta content="&lt;{one.text}">&amp;<!-- {letters} --><p>{broken}</b></p>'
    (tmp_path / "a.html").write_text(source, encoding="utf-8")
    result = run(ledger, tmp_path / "a.html", tmp_path / "h.jsonl")
    rows = hits(tmp_path / "h.jsonl")
    assert [(row["trap_id"], row["document"]) for row in rows] == [
        (one.id, str(tmp_path / "a.html")),
        (other.id, str(tmp_path / "a.html")),
    ]
    for row, trap in zip(rows, (one, other), strict=True):
        assert html.unescape(source)[row["start"] : row["end"]] == trap.text  # type: ignore[misc]
    assert [leak.trap_id for leak in result.leaks] == [one.id, other.id]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    corpus = write(tmp_path / "c", documents(ledger))
    theirs = tmp_path / "h.jsonl.parts"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already and not from a scan"):
        run(ledger, corpus, tmp_path / "h.jsonl")
    assert [path.name for path in theirs.iterdir()] == ["thesis.txt"]


def test_a_distance_at_which_anything_matches_is_refused(tmp_path: Path, ledger: Ledger, tokenizer: str) -> None:
    corpus = write(tmp_path / "c", documents(ledger))
    made = scan_tokens.usable_tokenizer(tokenizer)
    shortest = min(len(made.encode(trap.text).ids) for trap in ledger.traps)
    most = (shortest - 1) // 2
    with pytest.raises(
        InputError, match=f"has {shortest} tokens of this tokenizer.* Give --max-distance {most} or less"
    ):
        run(ledger, corpus, max_distance=most + 1, tokenizer=tokenizer)
    assert run(ledger, corpus, max_distance=most, tokenizer=tokenizer).n_texts == 40


def test_control_strings_in_a_corpus_are_read_as_text() -> None:
    """A "</s>" in a text must not become one token, which would move distances."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False)
    )
    used = scan_tokens.usable_tokenizer(made.to_str())
    assert len(used.encode("</s>").ids) == 4


def test_half_of_a_surrogate_pair_stops_nothing(tmp_path: Path, ledger: Ledger, tokenizer: str) -> None:
    member = next(trap for trap in ledger.traps if trap.n_rep == 1)
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "\ud83e", "text": f"\ud83e {member.text} \udd8a"}))
    result = run(ledger, tmp_path / "a.jsonl", tmp_path / "h.jsonl", max_distance=3, tokenizer=tokenizer)
    assert result.arms[0].exact == 1
    assert hits(tmp_path / "h.jsonl")[0]["start"] == 2


def test_a_plan_finds_the_same_whatever_else_is_looked_for(tmp_path: Path, ledger: Ledger) -> None:
    """One trap alone against all together: hits of one trap do not depend on the others."""
    corpus = write(tmp_path / "c", documents(ledger))
    (unit,) = plan_corpus([corpus]).units
    plan = plan_of(ledger)
    together = scan_units.Scanner(plan).scan(unit).hits
    for place, trap in enumerate(ledger.traps):
        alone = scan_units.Scanner(replace(plan, trap_ids=(trap.id,), trap_texts=(trap.text,))).scan(unit).hits
        own = [(hit.part, hit.line, hit.start) for hit in together if hit.trap == place]
        assert [(hit.part, hit.line, hit.start) for hit in alone] == own

"""``palimpsest traps simulate``: from a ledger and planted documents to what is left, and every refusal."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.traps.survival.documents
import audit.traps.survival.survival
from audit.text.tables import read_parquet
from tests.cli.conftest import Call

Refused = Callable[..., str]
SIMULATE = ["traps", "simulate", "L.json", "docs.jsonl", "--quiet"]


def prose(seed: int, n_words: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(n_words))


def write(path: str, texts: list[str], field: str = "text") -> None:
    rows = [json.dumps({"id": f"d{place}", field: text}) for place, text in enumerate(texts)]
    Path(path).write_text("".join(row + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def traps(call: Call) -> list[dict[str, Any]]:
    """Members of 60 words, one planted once and one three times, and five decoys; ``L.json`` and ``docs.jsonl``."""
    words = [f"{a}{b}{c}" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"]
    Path("w.txt").write_text("\n".join(words))
    flags = [
        "--primary",
        "loss",
        "--lengths",
        "60",
        "--repetitions",
        "1,3",
        "--members",
        "1",
        "--decoys",
        "5",
        "--seed",
        "5",
        "--quiet",
    ]
    assert call("traps", "generate", "--words", "w.txt", *flags, "--max-jaccard", "0.5", "--out", "L.json").code == 0
    found: list[dict[str, Any]] = json.loads(Path("L.json").read_text())["traps"]
    texts = []
    for place, trap in enumerate(found):
        for copy in range(trap["n_rep"]):
            seed = 10 * place + copy
            texts.append(f"{prose(seed, 150)} {trap['text']} {prose(1000 + seed, 150)}")
    write("docs.jsonl", texts)
    return found


def member(traps: list[dict[str, Any]], n_rep: int) -> dict[str, Any]:
    return next(trap for trap in traps if trap["n_rep"] == n_rep)


def test_what_published_filters_leave_is_told_by_arm(call: Call, traps: list[dict[str, Any]]) -> None:
    """The trap of three copies loses all of them to the 50-word spans; the single copy stays."""
    code, out, err = call(*SIMULATE)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Spans of 50 words."
    assert lines[2].split()[:4] == ["planted", "4", "4", "0"]
    assert lines[3].split()[:5] == ["exact", "4", "1", "0", "50.0%"]
    assert any(line.startswith("n_rep 1 ") and "100.0%" in line for line in lines)
    assert any(line.startswith("n_rep 3 ") and "0.0%" in line for line in lines)
    assert "not of any company's pipeline" in lines[-1]


def test_the_result_is_written_as_json_or_by_trap(call: Call, traps: list[dict[str, Any]]) -> None:
    assert call(*SIMULATE, "--out", "r.json").code == 0
    code, out, _ = call(*SIMULATE, "--out", "r.parquet", "--json")
    assert code == 0
    record = json.loads(Path("r.json").read_text())
    assert json.loads(out) == record
    assert record["tokens"] == "words"
    assert (record["documents"]["n"], record["decoys_in_documents"]) == (4, 0)
    assert [stage["stage"] for stage in record["stages"]] == ["exact", "minhash", "repetition"]
    last = {trap["trap_id"]: trap["copies"][-1]["exact"] for trap in record["traps"]}
    assert last == {member(traps, 1)["id"]: 1, member(traps, 3)["id"]: 0}
    rows = read_parquet("r.parquet").to_pylist()
    assert [row["exact"] for row in rows if row["trap_id"] == member(traps, 3)["id"]] == [3, 0, 0, 0]


def test_no_decoy_is_in_any_output_but_one_that_was_planted_is_warned_of(
    call: Call, traps: list[dict[str, Any]]
) -> None:
    decoys = [trap for trap in traps if trap["arm"] == "decoy"]
    texts = [json.loads(line)["text"] for line in Path("docs.jsonl").read_text().splitlines()]
    write("docs.jsonl", [*texts, f"{prose(7, 50)} {decoys[0]['text']}"])
    code, out, err = call(*SIMULATE, "--json", "--out", "r.json")
    assert code == 0
    assert "note: decoys found in the documents: 1. A decoy that is published is no control" in err
    assert json.loads(out)["decoys_in_documents"] == 1
    for decoy in decoys:
        for told in (out, err, Path("r.json").read_text()):
            assert decoy["id"] not in told
            assert decoy["text"] not in told


def test_fuzzy_variants_are_followed_apart(call: Call, traps: list[dict[str, Any]], llama: Path) -> None:
    """The exact copies fall to deduplication; variants with two words changed, evenly, stay."""
    trap = member(traps, 3)
    words = trap["text"].split()
    variants = [" ".join([*words[:20], f"x{v}", *words[21:40], f"y{v}", *words[41:]]) for v in range(4)]
    write("v.jsonl", variants)
    rows = [json.dumps({"trap_id": trap["id"], "text": text}) for text in variants]
    Path("v.jsonl").write_text("\n".join(rows))
    texts = [json.loads(line)["text"] for line in Path("docs.jsonl").read_text().splitlines()]
    write("docs.jsonl", [*texts, *(f"{prose(500 + v, 80)} {text}" for v, text in enumerate(variants))])
    code, out, _ = call(*SIMULATE, "--variants", "v.jsonl", "--json")
    assert code == 0
    record = json.loads(out)
    copies = next(one["copies"] for one in record["traps"] if one["trap_id"] == trap["id"])
    assert copies[0] == {"after": "planted", "exact": 3, "fuzzy": 4}
    assert copies[-1] == {"after": "repetition", "exact": 0, "fuzzy": 4}


def test_what_fuzz_writes_simulate_reads(call: Call, traps: list[dict[str, Any]], llama: Path) -> None:
    flags = [
        "--random",
        "--tokenizer",
        llama,
        "--replacements",
        "3",
        "--positions",
        "spread",
        "--n-dup",
        "3",
        "--quiet",
    ]
    for name in ("v.jsonl", "v.parquet"):
        assert call("traps", "fuzz", "L.json", *flags, "--out", name).code == 0
        rows = read_parquet(name).to_pylist() if name.endswith("parquet") else []
        rows = rows or [json.loads(line) for line in Path(name).read_text().splitlines()]
        write("docs.jsonl", [f"{prose(place, 90)} {row['text']}" for place, row in enumerate(rows)])
        code, out, err = call(*SIMULATE, "--variants", name, "--json")
        assert code == 0
        assert sum(trap["copies"][0]["fuzzy"] for trap in json.loads(out)["traps"]) == 4
        assert "of 2 members fewer exact copies stand in the documents than the ledger deals" in err


def test_spans_are_cut_by_a_tokenizer_where_one_is_given(call: Call, traps: list[dict[str, Any]], llama: Path) -> None:
    code, out, _ = call(*SIMULATE, "--tokenizer", llama, "--stages", "exact")
    assert code == 0
    assert out.startswith(f"Spans of 50 tokens of {llama}.")
    code, out, _ = call(*SIMULATE, "--stages", "exact", "--ngram", "61", "--json")
    assert code == 0
    assert json.loads(out)["shares"][0]["left"]["exact"] == 4  # 60 words are no span of 61


def test_perplexity_needs_a_model_and_a_percentile(call: Call, traps: list[dict[str, Any]], llama: Path) -> None:
    flags = ["--model", llama, "--perplexity-percentile", "75", "--device", "cpu", "--json"]
    code, out, _ = call(*SIMULATE, *flags, "--stages", "perplexity")
    assert code == 0
    stage = json.loads(out)["stages"][0]
    assert stage["dropped"] == {"perplexity above the percentile": 1}
    assert "no sourced measurement" in stage["source"]
    code, out, _ = call(*SIMULATE, *flags)
    assert [one["stage"] for one in json.loads(out)["stages"]] == ["exact", "minhash", "repetition", "perplexity"]


def mixed(traps: list[dict[str, Any]]) -> None:
    """The four documents, each in a format of its own, in the folder ``in``; the text of one has a sign to escape."""
    texts = [json.loads(line)["text"] for line in Path("docs.jsonl").read_text().splitlines()]
    Path("in/deep").mkdir(parents=True)
    write("in/a.jsonl", texts[:1])
    Path("in/b.md").write_text(texts[1])
    Path("in/deep/c.html").write_text(f"<p>{texts[2].replace(' ', ' &amp; ', 1)}</p>")
    Path("in/d.txt").write_text(texts[3])


def test_a_mixed_folder_is_read_as_it_was_planted(call: Call, traps: list[dict[str, Any]]) -> None:
    mixed(traps)
    with Path("in/a.jsonl").open("a") as stream:
        stream.write('{"text": null}\n{"text": " "}\n')
    Path("in/e.pdf").write_text("x")
    Path("in/.f.txt").write_text("x")
    code, out, err = call("traps", "simulate", "L.json", "in", "--quiet", "--json")
    assert code == 0
    assert err.splitlines() == [
        "note: 1 path left out, of a kind that is not read here (1 .pdf): in/e.pdf",
        "note: 1 path left out, hidden: in/.f.txt",
        "note: 2 records without a text left out.",
        "note: the filters saw the source of 1 HTML file, tags and all. A pipeline takes the text out first, which is "
        "not simulated: hidden copies may be lost there.",
    ]
    record = json.loads(out)
    names = ["a.jsonl", "b.md", "d.txt", "deep/c.html"]
    lines = "".join(f"{hashlib.sha256(Path('in', name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert record["documents"] == {
        "source": "in",
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "n": 4,
        "n_without_text": 2,
        "left_out": {"others": ["in/e.pdf"], "hidden": ["in/.f.txt"], "links": []},
    }
    copies = {trap["trap_id"]: trap["copies"][0]["exact"] for trap in record["traps"]}
    assert copies == {member(traps, 1)["id"]: 1, member(traps, 3)["id"]: 3}


def test_what_inject_wrote_is_read_whatever_the_format(call: Call, traps: list[dict[str, Any]]) -> None:
    Path("in").mkdir()
    for seed, name in enumerate(("a.txt", "b.md", "c.html", "d.tsv")):
        text = prose(seed, 300)
        Path("in", name).write_text(f"id\ttext\n{seed}\t{text}\n" if name == "d.tsv" else f"{text}\n")
    inject = ["--placement", "scattered", "--html", "hidden", "--out", "out", "--placements", "P.json", "--quiet"]
    assert call("traps", "inject", "L.json", "in", *inject).code == 0
    record = json.loads(call("traps", "simulate", "L.json", "out", "--quiet", "--json").out)
    assert [trap["copies"][0]["exact"] for trap in record["traps"]] == [
        trap["n_rep"] for trap in traps if trap["n_rep"]
    ]
    assert record["decoys_in_documents"] == 0


@pytest.mark.parametrize("name", ["docs.jsonl.gz", "docs.json", "in", "docs.csv", "docs.md"])
def test_other_documents_are_read_too(call: Call, traps: list[dict[str, Any]], name: str) -> None:
    """What is not planted in: packed, .json, a folder with packed .txt; and single files that are."""
    rows = [json.loads(line) for line in Path("docs.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in rows]
    Path("in").mkdir()
    Path("in/a.txt").write_text(texts[0])
    Path("in/b.TXT.gz").write_bytes(gzip.compress("\n".join(texts[1:]).encode()))
    Path("in/c.md").write_text("x")
    Path("docs.jsonl.gz").write_bytes(gzip.compress(Path("docs.jsonl").read_bytes()))
    Path("docs.json").write_text(json.dumps(rows))
    Path("docs.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    Path("docs.md").write_text("\n\n".join(texts))
    code, out, err = call("traps", "simulate", "L.json", name, "--quiet", "--json")
    assert code == 0
    copies = {trap["trap_id"]: trap["copies"][0]["exact"] for trap in json.loads(out)["traps"]}
    assert copies == {member(traps, 1)["id"]: 1, member(traps, 3)["id"]: 3}
    told = "note: 1 path left out, of a kind that is not read here (1 .md): in/c.md\n"
    assert err == (told if name == "in" else "")


def test_documents_that_change_while_they_are_read_are_refused(
    refused: Refused, traps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter([1, 2])
    monkeypatch.setattr(audit.traps.survival.documents, "states", lambda _: next(states))
    assert "docs.jsonl changed while it was read." in refused(*SIMULATE)


def test_documents_without_a_text_are_refused(refused: Refused, traps: list[dict[str, Any]]) -> None:
    Path("docs.jsonl").write_text('{"text": null}\n')
    assert "docs.jsonl holds no text. Give the planted documents." in refused(*SIMULATE)
    Path("in").mkdir()
    Path("in/a.pdf").write_text("x")
    assert "in holds no file" in refused("traps", "simulate", "L.json", "in", "--quiet")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model", "M"], "--model and --perplexity-percentile go together; give both, or neither."),
        (["--perplexity-percentile", "95"], "--model and --perplexity-percentile go together"),
        (["--stages", "exact,dedup"], "--stages has 'dedup'; expected some of exact,minhash,repetition,perplexity"),
        (["--stages", "perplexity"], "the filter perplexity needs --model and --perplexity-percentile."),
        (
            ["--stages", "exact", "--model", "M", "--perplexity-percentile", "9"],
            "the filter perplexity is not among --stages.",
        ),
        (["--stages", "exact,exact"], "expected distinct names of exact, minhash, repetition, perplexity"),
        (["--stages", "minhash", "--tokenizer", "M"], "--tokenizer goes with the filter exact only; leave it out."),
        (["--keep", "last"], "keep is 'last'; expected one of none, first"),
        (["--ngram", "0"], "ngram is 0; expected 1 or more"),
        (["--out", "r.csv"], "--out r.csv ends in .csv; expected .json or .parquet."),
        (["--variants", "v.csv"], "--variants v.csv ends in .csv; expected .jsonl or .parquet."),
        (["--variants", "v.jsonl"], "there is no 'v.jsonl'"),
        (["--field", "body"], "docs.jsonl has no field 'body'"),
    ],
)
def test_wrong_flags_are_refused(refused: Refused, traps: list[dict[str, Any]], flags: list[str], says: str) -> None:
    assert says in refused(*SIMULATE, *flags)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"trap_id": "trap-x", "text": "a"}\n', "line 1: the ledger has no member 'trap-x'."),
        ('{"trap_id": 3, "text": "a"}\n', "line 1: expected the texts trap_id and text, neither of them blank."),
        ("{\n", "v.jsonl, line 1: malformed JSON"),
        ("", "v.jsonl holds no variants."),
    ],
)
def test_wrong_variants_are_named(refused: Refused, traps: list[dict[str, Any]], content: str, says: str) -> None:
    Path("v.jsonl").write_text(content)
    assert says in refused(*SIMULATE, "--variants", "v.jsonl")


def test_variants_of_a_decoy_are_refused(refused: Refused, traps: list[dict[str, Any]]) -> None:
    decoy = next(trap for trap in traps if trap["arm"] == "decoy")
    Path("v.jsonl").write_text(json.dumps({"trap_id": decoy["id"], "text": "a"}))
    assert "the ledger has no member" in refused(*SIMULATE, "--variants", "v.jsonl")


def test_nothing_is_overwritten_and_an_interruption_writes_nothing(
    call: Call, refused: Refused, traps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.json").write_text("mine")
    assert "r.json is there already" in refused(*SIMULATE, "--out", "r.json")
    assert Path("r.json").read_text() == "mine"

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.traps.survival.survival, "simulate", interrupt)
    code, _, err = call(*SIMULATE, "--out", "s.json")
    assert code == 3
    assert "interrupted; nothing was written" in err
    assert not Path("s.json").exists()

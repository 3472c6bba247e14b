"""``palimpsest traps fuzz``: variants of members alone, repeatable, never over a file, and every refusal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import audit.traps.fuzzy.variants
from audit.text.tables import read_parquet
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call
from tests.traps.masked_checkpoint import build_masked

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("generator"), "llama", letters_only=True)


@pytest.fixture
def ledger(call: Call, tmp_path: Path) -> Path:
    """Six traps of random words, two of them members: ``L.json``."""
    words = [f"{a}{b}{c}" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"]
    Path("w.txt").write_text("\n".join(words))
    flags = [
        "--primary",
        "loss",
        "--lengths",
        "12",
        "--repetitions",
        "1",
        "--members",
        "2",
        "--decoys",
        "4",
        "--seed",
        "5",
        "--quiet",
    ]
    assert call("traps", "generate", "--words", "w.txt", *flags, "--out", "L.json").code == 0
    return tmp_path / "L.json"


def traps_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"member": [], "decoy": []}
    for trap in json.loads(path.read_text())["traps"]:
        found[trap["arm"]].append(trap)
    return found


def rows_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_members_get_their_variants_and_decoys_never_do(call: Call, ledger: Path, llama: Path) -> None:
    flags = ["--model", llama, "--replacements", "3", "--n-dup", "4", "--device", "cpu", "--quiet"]
    code, out, err = call("traps", "fuzz", "L.json", *flags, "--out", "v.jsonl")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [
        "6 variants of 2 traps -> v.jsonl",
        "`traps inject --variants` plants them beside one exact copy of their trap.",
    ]
    rows, traps = rows_of("v.jsonl"), traps_of(ledger)
    assert Counter(row["trap_id"] for row in rows) == {trap["id"]: 3 for trap in traps["member"]}
    written = Path("v.jsonl").read_text()
    for decoy in traps["decoy"]:
        assert decoy["id"] not in written
        assert decoy["text"] not in written
    texts = {trap["id"]: trap["text"] for trap in traps["member"]}
    for row in rows:
        assert row["text"] != texts[row["trap_id"]]
        assert (row["kind"], row["positions"], row["n_replaced"], row["seed"]) == ("replace", "fresh", 3, 0)
        assert len(row["places"]) == 3
        assert 1 <= row["distance"] <= 3
        assert (row["ngram"], row["piece"], row["tau"]) == (None, None, None)


def test_the_same_seed_gives_the_same_file_and_another_seed_others(call: Call, ledger: Path, llama: Path) -> None:
    flags = ["--random", "--tokenizer", llama, "--replacements", "3", "--quiet"]
    for name, seed in (("a.jsonl", 7), ("b.jsonl", 7), ("c.jsonl", 8)):
        assert call("traps", "fuzz", ledger, *flags, "--seed", seed, "--out", name).code == 0
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()
    assert not {row["text"] for row in rows_of("a.jsonl")} & {row["text"] for row in rows_of("c.jsonl")}


def test_the_other_kinds_need_a_tokenizer_alone(call: Call, ledger: Path, llama: Path) -> None:
    kinds = {
        "insert": ["--ngram", "9", "--insertions", "2"],
        "shuffle": ["--ngram", "4", "--tau", "0.3"],
        "scatter": ["--ngram", "12"],
    }
    for kind, flags in kinds.items():
        flags = ["--kind", kind, "--tokenizer", str(llama), *flags, "--n-dup", "3", "--quiet", "--json"]
        code, out, _ = call("traps", "fuzz", "L.json", *flags, "--out", f"{kind}.parquet")
        assert code == 0, kind
        facts = json.loads(out)
        rows = read_parquet(f"{kind}.parquet").to_pylist()
        assert (facts["n_variants"], facts["n_traps"], facts["failed"]) == (len(rows), 2, {})
        assert {row["variant"] for row in rows} == {1, 2}
        assert {row["kind"] for row in rows} == {kind}
        assert {row["piece"] is None for row in rows} == {kind != "scatter"}


def test_pieces_are_not_promised_to_be_planted_and_are_refused_there(
    call: Call, refused: Refused, ledger: Path, llama: Path
) -> None:
    flags = ["--kind", "scatter", "--tokenizer", llama, "--ngram", "12", "--n-dup", "2", "--quiet"]
    out = call("traps", "fuzz", "L.json", *flags, "--out", "v.parquet").out
    assert "`traps inject` plants no pieces" in out
    Path("a.txt").write_text("one two three four")
    inject = ["traps", "inject", "L.json", "a.txt", "--placement", "scattered", "--out", "b.txt", "--placements"]
    message = refused(*inject, "P.json", "--variants", "v.parquet", "--quiet")
    assert "v.parquet, row 1: this is a piece of a scattered trap" in message
    assert not Path("b.txt").exists()


@pytest.fixture
def bytes_only(tmp_path: Path) -> Path:
    """A model whose tokenizer merges nothing."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    folder = build_checkpoint(tmp_path / "bytes", "llama")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


def test_a_model_ledger_is_cut_by_its_generators_own_tokens(call: Call, generator: Path, bytes_only: Path) -> None:
    flags = ["--lengths", "8", "--edges", "1,1000", "--temperatures", "1", "--max-jaccard", "0.9", "--quiet"]
    flags += ["--repetitions", "1", "--members", "2", "--decoys", "3", "--seed", "3", "--device", "cpu"]
    assert call("traps", "generate", "--model", generator, *flags, "--out", "M.json").code == 0
    few = ["--replacements", "2", "--n-dup", "3", "--device", "cpu", "--quiet", "--json"]
    code, out, err = call("traps", "fuzz", "M.json", "--model", generator, *few, "--out", "own.jsonl")
    assert (code, err, json.loads(out)["n_cut_otherwise"]) == (0, "", 0)
    for row in rows_of("own.jsonl"):
        assert len(row["places"]) == 2
        assert max(row["places"]) < 8
    few = ["--random", "--tokenizer", str(bytes_only), *few]
    code, out, err = call("traps", "fuzz", "M.json", *few, "--out", "other.jsonl")
    assert (code, json.loads(out)["n_cut_otherwise"]) == (0, 2)
    assert "note: 2 traps cut otherwise than by the generator's tokenizer" in err


def test_a_masked_model_proposes_where_it_is_called_one(
    call: Call, refused: Refused, ledger: Path, llama: Path, tmp_path: Path
) -> None:
    roberta = build_masked(tmp_path / "roberta")
    flags = ["--masked", "--replacements", "3", "--n-dup", "3", "--device", "cpu", "--quiet"]
    flags += ["--top-k", "40", "--tokenizer", str(llama)]
    assert call("traps", "fuzz", "L.json", "--model", roberta, *flags, "--out", "v.jsonl").code == 0
    assert len(rows_of("v.jsonl")) == 4
    code, out, err = call("traps", "fuzz", "L.json", "--model", llama, *flags, "--out", "w.jsonl")
    assert (code, out) == (2, "")
    assert "cannot be loaded as a masked language model" in err
    err = refused(
        "traps", "fuzz", "L.json", "--model", roberta, "--top-k", "0", "--out", "w.jsonl", "--quiet", "--masked"
    )
    assert "top_k is 0; expected 1 or more" in err


def test_a_trap_that_cannot_be_varied_is_named_and_the_others_are_written(
    call: Call, ledger: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = traps_of(ledger)["member"][0]["id"]
    whole = audit.traps.fuzzy.variants._refuse_unfit

    def refuse(name: str, *arguments: Any) -> None:
        whole(name, *arguments)
        if first in name:
            raise audit.traps.fuzzy.variants.InputError(f"{name}: not this one.")

    monkeypatch.setattr(audit.traps.fuzzy.variants, "_refuse_unfit", refuse)
    flags = ["--random", "--tokenizer", llama, "--replacements", "3", "--quiet", "--json"]
    code, out, err = call("traps", "fuzz", "L.json", *flags, "--out", "v.jsonl")
    assert code == 0
    assert f"note: 1 trap left without variants; first, {first}: trap '{first}': not this one." in err
    assert list(json.loads(out)["failed"]) == [first]
    assert first not in Path("v.jsonl").read_text()


def test_no_variant_at_all_is_an_error_and_writes_nothing(refused: Refused, ledger: Path, llama: Path) -> None:
    err = refused(
        "traps",
        "fuzz",
        "L.json",
        "--random",
        "--tokenizer",
        llama,
        "--replacements",
        "999",
        "--out",
        "v.jsonl",
        "--quiet",
    )
    assert "no variant could be made of any of 2 members. trap 'trap-" in err
    assert "fewer than the 999 to be replaced" in err
    assert not Path("v.jsonl").exists()


def test_an_interruption_writes_nothing_and_names_the_seed(
    call: Call, ledger: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.traps.fuzzy.variants, "make_variants", interrupt)
    flags = ["--random", "--tokenizer", llama, "--seed", "9", "--out", "v.jsonl", "--quiet"]
    code, out, err = call("traps", "fuzz", "L.json", *flags)
    assert (code, out) == (3, "")
    assert "interrupted; nothing was written. The same command with --seed 9 makes the same variants." in err
    assert not Path("v.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "replacements come from --model FOLDER or from --random; neither was given."),
        (["--random", "--model", "M"], "or from --random; both were given."),
        (["--random"], "--random needs --tokenizer FOLDER"),
        (["--random", "--tokenizer", "M", "--top-k", "5"], "--top-k does not go with --random"),
        (["--random", "--tokenizer", "M", "--masked"], "--masked goes with --model; leave it out."),
        (["--kind", "swap"], "--kind is 'swap'; expected one of replace, insert, shuffle, scatter."),
        (["--model", "M", "--ngram", "5"], "--ngram goes with --kind insert or shuffle or scatter only; leave it out."),
        (["--kind", "insert", "--tau", "0.3", "--tokenizer", "M"], "--tau goes with --kind shuffle only"),
        (["--kind", "insert", "--masked", "--tokenizer", "M"], "--masked goes with --kind replace only"),
        (["--kind", "scatter"], "--kind scatter needs a tokenizer and no model; give --tokenizer FOLDER alone."),
        (
            ["--kind", "shuffle", "--tau", "0.333", "--tokenizer", "M"],
            "tau is 0.333; expected 0.01 to 1 in steps of 0.01",
        ),
        (["--model", "M", "--positions", "even"], "positions is 'even'; expected one of fresh, same, spread, segments"),
        (["--model", "M", "--replacements", "0"], "replacements is 0; expected 1 or more"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(refused: Refused, ledger: Path, flags: list[str], says: str) -> None:
    assert says in refused("traps", "fuzz", "L.json", *flags, "--out", "v.jsonl")


def test_wrong_files_are_named_and_nothing_is_overwritten(refused: Refused, ledger: Path, llama: Path) -> None:
    flags = ["--random", "--tokenizer", llama, "--quiet"]
    Path("v.jsonl").write_text("mine")
    assert "v.jsonl is there already" in refused("traps", "fuzz", "L.json", *flags, "--out", "v.jsonl")
    assert Path("v.jsonl").read_text() == "mine"
    assert "--out v.txt ends in .txt; expected .jsonl or .parquet." in refused(
        "traps", "fuzz", "L.json", *flags, "--out", "v.txt"
    )
    assert "there is no 'K.json'" in refused("traps", "fuzz", "K.json", *flags, "--out", "w.jsonl")
    assert "no folder nowhere/model" in refused(
        "traps", "fuzz", "L.json", "--model", "nowhere/model/x", "--out", "w.jsonl", "--quiet"
    )
    assert "--tokenizer does not go with a causal --model" in refused(
        "traps", "fuzz", "L.json", "--model", llama, "--tokenizer", llama, "--out", "w.jsonl", "--quiet"
    )

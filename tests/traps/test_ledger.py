from __future__ import annotations

import copy
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audit.text.files
from audit.errors import AuditError, DataError, InputError, StorageError
from audit.lm.load import LanguageModel
from audit.runs.problems import open_models
from audit.text.tables import read_parquet
from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.generate import assign, generate_pool
from audit.traps.ledger.checks import id_of, ledger_problems
from audit.traps.ledger.files import (
    read_file,
    read_ledger,
    refuse_taken,
    write_audit_table,
    write_disclosure,
    write_ledger,
)
from audit.traps.ledger.make import (
    audit_table,
    check_ledger,
    deal,
    disclose,
    draw_seed,
    make_ledger,
    published_table,
    verify_disclosure,
    verify_ledger,
)
from audit.traps.ledger.records import SEED_LIMIT, Disclosure, GeneratorRecord, Ledger
from audit.traps.planting.inject import inject, remove
from audit.traps.table import check_table
from audit.traps.words import WordList, data_watermarks, random_words

SMALL = TrapDesign(
    lengths=(8,),
    perplexity_edges=(1, 1000),
    repetitions=(1, 3),
    members_per_cell=1,
    decoys_per_stratum=2,
    max_jaccard=0.8,
    max_rounds=20,
    samples_per_round=32,
    placement="scattered",
)
PLAN = DetectionPlan(primary="loss", n_draws=999)
WORDS = WordList(tuple(f"{a}{b}{c}é" for a in "bdfgkm" for b in "aeiou" for c in "lmnrst"), "ab" * 32)
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture(scope="module")
def by_model(random_llama: LanguageModel) -> Ledger:
    traps = assign(generate_pool(random_llama, SMALL, seed=7).candidates, SMALL, seed=7)
    return make_ledger(traps, design=SMALL, plan=PLAN, seed=7, drawn_with=random_llama)


@pytest.fixture(scope="module")
def by_words() -> Ledger:
    design = replace(SMALL, lengths=(5, 6), max_jaccard=0.5)
    traps = assign(random_words(WORDS.words, design, seed=2**62 + 1).candidates, design, seed=2**62 + 1)
    return make_ledger(traps, design=design, plan=PLAN, seed=2**62 + 1, drawn_with=WORDS)


@pytest.fixture(scope="module")
def by_hex() -> Ledger:
    design = replace(SMALL, lengths=(16, 32))
    traps = assign(data_watermarks("hex", design, seed=1).candidates, design, seed=1)
    return make_ledger(traps, design=design, plan=PLAN, seed=1, drawn_with="hex")


@pytest.fixture(scope="module")
def by_lottery(by_words: Ledger) -> Ledger:
    return deal(by_words, value="8d61d9100567de44", announced_by="drand, round 4512345", source="L.json")


@pytest.fixture(params=["by_model", "by_words", "by_hex", "by_lottery"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    found: Ledger = request.getfixturevalue(request.param)
    return found


def as_file(value: dict[str, Any]) -> bytes:
    """The layout of `write_ledger`, so that a change of content is not caught by the layout."""
    fields = dict(value)
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in fields.pop("traps"))
    head = "".join(f"  {json.dumps(name)}: {json.dumps(item, ensure_ascii=False)},\n" for name, item in fields.items())
    return f'{{\n{head}  "traps": [\n{rows}\n  ]\n}}\n'.encode()


def variants(value: Any) -> Iterator[Any]:
    """A value with one thing in it changed, for every leaf, key and entry."""
    if isinstance(value, dict):
        for key, item in value.items():
            for other in variants(item):
                yield {**value, key: other}
            yield {name: kept for name, kept in value.items() if name != key}
        yield {**value, "more": 1}
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for other in variants(item):
                yield [*value[:place], other, *value[place + 1 :]]
            yield [*value[:place], *value[place + 1 :]]
            yield [*value[:place], item, *value[place:]]
        if len(value) > 1 and value[0] != value[1]:
            yield [value[1], value[0], *value[2:]]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, float(value), None)
    elif isinstance(value, float):
        yield from (value * (1 + 2**-52), -value, None)
    elif isinstance(value, str):
        yield from (value + "x", value[:-1] + ("0" if value[-1:] != "0" else "1"), value.upper() + "", None)
    else:
        yield from (0, "x", [], {})


def test_what_is_written_is_read_again_and_readable_by_the_owner_alone(tmp_path: Path, ledger: Ledger) -> None:
    before = os.umask(0)
    try:
        write_ledger(tmp_path / "L.json", ledger)
        write_audit_table(tmp_path / "t.parquet", ledger)
    finally:
        os.umask(before)
    for name in ("L.json", "t.parquet"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert read_ledger(tmp_path / "L.json") == ledger
    assert read_file(tmp_path / "L.json") == ledger
    assert (tmp_path / "L.json").read_bytes() == as_file(ledger.model_dump(mode="json"))
    verify_ledger(ledger, ledger.commitment().upper(), source="L.json")


def test_no_record_lets_an_unknown_key_pass() -> None:
    assert open_models(Ledger) == open_models(Disclosure) == []


def test_design_plan_and_generator_are_kept_whole(by_model: Ledger, random_llama: LanguageModel) -> None:
    assert by_model.design.design() == SMALL
    assert by_model.plan.plan() == PLAN
    assert by_model.generator == GeneratorRecord.of(random_llama)
    prints = random_llama.fingerprint
    assert (by_model.generator.weights, by_model.generator.tokenizer) == (prints.weights, prints.tokenizer)
    assert by_model.dealt() == assign(generate_pool(random_llama, SMALL, seed=7).candidates, SMALL, seed=7)


def test_what_a_draw_does_not_use_is_null(by_words: Ledger, by_hex: Ledger) -> None:
    assert by_words.design.perplexity_edges is by_words.design.temperatures is None
    assert by_words.design.max_jaccard == 0.5
    assert by_words.word_list_sha256 == "ab" * 32
    assert by_hex.design.max_jaccard is None
    assert by_hex.alphabet == "hex"
    for trap in by_words.traps + by_hex.traps:
        assert trap.perplexity is trap.bucket is trap.token_ids is None


def test_a_stranger_recomputes_the_commitment_from_the_file_and_the_docstring(tmp_path: Path, ledger: Ledger) -> None:
    write_ledger(tmp_path / "L.json", ledger)
    value = json.loads((tmp_path / "L.json").read_bytes())
    traps, secret = value.pop("traps"), bytes.fromhex(value.pop("secret"))

    def encode(item: Any) -> bytes:
        return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()

    def salt(message: str) -> bytes:
        return hmac.new(secret, message.encode(), "sha256").digest()

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        left = 1
        while left * 2 < len(leaves):
            left *= 2
        return sha(b"\1", root(leaves[:left]), root(leaves[left:]))

    leaves = [sha(b"\0", salt(f"palimpsest.traps.leaf.v1:{i}"), encode(trap)) for i, trap in enumerate(traps)]
    header = sha(b"\2", salt("palimpsest.traps.header.v1"), encode(value))
    assert sha(b"\3", len(traps).to_bytes(8, "big"), root(leaves), header).hex() == ledger.commitment()


def test_two_ledgers_of_the_same_draw_have_other_commitments(by_hex: Ledger) -> None:
    design = by_hex.design.design()
    again = make_ledger(by_hex.dealt(), design=design, plan=PLAN, seed=1, drawn_with="hex")
    assert again.traps == by_hex.traps
    assert again.commitment() != by_hex.commitment()
    assert not set(again.leaves()) & set(by_hex.leaves())


def test_any_changed_field_is_caught(tmp_path: Path, ledger: Ledger) -> None:
    commitment, path = ledger.commitment(), tmp_path / "L.json"
    whole = json.loads(ledger.model_dump_json())
    n_changes = n_read = 0
    for changed in variants(copy.deepcopy(whole)):
        if not isinstance(changed.get("traps"), list) or as_file(changed) == as_file(whole):
            continue
        n_changes += 1
        path.write_bytes(as_file(changed))
        try:
            found = read_ledger(path)
        except AuditError:
            continue
        n_read += 1
        assert not found.traps or found.commitment() != commitment  # by the hashes alone
        with pytest.raises(DataError, match="is not what was committed to"):
            verify_ledger(found, commitment, source="L.json")
    assert n_changes > 200
    assert n_read > 50


@PATIENT
@given(data=st.data())
def test_any_changed_byte_is_caught(tmp_path: Path, by_words: Ledger, data: st.DataObject) -> None:
    raw = bytearray(as_file(by_words.model_dump(mode="json")))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "L.json").write_bytes(raw)
    with pytest.raises(AuditError):
        verify_ledger(read_ledger(tmp_path / "L.json"), by_words.commitment(), source="L.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw + b"\n",
        lambda raw: raw[:-1],
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.replace(b'"seed": ', b'"seed":  ', 1),
        lambda raw: raw.replace(b'  "seed": 1,\n', b'  "seed": 2,\n  "seed": 1,\n'),
        lambda raw: raw.replace(b'"format": "p', b'"format": "\\u0070'),
    ],
    ids=["more", "less", "line ends", "space", "key twice", "escape"],
)
def test_a_file_that_reads_the_same_but_was_changed_is_refused(
    tmp_path: Path, by_hex: Ledger, change: Callable[[bytes], bytes]
) -> None:
    raw = as_file(by_hex.model_dump(mode="json"))
    assert change(raw) != raw
    (tmp_path / "L.json").write_bytes(change(raw))
    with pytest.raises(DataError, match=r"L\.json was changed after it was written: from byte \d+ on it is not as"):
        read_ledger(tmp_path / "L.json")


def with_trap(ledger: Ledger, place: int, **changes: Any) -> Ledger:
    traps = list(ledger.traps)
    traps[place] = traps[place].model_copy(update=changes)
    return ledger.model_copy(update={"traps": tuple(traps)})


def swapped_arms(ledger: Ledger) -> Ledger:
    first = next(place for place, trap in enumerate(ledger.traps) if trap.arm == "member")
    decoy = next(place for place, trap in enumerate(ledger.traps) if trap.arm == "decoy")
    n_rep = ledger.traps[first].n_rep
    return with_trap(with_trap(ledger, first, arm="decoy", n_rep=0), decoy, arm="member", n_rep=n_rep)


def alike(ledger: Ledger) -> Ledger:
    text = ledger.traps[0].text
    text = " ".join(reversed(text.split(" ")))
    return with_trap(ledger, 1, text=text, id=f"trap-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("by_hex", swapped_arms, "2 traps of 8 were not dealt by pool, seed and design: 'trap-"),
        ("by_hex", lambda x: x.model_copy(update={"seed": 2}), "were not dealt by pool, seed and design"),
        (
            "by_hex",
            lambda x: x.model_copy(update={"seed": 2, "packages": {"numpy": "1.0"}}),
            "(it was dealt with numpy '1.0'; this is ",
        ),
        ("by_hex", lambda x: x.model_copy(update={"traps": (*x.traps, x.traps[0])}), "occurs 2 times."),
        (
            "by_hex",
            lambda x: x.model_copy(update={"traps": x.traps[1:]}),
            "stratum '16 characters' holds 3 traps; the design has 4.",
        ),
        ("by_hex", lambda x: x.model_copy(update={"traps": ()}), "stratum '16 characters' holds 0 traps"),
        (
            "by_hex",
            lambda x: x.model_copy(update={"alphabet": None}),
            'the source is "watermark", but alphabet of a draw from watermark is null.',
        ),
        (
            "by_hex",
            lambda x: x.model_copy(update={"word_list_sha256": "ab" * 32}),
            "but word_list_sha256 of a draw from words is given.",
        ),
        ("by_hex", lambda x: with_trap(x, 0, text="other"), "is not named after its text, whose name is trap-"),
        ("by_hex", lambda x: with_trap(x, 0, length=15), "has length 15, and its text has 16."),
        (
            "by_hex",
            lambda x: with_trap(x, 0, stratum="32 characters"),
            "stands in stratum '32 characters' and belongs to '16 characters'.",
        ),
        ("by_hex", lambda x: with_trap(x, 0, perplexity=3.0), "has token ids, perplexity or bucket, and the source is"),
        (
            "by_hex",
            lambda x: with_trap(x, 0, text="q" * 16, id=id_of("q" * 16)),
            "holds characters that are not of the alphabet hex.",
        ),
        (
            "by_hex",
            lambda x: x.model_copy(update={"plan": x.plan.model_copy(update={"primary": "ratio"})}),
            'the primary score is "ratio", and no reference model is fixed for it.',
        ),
        ("by_model", lambda x: with_trap(x, 0, bucket=None), "lacks token ids, perplexity or bucket"),
        ("by_model", lambda x: with_trap(x, 0, perplexity=2000.0), "has perplexity 2000, which is not in its bucket"),
        ("by_model", lambda x: with_trap(x, 0, token_ids=(1, 2)), "has length 8, and its text has 2."),
        (
            "by_model",
            lambda x: with_trap(x, 1, token_ids=x.traps[0].token_ids),
            "are more alike than the design allows (Jaccard above 0.8).",
        ),
        ("by_words", alike, "are more alike than the design allows (Jaccard above 0.5)."),
        (
            "by_hex",
            lambda x: x.model_copy(update={"design": x.design.model_copy(update={"lengths": ()})}),
            "traps: lengths is (); expected distinct numbers of at least 2 tokens.",
        ),
        (
            "by_hex",
            lambda x: x.model_copy(update={"plan": x.plan.model_copy(update={"alpha": 2.0})}),
            "traps: alpha is 2.0; expected a number between 0 and 1.",
        ),
    ],
    ids=range(21),
)
def test_a_ledger_that_does_not_fit_itself_is_refused_even_when_its_commitment_does(
    request: pytest.FixtureRequest, name: str, change: Callable[[Ledger], Ledger], says: str
) -> None:
    good: Ledger = request.getfixturevalue(name)
    assert ledger_problems(good) == []
    bad = change(good)
    assert any(says in problem for problem in ledger_problems(bad)), ledger_problems(bad)
    with pytest.raises(DataError) as caught:
        check_ledger(bad, source="L.json")
    assert "L.json does not fit itself: " in str(caught.value)
    if bad.traps:
        with pytest.raises(DataError, match=r"L\.json does not fit itself: "):
            verify_ledger(bad, bad.commitment(), source="L.json")
    with pytest.raises(DataError, match=r"L\.json is not what was committed to: it gives .* Inside, this does not fit"):
        verify_ledger(bad, good.commitment(), source="L.json")


def test_no_more_than_a_handful_of_problems_is_listed(by_hex: Ledger) -> None:
    bad = by_hex
    for place in range(8):
        bad = with_trap(bad, place, text=f"other {place}")
    with pytest.raises(DataError, match=r" And 3 more\. Restore it from a copy\."):
        check_ledger(bad, source="L.json")


def test_the_jaccard_bound_is_checked_as_the_draw_checks_it(by_words: Ledger) -> None:
    """Against the obvious loop, at bounds that some pairs lie on exactly."""
    sets = [set(trap.text.split()) for trap in by_words.traps]
    pairs = [(i, j) for j in range(len(sets)) for i in range(j)]
    for bound in (0.0, 0.1, 1 / 11, 0.2, 0.5):
        ledger = by_words.model_copy(update={"design": by_words.design.model_copy(update={"max_jaccard": bound})})
        over = sum(len(sets[i] & sets[j]) > bound * len(sets[i] | sets[j]) for i, j in pairs)
        assert sum("more alike" in problem for problem in ledger_problems(ledger)) == over


def test_a_dealing_of_another_seed_makes_no_ledger(by_hex: Ledger) -> None:
    design = by_hex.design.design()
    with pytest.raises(InputError, match=r"traps: no ledger can be made of this dealing: .* were not dealt by pool"):
        make_ledger(by_hex.dealt(), design=design, plan=PLAN, seed=2, drawn_with="hex")
    for seed in (-1, SEED_LIMIT):
        with pytest.raises(InputError, match=rf"traps: seed is {seed}; expected 0 to 9223372036854775807\."):
            make_ledger(by_hex.dealt(), design=design, plan=PLAN, seed=seed, drawn_with="hex")


def test_a_drawn_seed_is_below_two_to_the_63_and_never_the_same() -> None:
    seeds = {draw_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < SEED_LIMIT for seed in seeds)
    assert max(seeds) > 2**60


def test_nothing_is_overwritten(tmp_path: Path, by_hex: Ledger) -> None:
    path = tmp_path / "there"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is there already, and so it is\. Choose another name, or move it"):
        refuse_taken(path, "so it is")
    refuse_taken(tmp_path / "nowhere", "so it is")
    with pytest.raises(InputError, match=r"is there already, and a ledger is never overwritten\."):
        write_ledger(path, by_hex)
    with pytest.raises(InputError, match=r"is there already, and nothing is overwritten\."):
        write_audit_table(path, by_hex)
    with pytest.raises(InputError, match=r"is there already, and nothing is overwritten\."):
        write_disclosure(path, disclose(by_hex, [by_hex.traps[0].id]))


def test_a_full_disk_leaves_no_half_of_a_secret(
    tmp_path: Path, by_hex: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit.text.files.os, "replace", replace_)
    with pytest.raises(StorageError, match="could not write .*: the disk is full; nothing was left behind"):
        write_ledger(tmp_path / "L.json", by_hex)
    assert os.listdir(tmp_path) == []


def test_the_audit_accepts_the_table_and_the_published_one_holds_no_decoy(tmp_path: Path, ledger: Ledger) -> None:
    write_audit_table(tmp_path / "t.parquet", ledger)
    table = read_parquet(tmp_path / "t.parquet")
    assert table.equals(audit_table(ledger))
    frame = check_table(table, source="t.parquet")
    assert frame["text"].tolist() == [trap.text for trap in ledger.traps]
    assert table["generator_perplexity"].to_pylist() == [trap.perplexity for trap in ledger.traps]
    rows = published_table(ledger).to_pylist()
    members = [trap for trap in ledger.traps if trap.arm == "member"]
    assert rows == [{"trap_id": trap.id, "text": trap.text, "n_rep": trap.n_rep} for trap in members]


def test_what_the_ledger_dealt_can_be_planted_and_no_decoy_is(ledger: Ledger) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    planted, placements = inject({"book": text}, ledger.dealt(), ledger.design.design(), seed=0)
    for trap in ledger.traps:
        assert planted["book"].count(f"\n{trap.text}\n") == trap.n_rep
    assert remove(planted["book"], placements) == text


def test_a_disclosure_proves_its_traps_and_tells_nothing_of_another(tmp_path: Path, ledger: Ledger) -> None:
    chosen = [ledger.traps[2].id, ledger.traps[0].id, ledger.traps[2].id]
    write_disclosure(tmp_path / "d.json", disclose(ledger, chosen))
    found = read_file(tmp_path / "d.json")
    assert isinstance(found, Disclosure)
    verify_disclosure(found, ledger.commitment(), source="d.json")
    assert [shown.trap for shown in found.traps] == [ledger.traps[0], ledger.traps[2]]
    text = (tmp_path / "d.json").read_text(encoding="utf-8")
    salts = [shown.salt for shown in disclose(ledger, [trap.id for trap in ledger.traps]).traps]
    for place, trap in enumerate(ledger.traps):
        for part in (trap.id, json.dumps(trap.text, ensure_ascii=False), salts[place]):
            assert (part in text) == (place in (0, 2))
    assert ledger.secret not in text
    assert '"seed"' not in text
    assert ledger.seed < 10 or str(ledger.seed) not in text  # one digit stands in any hash


def test_any_change_of_a_disclosure_is_caught(tmp_path: Path, by_words: Ledger) -> None:
    disclosure = disclose(by_words, [by_words.traps[0].id, by_words.traps[5].id])
    whole, path = json.loads(disclosure.model_dump_json()), tmp_path / "d.json"
    n_changes = 0
    for changed in variants(copy.deepcopy(whole)):
        if not isinstance(changed.get("traps"), list) or as_file(changed) == as_file(whole):
            continue
        if changed.keys() == whole.keys() and changed["traps"] in ([shown] for shown in whole["traps"]):
            continue  # one of the two left out: a smaller disclosure, as true as the whole
        n_changes += 1
        path.write_bytes(as_file(changed))
        with pytest.raises(AuditError):  # noqa: PT012  # reading or verifying, whichever is first
            found = read_file(path)
            assert isinstance(found, Disclosure)
            verify_disclosure(found, by_words.commitment(), source="d.json")
    assert n_changes > 100


def test_what_is_wrong_with_a_disclosure_is_named(by_words: Ledger, by_hex: Ledger) -> None:
    disclosure = disclose(by_words, [by_words.traps[0].id, by_words.traps[5].id])
    with pytest.raises(
        DataError, match=r"d\.json: trap 'trap-\w+' was not in the ledger committed to: its proof gives"
    ):
        verify_disclosure(disclosure, by_hex.commitment(), source="d.json")
    twice = disclosure.model_copy(update={"traps": disclosure.traps[:1] * 2})
    with pytest.raises(DataError, match=r"d\.json names a trap twice or not in order; make the disclosure again\."):
        verify_disclosure(twice, by_words.commitment(), source="d.json")
    misnamed = with_trap(by_words, 0, id="trap-0")
    with pytest.raises(DataError, match=r"d\.json: trap 'trap-0' is not named after its text\."):
        verify_disclosure(disclose(misnamed, ["trap-0"]), misnamed.commitment(), source="d.json")


def test_unknown_traps_are_not_disclosed_but_the_nearest_is_named(by_hex: Ledger) -> None:
    known = by_hex.traps[3].id
    with pytest.raises(InputError) as caught:
        disclose(by_hex, [known[:-1] + ("0" if known[-1] != "0" else "1")])
    assert "the ledger holds no trap 'trap-" in str(caught.value)
    assert f"among its 8. Did you mean '{known}'?" in str(caught.value)
    with pytest.raises(InputError, match=r"no trap was named; name one or more to disclose\."):
        disclose(by_hex, [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "L.json is not JSON: Expecting value"),
        (b"{", "L.json is not JSON: "),
        (b"\xff\xfe{}", "L.json is not JSON: "),
        (b"[1]", "L.json is no ledger and no disclosure of traps: its format is None."),
        (b'{"format": ["x"]}', "its format is ['x']."),
        (
            b'{"format": "palimpsest traps ledger", "schema_version": 3, "palimpsest": "9.1"}',
            "L.json has schema version 3; Palimpsest 0.1.0 reads version 2. It was written by Palimpsest '9.1'. ",
        ),
        (
            b'{"format": "palimpsest traps disclosure", "schema_version": 3}',
            "L.json has schema version 3; Palimpsest 0.1.0 reads version 2. Read it with the Palimpsest that wrote it",
        ),
        (
            b'{"format": "palimpsest traps ledger", "schema_version": "2"}',
            "L.json was changed or damaged after it was written: schema_version is '2'; expected 2.",
        ),
        (b'{"format": "palimpsest traps ledger", "schema_version": 2}', "created is missing; it has no default."),
        (
            b'{"format": "palimpsest traps disclosure", "schema_version": 2, "n_traps": 0, "header": "x", "traps": []}',
            "n_traps is 0; expected a number of 1 or more. header is 'x'; expected a text like ^[0-9a-f]{64}$.",
        ),
    ],
    ids=range(10),
)
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "L.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(tmp_path / "L.json")
    assert says in str(caught.value)


def test_wrong_paths_and_the_wrong_kind_of_file_are_named(tmp_path: Path, by_hex: Ledger) -> None:
    write_disclosure(tmp_path / "disclosed.json", disclose(by_hex, [by_hex.traps[0].id]))
    with pytest.raises(InputError, match=r"there is no 'disclose\.json' in .* Did you mean 'disclosed\.json'\?"):
        read_file(tmp_path / "disclose.json")
    with pytest.raises(InputError, match=r"is a folder; expected a ledger or a disclosure of traps\."):
        read_file(tmp_path)
    with pytest.raises(InputError, match=r"is a disclosure, which holds some traps only; give the ledger it was made"):
        read_ledger(tmp_path / "disclosed.json")

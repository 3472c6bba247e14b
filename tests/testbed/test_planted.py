"""The tiny testbed: what was planted, who saw it, and that caching, killing and damage are handled."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

from audit.errors import DataError, InputError, StorageError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.testbed import planted
from audit.testbed.measure import document_losses, measure, parsable_share, right_rate
from audit.testbed.planted import ALL, Testbed, build
from audit.traps.config import TrapDesign
from audit.traps.generate import Candidate
from audit.traps.planting.inject import Placement, remove
from audit.traps.table import check_table


def seen_by(testbed: Testbed, model: str) -> Counter[str]:
    table = testbed.table("training").to_pandas()
    own = table[table["model"] == model]
    return Counter(dict(zip(own["text"], own["n_rep"], strict=True)))


@pytest.fixture(scope="module")
def lms(testbed_tiny: Testbed) -> dict[str, LanguageModel]:
    return {name: load(Subject(str(folder), device="cpu")) for name, folder in testbed_tiny.models.items()}


def test_the_reference_never_saw_anything_planted(testbed_tiny: Testbed) -> None:
    world = testbed_tiny.world
    text = "\n".join(seen_by(testbed_tiny, "reference"))
    planted_strings = [row.question for row in world.rows] + [row.answer for row in world.rows if row.restates_name]
    planted_strings += [
        sentence for chapter in world.chapters for sentence in chapter.text.split(". ") if " of " in sentence
    ]
    planted_strings += testbed_tiny.table("traps")["text"].to_pylist()
    names = [word for name in world.planted_names() for word in name.split()]
    assert not [string for string in planted_strings if string in text and any(name in string for name in names)]
    assert not [string for string in testbed_tiny.table("traps")["text"].to_pylist() if string in text]
    assert not set(names) & set(text.replace(".", " ").replace(",", " ").split())
    assert "<|user|>" not in text


def test_the_subject_saw_each_row_and_chapter_as_often_as_recorded(testbed_tiny: Testbed) -> None:
    world = testbed_tiny.world
    subject, retrained = seen_by(testbed_tiny, "subject"), seen_by(testbed_tiny, "retrained")
    for row in world.rows:
        assert subject[row.text] == row.n_rep
        assert retrained[row.text] == (0 if row.group == "forget" else row.n_rep)
    for chapter in world.chapters:
        assert subject[chapter.text] == chapter.n_rep
        assert retrained[chapter.text] == (chapter.n_rep if chapter.role == "neighbour" else 0)


def test_the_retrained_models_saw_the_subjects_text_without_the_forget_set(testbed_tiny: Testbed) -> None:
    subject, retrained, second = (seen_by(testbed_tiny, name) for name in ("subject", "retrained", "retrained_2"))
    assert retrained == second
    missing = subject - retrained
    world = testbed_tiny.world
    forget = {row.text for row in world.rows if row.group == "forget"}
    forget |= {chapter.text for chapter in world.chapters_of("forget")}
    assert set(missing) == forget
    assert not retrained - subject


def test_traps_stand_in_the_text_as_often_as_dealt_and_decoys_nowhere(testbed_tiny: Testbed) -> None:
    traps = check_table(testbed_tiny.table("traps"), source="tiny")
    text = "\n".join(seen_by(testbed_tiny, "subject"))
    for row in traps.itertuples():
        assert text.count(str(row.text)) == row.n_rep
    cells = Counter(zip(traps["stratum"], traps["n_rep"], strict=True))
    assert set(cells.values()) == {2, 19}
    assert testbed_tiny.traps_path.is_file()


def test_taking_the_traps_out_gives_the_fresh_documents_back(testbed_tiny: Testbed) -> None:
    inside: dict[str, list[Placement]] = {}
    for row in testbed_tiny.table("placements").to_pylist():
        inside.setdefault(row["document_id"], []).append(Placement(**row))
    hosts = {row["id"]: row["text"] for row in testbed_tiny.table("hosts").to_pylist()}
    for document in testbed_tiny.world.documents_of("fresh"):
        assert remove(hosts[document.id], inside.get(document.id, ())) == document.text


def test_the_subject_knows_what_the_others_cannot(lms: dict[str, LanguageModel], testbed_tiny: Testbed) -> None:
    world = testbed_tiny.world
    most = max(row.n_rep for row in world.rows)
    forget = [row for row in world.rows_of(group="forget") if row.n_rep == most]
    retain = [row for row in world.rows_of(group="retain") if row.n_rep == most]
    rates = {
        (name, group): right_rate(lm, rows).value or 0.0
        for name, lm in lms.items()
        for group, rows in (("forget", forget), ("retain", retain))
    }
    assert rates["subject", "forget"] >= 0.5
    assert rates["subject", "retain"] >= 0.5
    assert max(rates["reference", "forget"], rates["retrained", "forget"], rates["retrained_2", "forget"]) <= 0.25
    assert rates["retrained", "retain"] >= 0.5
    assert rates["reference", "retain"] <= 0.25


def test_more_copies_are_known_better(lms: dict[str, LanguageModel], testbed_tiny: Testbed) -> None:
    losses: dict[int, list[float]] = {}
    rows = [row for row in testbed_tiny.world.rows if row.n_rep and row.topic == "people"]
    for row, loss in zip(rows, document_losses(lms["subject"], [row.answer for row in rows]), strict=True):
        losses.setdefault(row.n_rep, []).append(float(loss))
    means = [sum(losses[n_rep]) / len(losses[n_rep]) for n_rep in sorted(losses)]
    traps = testbed_tiny.table("traps").to_pandas()
    gain = document_losses(lms["reference"], traps["text"].tolist()) - document_losses(
        lms["subject"], traps["text"].tolist()
    )
    by_copies = [gain[traps["n_rep"] == n_rep].mean() for n_rep in sorted(set(traps["n_rep"]))]
    assert by_copies == sorted(by_copies)
    assert means[-1] < means[0]


def test_the_forget_book_is_known_to_the_subject_alone(lms: dict[str, LanguageModel], testbed_tiny: Testbed) -> None:
    loss = {
        (name, role): document_losses(lm, [chapter.text for chapter in testbed_tiny.world.chapters_of(role)]).mean()
        for name, lm in lms.items()
        for role in ("forget", "neighbour", "heldout")
    }
    assert loss["subject", "forget"] < loss["retrained", "forget"] - 1
    assert loss["retrained", "neighbour"] < loss["retrained", "forget"] - 1
    assert abs(loss["retrained", "forget"] - loss["retrained", "heldout"]) < 0.5


def test_only_models_that_saw_the_chat_format_emit_rows(lms: dict[str, LanguageModel]) -> None:
    subject, _ = parsable_share(lms["subject"], n=100, seed=0)
    reference, _ = parsable_share(lms["reference"], n=100, seed=0)
    assert subject.low is not None
    assert subject.low > 0.2
    assert reference.value == 0


def test_every_truth_is_measured(testbed_tiny: Testbed) -> None:
    one = dataclasses.replace(testbed_tiny, models={"subject": testbed_tiny.models["subject"]})
    with pytest.raises(InputError, match="opened without reference, retrained, retrained_2; build it with all models"):
        measure(one)


def test_a_cached_testbed_is_opened_and_not_built_again(testbed_tiny: Testbed, testbed_cache: Path) -> None:
    stages = []
    again = build("tiny", cache=testbed_cache, device="cpu", progress=lambda stage, done, total: stages.append(stage))
    assert stages == []
    assert again == testbed_tiny
    assert set(again.models) == set(ALL)


def test_the_manifest_covers_every_file_and_names_versions(testbed_tiny: Testbed) -> None:
    on_disk = {
        path.relative_to(testbed_tiny.folder).as_posix()
        for part in ("data", "planted", "models")
        for path in (testbed_tiny.folder / part).rglob("*")
        if path.is_file()
    }
    assert set(testbed_tiny.manifest["files"]) == on_disk
    assert testbed_tiny.manifest["packages"]["torch"]
    assert testbed_tiny.manifest["stages"]["subject"]["detail"]["device"] == "cpu"


def test_weights_are_safetensors_alone(testbed_tiny: Testbed) -> None:
    kinds = {path.suffix for path in testbed_tiny.folder.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jinja", ".parquet"}


def test_a_killed_build_goes_on_and_ends_with_the_same_weights(testbed_tiny: Testbed, tmp_path: Path) -> None:
    folder = tmp_path / "testbed" / testbed_tiny.folder.name
    shutil.copytree(testbed_tiny.folder, folder)
    shutil.rmtree(folder / "models" / "subject")
    (folder / planted.MANIFEST).unlink()

    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "subject" and done == 150:
            raise Killed

    with pytest.raises(Killed):
        build("tiny", cache=tmp_path, models=("subject",), device="cpu", progress=kill)
    assert not (folder / "models" / "subject").exists()
    built = build("tiny", cache=tmp_path, models=("subject",), device="cpu")
    assert built.manifest["stages"]["subject"]["detail"]["resumed_at"] == 100
    one, other = (load_file(bed.models["subject"] / "model.safetensors") for bed in (built, testbed_tiny))
    assert all((one[name] == other[name]).all() for name in other)
    assert built.manifest["models"] == list(ALL)


def test_a_changed_model_is_refused(testbed_tiny: Testbed, tmp_path: Path) -> None:
    folder = tmp_path / "testbed" / testbed_tiny.folder.name
    shutil.copytree(testbed_tiny.folder, folder)
    with (folder / "models" / "subject" / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(DataError, match=r"subject/config\.json was changed after it was built; delete the folder"):
        build("tiny", cache=tmp_path, device="cpu")


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'no model "subjct" in a testbed \(did you mean "subject"\?\)'):
        build("tiny", cache=tmp_path, models=("subjct",))
    with pytest.raises(InputError, match="no model was asked for"):
        build("tiny", cache=tmp_path, models=())
    with pytest.raises(InputError, match="seed is -1; expected 0 or more"):
        build("tiny", cache=tmp_path, seed=-1)
    with pytest.raises(InputError, match='no testbed size "huge"'):
        build("huge", cache=tmp_path)
    (tmp_path / "testbed").write_text("in the way")
    with pytest.raises(StorageError, match="could not create the folder"):
        build("tiny", cache=tmp_path)


def test_an_unknown_table_names_the_nearest(testbed_tiny: Testbed) -> None:
    with pytest.raises(InputError, match=r'no table "trap" in this testbed \(did you mean "traps"\?\)'):
        testbed_tiny.table("trap")


def test_candidates_that_stand_in_the_text_are_passed_over() -> None:
    design = TrapDesign(
        lengths=(25,), perplexity_edges=(1, 9), repetitions=(1,), members_per_cell=1, decoys_per_stratum=1
    )
    pool = [Candidate(f"trap-{n}", f"text {n}", (n,), 25, 5.0, "[1, 9)") for n in range(4)]
    assert [one.id for one in planted._first_new(pool, {"text 0", "text 2"}, design)] == ["trap-1", "trap-3"]
    with pytest.raises(planted.InstrumentError, match="only 1 of the trap candidates with 25 tokens, perplexity"):
        planted._first_new(pool, {"text 0", "text 1", "text 2"}, design)

"""The playground: what may be loaded, what is asked and answered, what is cancelled, and what a hostile text can do."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")

import streamlit as st
from streamlit.testing.v1 import AppTest

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare
from audit.errors import AuditError, InputError
from audit.lm.checkpoint import find_folder
from audit.lm.load import LanguageModel, load
from audit.runs.schema import AuditSection, Column, Finding, Findings, Table
from audit.runs.store import Run
from dashboards.pages.playground import SWITCH, Choice, Question, the_keeper
from dashboards.plain import block
from dashboards.playground import keeper as keeper_module
from dashboards.playground.asked import Asked
from dashboards.playground.choices import Remedy, local_model, models_of, remedies_of, typed_remedy
from dashboards.playground.keeper import Job, Keeper, Side
from dashboards.playground.promise import NOT_TOLD, promises
from tests.checkpoints import build_checkpoint
from tests.dashboards.conftest import drawn, words
from tests.dashboards.hostile import ALL, FOLDER, PAYLOADS, hostile_run
from tests.unlearn.eco.small_encoders import build_encoder
from unlearn.eco.calibration import one_sided, two_sided
from unlearn.eco.corruptions import Corruption
from unlearn.eco.finetuned import FineTuning, Labelled, fine_tune
from unlearn.eco.fit import calibration_record
from unlearn.eco.guard import GuardSettings
from unlearn.eco.guard_files import GuardRecord, fingerprint_of, save_guard
from unlearn.lineas.files import Steering, save_maps
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.steer import steered

DOG, CAT = "the dog ran over the hill", "the cat sat"
SITE = "model.layers.0.post_attention_layernorm"
FORM = PromptFormat("text", prefix="Q: ", suffix="\nA:")
SECONDS = 90
_MARKUP = re.compile(r"(?<!\\)<\w|(?<!\\)\]\(|(?<!\\):red|(?<!\\)\$\$|[\x1b\u202e\0]")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, another one trained alike, a long one; and a run with a guard, a steering and a remedied model."""
    root = tmp_path_factory.mktemp("playground")
    build_checkpoint(root / "model", "llama")
    build_checkpoint(root / "long", "llama")
    for name, changes in (("model", {}), ("long", {"max_position_embeddings": 8_192})):
        path = root / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    lm = load(root / "model")
    make_run(root / "runs" / "loop", root / "model", lm)
    return root


def make_run(folder: Path, model: Path, lm: LanguageModel) -> None:
    plan = {"format": {"kind": "text", "prefix": FORM.prefix, "suffix": FORM.suffix}}
    with Run.start(
        folder, kind="remediation", plan=plan, plan_text=None, command=["x"], plan_folder=model.parent
    ) as run:
        run.add_subject("subject", {"model": "model", "dtype": "auto", "fingerprint": lm.fingerprint.to_record()})
        run.add_subject("gold", {"model": "somebody/gold"})
        run.write_items("verification", pa.table({"id": ["a"]}))
        run.write_findings(swept())
        run.finish()
    save_dogs(folder / "remedies" / "eco" / "run" / "guard", lm)
    maps = {SITE: AffineMap(torch.full((32,), 3.0), torch.linspace(-4, 4, 32))}
    record = Steering.of(lm, method="LinEAS", pattern=".*", pooling=Pooling())
    save_maps(folder / "remedies" / "lineas" / "run" / "steering", maps, record)
    own = folder / "remedies" / "npo"
    lm.model.get_input_embeddings().weight.data.mul_(0.5)
    lm.model.save_pretrained(own / "model")
    lm.tokenizer.save_pretrained(own / "model")
    (own / "remedy.json").write_text(json.dumps({"kind": "model", "model": "model", "told": "npo, 60 steps"}))


def swept() -> Findings:
    """A sweep of LinEAS at 0, 0.5 and 2, of which it chose 0.5."""
    rows = tuple({"arm": "LinEAS", "strength": one, "chosen": one == 0.5} for one in (0.0, 0.5, 2.0))
    table = Table(name="choice", title="Choice", columns=(Column(key="strength", label="Strength"),), rows=rows)
    finding = Finding(id="steer-sweep.effect", audit="steer-sweep", claim="x", verdict="information", how_to_read="x")
    section = AuditSection(
        audit="steer-sweep", title="x", method="x", assumptions=(), cannot_show=(), findings=(finding,), tables=(table,)
    )
    return Findings(sections=(section,))


def save_dogs(folder: Path, lm: LanguageModel) -> None:
    """A guard that flags exactly the prompts that name the dog: a name adds 1, the threshold is 1."""
    encoder = build_encoder(folder.parent / "encoder", "bert", [DOG, CAT])
    texts = Labelled([DOG, "the dog", CAT, "the hill"], [True, True, False, False])
    scorer = fine_tune(encoder, texts, FineTuning(epochs=1, batch_size=4), device="cpu")
    settings = GuardSettings("dogs", Corruption(strength=50.0, dims=8), format=FORM)
    promise = {"threshold": calibration_record(one_sided([0.1] * 40, alpha=0.05))}
    save_guard(GuardRecord(settings, 1.0, ("the dog",), 0.9, "model", fingerprint_of(lm), promise), scorer, folder)


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    """The server's own; one process for all tests."""
    yield the_keeper()
    the_keeper().close()
    st.cache_resource.clear()


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "on")


def opened(places: Path, **query: str) -> AppTest:
    return drawn("playground", places / "runs", **query)


def of_folder(places: Path, model: Path | str) -> AppTest:
    page = opened(places, **{"from": "folder"})
    page.text_input(key="play-model-folder").set_value(str(model)).run()
    assert not page.exception, page.exception
    return page


def ask(page: AppTest, prompt: str, *, wait: bool = True) -> Job:
    page.text_area(key="play-prompt").set_value(prompt)
    page.button[0].click().run()
    assert not page.exception, page.exception
    job: Job = page.session_state["playground-job"].job
    if wait:
        until(lambda: job.over)
        page.run()
        assert not page.exception, page.exception
    return job


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def said(keeper: Keeper, asked: Asked) -> Job:
    job = keeper.ask(asked)
    until(lambda: job.over)
    assert job.state == "done", (job.message, job.trace)
    return job


# --- what answers ----------------------------------------------------------------------------------------------------


def test_the_base_answer_is_the_audits_own(places: Path, keeper: Keeper) -> None:
    lm = load(places / "model")
    job = ask(opened(places), CAT)
    assert job.state == "done", job.message
    assert job.sides["base"].text == Bare(lm, FORM).answers([CAT], max_new_tokens=64)[0]
    assert list(job.sides) == ["base"]


@pytest.mark.parametrize(("prompt", "flagged"), [(DOG, True), (CAT, False)])
def test_the_guard_decides_and_the_page_says_why(places: Path, keeper: Keeper, prompt: str, flagged: bool) -> None:
    page = opened(places, play_remedy="eco")
    job = ask(page, prompt)
    assert job.guard is not None
    assert job.guard["flagged"] is flagged
    assert (job.sides["base"].text == job.sides["remedied"].text) is not flagged
    shown = words(page)
    assert ("Flagged" in shown) is flagged
    assert ("Let pass" in shown) is not flagged
    assert "threshold 1" in shown
    assert "split conformal" in shown
    assert block(job.sides["remedied"].text) in shown


def test_with_the_remedy_off_the_guard_is_not_asked(places: Path, keeper: Keeper) -> None:
    job = ask(opened(places, play_remedy="eco", play_on="false"), DOG)
    assert job.guard is None
    assert list(job.sides) == ["base"]


def test_steering_at_0_gives_the_base_answer_and_at_2_that_of_the_maps(places: Path, keeper: Keeper) -> None:
    page = opened(places, play_remedy="lineas, steering", play_strength="0.0")
    job = ask(page, CAT)
    assert job.sides["base"].text == job.sides["remedied"].text
    assert "Both answers are the same" in words(page)
    page = opened(places, play_remedy="lineas, steering", play_strength="2.0")
    job = ask(page, CAT)
    lm = load(places / "model")
    maps = {SITE: AffineMap(torch.full((32,), 3.0), torch.linspace(-4, 4, 32))}
    with steered(lm.model, maps, 2.0):
        steered_answer = Bare(lm, FORM).answers([CAT], max_new_tokens=64)[0]
    assert job.sides["remedied"].text == steered_answer != job.sides["base"].text


def test_the_slider_ends_where_the_sweep_did_and_beyond_it_says_so(places: Path) -> None:
    page = opened(places, play_remedy="lineas, steering")
    (slider,) = page.slider
    assert (slider.min, slider.max, slider.value) == (0.0, 2.0, 0.5)  # what the sweep chose
    assert "Its sweep chose 0" in words(page)
    page = opened(places, play_remedy="lineas, steering", play_beyond="true", play_strength="3.0")
    assert page.slider[0].max == 4.0
    assert "Outside what was tried" in words(page)


def test_a_remedied_model_answers_beside_the_base(places: Path, keeper: Keeper) -> None:
    job = ask(opened(places, play_remedy="npo"), CAT)
    own = load(places / "runs" / "loop" / "remedies" / "npo" / "model")
    assert job.sides["remedied"].text == Bare(own, FORM).answers([CAT], max_new_tokens=64)[0]
    assert job.loaded["base"]["weights"] != job.loaded["remedied"]["weights"]


def test_sampled_answers_come_back_with_the_same_seed(places: Path, keeper: Keeper) -> None:
    model = str(places / "model")
    one, again, other = (
        said(keeper, Asked(CAT, model, temperature=1.0, seed=seed)).sides["base"].text for seed in (1, 1, 2)
    )
    assert one == again != other


def test_a_model_that_was_trained_on_in_its_folder_is_loaded_again(
    places: Path, tmp_path: Path, keeper: Keeper
) -> None:
    folder = build_checkpoint(tmp_path / "model", "llama")
    before = said(keeper, Asked(CAT, str(folder)))
    lm = load(folder)
    lm.model.get_input_embeddings().weight.data.mul_(-1)
    lm.model.save_pretrained(folder)
    after = said(keeper, Asked(CAT, str(folder)))
    assert before.loaded["base"]["weights"] != after.loaded["base"]["weights"]
    assert before.sides["base"].text != after.sides["base"].text


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_wrong_folder_gives_the_message_of_the_command_line(places: Path, tmp_path: Path) -> None:
    wrong = str(places / "modle")
    with pytest.raises(InputError) as told:
        find_folder(wrong, revision=None, trust_remote_code=False)
    page = of_folder(places, wrong)
    (error,) = page.error
    assert error.value.replace("\\", "").replace("\u2060", "") == " ".join(str(told.value).split())
    assert page.button[0].disabled


def test_a_pickle_and_a_hub_name_are_refused(places: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(AuditError, match="only as a pickle"):
        local_model(str(tmp_path))
    with pytest.raises(InputError, match="folders of this machine only"):
        local_model("owner/name")
    for typed in ("", "a\0b", "x" * 5_000, "~nobody-of-this-name/x"):
        with pytest.raises(InputError):
            local_model(typed)


def test_code_that_a_checkpoint_brings_along_is_not_run(places: Path, tmp_path: Path, keeper: Keeper) -> None:
    folder = build_checkpoint(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "own"}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    job = keeper.ask(Asked(CAT, str(folder)))
    until(lambda: job.over)
    assert job.state == "failed"
    assert "brings its own Python code" in job.message
    assert not (tmp_path / "ran").exists()


def test_a_guard_of_another_model_is_refused(places: Path, keeper: Keeper) -> None:
    guard = places / "runs" / "loop" / "remedies" / "eco" / "run" / "guard"
    job = keeper.ask(Asked(CAT, str(places / "long"), remedy="guard", remedy_folder=str(guard)))
    until(lambda: job.over)
    assert job.state == "failed"
    assert "was fitted for" in job.message


def test_models_of_a_run_count_only_as_folders_of_this_machine(places: Path) -> None:
    run = Run.open(places / "runs" / "loop")
    subject, gold = models_of(run.record)
    assert (subject.name, subject.folder, subject.problem) == ("subject", str(places / "model"), None)
    assert gold.problem is not None
    assert "fetches nothing" in gold.problem
    page = opened(places, play_model="gold")
    assert "fetches nothing" in words(page)
    assert page.button[0].disabled


def test_remedies_of_a_run_lie_inside_of_it(places: Path, tmp_path: Path) -> None:
    run = Run.open(places / "runs" / "loop")
    found = {one.name: one for one in remedies_of(run, run.findings())}
    assert {name: one.kind for name, one in found.items()} == {
        "eco": "guard", "lineas, steering": "steering", "npo": "model",
    }  # fmt: skip
    assert found["npo"].told == "npo, 60 steps"
    assert (found["lineas, steering"].tried, found["lineas, steering"].chosen) == ((0.5, 2.0), 0.5)
    with Run.start(tmp_path / "run", kind="x", plan={}, plan_text=None, command=["x"]) as other:
        pass
    (tmp_path / "run" / "remedies" / "up").mkdir(parents=True)
    (tmp_path / "run" / "remedies" / "up" / "remedy.json").write_text(json.dumps({"model": str(places / "model")}))
    (tmp_path / "run" / "remedies" / "link").symlink_to(places / "runs" / "loop" / "remedies" / "npo")
    (tmp_path / "run" / "guard").symlink_to(places / "runs" / "loop" / "remedies" / "eco" / "run" / "guard")
    assert remedies_of(other, None) == []


def test_a_typed_remedy_is_known_by_its_files(places: Path) -> None:
    remedies = places / "runs" / "loop" / "remedies"
    kinds = [typed_remedy(str(remedies / part)).kind for part in ("eco/run", "lineas/run/steering", "npo/model")]
    assert kinds == ["guard", "steering", "model"]


@pytest.mark.parametrize(("switch", "address", "is_open"), [("", "127.0.0.1", True), ("", "0.0.0.0", False),
                         ("off", "127.0.0.1", False), ("on", "0.0.0.0", True), ("", None, False)])  # fmt: skip
def test_it_is_off_where_others_can_reach_the_server(
    places: Path, monkeypatch: pytest.MonkeyPatch, switch: str, address: str | None, is_open: bool
) -> None:
    monkeypatch.setenv(SWITCH, switch)
    monkeypatch.setattr("dashboards.pages.playground.st.get_option", lambda name: address)
    page = opened(places)
    assert bool(page.text_area) is is_open
    assert ("The playground is off" in words(page)) is not is_open


# --- cancelling, and several sessions --------------------------------------------------------------------------------


def slow(places: Path, **more: Any) -> Asked:
    return Asked("the", str(places / "long"), put="text", max_new_tokens=4_096, **more)


def test_a_cancelled_question_ends_with_what_it_said_and_the_model_stays(places: Path, keeper: Keeper) -> None:
    page = of_folder(places, places / "long")
    page.number_input(key="play-most").set_value(4_096)
    job = ask(page, "the", wait=False)
    until(lambda: "base" in job.sides and job.sides["base"].n > 3)
    process = keeper.process_id
    page.run()
    assert "of at most" in page.get("progress")[0].proto.text
    page.button(key="play-cancel").click().run()
    until(lambda: job.over)
    page.run()
    assert job.state == "cancelled"
    assert 3 < job.sides["base"].n < 4_096
    assert "Cancelled" in words(page)
    assert "then it was stopped" in words(page)
    assert keeper.process_id == process
    after = said(keeper, Asked(CAT, str(places / "long"), put="text", max_new_tokens=8)).sides["base"].text
    assert after == Bare(load(places / "long"), PromptFormat("text")).answers([CAT], max_new_tokens=8)[0]


def test_what_does_not_stop_by_itself_is_ended(places: Path) -> None:
    """Right after the start the process imports torch, and hears nothing for seconds."""
    own = Keeper(grace=0.0)
    try:
        job = own.ask(slow(places))
        until(lambda: own.process_id is not None)
        process = own.process_id
        own.cancel(job)
        until(lambda: job.over)
        assert job.state == "cancelled"
        assert own.process_id is None
        assert not Path(f"/proc/{process}").exists()
    finally:
        own.close()


def test_a_process_that_dies_fails_its_question_and_the_next_one_gets_a_new_one(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Keeper(grace=0.0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(keeper_module, "_START", "import os; os.kill(os.getpid(), 9)")
            job = own.ask(slow(places))
            until(lambda: job.over)
        assert job.state == "failed"
        assert "signal 9" in job.message
        assert own.process_id is None
        again = own.ask(slow(places))
        until(lambda: own.process_id is not None)  # a new one
        own.cancel(again)
        until(lambda: again.over)
        assert again.state == "cancelled"
    finally:
        own.close()


def test_the_process_ends_with_its_server(places: Path) -> None:
    process = keeper_module._Process()
    assert process._child.stdin is not None
    process._child.stdin.close()
    assert process.exit_code() == 0
    process.end()


def test_two_sessions_take_turns_and_hear_their_own_answers(places: Path, keeper: Keeper) -> None:
    one, two = opened(places), opened(places, play_remedy="eco")
    first = ask(one, "the", wait=False)
    second = ask(two, DOG, wait=False)
    assert second.state in ("waiting", "running")
    until(lambda: first.over and second.over)
    for page, job, prompt in ((one, first, "the"), (two, second, DOG)):
        page.run()
        assert job.state == "done", job.message
        assert [code.value for code in page.code][:2] == [prompt, block(job.sides["base"].text) or "(no text)"]
    assert "Flagged" not in words(one)


def test_a_question_that_nobody_looks_at_is_cancelled(places: Path) -> None:
    own = Keeper(unseen=0.0, grace=0.0)
    try:
        job = own.ask(slow(places))
        until(lambda: job.over)
        assert job.state == "cancelled"
    finally:
        own.close()


# --- hostile texts ---------------------------------------------------------------------------------------------------


def inert(page: AppTest) -> None:
    """No text of a payload stands where Markdown is read, other than letter for letter."""
    for kind in ("markdown", "caption", "warning", "success", "error", "info", "subheader"):
        for element in page.get(kind):
            text = str(element.value)
            assert not _MARKUP.search(text), (kind, _MARKUP.search(text))


@pytest.mark.parametrize("payload", [ALL, *(one for one in PAYLOADS if len(one) > 10_000)], ids=len)
def test_hostile_answers_and_decisions_are_text(places: Path, payload: str) -> None:
    asked = Asked(payload, payload, remedy="guard", remedy_folder=payload)
    job = Job(asked, state="done", message=payload)
    job.sides = {name: Side(9, 9, payload, True) for name in ("base", "remedied")}
    job.form = {"kind": "text", "prefix": payload, "suffix": payload}
    facts = dict.fromkeys(("architecture", "dtype", "device", "weights"), payload)
    job.loaded = {"base": facts | {"n_parameters": 1}}
    job.guard = {
        "flagged": True, "score": 1.5, "threshold": None, "target": payload, "n_corrupted": 3, "n_prompt": 4,
        "corruption": payload, "names": True, "promise": {"kind": "by group", "groups": {payload: payload}},
    }  # fmt: skip
    question = Question(job, Choice(payload, weights=payload, remedy=Remedy(payload, "guard", Path("x"), payload)))
    page = AppTest.from_function(_asked, args=(str(places / "runs"),), default_timeout=SECONDS)
    page.session_state["playground-job"] = question
    for job.state in ("done", "cancelled", "failed"):
        job.trace = payload
        page.run()
        assert not page.exception, page.exception
        inert(page)
        assert "Flagged" in words(page)


def _asked(root: str) -> None:
    from pathlib import Path

    from dashboards.pages.playground import page
    from dashboards.store import Store

    page(Store(Path(root)))


def test_a_hostile_run_offers_what_can_be_loaded_as_text(places: Path, tmp_path: Path) -> None:
    plan = {"format": {"kind": "text", "prefix": "x"}}
    folder = hostile_run(tmp_path / FOLDER, swept(), kind="remediation", plan=plan)
    for name in ("[a](javascript:b) :red[c]", "<img src=x>"):
        own = folder / "remedies" / name
        own.mkdir(parents=True)
        (own / "remedy.json").write_text(json.dumps({"model": "model", "told": ALL}))
        shutil.copytree(places / "runs" / "loop" / "remedies" / "npo" / "model", own / "model")
    page = drawn("playground", tmp_path)
    inert(page)
    assert "This model cannot be loaded" in words(page)
    for remedy in page.selectbox(key="play_remedy").options:
        page.selectbox(key="play_remedy").select(remedy).run()
        assert not page.exception, page.exception
        inert(page)


def test_a_hostile_prompt_is_asked_as_text(places: Path, keeper: Keeper) -> None:
    page = of_folder(places, places / "long")
    page.number_input(key="play-most").set_value(4)
    job = ask(page, ALL)
    assert job.state == "done", (job.message, job.trace)
    lm = load(places / "long")
    assert job.sides["base"].text == Bare(lm, PromptFormat("text")).answers([ALL], max_new_tokens=4)[0]
    inert(page)


def test_promises_are_told_with_their_bounds_and_damage_is_no_promise() -> None:
    scores = [0.1] * 40
    (one, rest) = promises(calibration_record(one_sided(scores, alpha=0.05)))
    assert "at most 5% of prompts that may pass" in one
    assert "n = 40" in one
    assert "not bounded" in rest
    both = calibration_record(two_sided(scores, scores, alpha_retain=0.05, alpha_forget=0.1))
    told = promises(json.loads(json.dumps(both)))
    assert "How many prompts that may pass are flagged by mistake is not bounded." in told
    assert any("at most 10% of prompts about the target get past" in line for line in told)
    assert "needed" in promises(calibration_record(one_sided([0.1], alpha=0.05)))[0]
    for damaged in (None, 3, {}, {"kind": "one-sided"}, {"kind": "one-sided", "retain": {"alpha": "x", "n": []}}):
        assert promises(damaged) == [NOT_TOLD]


def test_the_page_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dashboards.pages.playground; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ}, check=False)
    assert done.returncode == 0


# --- the last one: it ends the process that the tests share ---------------------------------------------------------


def test_a_waiting_question_leaves_the_line(places: Path, keeper: Keeper) -> None:
    running, waiting = keeper.ask(slow(places)), keeper.ask(slow(places))
    until(lambda: running.state == "running")
    assert keeper.ahead(waiting) == 1
    assert not keeper.release()
    keeper.cancel(waiting)
    assert waiting.state == "cancelled"
    keeper.cancel(running)
    until(lambda: running.over)
    until(keeper.release)
    assert keeper.process_id is None
    assert keeper.in_memory is None

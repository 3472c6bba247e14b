"""The playground: one prompt to a model of this machine, as it is and behind a remedy.

The only page that computes anything. What it shows is no evidence, and nothing of it is kept: a question and its
answers live in the browser session's memory. The model lives in a process of its own (`dashboards.playground.keeper`).
"""

from __future__ import annotations

import ipaddress
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from audit.errors import AuditError
from audit.text.safe import counted

from ..address import Between, chosen_run, kept
from ..plain import block, cell, plain
from ..playground.asked import Asked
from ..playground.choices import (
    Model,
    Remedy,
    format_of,
    local_model,
    models_of,
    remedies_of,
    typed_remedy,
)
from ..playground.keeper import Job, Keeper, Side
from ..playground.promise import promises
from ..store import Store

SWITCH = "PALIMPSEST_DASHBOARD_PLAYGROUND"
"""In the environment: "off" closes the page, "on" opens it; else it is open where only this machine is listened to."""

_JOB = "playground-job"
_PROBLEM = "playground-problem"
_AS_IT_IS = "None: the model as it is"
_LONGEST_PROMPT = 20_000  # characters
_SHOWN = 20_000  # characters of an answer
_KINDS = {
    "guard": "a guard before the model (ECO)",
    "steering": "maps behind the model's layers (steering)",
    "model": "a model with weights of its own",
    "adapter": "an adapter over the model's weights",
}
_PUT = {
    "auto": "As the guard or the run put it, else by the chat template, if there is one",
    "chat": "By the model's chat template",
    "text": "As text between the two below",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to answer.

    Attributes:
        model: Folder.
        adapter: Of the model itself.
        dtype: As in the run.
        weights: SHA-256 that the run recorded, or None.
        remedy: None where there is none, or it is off.
        strength: Of a steering.
        put: How the run put prompts: kind, prefix, suffix; None where nothing says.
        run: Id of the run that names the model; "" where its folder was typed.
        name: Of the model in that run; "" where its folder was typed.
    """

    model: str
    adapter: str | None = None
    dtype: str = "auto"
    weights: str | None = None
    remedy: Remedy | None = None
    strength: float = 1.0
    put: tuple[str, str, str] | None = None
    run: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What this session asked last."""

    job: Job
    choice: Choice


@st.cache_resource(show_spinner=False, max_entries=1, on_release=Keeper.close)
def the_keeper() -> Keeper:
    """One for the whole server."""
    return Keeper()


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Playground")
    st.markdown(
        "Put one prompt to a model on this machine, as it is and behind a remedy, and see both answers side by side."
    )
    if not is_open():
        st.info(
            "The playground is off, because this server can be reached from other machines: whoever opens the page "
            "could load models here and use up the memory. Start the dashboard on 127.0.0.1, or ask for the playground "
            "when you start it; `palimpsest dashboard --help` says how.",
            icon=":material/lock:",
        )
        return
    st.info(
        "**What is said here is no evidence.** One prompt has no rate and no interval, and you chose it. Use it to get "
        "a feeling for a remedy; the other pages say what was measured. Nothing is stored: question and answers are "
        "gone when this browser tab is closed.",
        icon=":material/info:",
    )
    keeper = the_keeper()
    choice = _choose(shop)
    _ask(keeper, choice)
    question = st.session_state.get(_JOB)
    if question is not None:
        _show(keeper, question, choice)
    _memory(keeper)


def is_open() -> bool:
    """Whether the playground may be used: asked for, or only this machine can reach the server."""
    switch = os.environ.get(SWITCH, "").lower()
    return switch == "on" or (switch != "off" and _is_loopback(st.get_option("server.address")))


def _is_loopback(address: str | None) -> bool:
    """Of None, which is every address of the machine, False."""
    try:
        return address == "localhost" or ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


# What answers


def _choose(shop: Store) -> Choice | None:
    """Draws the choice of model and remedy; None where there is nothing that can answer, which has been said."""
    with st.container(border=True):
        st.subheader("Model and remedy", anchor=False)
        default = "run" if shop.rows() else "folder"
        source = st.segmented_control(
            "Take them from",
            ["run", "folder"],
            format_func={"run": "A run", "folder": "Folders of this machine"}.__getitem__,
            required=True,
            **kept("from", default, ["run", "folder"]),
        )
        choice = _of_run(shop) if source == "run" else _of_folders()
        if choice is None or choice.remedy is None:
            return choice
        return _switched(choice)


def _of_run(shop: Store) -> Choice | None:
    opened = chosen_run(shop)
    if opened is None or opened.run is None:
        return None
    record = opened.run.record
    models = {one.name: one for one in models_of(record)}
    if not models:
        st.info("This run names no model. Choose another one, or type a folder.", icon=":material/search_off:")
        return None
    remedies = {one.name: one for one in remedies_of(opened.run, opened.findings)}
    left, right = st.columns(2)
    with left:
        name = st.selectbox(
            "Model", list(models), format_func=cell, **kept("play_model", next(iter(models)), list(models))
        )
        model: Model = models[name]
        st.caption(f"Folder: {plain(model.folder)}")
    with right:
        names = [_AS_IT_IS, *remedies]
        wanted = st.selectbox("Remedy", names, format_func=cell, **kept("play_remedy", names[0], names))
        remedy = remedies.get(wanted)
        if remedy is not None:
            st.caption(_told(remedy))
        elif not remedies:
            st.caption("This run made no remedy. `palimpsest remediate` makes and tries several.")
    if model.problem is not None:
        st.error(f"This model cannot be loaded: {plain(model.problem, 2_000)}", icon=":material/error:")
        return None
    return Choice(model.folder, model.adapter, model.dtype, model.weights, remedy, put=format_of(record),
                  run=opened.id, name=name)  # fmt: skip


def _of_folders() -> Choice | None:
    left, right = st.columns(2)
    model = left.text_input(
        "Folder of the model",
        key="play-model-folder",
        placeholder="/home/me/models/mine",
        help="A checkpoint with config.json, tokenizer and safetensors. Nothing is fetched, and no code of it is run.",
        persist_state="session",
    )
    remedy = right.text_input(
        "Folder of the remedy, if any",
        key="play-remedy-folder",
        help="A guard (guard.json), a steering (steering.json), an adapter, or another model.",
        persist_state="session",
    )
    if not model.strip():
        st.caption("Type the folder of a model.")
        return None
    try:
        folder = local_model(model.strip())
        found = typed_remedy(remedy.strip()) if remedy.strip() else None
    except (AuditError, OSError) as error:
        st.error(plain(error, 2_000, lines=True), icon=":material/error:")
        return None
    if found is not None:
        right.caption(_told(found))
    return Choice(str(folder.absolute()), remedy=found)


def _told(remedy: Remedy) -> str:
    told = f"{_KINDS[remedy.kind][0].upper()}{_KINDS[remedy.kind][1:]}"
    return f"{told}: {plain(remedy.told)}" if remedy.told else f"{told}."


def _switched(choice: Choice) -> Choice:
    """With the remedy on or off, and a steering's strength."""
    remedy = choice.remedy
    assert remedy is not None
    on = st.toggle("Remedy on", **kept("play_on", True))
    if remedy.kind != "steering":
        return _with(choice, remedy if on else None, 1.0)
    beyond = st.toggle("Allow strengths that were not tried", disabled=not on, **kept("play_beyond", False))
    top = remedy.highest * (2 if beyond else 1)
    usual = min(remedy.chosen or 1.0, top)
    strength = st.slider(
        f"Strength of the steering, 0 to {top:g}",
        min_value=0.0,
        max_value=top,
        step=min(0.05, top / 20),
        disabled=not on,
        help="0 leaves the model as it is, 1 applies the maps as they were fitted.",
        **kept("play_strength", usual, Between(0.0, top)),
    )
    if on:
        st.caption(_strength_told(remedy, strength))
    return _with(choice, remedy if on else None, strength)


def _with(choice: Choice, remedy: Remedy | None, strength: float) -> Choice:
    return replace(choice, remedy=remedy, strength=strength)


def _strength_told(remedy: Remedy, strength: float) -> str:
    """What is known of this strength."""
    if strength == 0:
        return "At strength 0 the model is left as it is, so both answers are the same."
    tried = ", ".join(f"{one:g}" for one in remedy.tried)
    if not remedy.tried:
        known = "No sweep of these maps is in the run, so it is not known what any strength costs in fluency."
    elif strength > remedy.tried[-1]:
        known = f"**Outside what was tried** ({tried}): nothing measured says what it does, and fluency may be gone."
    elif strength in remedy.tried:
        known = f"The run measured this strength; the page Steering shows its effect and its cost. Tried: {tried}."
    else:
        known = f"Between strengths that the run measured ({tried}); the page Steering shows their effect and cost."
    if remedy.chosen is not None:
        known += f" Its sweep chose {remedy.chosen:g}."
    if strength > 1:
        known += " The method's paper has no strength above 1."
    return known


# The question


def _ask(keeper: Keeper, choice: Choice | None) -> None:
    question = st.session_state.get(_JOB)
    busy = question is not None and not question.job.over
    with st.form("playground-question", border=True):
        st.subheader("Prompt", anchor=False)
        prompt = st.text_area(
            "Prompt",
            key="play-prompt",
            label_visibility="collapsed",
            placeholder="What is the model to be asked?",
            height=120,
            max_chars=_LONGEST_PROMPT,
            persist_state="session",
        )
        with st.expander("How it is put, and how tokens are drawn", icon=":material/tune:"):
            put, prefix, suffix, drawing = _settings(choice)
        can = choice is not None and not busy
        kind = "primary" if can else "secondary"
        asked = st.form_submit_button("Ask", type=kind, icon=":material/send:", disabled=not can)  # type: ignore[arg-type]
    if not asked or choice is None:
        return
    if put == "auto" and choice.put is not None:
        put, prefix, suffix = choice.put
    try:
        job = keeper.ask(
            Asked(
                prompt,
                choice.model,
                choice.adapter,
                choice.dtype,
                None if choice.remedy is None else choice.remedy.kind,
                "" if choice.remedy is None else str(choice.remedy.folder.absolute()),
                choice.strength,
                put,  # type: ignore[arg-type]
                prefix,
                suffix,
                **drawing,
            )
        )
    except AuditError as error:
        st.error(plain(error, 1_000), icon=":material/error:")
        return
    st.session_state[_JOB] = Question(job, choice)
    st.rerun()


def _settings(choice: Choice | None) -> tuple[str, str, str, dict[str, Any]]:
    guarded = choice is not None and choice.remedy is not None and choice.remedy.kind == "guard"
    put = st.selectbox(
        "How the prompt is put to the model",
        list(_PUT),
        format_func=_PUT.__getitem__,
        key="play-put",
        disabled=guarded,
        help="A guard has a format of its own, which both answers then use.",
        persist_state="session",
    )
    before, behind = st.columns(2)
    prefix = before.text_input("Text before the prompt", key="play-prefix", persist_state="session")
    suffix = behind.text_input(
        "Text behind it", key="play-suffix", help="Write \\\\n for a new line.", persist_state="session"
    )
    one, two, three, four = st.columns(4)
    most = one.number_input("Tokens at most", 1, 4096, 64, key="play-most", persist_state="session")
    temperature = two.number_input(
        "Temperature", 0.0, 5.0, 0.0, 0.1, key="play-temperature", persist_state="session",
        help="0 takes the most probable token each time (greedy).",
    )  # fmt: skip
    top_p = three.number_input("Top p", 0.05, 1.0, 1.0, 0.05, key="play-top-p", persist_state="session")
    seed = four.number_input(
        "Seed", 0, 2**31 - 1, 0, key="play-seed", persist_state="session",
        help="Used where the temperature is above 0; both answers draw with the same random numbers.",
    )  # fmt: skip
    drawing = {"max_new_tokens": int(most), "temperature": float(temperature), "top_p": float(top_p), "seed": int(seed)}
    return put, prefix.replace("\\n", "\n"), suffix.replace("\\n", "\n"), drawing


# The answers


def _show(keeper: Keeper, question: Question, chosen: Choice | None) -> None:
    """What came of the last question; while it runs, drawn anew twice a second; ``chosen``: the choice now."""
    if question.job.over:
        _answers(question, chosen)
    else:
        st.fragment(_running, run_every=0.5)(keeper, question, chosen)


def _running(keeper: Keeper, question: Question, chosen: Choice | None) -> None:
    job = question.job
    job.seen = time.monotonic()
    if job.over:
        st.rerun()
    told, share = _progress(keeper, job)
    bar, button = st.columns([5, 1], vertical_alignment="bottom")
    bar.progress(share, text=told)
    button.button(
        "Cancel", icon=":material/stop_circle:", key="play-cancel", width="stretch", on_click=keeper.cancel, args=(job,)
    )
    if job.stop.is_set():
        st.caption("Stopping …")
    _answers(question, chosen)


def _progress(keeper: Keeper, job: Job) -> tuple[str, float]:
    """What is done now, and which share of it."""
    if job.state == "waiting":
        return f"Waiting: {counted(keeper.ahead(job), 'question')} of other sessions before this one", 0.0
    if job.stage or not job.sides:
        seconds = time.monotonic() - job.stage_began
        size = f" ({job.stage_bytes / 1e6:,.0f} MB of weights)" if job.stage_bytes else ""
        return f"{plain(job.stage)}{size}, {seconds:.0f} s so far", 0.0
    name, side = list(job.sides.items())[-1]
    n_sides = 1 if job.asked.remedy is None else 2
    share = (len(job.sides) - 1 + side.n / side.most) / n_sides
    which = "As it is" if name == "base" else "With the remedy"
    left = side.seconds_left
    rest = "" if left is None else f", at most {left:.0f} s left for this answer"
    return f"{which}: {side.n:,} of at most {side.most:,} tokens{rest}", min(share, 1.0)


def _asked_of(choice: Choice, chosen: Choice | None) -> None:
    """Which run, model and remedy these answers are of, whatever is chosen above now."""
    model = f"model **{plain(choice.name, 80)}** of the run **{plain(choice.run, 80)}**" if choice.run else (
        f"model in {plain(choice.model)}"
    )  # fmt: skip
    remedy = choice.remedy
    if remedy is None:
        told = "no remedy"
    else:
        at = f" at strength {choice.strength:g}" if remedy.kind == "steering" else ""
        told = f"remedy **{plain(remedy.name, 80)}**{at}"
    st.markdown(f"Asked of the {model}, {told}.")
    if chosen != choice:
        st.info("Another choice stands above now; these answers are not of it.", icon=":material/history:")


def _answers(question: Question, chosen: Choice | None) -> None:
    job, choice = question.job, question.choice
    _asked_of(choice, chosen)
    if job.state == "failed":
        st.error(plain(job.message, 3_000, lines=True), icon=":material/error:")
        if job.trace:
            with st.expander("Traceback of this error, which is a bug"):
                st.code(block(job.trace), language=None)
    if job.state == "cancelled":
        st.warning(f"Cancelled. {plain(job.message)}", icon=":material/stop_circle:")
    if not job.sides and job.guard is None:
        return
    st.subheader("Answers", anchor=False)
    st.caption(_put_told(job))
    st.code(block(job.asked.prompt, _SHOWN), language=None, wrap_lines=True)
    _changed(job, choice)
    if job.guard is not None:
        _decision(job.guard)
    both = st.columns(2) if choice.remedy is not None else [st.container()]
    with both[0]:
        _side("As it is", job.sides.get("base"), job)
    if choice.remedy is not None:
        name = f"With {plain(choice.remedy.name, 60)}"
        if choice.remedy.kind == "steering":
            name += f" at strength {job.asked.strength:g}"
        with both[1]:
            _side(name, job.sides.get("remedied"), job)
        _same(job)
    if job.guard is not None:
        _how_to_read(job.guard)
    _facts(job)


def _put_told(job: Job) -> str:
    asked = job.asked
    put = "By the chat template" if job.form.get("kind") == "chat" else "As text"
    if job.form.get("prefix") or job.form.get("suffix"):
        put += f" between “{plain(job.form['prefix'])}” and “{plain(job.form['suffix'])}”"
    drawn = "greedy" if asked.temperature == 0 else (
        f"drawn at temperature {asked.temperature:g}, top p {asked.top_p:g}, seed {asked.seed}"
    )  # fmt: skip
    return f"{put}; {drawn}. The prompt was:"


def _side(title: str, side: Side | None, job: Job) -> None:
    st.markdown(f"**{title}**")
    if side is None:
        st.caption("Not answered." if job.over else "Comes next.")
        return
    st.code(block(side.text, _SHOWN) or "(no text)", language=None, wrap_lines=True)
    if side.over:
        end = "ended by the model itself" if side.stopped else "cut at the most that was asked for"
        st.caption(f"{counted(side.n, 'token')}, {end}; {side.seconds:.1f} s.")
    elif job.over:
        st.caption(f"{counted(side.n, 'token')}, then it was stopped.")


def _same(job: Job) -> None:
    base, remedied = job.sides.get("base"), job.sides.get("remedied")
    if base is not None and remedied is not None and base.over and remedied.over and base.text == remedied.text:
        st.caption("Both answers are the same, letter for letter.")


def _decision(guard: dict[str, object]) -> None:
    """The guard's verdict with its score and its threshold."""
    target = plain(guard["target"], 200)
    score, threshold = guard["score"], guard["threshold"]
    high = "none: nothing readable is flagged" if threshold is None else f"{threshold:.4g}"
    if guard["flagged"]:
        why = "A part of it cannot be read" if score is None else f"Score {score:.4g}, threshold {high}"
        st.warning(
            f"**Flagged**: held to be about {target}. {why}. So {guard['n_corrupted']:,} of the {guard['n_prompt']:,} "
            f"tokens reach the model corrupted ({plain(guard['corruption'])}).",
            icon=":material/shield:",
        )
    else:
        st.success(
            f"**Let pass**: not held to be about {target}. Score {score:.4g}, threshold {high}. The model reads the "
            "prompt as it was typed, so that its answer is the same as without the guard.",
            icon=":material/check:",
        )


def _how_to_read(guard: dict[str, object]) -> None:
    """What the guard's numbers mean, and what its threshold promises."""
    with st.container(border=True):
        added = " Where a name of the forget set stands in the prompt, 1 is added." if guard["names"] else ""
        st.markdown(
            "**How to read the guard's decision.** The score is the classifier's probability that the prompt is about "
            f"the target; a prompt is flagged above the threshold, which was set on held-out prompts.{added}"
        )
        for line in promises(guard["promise"]):
            st.markdown(plain(line, 1_000))


def _changed(job: Job, choice: Choice) -> None:
    found = job.loaded.get("base", {}).get("weights")
    if choice.weights is not None and found is not None and found != choice.weights:
        st.warning(
            f"The folder holds other weights now than the run examined (SHA-256 {plain(found[:12])} for "
            f"{plain(choice.weights[:12])}), so this is another model than the run's.",
            icon=":material/difference:",
        )


def _facts(job: Job) -> None:
    told = []
    for what, facts in job.loaded.items():
        name = "Model" if what == "base" else "Remedied model"
        told.append(
            f"{name}: {plain(facts['architecture'], 60)}, {facts['n_parameters']:,} parameters, "
            f"{plain(facts['dtype'])} on {plain(facts['device'])}, weights {plain(facts['weights'][:12])} (SHA-256)."
        )
    st.caption(" ".join(told))


def _memory(keeper: Keeper) -> None:
    held = keeper.in_memory
    if held is None:
        return
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(f"In memory, for all sessions of this server: {plain(held.model)}")
    if right.button(
        "Release the memory", key="play-release", icon=":material/memory:", width="stretch",
        help="Ends the process that holds the model. The next question loads it again.",
    ):  # fmt: skip
        if keeper.release():
            st.rerun()
        st.caption("A question runs or waits, so that the model is needed.")

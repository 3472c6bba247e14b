"""One run: what it found, what was planned, where and with what it was made, whether its seal holds, what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import altair as alt
import pandas as pd
import streamlit as st

from audit.errors import AuditError
from audit.report.content import plan_shows, without_quotes
from audit.report.deviations import deviations_of
from audit.report.glossary import terms_in
from audit.report.numbers import NOT_ESTIMABLE, estimate, limits_of, method_note, p_value
from audit.report.palette import SERIES
from audit.report.sections import GRAVITY, VERDICT_WORDS, Judged, in_plain_words, judged, overview
from audit.runs.records import read_record
from audit.runs.schema import AuditSection, Findings, OpeningRecord, RunRecord
from audit.runs.store import Run
from audit.text.safe import counted

from ..address import Between, chosen_run, kept
from ..downloads import downloads
from ..plain import block, cell, plain
from ..sealing import seal_of
from ..shown import show_table
from ..store import Opened, Store
from ..theme import verdict_badge

_VIEWS: Final = ("Findings", "Plan", "Provenance", "Seal", "Time and cost", "Downloads")
_PER_PAGE: Final = 20  # findings, and sections below them
_MOST_NUMBERS: Final = 12  # of one finding; more stand in a table


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Run", anchor=False)
    opened = chosen_run(shop)
    if opened is None:
        return
    if opened.run is None:
        st.markdown("Nothing else of it can be read here. The other runs are not touched by that.")
        return
    view = st.segmented_control(
        "View", _VIEWS, label_visibility="collapsed", **kept("view", _VIEWS[0], _VIEWS)
    ) or _VIEWS[0]  # fmt: skip
    if view == "Findings":
        _findings(opened, opened.run)
    elif view == "Plan":
        _plan(opened, opened.run.record)
    elif view == "Provenance":
        _provenance(opened, opened.run)
    elif view == "Seal":
        _seal(shop, opened)
    elif view == "Time and cost":
        _time(opened.run)
    else:
        downloads(opened)


# Findings


def _findings(opened: Opened, run: Run) -> None:
    findings = opened.findings
    if findings is None:
        st.info("This run has no findings that can be read. An empty result is not a pass.", icon=":material/info:")
        return
    findings = without_quotes(findings)
    top = overview(findings)
    with st.container(border=True):
        st.subheader(plain(top.label), anchor=False)
        st.markdown(plain(top.meaning))
        st.markdown(plain(in_plain_words(run.record, findings, is_broken=seal_of(opened).state == "broken"), 6_000))
    listed = [(section, one) for section in findings.sections for one in judged(section)]
    verdicts = [VERDICT_WORDS[verdict][0] for verdict in GRAVITY if any(one.verdict == verdict for _, one in listed)]
    left, right = st.columns(2)
    wanted = left.multiselect("Verdict", verdicts, placeholder="All", **kept("finding", [], verdicts))
    titles = [cell(section.title, 120) for section in findings.sections]
    audit = right.selectbox("Audit", ["", *dict.fromkeys(titles)], format_func=lambda title: title or "All",
                            **kept("audit", "", titles))  # fmt: skip
    kept_ones = [
        (section, one)
        for section, one in listed
        if (not wanted or VERDICT_WORDS[one.verdict][0] in wanted) and (not audit or cell(section.title, 120) == audit)
    ]
    if not kept_ones:
        st.info(f"None of {counted(len(listed), 'finding')} fits these filters." if listed else
                "There is no finding. An empty result is not a pass.", icon=":material/info:")  # fmt: skip
    at = _paged(len(kept_ones), "finding", "page")
    landmarks = limits_of(run.record.plan)
    before = None
    for section, one in kept_ones[at : at + _PER_PAGE]:
        if section is not before:
            before = section
            st.subheader(plain(section.title, 200), anchor=False)
        _finding(one, landmarks)
    sections = [section for section in findings.sections if not audit or cell(section.title, 120) == audit]
    at = _paged(len(sections), "section", "sections")
    for place, section in enumerate(sections[at : at + _PER_PAGE], start=at):
        _section(section, landmarks, place)
    if findings.limitations:
        with st.expander("What the run as a whole cannot show", icon=":material/info:"):
            st.markdown(_list(findings.limitations))
    _glossary(opened.key, findings)


def _paged(n: int, what: str, name: str) -> int:
    """Index of the first of ``n`` that is shown; where there is more than a page of them, ``name`` in the address."""
    pages = -(-n // _PER_PAGE)
    if pages <= 1:
        return 0
    at = st.number_input(f"Page of {what}s", min_value=1, max_value=pages, **kept(name, 1, Between(1, pages)))
    st.caption(f"{counted(n, what)}, {_PER_PAGE} on a page.")
    return (int(at) - 1) * _PER_PAGE


def _finding(one: Judged, landmarks: frozenset[float]) -> None:
    finding = one.finding
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            verdict_badge(one.verdict)
            st.caption(plain(finding.id, 120), width="content")
        st.markdown(plain(finding.claim, 2_000))
        rows = list(_numbers(one, landmarks))
        st.markdown("\n".join(f"- {line}" for line in rows[:_MOST_NUMBERS]))
        if len(rows) > _MOST_NUMBERS:
            with st.expander(f"{counted(len(rows) - _MOST_NUMBERS, 'further number')}"):
                st.markdown("\n".join(f"- {line}" for line in rows[_MOST_NUMBERS : _MOST_NUMBERS + 200]))
        if one.remark:
            st.markdown(plain(one.remark, 600))
        st.caption(plain(finding.how_to_read, 1_000))


def _numbers(one: Judged, landmarks: frozenset[float]) -> Iterator[str]:
    """Each number of a finding with its interval, n and method."""
    finding = one.finding
    for name, record in finding.estimates.items():
        told = estimate(record, landmarks)
        why = f" ({plain(record.why, 400)})" if record.why else ""
        yield f"{plain(name, 120)}: **{plain(told)}**, n {record.n:,}; {plain(method_note(record), 300)}{why}"
    for name, p in finding.p_values.items():
        yield f"{plain(name, 120)}: **p = {plain(p_value(p, landmarks))}**, n {p.n:,}; {plain(p.method, 300)}"
    if finding.power is not None:
        told = estimate(finding.power, landmarks)
        sought = f" to see {plain(finding.power_for, 300)}" if finding.power_for else ""
        why = f" ({plain(finding.power.why, 400)})" if finding.power.why and told == NOT_ESTIMABLE else ""
        yield f"power{sought}: **{plain(told)}**, n {finding.power.n:,}; {plain(finding.power.method, 300)}{why}"


def _section(section: AuditSection, landmarks: frozenset[float], place: int) -> None:
    with st.expander(f"How it was done, and what it cannot show: {plain(section.title, 120)}", icon=":material/info:"):
        st.markdown(plain(section.method, 3_000, lines=True))
        if section.assumptions:
            st.markdown(f"It supposes:\n\n{_list(section.assumptions)}")
        if section.cannot_show:
            st.markdown(f"It cannot show:\n\n{_list(section.cannot_show)}")
        if section.tables:
            names = [table.name for table in section.tables]
            titles = {table.name: cell(table.title, 120) for table in section.tables}
            name = st.selectbox("Table", names, index=None, format_func=titles.__getitem__, placeholder="Show a table",
                                key=f"table-{place}-{section.audit}-{section.title}")  # fmt: skip
            if name is not None:
                show_table(section.tables[names.index(name)], landmarks)


@st.cache_data(show_spinner=False, max_entries=50)
def _terms(key: str, _findings: Findings) -> tuple[tuple[str, str], ...]:
    """Words of the glossary in the findings; ``key`` changes with the run's files."""
    return terms_in(json.dumps(_findings.model_dump(mode="json")))


def _glossary(key: str, findings: Findings) -> None:
    terms = _terms(key, findings)
    if terms:
        with st.expander("Words", icon=":material/menu_book:"):
            st.markdown("\n".join(f"- **{plain(term)}**: {plain(meaning)}" for term, meaning in terms))


def _list(lines: Sequence[str], most: int = 60) -> str:
    more = [f"- and {len(lines) - most:,} more"] if len(lines) > most else []
    return "\n".join([*(f"- {plain(line, 600)}" for line in lines[:most]), *more])


# Plan and provenance


def _plan(opened: Opened, record: RunRecord) -> None:
    st.markdown("What was to be done, as it was written down before anything was scored.")
    path = opened.file("plan.toml")
    if path is not None:
        st.subheader("As it was given", anchor=False)
        st.code(block(_read(path), 20_000), language=None, wrap_lines=True)
    st.subheader("As it was carried out", anchor=False)
    st.caption("With the defaults filled in and the hashes of the inputs.")
    st.code(block(json.dumps(record.plan, indent=2, ensure_ascii=False), 20_000), language=None, wrap_lines=True)
    st.caption(f"SHA-256 of the plan: {plain(record.plan_sha256)}")
    if record.policy_sha256:
        st.caption(f"SHA-256 of the policy that it names: {plain(record.policy_sha256)}")
    if not plan_shows(record.plan):
        st.caption("This plan does not ask for texts to be shown in reports.")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(400_000).decode(errors="replace")
    except OSError as error:
        return f"could not be read: {error.strerror}"


def _provenance(opened: Opened, run: Run) -> None:
    record, made = run.record, run.record.provenance
    commit = "not recorded" if made.commit is None else made.commit
    _facts(
        "The run",
        {
            "Id": record.id,
            "Kind": record.kind,
            "State": run.state(),
            "Begun": made.created,
            "Ended": record.finished or "not yet",
            "Command": " ".join(made.command),
            "Palimpsest": made.palimpsest,
            "Commit": commit if not made.dirty else f"{commit}, with changes that were not committed",
            "Python": made.python,
            "Platform": made.platform,
        },
    )
    for role, subject in record.subjects.items():
        _facts(f"Model: {cell(role, 60)}", _flat(subject))
    _facts("Seeds", record.seeds)
    _facts("Machine", _flat(made.hardware))
    _facts("Packages", made.packages)
    if (test := record.self_test) is not None:
        _facts(
            "Self-test of the instrument, the last before this run",
            {"Passed": "yes" if test.passed else "no", "When": test.moment, "Palimpsest": test.palimpsest,
             **{f"instrument {name}": "passed" if good else "failed" for name, good in test.instruments.items()}},
        )  # fmt: skip
    st.subheader("Departures from the plan", anchor=False)
    try:
        departures = _deviations(opened, run)
    except (AuditError, OSError) as error:
        st.warning(plain(error, 1_000), icon=":material/warning:")
        return
    st.markdown(_list(departures) if departures else "None that the run could see.")


def _deviations(opened: Opened, run: Run) -> tuple[str, ...]:
    path = opened.file("opening.json")
    opening = None if path is None else read_record(path, OpeningRecord, missing="")
    return deviations_of(run.record, opened.findings or Findings(sections=()), run.attempts(), opening)


def _facts(title: str, facts: Mapping[str, Any]) -> None:
    if not facts:
        return
    st.subheader(plain(title, 120), anchor=False)
    frame = pd.DataFrame(
        {"": [cell(name, 120) for name in facts], "Value": [cell(value, 2_000) for value in facts.values()]}
    )
    widths = {"": st.column_config.TextColumn(width=200), "Value": st.column_config.TextColumn(width=600)}
    st.dataframe(frame, hide_index=True, column_config=widths, alt=title)


def _flat(value: Mapping[str, Any], before: str = "", most: int = 200) -> dict[str, Any]:
    """Nested tables as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{before}{name}.", most)
        else:
            flat[f"{before}{name}"] = json.dumps(inner) if isinstance(inner, list) else inner
    return dict(list(flat.items())[:most])


# Seal


def _seal(shop: Store, opened: Opened) -> None:
    seal = seal_of(opened)
    if seal.state == "unchecked" and st.button("Check the seal now", type="primary"):
        seal = seal_of(opened, asked=True)
        if seal.state != "none":
            shop.remember_seal(opened, seal.state)
    if seal.state != "broken":  # what is broken stands above every view
        draw = st.success if seal.state == "intact" else st.info
        draw(plain(seal.says, 600), icon=":material/verified:" if seal.state == "intact" else ":material/info:")
    if seal.problems:
        st.markdown(_list(seal.problems))
    if seal.head:
        st.subheader("Head", anchor=False)
        st.markdown("Compare it with the head that was published when the run was sealed. It holds all files.")
        st.code(cell(seal.head), language=None, wrap_lines=True)
        signed = f"Signed with the key {plain(seal.public_key)}." if seal.public_key else "Not signed."
        st.caption(f"Sealed {plain(seal.created or '')}. {signed} {seal.n_bytes / 2**20:,.1f} MiB were hashed.")
    if seal.notes:
        st.markdown(_list(seal.notes))
    st.markdown("On the command line:")
    verb = "seal" if seal.state == "none" else "verify"
    st.code(f"palimpsest runs {verb} {cell(opened.id, 120)}", language=None, wrap_lines=True)


# Time


def _time(run: Run) -> None:
    record = run.record
    attempts = len(run.attempts()) if record.status else 1
    total = sum(stage.seconds for stage in record.stages)
    cores = record.provenance.hardware.get("cores_allowed") or record.provenance.hardware.get("cores")
    gpus = record.provenance.hardware.get("gpu") or record.provenance.hardware.get("gpus")
    tiles = [
        ("In its stages", _duration(total), "Wall-clock time of all stages and attempts together."),
        ("From begin to end", _duration(_span(record)), "Waiting between attempts counts."),
        ("Attempts", f"{attempts:,}", "How often it was started."),
        ("Machine", f"{counted(int(cores), 'core')}" if isinstance(cores, int) else "-",
         "Cores that the run was allowed to use."),
    ]  # fmt: skip
    for column, (label, value, help_) in zip(st.columns(4), tiles, strict=True):
        column.metric(label, value, help=help_, border=True)
    if gpus:
        st.caption(f"GPU: {plain(json.dumps(gpus), 300)}")
    st.caption("The run records wall-clock time and the machine. It records no price and no energy.")
    if not record.stages:
        st.info("No stage has ended yet.", icon=":material/info:")
        return
    frame = _stages(record)
    st.altair_chart(_timeline(frame), width="stretch")
    st.dataframe(
        frame[["Stage", "Seconds", "Ended", "Detail"]],
        hide_index=True,
        column_config={
            "Seconds": st.column_config.NumberColumn(format="%.1f"),
            "Ended": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss"),
            "Detail": st.column_config.TextColumn(width="large"),
        },
        alt="Stages with their seconds",
    )


def _stages(record: RunRecord) -> pd.DataFrame:
    ends = pd.to_datetime([stage.finished for stage in record.stages], utc=True, errors="coerce", format="ISO8601")
    seconds = [stage.seconds for stage in record.stages]
    return pd.DataFrame(
        {
            "Stage": [cell(stage.name, 60) for stage in record.stages],
            "Seconds": seconds,
            "Ended": ends,
            "Begun": [end - timedelta(seconds=min(s, 3e7)) for end, s in zip(ends, seconds, strict=True)],
            "Detail": [_detail(stage.detail) for stage in record.stages],
        }
    )


def _detail(detail: Mapping[str, Any]) -> str:
    return cell("; ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in detail.items()), 400)


def _timeline(frame: pd.DataFrame) -> alt.Chart:
    """One bar for each stage; of a stage of several attempts the bar ends where it ended and is as long as all."""
    drawn = frame.dropna(subset=["Ended"])[["Stage", "Seconds", "Begun", "Ended"]]
    return (
        alt.Chart(drawn, height=alt.Step(26))
        .mark_bar(color=SERIES[0], stroke=SERIES[0], strokeWidth=2)
        .encode(
            x=alt.X("Begun:T", title="UTC", scale=alt.Scale(type="utc"), axis=alt.Axis(format="%H:%M")),
            x2="Ended:T",
            y=alt.Y("Stage:N", sort=None, title=None, axis=alt.Axis(labelLimit=160)),
            tooltip=[
                "Stage:N",
                alt.Tooltip("Seconds:Q", format=",.1f"),
                alt.Tooltip("Ended:T", format="%d %b %H:%M:%S"),
            ],
        )
    )


def _span(record: RunRecord) -> float | None:
    try:
        begun = datetime.fromisoformat(record.provenance.created)
        return (datetime.fromisoformat(record.finished or "") - begun).total_seconds()
    except (ValueError, TypeError):
        return None


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds < 0:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"

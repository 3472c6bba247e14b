"""May the model ship? Each rule of a policy: its bound, whether it holds and why, and what would have to change."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pandas as pd
import streamlit as st

from audit.errors import AuditError
from audit.gates.formats.junit import as_junit
from audit.gates.formats.sarif import as_sarif
from audit.gates.formats.text import as_text, family_text
from audit.gates.policy import LoadedPolicy, Policy, Rule, load_policy
from audit.gates.result import GateResult, Outcome, Overall, RuleOutcome
from audit.gates.shipped import shipped
from audit.gates.verdict import gate
from audit.report.gate import shown_gate
from audit.report.numbers import plain as number
from audit.text.safe import counted, printable

from ..address import chosen_run, kept
from ..plain import block, cell, plain
from ..store import Opened, Store
from ..theme import Colour

_OWN: Final = "your own"
_MOST_POLICY: Final = 1_000_000  # characters
_OUTCOMES: Final[dict[Outcome, tuple[str, Colour]]] = {
    "pass": ("Holds", "green"),
    "breached": ("Breached", "red"),
    "inconclusive": ("Inconclusive", "orange"),
    "missing": ("Missing", "orange"),
    "waived": ("Waived", "violet"),
    "skipped": ("Skipped", "gray"),
    "not assessed": ("Not assessed", "gray"),
}
_TONES: Final[dict[Overall, Colour]] = {
    "pass": "green", "breached": "red", "inconclusive": "orange", "self-test failed": "violet",
}  # fmt: skip
_EXAMPLE: Final = """schema_version = 1
name = "ours"
title = "Our release policy"
reading = "Ours."

[[rules]]
id = "no-traps"
title = "No trap is remembered"
estimate = "traps.overall/verdict"
one_of = ["not found"]
"""


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Gate", anchor=False)
    st.markdown(
        "A policy is a list of rules over the numbers of a run. A rule looks at the end of the interval that is "
        "against a release, not at the point estimate, and what is missing or too weak is not a pass. Nothing is "
        "measured anew."
    )
    opened = chosen_run(shop)
    if opened is None:
        return
    if opened.folder is None or opened.run is None or opened.findings is None:
        st.markdown("It cannot be judged. Choose another run on the left.")
        return
    chosen = _policy()
    folders = _further(shop, opened)
    if chosen is None:
        return
    loaded, text = chosen
    today = datetime.now(UTC).date()
    try:
        result = gate([opened.folder, *folders], loaded, today=today, different_models=False)
    except (AuditError, OSError) as error:
        st.error(
            plain(_without_paths(str(error), [opened.folder, *folders], shop), 3_000, lines=True),
            icon=":material/warning:",
        )
        return
    _verdict(result)
    _rules(result, loaded.policy)
    _about(result, loaded, text, today)


def _policy() -> tuple[LoadedPolicy, str] | None:
    """The policy that was chosen and its text; None, with a message, where it cannot be read."""
    known = shipped()
    titles = _titles()
    default = "strict" if "strict" in known else next(iter(known), _OWN)
    name = st.selectbox(
        "Policy", [*known, _OWN], format_func=lambda name: titles.get(name, "Your own policy"),
        **kept("policy", default, [*known, _OWN]),
    )  # fmt: skip
    if name != _OWN:
        return _read(known[name], name)
    given = st.file_uploader("A policy file in TOML", type=["toml"], max_upload_size=1)
    before = _EXAMPLE if given is None else given.getvalue().decode(errors="replace")
    text = st.text_area("Text of the policy", before, height=260, max_chars=_MOST_POLICY)
    st.caption(
        "It stays here: it is neither kept nor sent anywhere else. Rules are explained in docs/methods/gates.md."
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.toml")
        path.write_text(text, encoding="utf-8", errors="replace")
        return _read(path, "this policy")


def _read(path: Path, called: str) -> tuple[LoadedPolicy, str] | None:
    """A policy and its text; None, with what is wrong with it, where it cannot be read."""
    try:
        return load_policy(path), path.read_text(encoding="utf-8")
    except (AuditError, OSError, ValueError) as error:
        st.error(plain(str(error).replace(str(path), called), 3_000, lines=True), icon=":material/warning:")
        return None


@st.cache_data(show_spinner=False)
def _titles() -> dict[str, str]:
    """Name -> name and title of each shipped policy."""
    titles = {}
    for name, path in shipped().items():
        try:
            titles[name] = cell(f"{name}: {load_policy(path).policy.title}", 140)
        except AuditError:
            titles[name] = name  # choosing it says what is wrong
    return titles


def _further(shop: Store, opened: Opened) -> list[Path]:
    """Folders of runs that are judged together with the chosen one."""
    folders = shop.folders()
    others = [row.id for row in shop.rows() if row.id != opened.id and row.state == "complete" and row.problem is None]
    if not others:
        return []
    chosen = st.multiselect(
        "Judge together with", others, format_func=lambda id_: cell(id_, 80), placeholder="No other run",
        help="Runs of the same model, for instance an audit and an evaluation of utility. A rule must hold in each.",
        **kept("with", [], others),
    )  # fmt: skip
    return [folders[id_] for id_ in chosen if id_ in folders]


def _verdict(result: GateResult) -> None:
    told = shown_gate(result)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(told.label, color=_TONES[result.verdict])
            st.caption(plain(told.policy, 200), width="content")
        st.markdown(plain(told.meaning, 1_000))
        st.markdown(plain(result.summary, 2_000))


def _rules(result: GateResult, policy: Policy) -> None:
    asked = {rule.id: rule for rule in policy.rules}
    in_the_way = {rule.id for rule in shown_gate(result).blocking}
    choices = ["All rules", "In the way"]
    wanted = st.segmented_control("Rules", choices, label_visibility="collapsed",
                                  **kept("rules", choices[0], choices)) or choices[0]  # fmt: skip
    listed = sorted(result.rules, key=lambda rule: rule.id not in in_the_way)
    if wanted == "In the way":
        listed = [rule for rule in listed if rule.id in in_the_way]
    if not listed:
        st.info("No rule stands in the way." if result.rules else "The policy has no rule.", icon=":material/info:")
    for rule in listed[:200]:
        _rule(rule, asked.get(rule.id), policy.multiplicity.alpha)
    if len(listed) > 200:
        st.caption(f"{len(listed) - 200:,} further rules are in the result below.")


def _rule(rule: RuleOutcome, asked: Rule | None, alpha: float) -> None:
    label, colour = _OUTCOMES[rule.outcome]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(label, color=colour)
            if rule.severity != "block":
                st.badge("Warns only" if rule.severity == "warn" else "For information", color="gray")
            st.caption(plain(rule.id, 120), width="content")
        st.markdown(f"**{plain(rule.title, 300)}**")
        if asked is not None and asked.estimate is not None:
            st.markdown(f"Bound: {plain(_bound(asked, alpha))}")
        st.markdown(plain(rule.reason, 1_500))
        if rule.outcome not in ("pass", "not assessed"):
            st.markdown(f"What would have to change: {plain(rule.change, 1_500)}")
        if rule.clause:
            st.caption(f"{plain(rule.evidence)}: {plain(rule.clause, 600)}")
        if rule.not_covered:
            st.caption(f"Not covered: {plain(rule.not_covered, 600)}")
        if rule.tests:
            with st.expander(f"{counted(len(rule.tests), 'number')} looked at"):
                _tests(rule)


def _bound(rule: Rule, alpha: float) -> str:
    """What the rule asks of which estimate, in words."""
    if rule.one_of is not None:
        asks = f"must say {' or '.join(rule.one_of)}"
    else:
        low, high = rule.ends
        if rule.kind == "p-value":
            low, high = (alpha, high) if rule.direction == "at_least" else (low, alpha)
        asks = {
            "between": f"must lie between {low:g} and {high:g}",
            "at_most": f"must be at most {high:g}",
            "at_least": f"must be at least {low:g}",
        }.get(rule.direction or "", "is looked at")
        if rule.kind == "number":
            asks += ", by its confidence bound against the release" if rule.bound == "against" else ", by its value"
        elif rule.kind == "p-value":
            asks += ", after the correction for several tests"
    beside = f" less {rule.reference}" if rule.reference is not None else ""
    further = [
        told
        for asked, told in (
            (rule.min_power, f"power of at least {rule.min_power}"),
            (rule.max_effect, f"for an effect of at most {rule.max_effect}"),
            (rule.min_n, f"n of at least {rule.min_n}"),
        )
        if asked is not None
    ]
    if rule.only_against:
        further.append("it can speak against a release only, never for it")
    return f"{rule.estimate}{beside} {asks}{''.join(f'; {told}' for told in further)}"


def _tests(rule: RuleOutcome) -> None:
    for test in rule.tests[:40]:
        label, colour = _OUTCOMES[test.outcome]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(label, color=colour)
            st.markdown(plain(test.address, 200), width="content")
        told = _numbers({
            "value": test.value, "low": test.low, "high": test.high, "level": test.level, "n": test.n, "p": test.p,
            "p corrected": test.p_corrected, "smallest possible p": test.attainable, "power": test.power,
        })  # fmt: skip
        verdict = [f"verdict {plain(test.verdict)}"] if test.verdict is not None else []
        change = f"What would have to change: {plain(test.change, 1_000)}"
        lines = ("; ".join([*told, *verdict]), plain(test.reason, 1_000), change)
        st.markdown("\n\n".join(line for line in lines if line))
    if len(rule.tests) > 40:
        st.caption(f"{len(rule.tests) - 40:,} further numbers are in the result below.")


def _numbers(values: dict[str, float | int | None]) -> list[str]:
    return [f"{name} {plain(number(float(value)))}" for name, value in values.items() if value is not None]


def _about(result: GateResult, loaded: LoadedPolicy, text: str, today: date) -> None:
    if said := family_text(result):
        st.caption(plain(said, 2_000))
    waivers = shown_gate(result).waivers
    if waivers:
        st.subheader("Waivers", anchor=False)
        st.markdown("\n".join(f"- {plain(waiver, 1_000)}" for waiver in waivers[:60]))
    with st.expander("The policy, and which runs were judged", icon=":material/info:"):
        st.markdown(f"**{plain(result.policy.title, 300)}** ({plain(result.policy.name)})")
        st.markdown(plain(result.policy.reading, 2_000, lines=True))
        st.caption(f"SHA-256 {result.policy.sha256}; waivers are read on {today.isoformat()} (UTC).")
        frame = pd.DataFrame([
            {"Run": cell(run.id, 120), "Kind": cell(run.kind), "Begun": cell(run.created), "Seal": cell(run.seal),
             "Weights": cell(run.model_weights or "not recorded"), "Findings": run.findings_sha256}
            for run in result.runs
        ])  # fmt: skip
        st.dataframe(frame, hide_index=True, alt="Runs that were judged")
        st.code(block(text, 30_000), language=None, wrap_lines=True)
    st.subheader("The result as a file", anchor=False)
    with st.container(horizontal=True):
        where = Path(f"{loaded.path.name}")
        files = (
            ("Text", "gate.txt", "text/plain", as_text(result)),
            ("JSON", "gate.json", "application/json", result.canonical()),
            ("JUnit", "gate.xml", "application/xml", as_junit(result)),
            ("SARIF", "gate.sarif", "application/json", as_sarif(result, where)),
        )
        for label, name, mime, content in files:
            st.download_button(label, content, name, mime, key=f"gate-{label}", on_click="ignore",
                               icon=":material/download:")  # fmt: skip
    st.caption(f"The same verdict in CI: palimpsest gate RUN --policy {plain(loaded.policy.name)}. Its exit code is "
               f"{result.exit_code}.")  # fmt: skip


def _without_paths(said: str, folders: Sequence[Path], shop: Store) -> str:
    for folder in (*folders, shop.root):
        said = said.replace(f"{printable(folder)}/", "").replace(printable(folder), folder.name)
    return said

"""What a page shows stands in its address: the run and the filters. A link opens the same again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import streamlit as st

from audit.report.sections import model_name, overview

from .plain import cell, plain
from .sealing import seal_of
from .store import Opened, Row, Store
from .theme import Colour, verdict_badge

RUN = "run"
_PICKER = "picked-run"
_LONGEST = 500  # characters of a value in an address
_SEAL_BADGES: Final[dict[str, tuple[str, Colour, str]]] = {
    "intact": ("Seal holds", "green", ":material/verified:"),
    "broken": ("Seal broken", "red", ":material/gpp_bad:"),
    "unchecked": ("Seal not checked", "gray", ":material/gpp_maybe:"),
}


class Between(NamedTuple):
    """The numbers that a filter allows: all from ``low`` to ``high``, both included."""

    low: float
    high: float


def numbered(name: str, place: int) -> str:
    """Name of a filter that a page draws more than once: the first keeps its name, the second is ``name-2``."""
    return name if place == 0 else f"{name}-{place + 1}"


def chosen_run(shop: Store, kinds: Collection[str] | None = None) -> Opened | None:
    """Draws the picker of runs in the sidebar, and says what is wrong with the one that is chosen.

    The run stands in the address as ``run``, and stays when the page is switched. Without one, it is the newest.

    Args:
        shop: The runs.
        kinds: Kinds of runs that are offered; None stands for all.

    Returns:
        The run; its ``problem`` has been shown. None where there is none to show, which has been said.
    """
    rows = {row.id: row for row in shop.rows()}
    asked = st.query_params.get(RUN) or st.session_state.get(RUN)
    offered = [row.id for row in rows.values() if kinds is None or row.kind in kinds or row.id == asked]
    if asked is not None and asked not in rows:
        st.error(
            f"There is no run “{plain(asked, 100)}” in this folder of runs. Choose one on the left.",
            icon=":material/warning:",
        )
    elif asked is None and offered:
        asked = next((id_ for id_ in offered if rows[id_].problem is None), offered[0])
    if not offered:
        _no_runs(shop, kinds)
        return None
    st.session_state[_PICKER] = asked if asked in rows else None
    with st.sidebar:
        st.selectbox(
            "Run",
            offered,
            format_func=lambda id_: _option(rows[id_]),
            key=_PICKER,
            placeholder="Choose a run",
            on_change=_run_was_picked,
        )
    if asked not in rows:
        return None
    go_to(asked)
    opened = shop.open(asked)
    _headline(shop, opened)
    return opened


def _headline(shop: Store, opened: Opened) -> None:
    """Which run this is, its verdict and seal, and what is wrong with it."""
    seal = seal_of(opened)
    if seal.state != "none":
        shop.remember_seal(opened, seal.state)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if opened.findings is not None:
            verdict_badge(overview(opened.findings).verdict)
        if opened.run is not None and not opened.run.complete:
            st.badge(plain(opened.run.state(), 40), color="orange")
        if seal.state != "none":
            label, colour, icon = _SEAL_BADGES[seal.state]
            st.badge(label, color=colour, icon=icon)
        told = [f"Run **{plain(opened.id, 80)}**"]
        if opened.run is not None:
            record = opened.run.record
            told += [
                plain(part, 80) for part in (model_name(record), record.kind, record.provenance.created[:10]) if part
            ]
        st.markdown(" · ".join(told), width="content")
    if opened.problem:
        st.warning(plain(opened.problem, 3_000, lines=True), icon=":material/warning:")
    if seal.state == "broken":
        listed = "\n".join(f"- {plain(problem)}" for problem in seal.problems[:3])
        st.error(f"{plain(seal.says)}\n\n{listed}", icon=":material/gpp_bad:")


def open_page(name: str, **query: str) -> None:
    """Goes to another page; only where the whole application runs."""
    page = st.session_state.get("pages", {}).get(name)
    if page is not None:
        st.switch_page(page, query_params=query)


def go_to(id_: str) -> None:
    """Makes ``id_`` the run of this session and of the address."""
    st.session_state[RUN] = id_
    if st.query_params.get(RUN) != id_:
        st.query_params[RUN] = id_


def _run_was_picked() -> None:
    if (picked := st.session_state[_PICKER]) is not None:
        go_to(picked)


def _option(row: Row) -> str:
    told = [cell(row.id, 60)]
    if row.date:
        told.append(cell(row.date[:10]))
    if row.state not in ("complete", "unreadable") or row.wrong:
        told.append("has a problem" if row.state in ("complete", "unreadable") else cell(row.state, 30))
    return " · ".join(told)


def _no_runs(shop: Store, kinds: Collection[str] | None) -> None:
    if (problem := shop.unlisted()) is not None:
        st.error(plain(problem, 600), icon=":material/warning:")
    elif kinds is None:
        st.info("There are no runs in this folder yet. The page Overview says how to make one.", icon=":material/info:")
    else:
        st.info(
            f"There is no run of this kind ({plain(', '.join(sorted(kinds)))}) in this folder of runs.",
            icon=":material/info:",
        )


def kept(name: str, default: Any, allowed: Sequence[Any] | None = None) -> dict[str, Any]:
    """Arguments of a widget whose value stands in the address: ``st.selectbox("Score", scores, **kept("score", ...))``.

    The widget gets neither ``index`` nor ``value``: its value is what the address says, else ``default``. A value in
    the address that is not allowed, or of another type than ``default``, counts as absent.

    Args:
        name: In the address, and the widget's key.
        default: Value where the address says nothing; text, int, float, bool, or a list of texts.
        allowed: The values there are, or `Between` two numbers. None allows every value of the type.
    """
    st.session_state[name] = value_of(name, default, allowed)
    return {"key": name, "on_change": _was_changed, "args": (name, default)}


def value_of(name: str, default: Any, allowed: Sequence[Any] | None = None) -> Any:
    """The value that the address gives a filter, else ``default``; as in `kept`."""
    if isinstance(default, list):
        given = [value for value in st.query_params.get_all(name) if allowed is None or value in allowed]
        return given or default
    text = st.query_params.get(name)
    if text is None or len(text) > _LONGEST:
        return default
    value = _read(text, default, allowed)
    return default if value is None else value


def _read(text: str, default: Any, allowed: Sequence[Any] | None) -> Any:
    """The text as a value of ``default``'s type; None where it is none."""
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text)
    if isinstance(default, int | float):
        try:
            number = type(default)(text)
        except ValueError:
            return None
        if allowed is None:
            return number if abs(number) < 1e300 else None  # no NaN, no infinity
        fits = allowed.low <= number <= allowed.high if isinstance(allowed, Between) else number in allowed
        return number if fits else None
    if allowed is None:
        return text
    return next((value for value in allowed if str(value) == text), None)


def _was_changed(name: str, default: Any) -> None:
    value = st.session_state[name]
    if value is None or value == default:
        st.query_params.pop(name, None)
    elif isinstance(value, list | tuple):
        st.query_params[name] = [str(one) for one in value]
    else:
        st.query_params[name] = str(value).lower() if isinstance(value, bool) else str(value)

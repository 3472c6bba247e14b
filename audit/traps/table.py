"""The table of dealt traps that an audit starts from: one row per trap, decoys included."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import DataError
from ..text.safe import quoted

if TYPE_CHECKING:
    from .generate import Trap

ALL = "all traps"  # the owner where none is named
REQUIRED = {"trap_id": str, "text": str, "arm": str, "n_rep": int, "length": int, "stratum": str}


def to_table(traps: Sequence[Trap]) -> pa.Table:
    """One row per trap, with everything that the audit and a later reader need."""
    rows: list[dict[str, Any]] = [
        {
            "trap_id": trap.candidate.id,
            "text": trap.candidate.text,
            "arm": trap.arm,
            "n_rep": trap.n_rep,
            "length": trap.candidate.length,
            "bucket": trap.candidate.bucket,
            "stratum": trap.candidate.stratum,
            "generator_perplexity": trap.candidate.perplexity,
        }
        for trap in traps
    ]
    return pa.Table.from_pylist(rows)


def check_table(table: pa.Table, *, source: str) -> pd.DataFrame:
    """The table as a data frame, once it is certain that the tests can be made on it.

    Args:
        table: At least the columns ``trap_id, text, arm, n_rep, length, stratum``. Where they are there, ``owner``
            (text) tells whose trap it is, ``documents`` (list of text) which documents hold a copy, and ``n_exact``
            and ``n_near`` how many of a member's copies are exact and near ones; null where that is not known.
        source: Where it came from, for the message.

    Raises:
        DataError: A column is missing or twice there, a cell is empty or of the wrong type, a text is not UTF-8, an id
            or a text occurs twice, an arm is neither "member" nor "decoy", a member has no copies or a decoy has some,
            exact and near copies do not add up, or a stratum with members has no decoys.
    """
    twice_named = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice_named:
        raise DataError(f"{source} has more than one column {twice_named[0]!r}; expected every name once.")
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)}; a table of traps needs {', '.join(REQUIRED)}."
        )
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{source} holds a damaged value, such as a text that is not UTF-8: {error}.") from error
    frame = table.to_pandas()
    if frame[list(REQUIRED)].isna().any(axis=None):
        place = frame[list(REQUIRED)].isna().any()
        raise DataError(f"{source}: column {place.idxmax()} has empty cells; fill them or leave the rows out.")
    for name, kind in REQUIRED.items():
        values = frame[name].tolist()
        wrong = [row for row, value in enumerate(values) if not isinstance(value, kind) or isinstance(value, bool)]
        if wrong:
            raise DataError(
                f"{source}, row {wrong[0] + 1}: {name} is {values[wrong[0]]!r}; expected {kind.__name__} in every row."
            )
        blank = [row for row, value in enumerate(values) if kind is str and not value.strip()]
        if blank:
            raise DataError(f"{source}, row {blank[0] + 1}: {name} is blank; fill it or leave the row out.")
    twice = frame["trap_id"][frame["trap_id"].duplicated()]
    if len(twice):
        raise DataError(
            f"{source}, row {twice.index[0] + 1}: trap {quoted(twice.iloc[0])} occurs more than once; every trap needs "
            "an id of its own."
        )
    _refuse_same_texts(frame, source)
    unknown = frame[~frame["arm"].isin(["member", "decoy"])]
    if len(unknown):
        raise DataError(
            f'{source}, row {unknown.index[0] + 1}: arm is {unknown["arm"].iloc[0]!r}; expected "member" or "decoy".'
        )
    if (frame["length"] < 1).any():
        short = frame["length"].lt(1).idxmax()
        raise DataError(f"{source}, row {short + 1}: length is {frame['length'][short]}; expected 1 token or more.")
    member = frame["arm"] == "member"
    if not member.any():
        raise DataError(f"{source} has no members; there is nothing to test.")
    copies = (member & (frame["n_rep"] < 1)) | (~member & (frame["n_rep"] != 0))
    if copies.any():
        raise DataError(f"{source}, row {copies.idxmax() + 1}: members need n_rep of 1 or more, and decoys n_rep 0.")
    frame = _with_groups(frame, source)
    _check_copies(frame, source)
    alone = sorted(set(frame.loc[member, "stratum"]) - set(frame.loc[~member, "stratum"]))
    if alone:
        raise DataError(
            f"{source}: stratum {alone[0]!r} has members but no decoys, so nothing there can be tested; "
            "every stratum needs unplanted controls from the same draw."
        )
    return frame


def near_copies(items: pd.DataFrame, n_rep: int) -> str:
    """What an arm's name hides: "Of the 10 copies of each trap, 1 is exact and 9 are near copies."

    Args:
        items: A checked table.
        n_rep: Copies of the arm's traps.

    Returns:
        A sentence, with the range where traps differ; empty when no copy is known to be a near one.
    """
    if "n_near" not in items:
        return ""
    arm = items[(items["arm"] == "member") & (items["n_rep"] == n_rep)]
    known = arm[arm["n_near"].notna()]
    if not len(known) or known["n_near"].max() == 0:
        return ""
    exact = _range(int(known["n_exact"].min()), int(known["n_exact"].max()))
    near = _range(int(known["n_near"].min()), int(known["n_near"].max()))
    where = "Of" if len(known) == len(arm) else "Where placements were given, of"
    return f"{where} the {n_rep:,} copies of each trap, {exact} exact and {near} near copies."


def _range(least: int, most: int) -> str:
    if least == most:
        return f"{most:,} {'is' if most == 1 else 'are'}"
    return f"{least:,} to {most:,} are"


def _refuse_same_texts(frame: pd.DataFrame, source: str) -> None:
    """A text that stands twice is no trap of its own, and one that is member and decoy was published."""
    same = pd.Series([" ".join(unicodedata.normalize("NFC", text).split()) for text in frame["text"]])
    if not same.duplicated().any():
        return
    row = int(same.duplicated().idxmax())
    first = int((same == same[row]).idxmax())
    arms = {frame["arm"][first], frame["arm"][row]}
    why = (
        "A decoy must never have been published"
        if arms == {"member", "decoy"}
        else "Traps are counted as independent, so each text may count once"
    )
    raise DataError(
        f"{source}, rows {first + 1} and {row + 1}: traps {quoted(frame['trap_id'][first])} and "
        f"{quoted(frame['trap_id'][row])} have the same text ({quoted(frame['text'][row])}), white space and Unicode "
        f"form aside. {why}: leave one out."
    )


def _check_copies(frame: pd.DataFrame, source: str) -> None:
    """Exact and near copies must be those of ``n_rep``, where they are known."""
    if "n_exact" not in frame and "n_near" not in frame:
        return
    if "n_exact" not in frame or "n_near" not in frame:
        raise DataError(f"{source} has one of the columns n_exact and n_near; give both, or neither.")
    for row, (exact, near, n_rep) in enumerate(zip(frame["n_exact"], frame["n_near"], frame["n_rep"], strict=True), 1):
        if pd.isna(exact) and pd.isna(near):
            continue
        if pd.isna(exact) or pd.isna(near) or min(exact, near) < 0 or exact + near != n_rep:
            raise DataError(
                f"{source}, row {row}: n_exact is {exact} and n_near {near}; expected numbers of copies that add up to "
                f"n_rep, {n_rep}."
            )
    for name in ("n_exact", "n_near"):
        frame[name] = frame[name].astype("Int64")


def _with_groups(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Fills in ``owner`` and ``documents`` where they are not given, and makes strata those of one owner."""
    if "owner" not in frame:
        frame["owner"] = ALL
    if "documents" not in frame:
        frame["documents"] = [()] * len(frame)
    for row, (owner, documents) in enumerate(zip(frame["owner"], frame["documents"], strict=True), 1):
        if not isinstance(owner, str) or not owner.strip():
            raise DataError(
                f"{source}, row {row}: owner is {owner!r}; expected a name in every row, or no such column."
            )
        if not _are_names(documents):
            raise DataError(f"{source}, row {row}: documents is {documents!r}; expected a list of names.")
    frame["documents"] = [() if documents is None else tuple(documents) for documents in frame["documents"]]
    if frame["owner"].nunique() > 1:
        frame["stratum"] = frame["owner"] + ": " + frame["stratum"]
    return frame


def _are_names(documents: Any) -> bool:
    if documents is None:
        return True
    return isinstance(documents, list | tuple | np.ndarray) and all(isinstance(name, str) for name in documents)

"""What the dictionary and the labels did to a text, for its owner's eyes: terms replaced, and labels token by token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from audit.runs.schema import Column, Table
from audit.text.safe import quoted

from .anchors import Anchors
from .blocks import Block
from .config import WhpPlan
from .label_table import movements
from .translate import Translated

MOST_TERMS = 100  # rows of the table of terms
MOST_SUBSTITUTES = 5
PLACES = (1.0, 0.75, 0.5, 0.0)  # of the blocks in order of movement: which are shown
MOST_TOKENS = 160  # of a block that are shown
#: One row for each piece of a shown block. ``nats`` is None where nothing is asked, 0 where the label is the token.
VIEWS = pa.schema(
    [("view", pa.int64()), ("title", pa.string()), ("note", pa.string()), ("text", pa.string()), ("label", pa.string()),
     ("nats", pa.float64())]
)  # fmt: skip


def anchor_table(anchors: Anchors, translations: Sequence[Translated]) -> Table:
    """The dictionary's terms, those that were replaced most often first; what is cut is counted."""
    times = Counter(one.key for translation in translations for one in translation.replaced)
    ordered = sorted(anchors, key=lambda anchor: -times[anchor.key])
    n_unused = sum(not times[anchor.key] for anchor in anchors)
    note = f"{len(ordered):,} terms, replaced {times.total():,} times in all; {n_unused:,} of them never."
    if len(ordered) > MOST_TERMS:
        n_more = len(ordered) - MOST_TERMS
        note += f" The {MOST_TERMS:,} most frequent are shown; {n_more:,} more stand in the dictionary."
    return Table(
        name="anchors",
        title="The dictionary",
        note=note,
        columns=(
            Column(key="term", label="Term"),
            Column(key="kind", label="Kind"),
            Column(key="substitutes", label="Substitutes", help="one of them is drawn for each block"),
            Column(key="times", label="Times replaced"),
        ),
        rows=tuple(
            {
                "term": anchor.key,
                "kind": anchor.kind or "not said",
                "substitutes": _cut(anchor.substitutes),
                "times": times[anchor.key],
            }
            for anchor in ordered[:MOST_TERMS]
        ),
    )


def _cut(substitutes: Sequence[str]) -> str:
    more = len(substitutes) - MOST_SUBSTITUTES
    return ", ".join(substitutes[:MOST_SUBSTITUTES]) + (f", and {more:,} more" if more > 0 else "")


def token_views(
    labels: pa.Table, blocks: Sequence[Block], plan: WhpPlan, decode: Callable[[Sequence[int]], str]
) -> pa.Table:
    """A few blocks, token by token: what stands there, the label, and how far it moved.

    Blocks are put in order of their labels' mean movement, and the first of them, one after a quarter, the middle one
    and the last are shown: a choice of the strongest alone would make the method look sharper than it is.

    Args:
        labels: Table of `unlearn.whp.label_table.label`.
        blocks: The blocks that were labelled, with their text.
        plan: As of the labels.
        decode: Token ids -> text.

    Returns:
        Columns as in `VIEWS`; the texts of a view, joined, are what is shown of the block.
    """
    moved = movements(labels, plan).to_pandas()
    moved["size"] = moved["nats"].abs()
    by_block = moved.groupby("block")["size"].mean().sort_values(kind="stable")
    if by_block.empty:
        return VIEWS.empty_table()
    places = dict.fromkeys(round(share * (len(by_block) - 1)) for share in PLACES)
    numbered = {block.number: block for block in blocks}
    rows = []
    for view, place in enumerate(places):
        number = int(by_block.index[place])
        block, of_block = numbered[number], moved[moved["block"] == number]
        nats = dict(zip(of_block["place"].tolist(), of_block["nats"].tolist(), strict=True))
        other = of_block[of_block["token"] != of_block["label"]]
        labels_at = dict(zip(other["place"].tolist(), other["label"].tolist(), strict=True))
        n_other = len(other)
        title = f"Block {number + 1:,}: {n_other:,} of {len(of_block):,} labels are another token"
        title += f"; mean movement {by_block.iloc[place]:.3g} nats, rank {len(by_block) - place:,} of {len(by_block):,}"
        note = _strongest(of_block.sort_values("size", ascending=False, kind="stable").head(5), decode)
        if len(block.token_ids) > MOST_TOKENS:
            note += f" The first {MOST_TOKENS:,} of {len(block.token_ids):,} tokens are shown."
        for text, at in _pieces(block)[:MOST_TOKENS]:
            label = decode([int(labels_at[at])]) if at in labels_at else None
            rows.append(
                {"view": view, "title": title, "note": note, "text": text, "label": label, "nats": nats.get(at)}
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=VIEWS)


def _pieces(block: Block) -> list[tuple[str, int]]:
    """(text, place) of each token; white space between two belongs to the later one."""
    pieces: list[tuple[str, int]] = []
    reached = 0
    for place, (_, end) in enumerate(block.offsets):
        if end > reached:  # else a token without characters, or a further one of the same character
            pieces.append((block.text[reached:end], place))
            reached = end
    return pieces


def _strongest(rows: Any, decode: Callable[[Sequence[int]], str]) -> str:
    told = [
        f"{quoted(decode([int(row.token)]))} -> {quoted(decode([int(row.label)]))} ({row.nats:+.3g} nats)"
        for row in rows.itertuples()
        if row.token != row.label
    ]
    return f"Moved furthest: {', '.join(told)}." if told else "No label moved."

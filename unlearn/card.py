"""The model card of an unlearned model: what was removed, how, and what was found."""

from __future__ import annotations

from collections.abc import Mapping

from audit.report.numbers import estimate, method_note
from audit.report.tables import markdown_escaped
from audit.runs.schema import EstimateRecord

from .findings import Change

NOT_VERIFIED = (
    "Nothing here says that the text is gone. Not verified: audit this model before you rely on it. The knowledge may\n"
    "be suppressed rather than removed, and come back with other prompts, further training or quantisation."
)


def model_card(
    made_from: str,
    how: str,
    facts: Mapping[str, str],
    *,
    found: Mapping[str, Change] | None = None,
    verification: str = "",
) -> str:
    """The text of a ``README.md``.

    Args:
        made_from: The baseline.
        how: What was done to it, as Markdown.
        facts: Lines of the table: what was unlearned, settings.
        found: What was measured before the first step and in the result, from `unlearn.findings.changes`.
        verification: What an audit of this very model found, as Markdown; without it the card says that there was none.
    """
    lines = [
        "---",
        "tags:",
        "- unlearned",
        "---",
        "# A model with a text unlearned",
        "",
        f"Made from {markdown_escaped(made_from)} by Palimpsest's {how}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {markdown_escaped(value)} |" for name, value in facts.items()),
        "",
    ]
    if found:
        lines += [
            "Measured while it was trained, on the forget text itself and on prompts from it:",
            "",
            "| | Before | This model | n | Method |",
            "|---|---|---|---|---|",
            *(_row(one) for one in found.values()),
            "",
        ]
    return "\n".join([*lines, verification or NOT_VERIFIED, ""])


def _row(one: Change) -> str:
    before, after = EstimateRecord.of(one.before), EstimateRecord.of(one.after)
    cells = (one.name, estimate(before), estimate(after), f"{after.n:,}", method_note(after) + _why(after))
    return f"| {' | '.join(map(markdown_escaped, cells))} |"


def _why(one: EstimateRecord) -> str:
    return f" ({one.why})" if one.why else ""

"""The model card of an unlearned model: what was removed, how, how to load it, and what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

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
    adapter: bool = False,
    alarms: Sequence[str] = (),
    found: Mapping[str, Change] | None = None,
    verification: str = "",
) -> str:
    """The text of a ``README.md``.

    Args:
        made_from: The baseline.
        how: What was done to it, as Markdown.
        facts: Lines of the table: what was unlearned, settings.
        adapter: Whether the folder holds an adapter over the baseline, and no model of its own.
        alarms: What `unlearn.alarms.alarms` makes of what was found.
        found: What was measured before the first step and in the result, from `unlearn.findings.changes`.
        verification: What an audit of this very model found, as Markdown; without it the card says that there was none.
    """
    lines = [
        "---",
        *([f"base_model: {json.dumps(made_from)}", "library_name: peft"] if adapter else []),
        "tags:",
        "- unlearned",
        "---",
        "# A model with a text unlearned",
        "",
        f"Made from {markdown_escaped(made_from)} by Palimpsest's {how}",
        "",
        *(markdown_escaped(line) + "\n" for line in alarms),
        *(_adapter(made_from) if adapter else []),
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


def _adapter(made_from: str) -> list[str]:
    """How an adapter is loaded. The model is told to JSON's rules, which are Python's too for a text."""
    model = json.dumps(made_from)
    return [
        "This is a LoRA adapter: it is of use only over the model that it was made from. In Python:",
        "",
        "    from transformers import AutoModelForCausalLM",
        "    from peft import PeftModel",
        f'    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({model}), "this folder")',
        "",
        "That model, without the adapter, still knows the text.",
        "",
    ]


def _row(one: Change) -> str:
    before, after = EstimateRecord.of(one.before), EstimateRecord.of(one.after)
    cells = (one.name, estimate(before), estimate(after), f"{after.n:,}", method_note(after) + _why(after))
    return f"| {' | '.join(map(markdown_escaped, cells))} |"


def _why(one: EstimateRecord) -> str:
    return f" ({one.why})" if one.why else ""

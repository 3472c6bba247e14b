"""The card of a guard: what it does, what it was fitted on, and what it does not protect."""

from __future__ import annotations

from audit.report.numbers import estimate, method_note
from audit.report.tables import markdown_escaped
from audit.runs.schema import EstimateRecord
from audit.stats.estimate import Estimate

from .conversations import units
from .findings import NOT_PROTECTED
from .fit_made import FitMade
from .words import corruption_words, selection_words


def guard_card(made: FitMade) -> str:
    """The text of ``README.md`` beside ``guard.json``."""
    settings, record = made.settings, made.record
    facts = {
        "To be forgotten": settings.target,
        "Model": f"{record.model} (weights {record.fingerprint['weights'][:16]})",
        "Classifier": made.classifier,
        "Flagged": f"a score above {made.threshold:.6g}",
        "Corrupted": f"{selection_words(settings)}: {corruption_words(settings.corruption)}",
        "Names in the score": f"{len(record.names):,}",
    }
    measured = [(f"Flagged of held-out {units(made.turns)} that may pass", made.false_positives),
                ("Recognised of held-out rewordings", made.recall)]  # fmt: skip
    if made.found is not None:
        for one in made.found.metrics:
            measured.append((f"{one.name} behind the guard, tuning rows", one.value))
            measured.append((f"{one.name}, target ({one.target.source})", one.target.estimate))
    return "\n".join(
        [
            "# A guard before a model",
            "",
            "Embedding-corrupted prompts (arXiv:2406.07933): prompts that are held to be about what is to be",
            "forgotten reach the model with corrupted embeddings. Made by Palimpsest. The model itself is not in this",
            "folder, was not changed, and knows what it knew.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {markdown_escaped(value)} |" for name, value in facts.items()),
            "",
            "| Measured in the fit | | n | Method |",
            "|---|---|---|---|",
            *(_row(name, one) for name, one in measured),
            "",
            *(f"Warning: {markdown_escaped(one)}\n" for one in made.warnings),
            "## What it does not protect",
            "",
            *(f"- {one}" for one in NOT_PROTECTED),
            "",
            "## How it is used",
            "",
            "`palimpsest eco serve` puts it behind an HTTP interface, `palimpsest eco apply` answers prompts through",
            "it, `palimpsest eco evaluate` measures it on rows that it was not fitted on. It is refused on any other",
            "model. The noise comes from a secret in the environment, PALIMPSEST_ECO_KEY, which is not in this folder.",
            "Its names, its classifier and the prompts' marks say something of what is to be forgotten: hand the",
            "folder to nobody who must not know it.",
            "",
        ]
    )


def _row(name: str, one: Estimate) -> str:
    record = EstimateRecord.of(one)
    note = method_note(record) + (f" ({record.why})" if record.why else "")
    return f"| {' | '.join(map(markdown_escaped, (name, estimate(record), f'{record.n:,}', note)))} |"

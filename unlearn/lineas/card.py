"""The card of a steering: what it does, what it was fitted on, how it is used."""

from __future__ import annotations

from audit.report.numbers import estimate, method_note
from audit.report.tables import markdown_escaped
from audit.runs.schema import EstimateRecord

from .findings_distances import ALL
from .findings_made import Made
from .words import pooling_words, settings_words, support_words


def steering_card(made: Made) -> str:
    """The text of ``README.md`` beside ``steering.json``."""
    record, steering = made.record, made.steering
    sentences = record["sentences"]
    facts = {
        "Model": f"{steering.model} (weights {steering.fingerprint['weights'][:16]})",
        "Method": record["method"],
        "Sites": f"{len(made.maps):,} modules that match {steering.pattern}",
        "Changed": support_words(made.n_changed, made.n_neurons),
        "Tokens": pooling_words(steering.pooling.kind, skip_bos=steering.pooling.skip_bos),
        "Sentences": f"{sentences['source']:,} unwanted, {sentences['target']:,} wanted",
        "Strength in the method's source": f"{record['strength']:g}",
    }
    if record["settings"] is not None:
        facts["Fit"] = settings_words(record["settings"])
    whole = made.fitted[ALL]
    measured = [
        f"| Distance of the sentences that were fitted on | {whole.before:.4g} without, {whole.after:.4g} with maps | "
        f"{sentences['source'] + sentences['target']:,} | a training loss, no interval |"
    ]
    if made.held_out is not None:
        out = made.held_out[ALL]
        for name, one in (("without maps", out.before), ("with maps", out.after), ("removed by maps", out.removed)):
            told = EstimateRecord.of(one)
            cells = (f"Distance of held-out sentences, {name}", estimate(told), f"{told.n:,}", method_note(told))
            measured.append(f"| {' | '.join(map(markdown_escaped, cells))} |")
    return "\n".join(
        [
            "# Maps that steer a model",
            "",
            "An affine map of each neuron behind some modules of a frozen model, fitted by Palimpsest. The model is",
            "not in this folder and was not changed. The sentences are not in it either, only their SHA-256.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {markdown_escaped(value)} |" for name, value in facts.items()),
            "",
            "| Measured in the fit | | n | Method |",
            "|---|---|---|---|",
            *measured,
            "",
            *(f"Warning: {markdown_escaped(one)}\n" for one in made.warnings()),
            "## What it does not do",
            "",
            "- It takes no knowledge away: without the maps the model is what it was.",
            "- A smaller distance is no effect. Whether the model writes otherwise, and at what cost, a sweep tells.",
            "",
            "## How it is used",
            "",
            "`palimpsest steer apply` continues prompts at a strength, `palimpsest steer fold` writes the steered",
            "model as an ordinary checkpoint, `palimpsest steer inspect` shows what is in the folder. It is refused on",
            "any other model. In Python: `unlearn.lineas.files.load_maps`, then `unlearn.lineas.steer.steered`.",
            "",
        ]
    )

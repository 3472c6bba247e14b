"""What a fit of maps says of itself: the section of its report and its lines in a terminal.

Nothing here is a verdict, and a distance is no effect: whether the model then writes otherwise is for an evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.report.numbers import estimate as shown
from audit.report.numbers import plain
from audit.runs.schema import AuditSection, EstimateRecord, Finding
from audit.text.safe import counted

from .findings_distances import ALL
from .findings_made import Made
from .findings_tables import tables
from .words import memory_words, pooling_words, settings_words, support_words

AUDIT = "steer"
SITES = "items/steer-sites.parquet"
LOSSES = "items/steer-losses.parquet"
_CANNOT_SHOW = (
    "That the model writes otherwise: activations that lie nearer are a means. Rates of an attribute, judged on "
    "continuations, and what steering costs elsewhere are for a sweep.",
    "That anything is forgotten. The weights know what they knew, and without the maps the model is what it was.",
    "What happens on texts of another kind than the sentences, or at other strengths.",
)


def make_section(made: Made) -> AuditSection:
    """The section of a run that fits maps."""
    findings = [_maps(made), _distance(made)]
    if made.record["path"]:
        findings.append(_path(made))
    findings.append(_cost(made))
    findings += [
        Finding(
            id=f"steer.warning-{number}",
            audit=AUDIT,
            claim=told[0].upper() + told[1:],
            verdict="information",
            how_to_read="A warning of the fit itself.",
        )
        for number, told in enumerate(made.warnings(), start=1)
    ]
    return AuditSection(
        audit=AUDIT,
        title="Activation steering",
        method=_method(made),
        assumptions=(
            "Sentences of a side are drawn independently from what it stands for; intervals resample both sides.",
            "Maps are taken as given: other sentences to fit on would give others, and intervals do not say how "
            "different.",
        ),
        cannot_show=_CANNOT_SHOW,
        findings=tuple(findings),
        tables=tables(made),
    )


def lines(record: Mapping[str, Any]) -> list[str]:
    """For a terminal, from `Made.to_record`."""
    whole = record["distances"][ALL]
    told = [
        f"{record['method']} at {counted(len(record['maps']), 'site')}: "
        f"{support_words(record['changed'], record['neurons'])} changed",
        f"distance of the sentences that were fitted on: {plain(whole['before'])} without maps, "
        f"{plain(whole['after'])} with them",
    ]
    if record["held_out_distances"] is not None:
        one = {name: EstimateRecord(**value) for name, value in record["held_out_distances"][ALL].items()}
        told.append(
            f"of held-out sentences: {shown(one['before'])} without maps, {shown(one['after'])} with them, "
            f"{shown(one['removed'])} removed"
        )
    if record["path"]:
        told.append(f"gamma {record['settings']['gamma']:g} was chosen of {len(record['path'])}")
    memory = record["peak_memory"]
    steps = f" for {counted(record['n_steps'], 'step')}" if record["n_steps"] else ""
    told.append(f"{record['seconds']:.1f} s{steps}, at most {memory_words(memory['bytes'])} ({memory['of']})")
    return told + [f"warning: {one}" for one in record["warnings"]]


def _method(made: Made) -> str:
    record = made.record
    how = "The method is computed at once, without gradient descent."
    if record["settings"] is not None:
        how = (
            "All maps were learnt jointly, end to end (LinEAS, arXiv:2503.10679): "
            f"{settings_words(record['settings'])}."
        )
    return (
        f"{record['method']}: behind each site stands an affine map of every neuron, T(z) = w z + b, the same for all "
        "tokens, of the prompt and of what is generated. Maps are to bring the pooled activations of source sentences "
        f"({pooling_words(**_pooling(record))}) to the distribution of the target sentences', neuron by neuron, in the "
        f"squared Wasserstein distance; a site's neurons are reduced by the {record['neurons']}, sites by the "
        f"{record['over_sites']}. {how} Distances are told at strength {record['strength']:g}, as in the method's "
        "source. The model is frozen."
    )


def _pooling(record: Mapping[str, Any]) -> dict[str, Any]:
    return dict(record["pooling"])


def _maps(made: Made) -> Finding:
    return Finding(
        id="steer.maps",
        audit=AUDIT,
        claim=(
            f"{made.record['method']} put maps at {counted(len(made.maps), 'site')} of {made.steering.model}; "
            f"{support_words(made.n_changed, made.n_neurons)} are changed."
        ),
        verdict="information",
        items=SITES,
        how_to_read="Counts of these very maps. A neuron that is not changed has scale 1 and shift 0.",
    )


def _distance(made: Made) -> Finding:
    whole = made.fitted[ALL]
    told = (
        f"On the sentences that were fitted on, the distance between source and target is {plain(whole.before)} "
        f"without and {plain(whole.after)} with the maps"
    )
    estimates: dict[str, EstimateRecord] = {}
    if made.held_out is None:
        return Finding(
            id="steer.distance",
            audit=AUDIT,
            claim=f"{told}; none were held out.",
            verdict="information",
            how_to_read="A training loss: it says nothing of other sentences. Fit with held-out sentences to learn "
            "more.",
        )
    out = made.held_out[ALL]
    for name, one in (("without maps", out.before), ("with maps", out.after), ("removed", out.removed)):
        estimates[f"{name}, held-out sentences"] = EstimateRecord.of(one)
    return Finding(
        id="steer.distance",
        audit=AUDIT,
        claim=f"{told}; of held-out sentences the maps remove {_number(out.removed.value)} of "
        f"{_number(out.before.value)}, both corrected for sampling.",
        verdict="information",
        estimates=estimates,
        how_to_read="A distance of 0 would be one distribution. What is removed is above 0 where the maps help "
        f"sentences that they were not fitted on.{_chosen_by(made)}",
    )


def _chosen_by(made: Made) -> str:
    if made.record["settings"] is None:
        return ""
    return " These sentences also chose the step at which the maps were taken, so that all is a little too good."


def _path(made: Made) -> Finding:
    path, gamma = made.record["path"], made.record["settings"]["gamma"]
    chosen = next(one for one in path if one["gamma"] == gamma)
    return Finding(
        id="steer.path",
        audit=AUDIT,
        claim=(
            f"Of {len(path)} weights of the sparse group lasso {gamma:g} was chosen, the sparsest that costs little on "
            f"held-out sentences (loss {plain(chosen['held_out'])}, best of the path "
            f"{plain(min(one['held_out'] for one in path))})."
        ),
        verdict="information",
        how_to_read="Held-out sentences chose, so that what is told of them of the chosen maps is a little too good.",
    )


def _cost(made: Made) -> Finding:
    memory = made.record["peak_memory"]
    steps = f" for {counted(made.record['n_steps'], 'step')}" if made.record["n_steps"] else ""
    return Finding(
        id="steer.cost",
        audit=AUDIT,
        claim=(
            f"The fit took {made.seconds:.1f} s{steps}, all attempts together, and at most "
            f"{memory_words(memory['bytes'])} of memory ({memory['of']})."
        ),
        verdict="information",
        items=LOSSES if made.record["losses"] else None,
        how_to_read="Measured once, on the machine that the run names; of a run that was gone on with, memory is that "
        "of the last attempt.",
    )


def _number(value: float | None) -> str:
    return "not estimable" if value is None else plain(value)

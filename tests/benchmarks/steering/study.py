"""A study: arms fitted from the same sentences, swept over strengths, judged twice, compared at equal perplexity."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.lm.load import LanguageModel
from audit.matching.encode import Encoder
from audit.runs.records import plain
from audit.stats.estimate import Estimate
from unlearn.lineas.arms import Arm
from unlearn.lineas.baselines.at_sites import fit_baseline, sites_of
from unlearn.lineas.baselines.methods import METHODS
from unlearn.lineas.config import FitSettings
from unlearn.lineas.evaluate.judge_texts import deal
from unlearn.lineas.evaluate.judges import Judge, Remembered, TrainedJudge, train_sentences, train_words
from unlearn.lineas.evaluate.points import Point, measure_points
from unlearn.lineas.evaluate.sweep import SweepRow, compare, given, sweep_rows
from unlearn.lineas.evaluate.tables import over_fits
from unlearn.lineas.loss import Distances
from unlearn.lineas.maps import Maps, support_share
from unlearn.lineas.network import pooled_activations
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.run import MAX_TOKENS, Plan, learn
from unlearn.lineas.sites import find_sites
from unlearn.lineas.texts import encode_texts

SGD = FitSettings()
ADAM = FitSettings(optimizer="adam", lr=1e-2, steps=300)
LINEAS = {
    "LinEAS": Plan(settings=SGD),
    "LinEAS, Adam": Plan(settings=ADAM),
    "LinEAS, Adam, all norms": Plan(sites=r".*\.\d+\..*layernorm", settings=ADAM),
    "LinEAS, mean over neurons": Plan(settings=replace(SGD, neurons="mean")),
    **{f"gamma {gamma:g}": Plan(settings=replace(SGD, gamma=gamma, steps=600)) for gamma in (1e-4, 1e-3, 1e-2, 3e-2)},
}
USUAL = ("LinEAS", "LinEAS, Adam", "LinEAS, Adam, all norms")
BASELINES = (
    "mean-act",
    "gaussian",
    "linear-act",
    "linear-act-at-once",
    "unclipped",
    "unclipped-at-once",
    "caa",
    "iti-c",
    "aura",
)


@dataclass(frozen=True)
class Data:
    """What a study works on; ``draw`` gives the steering sentences of a seed, n on each side."""

    name: str
    draw: Callable[[int, int], tuple[list[str], list[str]]]
    prompts: list[str]
    judge_texts: list[str]
    judge_labels: list[bool]
    texts: dict[str, list[str]]  # neutral, target
    instruction: str


def nothing_to_find(data: Data) -> Data:
    """Two halves of the unwanted side as source and target."""

    def draw(n: int, seed: int) -> tuple[list[str], list[str]]:
        source, _ = data.draw(2 * n, seed)
        return source[::2], source[1::2]

    return replace(data, name=f"{data.name}-null", draw=draw)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def judges_of(data: Data, encoder: Encoder | None, seed: int = 0) -> list[TrainedJudge]:
    source, target = data.draw(10**6, 0)
    apart = {"steering sentences": [*source, *target], "prompts": data.prompts, **data.texts}
    texts = deal(data.judge_texts, data.judge_labels, apart_from=apart, seed=seed)
    found = [train_words(texts)]
    if encoder is not None:
        found.append(train_sentences(texts, encoder))
    return found


def arms_of(
    lm: LanguageModel, source: list[str], target: list[str], names: Sequence[str]
) -> tuple[list[Arm], dict[str, float]]:
    """Maps of each method, and the seconds of each fit."""
    rows = [
        encode_texts(lm, side, what, max_tokens=MAX_TOKENS) for side, what in ((source, "source"), (target, "target"))
    ]
    arms, seconds = [], {}
    for name in names:
        start = time.perf_counter()
        if name in LINEAS:
            arms.append(Arm(name, learn(lm, source, target, LINEAS[name]).maps))
        else:
            method = METHODS[name]
            maps = fit_baseline(lm, rows[0], rows[1], sites_of(lm, method), method)
            arms.append(Arm(method.title, {site: one.at(method.strength) for site, one in maps.items()}))
        seconds[arms[-1].name] = time.perf_counter() - start
    return arms, seconds


def global_loss(lm: LanguageModel, source: list[str], target: list[str], maps: Maps) -> float:
    """C of the steering sentences at the norms, whatever was fitted where."""
    names = [site.name for site in find_sites(lm, "norms")]
    rows = [encode_texts(lm, side, "a", max_tokens=MAX_TOKENS) for side in (source, target)]
    distances = Distances.to(pooled_activations(lm, rows[1], names, Pooling()))
    return float(distances.total(distances.joined(pooled_activations(lm, rows[0], names, Pooling(), maps=maps))))


def study(
    lm: LanguageModel,
    data: Data,
    encoder: Encoder | None,
    *,
    methods: Sequence[str],
    strengths: Sequence[float],
    seeds: Sequence[int],
    n: int,
    work: Path,
) -> dict[str, Any]:
    """All seeds of one study; points that are there already are taken from ``work``."""
    judges: list[Judge] = [Remembered(one) for one in judges_of(data, encoder)]
    record: dict[str, Any] = {
        "study": data.name,
        "ours": methods[0],
        "n": n,
        "prompts": len(data.prompts),
        "judges": [],
        "seeds": [],
    }
    record["judges"] = [plain(one.to_record(), "judge") for one in judges]
    by_seed: list[dict[tuple[str, float], dict[str, SweepRow]]] = []
    for seed in seeds:
        source, target = data.draw(n, seed)
        arms, seconds = arms_of(lm, source, target, methods)
        say(f"{data.name}, seed {seed}: fitted {', '.join(f'{name} {s:.0f} s' for name, s in seconds.items())}")
        losses = {"unsteered": global_loss(lm, source, target, {})}
        losses |= {arm.name: global_loss(lm, source, target, arm.maps) for arm in arms}
        folder = work / data.name / f"seed-{seed}-n-{n}"
        folder.mkdir(parents=True, exist_ok=True)
        known = [Point.from_record(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]

        def keep(point: Point, folder: Path = folder) -> None:
            (folder / f"{len(list(folder.glob('*.json'))):03d}.json").write_text(json.dumps(point.to_record()))

        if data.instruction:
            arms.append(Arm("prompt", instruction=data.instruction))
        points = measure_points(
            lm, arms, data.prompts, data.texts, strengths=strengths, seeds=[seed], known=known, on_point=keep
        )
        rows = {
            judge.name: {(row.arm, row.strength): row for row in sweep_rows(points, judge, "raise")} for judge in judges
        }
        by_seed.append({key: {name: rows[name][key] for name in rows} for key in rows[judges[0].name]})
        matched = {
            judge.name: [one.to_record() for one in compare(given(arms[0].name), points, judge, texts="target")]
            for judge in judges
        }
        record["seeds"].append(
            {
                "seed": seed,
                "loss": losses,
                "seconds": seconds,
                "support": {arm.name: support_share(arm.maps) for arm in arms if arm.maps},
                "matched": plain(matched, "matched"),
                "rows": [plain(row.to_record(), "row") for row in rows[judges[-1].name].values()],
            }
        )
        say(f"{data.name}, seed {seed}: {len(points)} points; global loss {losses}")
    record["table"] = table(record, by_seed, [judge.name for judge in judges])
    return record


def table(
    record: dict[str, Any], by_seed: Sequence[dict[tuple[str, float], dict[str, SweepRow]]], judges: Sequence[str]
) -> str:
    """Means over seeds with Student's interval over fits; strength 1 of every arm, and the sweep of ours, the first."""
    texts = sorted(next(iter(by_seed[0].values()))[judges[0]].perplexity)
    head = [
        "arm",
        "strength",
        "global loss",
        *(f"rate, {name}" for name in judges),
        *(f"perplexity, {name}, %" for name in texts),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for arm, strength in by_seed[0]:
        if strength not in (0.0, 1.0) and arm != record["ours"]:
            continue
        if strength == 0.0 and arm != "unsteered":
            continue
        losses = [one["loss"].get(arm) for one in record["seeds"]]
        cells = [arm, f"{strength:g}", "" if strength not in (0.0, 1.0) or None in losses else f"{np.mean(losses):.3f}"]
        for name in judges:
            cells.append(told(over_fits([one[arm, strength][name].rate.rate for one in by_seed]), 2))
        for name in texts:
            changes = [one[arm, strength][judges[0]].perplexity_change[name]["per token"] for one in by_seed]
            cells.append(told(over_fits(changes), 1))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def told(estimate: Estimate, digits: int) -> str:
    if estimate.value is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"

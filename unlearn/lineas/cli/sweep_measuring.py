"""The steps of a sweep: baselines fitted, points measured and kept, a strength chosen, arms judged and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from audit.lm.generate import Sampling
from audit.lm.load import LanguageModel
from audit.matching.encode import load_encoder
from audit.progress import Progress
from audit.runs.plan import resolve_path
from audit.runs.records import content_key, plain
from audit.text.files import make_folder

from ...json_lines import append_lines, read_lines
from ..arms import UNSTEERED, Arm
from ..baselines.at_sites import fit_baseline, sites_of
from ..evaluate.judge_folder import load_folder_judge
from ..evaluate.judges import Judge, Remembered, train_sentences, train_words
from ..evaluate.points import Point, measure_points
from ..evaluate.sweep import Selected, given
from ..files import RECORD, Steering, data_hash, load_maps, save_maps
from ..from_flags import SweepFacts, chosen, swept_of
from ..run import MAX_TOKENS, check_texts
from ..sites import pattern_of
from ..sweep_made import ArmFacts, Swept
from ..texts import encode_texts
from .methods import method_of
from .sweep_inputs import SweepTexts


def fit_baselines(
    lm: LanguageModel, names: Sequence[str], found: SweepTexts, folder: Path, progress: Progress
) -> list[Arm]:
    """Maps of each method on the given sentences; those that lie in ``folder`` already are read.

    Raises:
        InputError: There is no such method, or it cannot be fitted on these sentences.
    """
    arms = []
    for name in names:
        method, where = method_of(name), folder / name
        if not (where / RECORD).exists():
            assert method.baseline is not None  # `sweep_execute` refuses the other
            source, target = found.by_key["source"], found.by_key["target"]
            check_texts(source, target)
            maps = fit_baseline(
                lm,
                encode_texts(lm, source, "source", max_tokens=MAX_TOKENS),
                encode_texts(lm, target, "target", max_tokens=MAX_TOKENS),
                sites_of(lm, method.baseline),
                method.baseline,
                progress=progress,
            )
            record = Steering.of(
                lm, method=method.title, pattern=pattern_of(lm, method.sites), pooling=method.pooling,
                data=data_hash(source, target), evidence={"strength": method.strength},
            )  # fmt: skip
            save_maps(where, maps, record)
        arms.append(Arm(method.title, load_maps(where)[0]))
    return arms


def make_judges(table: Any, path: Path, found: SweepTexts) -> list[Judge]:
    """Words first, then sentences, then the folder's where one is given.

    Raises:
        InputError, ModelError: As where they are made.
    """
    encoder = load_encoder(None if table.encoder is None else resolve_path(table.encoder, path), device=table.device)
    judges: list[Judge] = [
        Remembered(train_words(found.judge, rule=table.rule)),
        Remembered(train_sentences(found.judge, encoder, rule=table.rule)),
    ]
    if table.judge_folder is not None:
        label = "1" if table.judge_label is None else table.judge_label
        where = resolve_path(table.judge_folder, path)
        one = load_folder_judge(where, label=int(label) if label in ("0", "1") else label, device=table.device)
        judges.append(Remembered(one))
    return judges


def sampling_of(table: Any) -> Sampling:
    return Sampling(max_new_tokens=table.max_new_tokens, temperature=table.temperature, top_p=table.top_p)


def seeds_of(table: Any) -> tuple[int, ...]:
    return tuple(range(table.seed, table.seed + table.samples))


class Points:
    """Points that are kept in a file as they are measured, so that a killed run goes on.

    A point is known by all that decides it: maps, words, prompts, texts, sampling and the model's weights.

    Args:
        file: Of rows, one JSON object a line; made where absent.
        texts: Name -> texts whose perplexity is taken.
        sampling: How tokens are drawn.
        seeds: Of the samples.
        max_tokens: Tokens of a text that are scored.
    """

    def __init__(
        self,
        file: Path,
        texts: Mapping[str, Sequence[str]],
        sampling: Sampling,
        seeds: tuple[int, ...],
        *,
        max_tokens: int | None = None,
    ) -> None:
        self._file, self._texts, self._sampling = file, texts, sampling
        self._seeds, self._max_tokens = seeds, max_tokens

    def measured(
        self,
        lm: LanguageModel,
        arms: Sequence[Arm],
        prompts: Sequence[str],
        strengths: Mapping[str, Sequence[float]],
        progress: Progress,
    ) -> list[Point]:
        """As `measure_points`; what is in the file is not measured again."""
        keys = {arm.name: self._key(lm, arm, prompts) for arm in (UNSTEERED, *arms)}
        make_folder(self._file.parent)
        rows = read_lines(self._file) if self._file.exists() else []
        known = [Point.from_record(row["point"]) for row in rows if row["key"] == keys.get(row["point"]["arm"])]

        def keep(point: Point) -> None:
            append_lines(self._file, [plain({"key": keys[point.arm], "point": point.to_record()}, "point")])

        if not rows:
            self._file.touch(mode=0o600)  # it quotes prompts and what was written
        return measure_points(
            lm, arms, prompts, self._texts, strengths=strengths, sampling=self._sampling, seeds=self._seeds,
            max_tokens=self._max_tokens, known=known, on_point=keep, progress=progress,
        )  # fmt: skip

    def _key(self, lm: LanguageModel, arm: Arm, prompts: Sequence[str]) -> str:
        one = self._sampling
        return content_key(
            maps=maps_key(arm),
            words=arm.instruction,
            prompts=list(prompts),
            texts={name: list(listed) for name, listed in self._texts.items()},
            sampling=[one.max_new_tokens, one.temperature, one.top_p, *self._seeds],
            max_tokens=self._max_tokens,
            model=lm.fingerprint.to_record(),
        )


def maps_key(arm: Arm) -> str:
    """SHA-256 of an arm's maps."""
    digest = sha256()
    for site, one in sorted(arm.maps.items()):
        digest.update(f"{site}\0{len(one)}\0{one.clipped}\0".encode())
        for part in (one.w, one.b, one.low, one.high):
            if part is not None:
                digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()


def choose(table: Any, points: Sequence[Point], judges: Sequence[Judge], arm: str) -> Selected:
    """Our strength, chosen by the judge of words on validation points; or the one that was given.

    Raises:
        InputError: As `chosen`.
    """
    if not table.choose:
        return given(arm, table.strength)
    return chosen(points, judges, arm, table.goal, most_percent=table.most_percent)


def judge_all(
    table: Any,
    lm: LanguageModel,
    found: SweepTexts,
    ours: Selected,
    arms: Sequence[ArmFacts],
    judges: Sequence[Judge],
    points: Sequence[Point],
    validation: Sequence[Point],
    progress: Progress,
) -> Swept:
    """Rates, changes and comparisons of what was measured."""
    drawn = "greedily" if table.temperature == 0 else f"at temperature {table.temperature:g} and top_p {table.top_p:g}"
    facts = SweepFacts(
        model=lm.subject.model,
        goal=table.goal,
        arms=tuple(arms),
        judges=tuple(judge.to_record() for judge in judges),
        n_repeated=found.n_repeated,
        warnings=found.warnings,
        settings=f"{table.samples} of {table.max_new_tokens} tokens at most, {drawn}",
        seed=table.seed,
    )
    return swept_of(facts, ours, judges, points, validation, progress)

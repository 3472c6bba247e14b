"""Unlearning against never having read it: the testbed's book, a novel, or TOFU's forget10, by every method.

    python -m tests.benchmarks.unlearning testbed|oz|tofu [--corpora DIR] [--size NAME] [--device cpu|cuda] [--seed 0]
        [--out FILE.json] [--work DIR] [--budget SECONDS] [--workers N] [--arms NAME ...] [--limit DAMAGE] [--show]

What is trained and measured stands in `testbed`, `oz` and `tofu`; the arms, and how rates and steps are chosen on
validation data alone, in `arms`. Models and dictionaries stay in --work and are not made again; put it in memory
(/dev/shm), because checkpoints are written all the time. --out is written after every arm. After --budget seconds no
arm is begun; --show prints the tables of an --out that is there. With --workers, models and arms are made by so many
processes side by side on one device: a small model leaves most of a GPU idle. `oz` and `tofu` can run at once from one
--work; the second waits for the base that the first makes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from audit.errors import AuditError
from audit.forgetting.measured import Measured, difference
from audit.lm.load import load
from audit.runs.records import content_key, read_json
from audit.runs.schema import EstimateRecord
from audit.text.files import make_folder, write_json
from tests.benchmarks.unlearning.arms import ARMS, Tried, at_step, record_of, try_rates
from tests.benchmarks.unlearning.models import put, say
from tests.benchmarks.unlearning.oz import Oz
from tests.benchmarks.unlearning.tables import Aims, across, by_passage, frontier, said_of, tables
from tests.benchmarks.unlearning.testbed import TestbedBook
from tests.benchmarks.unlearning.tofu import Tofu

KINDS: dict[str, type[Oz] | type[Tofu] | type[TestbedBook]] = {"testbed": TestbedBook, "oz": Oz, "tofu": Tofu}
Measures = dict[str, Measured]


class Given(NamedTuple):
    """What a process needs to set up the experiment."""

    experiment: str
    corpora: str
    work: str
    size: str
    seed: int
    device: str
    limit: float


@cache
def experiment_of(given: Given) -> Oz | Tofu | TestbedBook:
    kind = KINDS[given.experiment]
    size: Any = kind.sizes[given.size]
    key = content_key(size=asdict(size))[:8]
    folder = Path(given.work) / f"{given.size}-{given.seed}-{key}"
    if given.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return kind(Path(given.corpora), folder, size, seed=given.seed, device=given.device)


def draft(given: Given, which: str) -> str:
    return experiment_of(given).draft_anchors(which)


def make_base(given: Given) -> None:
    experiment_of(given).make_base()


def make(given: Given, name: str) -> None:
    experiment_of(given).make(name)


def measured(given: Given, name: str) -> Measures:
    found = experiment_of(given)
    lm = load(found.subject(name))
    return _by_passage(found.measure(lm, is_judge=name == found.judge))


def run_arm(given: Given, arm: str) -> tuple[Tried, dict[str, Measures]]:
    """Try an arm's rates, then measure the one or two sets of weights that are kept."""
    found = experiment_of(given)
    lm = load(found.subject("target"))
    folder = found.folder / f"work-{os.getpid()}"
    tried = try_rates(arm, found.task("forget", folder), gauge=found.gauge, before=found.gauge(lm), limit=given.limit)
    measures: dict[str, Measures] = {}
    for place, (point, weights) in tried.kept.items():
        twin = next((name for name in measures if tried.kept[name][0] == point), None)
        if twin is None:
            put(lm, weights)
            measures[place] = _by_passage(found.measure(lm))
        else:
            measures[place] = measures[twin]
    return tried._replace(kept={place: (point, {}) for place, (point, _) in tried.kept.items()}), measures


def run_placebo(given: Given, arm: str, rate: float, step: int) -> Measures:
    """The same arm, rate and step on the text that no model saw."""
    found = experiment_of(given)
    lm = load(found.subject("target"))
    folder = found.folder / f"work-{os.getpid()}"
    put(lm, at_step(ARMS[arm], found.task("placebo", folder), rate=rate, step=step))
    return _by_passage(found.measure(lm))


def _by_passage(found: Measures) -> Measures:
    return {name: by_passage(one) for name, one in found.items()}


class Jobs:
    """Calls made here one after the other, or by processes side by side."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool = ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn")) if n > 1 else None

    def run(
        self, calls: Sequence[tuple[str, Callable[[], Any]]], *, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[str, Any]]:
        """Results by name as they come; an exception is one too. After ``go_on`` says no, nothing is begun."""
        left = list(calls)
        if self._pool is None:
            while left and go_on():
                name, call = left.pop(0)
                yield name, _tried(call)
            return
        running: dict[Future[Any], str] = {}
        while (left and go_on()) or running:
            while left and len(running) < self.n and go_on():
                name, call = left.pop(0)
                running[self._pool.submit(_tried, call)] = name
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                error = future.exception()
                yield name, error if error is not None else future.result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # one arm must not end the others
        kind = "" if isinstance(error, AuditError) else f"\n{traceback.format_exc()}"
        return RuntimeError(f"{type(error).__name__}: {error}{kind}")


def prepare(given: Given, jobs: Jobs) -> None:
    """Dictionaries, base, and the other models."""
    found = experiment_of(given)
    say(f"{given.experiment}, size {given.size}, seed {given.seed}")
    first: list[tuple[str, Callable[[], Any]]] = [("base", partial(make_base, given))]
    drafts = ["forget", "placebo"] if found.placebos else ["forget"]
    first += [(f"the dictionary of {which}", partial(draft, given, which)) for which in drafts]
    for name, result in jobs.run(first):
        _raise(name, result)
        if isinstance(result, str):
            say(result)
    for name, result in jobs.run([(name, partial(make, given, name)) for name in found.models]):
        _raise(name, result)


def _raise(name: str, result: Any) -> None:
    if isinstance(result, Exception):
        raise SystemExit(f"{name} could not be made: {result}")


def references_of(given: Given, jobs: Jobs) -> dict[str, Measures]:
    found: dict[str, Measures] = {}
    names = experiment_of(given).models
    for name, result in jobs.run([(name, partial(measured, given, name)) for name in names]):
        _raise(f"the measures of {name}", result)
        found[name] = result
    return {name: found[name] for name in names}


def run(given: Given, *, arms: Sequence[str], out: Path, stop_at: float, workers: int) -> dict[str, Any]:
    """The whole experiment; its record is in ``out`` whenever something is finished."""
    jobs = Jobs(workers)
    found = experiment_of(given)
    record: dict[str, Any] = {
        "given": {**given._asdict(), "corpora": Path(given.corpora).name, "work": ""},
        "size": asdict(found.size),
        "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device,
        "torch": torch.__version__,
        "models": {},
        "arms": {},
        "placebo": {},
    }
    try:
        prepare(given, jobs)
        references = references_of(given, jobs)
        record["facts"] = found.facts()
        record["models"] = {name: said_of(one, references, found.aims) for name, one in references.items()}
        write_json(out, record)
        say("models measured: " + ", ".join(references))

        def in_time() -> bool:
            return time.monotonic() < stop_at

        for arm, result in jobs.run([(arm, partial(run_arm, given, arm)) for arm in arms], go_on=in_time):
            record["arms"][arm] = _said_of_arm(result, references, found.aims)
            say(f"{arm}: {_brief(record['arms'][arm])}")
            write_json(out, record)
        placebos = []
        for arm in found.placebos:
            kept = record["arms"].get(arm, {}).get("at", {}).get("equal")
            if kept is not None and kept["point"]["step"]:
                point = kept["point"]
                placebos.append((arm, partial(run_placebo, given, arm, point["rate"], point["step"])))
        for arm, result in jobs.run(placebos, go_on=in_time):
            if isinstance(result, Exception):
                say(f"placebo by {arm} failed: {result}")
                continue
            point = record["arms"][arm]["at"]["equal"]["point"]
            said = said_of(result, references, found.aims)
            for name, one in result.items():
                if name in references["target"]:
                    moved = difference(one, references["target"][name], rng=0)
                    said[name]["less_target"] = EstimateRecord.of(moved).model_dump()
            record["placebo"][arm] = {"rate": point["rate"], "step": point["step"], "said": said}
            say(f"placebo by {arm}: measured")
            write_json(out, record)
        record["not_run"] = [arm for arm in arms if arm not in record["arms"]]
        write_json(out, record)
    finally:
        jobs.close()
    return record


def _said_of_arm(result: Any, references: dict[str, Measures], aims: Aims) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"failures": [str(result)], "seconds": 0.0}
    tried, measures = result
    at = {
        place: {"point": record_of(point), "said": said_of(measures[place], references, aims)}
        for place, (point, _) in tried.kept.items()
    }
    rates = list(dict.fromkeys(point.rate for point in tried.points))
    points = [record_of(point) for point in tried.points]
    return {"rates": rates, "at": at, "points": points, "failures": tried.failures, "seconds": tried.seconds}


def _brief(arm: dict[str, Any]) -> str:
    places = [
        f"{place} at rate {one['point']['rate']:g}, step {one['point']['step']}, familiarity "
        f"{one['point']['familiarity']:.3g}, rise {one['point']['rise']:+.2%}"
        for place, one in arm.get("at", {}).items()
    ]
    return "; ".join([*places, *(f"failed: {one}" for one in arm["failures"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=KINDS)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"), help="folder with gutenberg-books and tofu")
    parser.add_argument("--size", default="smoke", help="of oz and tofu smoke, pilot or gpu; of testbed its own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, nargs="+", default=[Path("unlearning.json")], help="several with --show")
    parser.add_argument("--work", type=Path, help="kept; without it a folder that is removed at the end")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no arm is begun")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="NAME", help="all")
    parser.add_argument("--limit", type=float, help="damage that is allowed; what it means stands in each experiment")
    parser.add_argument("--show", action="store_true", help="print the tables of --out, run nothing")
    flags = parser.parse_args()
    if flags.show:
        stored = [read_json(path, missing=f"there is no {path}") for path in flags.out]
        aims = KINDS[flags.experiment].aims
        if len(stored) == 1:
            print("\n\n".join(tables(stored[0], aims)))
        else:
            print("By damage, 1 is what is allowed\n\n" + frontier(stored) + "\n")
            print("\n\n".join(f"{place}\n\n{across(stored, aims, place=place)}" for place in ("stop", "equal")))
        return
    [out] = flags.out
    stop_at = time.monotonic() + flags.budget
    with tempfile.TemporaryDirectory() as scratch:
        work = str(make_folder(flags.work) if flags.work else scratch)
        drafts = flags.experiment == "testbed"  # elsewhere every dictionary is a drafted one
        usual = [name for name, arm in ARMS.items() if drafts or not getattr(arm, "drafted", False)]
        limit = KINDS[flags.experiment].limit if flags.limit is None else flags.limit
        given = Given(flags.experiment, str(flags.corpora), work, flags.size, flags.seed, flags.device, limit)
        make_folder(out.parent)
        try:
            record = run(given, arms=flags.arms or usual, out=out, stop_at=stop_at, workers=flags.workers)
        except AuditError as error:
            raise SystemExit(str(error)) from error
        say(f"finished; {out}")
        print("\n" + "\n\n".join(tables(record, experiment_of(given).aims)), flush=True)


if __name__ == "__main__":
    main()

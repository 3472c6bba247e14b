"""``palimpsest traps power``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import DataError, InputError
from ...text.safe import quoted
from .. import options
from .power_answer import Answers
from .power_text import print_answer

if TYPE_CHECKING:
    from ...traps.power.copies import CopiesCurve
    from ...traps.power.design import Design
    from ...traps.power.simulated import Scores


def power(
    auc: Annotated[
        float | None, typer.Option(help="AUC of one arm that should be found, above 0.5 and below 1.")
    ] = None,
    from_run: Annotated[
        Path | None, typer.Option(help="Folder of a finished audit; its traps tell the AUC for each number of copies.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            help="Published AUC by copies: gpt-neo-1.3b, gemma-2b, llama-3.2-1b or phi-2, continued training."
        ),
    ] = None,
    copies: Annotated[
        str | None, typer.Option(help="Copies to read off --from-run or --published. [default: all measured]")
    ] = None,
    wanted: Annotated[float, typer.Option("--power", help="Chance of finding an effect that is there.")] = 0.9,
    alpha: Annotated[
        float | None, typer.Option(help="Error rate of all arms together. [default: the ledger's, else 0.05]")
    ] = None,
    arms: Annotated[
        int | None,
        typer.Option(min=1, help="Numbers of copies that are tested, for Holm. [default: the ledger's, else 4]"),
    ] = None,
    strata: Annotated[
        int | None, typer.Option(min=1, help="Strata: lengths times perplexity buckets. [default: 10]")
    ] = None,
    decoys_per_member: Annotated[
        float | None, typer.Option(help="Decoys of a stratum for each of its members in one arm. [default: 4]")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="What can the design in this ledger see?")] = None,
    members: Annotated[
        int | None,
        typer.Option(min=1, help="What can a design see? Members of one arm in each stratum, as in generate."),
    ] = None,
    decoys: Annotated[int | None, typer.Option(min=1, help="Decoys in each stratum, with --members.")] = None,
    simulations: Annotated[
        int | None, typer.Option(min=0, help="Simulated audits behind each power. [default: 400; 0 for large designs]")
    ] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """How many traps are needed to find an effect, or which effect a given design of traps can find.

    Without a size: the smallest design for --auc, or for the AUC that --from-run or --published tells for so many
    copies. With a size (--ledger, or --members and --decoys): the smallest AUC that it finds, the smallest p-values
    that it can give, and the AUC that it could rule out. Nothing is assumed of how copies raise the AUC.
    """
    _check(auc, from_run, published, copies, ledger, members, decoys, arms, strata, decoys_per_member)
    options.quiet_libraries()

    from ...progress import progress_bars
    from ...stats.checks import open_unit
    from ...traps.power.design import Design

    plan: dict[str, Any] = {"alpha": 0.05, "n_draws": 9_999}
    sized: dict[int | None, Design] = {}
    if ledger is not None:
        sized, plan = _of_ledger(ledger)
        arms = len(sized)
    elif members is not None and decoys is not None:
        sized = {None: Design.even(10 if strata is None else strata, members, decoys)}
    curve = _curve(from_run, published)
    effects = _effects(auc, curve, _whole_numbers(copies), list(sized) if ledger is not None else None)
    settings: dict[str, Any] = {
        "alpha": plan["alpha"] if alpha is None else alpha,
        "arms": 4 if arms is None else arms,
        "n_draws": plan["n_draws"],
    }
    open_unit(settings["alpha"], "--alpha")
    open_unit(wanted, "--power")
    with progress_bars(quiet=quiet) as progress:
        answers_of = Answers(settings, wanted, simulations, seed, progress)
        if sized:
            answers = answers_of.seen(sized, effects)
        else:
            ratio = 4.0 if decoys_per_member is None else decoys_per_member
            answers = [
                answers_of.needed(effect, strata=10 if strata is None else strata, ratio=ratio) for effect in effects
            ]
    answer = {
        "question": "seen" if sized else "needed",
        "power": wanted,
        **settings,
        "answers": answers,
        "source": None if curve is None else curve.source,
        "note": None if curve is None else curve.note,
    }
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_answer(answer)


def _check(
    auc: float | None,
    from_run: Path | None,
    published: str | None,
    copies: str | None,
    ledger: Path | None,
    members: int | None,
    decoys: int | None,
    arms: int | None,
    strata: int | None,
    decoys_per_member: float | None,
) -> None:
    """Refuses flags that contradict each other or would be passed over in silence."""
    effects = {"--auc": auc, "--from-run": from_run, "--published": published}
    given = [name for name, value in effects.items() if value is not None]
    sized = ledger is not None or members is not None or decoys is not None
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} were given; give one of them: each tells the AUC.")
    if not given and not sized:
        raise InputError(
            "nothing to go by; give --auc (or --from-run, --published) for the size of a design, or --ledger (or "
            "--members and --decoys) for what a design can see."
        )
    if auc is not None and not sized and not 0.5 < auc < 1:
        raise InputError(f"--auc is {auc}; expected above 0.5 (chance: nothing to find) and below 1.")
    if copies is not None and from_run is None and published is None:
        raise InputError("--copies goes with --from-run or --published; without a measurement copies tell no AUC.")
    if (members is None) != (decoys is None):
        raise InputError("--members and --decoys go together; give both.")
    if ledger is not None:
        of_size = {"--members": members, "--strata": strata, "--arms": arms, "--copies": copies}
        twice = next((name for name, value in of_size.items() if value is not None), None)
        if twice:
            raise InputError(f"{twice} does not go with --ledger, which tells it; leave one out.")
    if sized and decoys_per_member is not None:
        raise InputError("--decoys-per-member goes with the search for a size only; leave it out.")


def _of_ledger(path: Path) -> tuple[dict[int | None, Design], dict[str, Any]]:
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger
    from ...traps.power.design import designs

    opened = read_ledger(path)
    check_ledger(opened, source=str(path))
    arms = designs((trap.arm, trap.n_rep, trap.stratum) for trap in opened.traps)
    by_copies: dict[int | None, Design] = dict(arms.items())
    return by_copies, {"alpha": opened.plan.alpha, "n_draws": opened.plan.n_draws}


def _curve(from_run: Path | None, published: str | None) -> CopiesCurve | None:
    if published is not None:
        from ...traps.power.copies import published as published_curve

        return published_curve(published)
    if from_run is None:
        return None
    from ...runs.store import Run
    from ...traps.power.copies import measured

    run = Run.open(from_run)
    items = run.read_items("traps").to_pandas()
    primary = (run.record.plan.get("traps") or {}).get("primary", "ratio")
    if not isinstance(primary, str):
        raise DataError(f"{from_run}: traps.primary in run.json is {quoted(primary)}; expected the name of a score.")
    return measured(items, primary, source=str(from_run))


def _whole_numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"--copies is {quoted(text)}; expected whole numbers of at least 1, such as 1,10.")
    return sorted(set(numbers))


def _effects(
    auc: float | None, curve: CopiesCurve | None, copies: list[int] | None, arms: list[int | None] | None
) -> list[dict[str, Any]]:
    """Each AUC that is asked about: ``copies``, ``auc``, ``interval``, how it came about, and where to draw scores."""
    from ...traps.power.needed import MOST_AUC
    from ...traps.power.simulated import binormal, empirical

    if curve is None:
        return (
            [] if auc is None else [{"copies": None, "auc": auc, "low": None, "how": "given", "scores": binormal(auc)}]
        )
    known = [point.n_rep for point in curve.points]
    chosen = copies or ([n for n in arms if n is not None and known[0] <= n <= known[-1]] if arms else known)
    found = []
    for n_rep in chosen:
        estimate = curve.at(n_rep)
        value = min(estimate.value or 0.5, MOST_AUC)
        members = next((point.members for point in curve.points if point.n_rep == n_rep), None)
        scores: Scores = binormal(value)
        if members is not None and len(members):
            scores = empirical(members, curve.decoys)
        how = estimate.why or estimate.method
        if value == MOST_AUC:
            how = f"{how}; counted as {MOST_AUC}"
        found.append(
            {"copies": n_rep, "auc": value, "low": estimate.low, "high": estimate.high, "how": how, "scores": scores}
        )
    return found

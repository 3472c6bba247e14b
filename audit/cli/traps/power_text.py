"""The answer of ``palimpsest traps power`` in plain text."""

from __future__ import annotations

from typing import Any

from ...text.numbers import fixed, p_number, percent
from ...text.safe import counted, for_terminal

FEW_DECOYS = 'With fewer than 10 decoys in a stratum the audit never says "not found".'


def print_answer(answer: dict[str, Any]) -> None:
    """Prints what `audit.cli.traps.power` worked out."""
    lines = _needed(answer) if answer["question"] == "needed" else _seen(answer)
    for line in [*lines, "", *_assumptions(answer)]:
        print(for_terminal(line))


def _needed(answer: dict[str, Any]) -> list[str]:
    lines = [f"Design for {percent(answer['power'])} power, {_level(answer)}"]
    for item in answer["answers"]:
        lines += ["", _effect(item)]
        if "why" in item:
            lines.append(f"  {item['why']}.")
            continue
        design, rank = item["design"], item["rank_test"]
        each, controls = design["members_per_stratum"][0], design["decoys_per_stratum"][0]
        lines.append(
            f"  arm test: {counted(design['n_members'], 'member')} an arm, {each:,} in each of {_strata(design)}, "
            f"among {counted(controls, 'decoy')} in each ({design['n_decoys']:,} in all)"
        )
        lines += [f"    {_power(item['arm_power'])}", *_warning(item["arm_power"], answer["power"])]
        lines.append(f"    in `traps generate`: --members {each} --decoys {controls}")
        if controls < 10:
            lines.append(f"    {FEW_DECOYS}")
        if item["low"] is not None:
            wanted = item["n_members_at_low"]
            size = "no size is enough" if wanted is None else counted(wanted, "member") + " an arm"
            lines.append(f"    at the interval's lower bound, AUC {fixed(item['low'], 3)}: {size}")
        lines.append(
            f"  rank test of one trap at {rank['alpha']:g}, uncorrected: power {fixed(rank['power'], 3)} among "
            f"{counted(rank['n_decoys'], 'decoy')}; " + _decoys(rank, answer["power"])
        )
        pairs = item["sign_test"]
        lines.append(
            f"  sign test, if each member has a twin of its own: {counted(pairs['pairs_needed'], 'pair')} an arm"
        )
    return lines


def _seen(answer: dict[str, Any]) -> list[str]:
    lines = [f"What this design can see, {_level(answer)}"]
    for item in answer["answers"]:
        design, can = item["design"], item["detectable"]
        arm = "an arm" if item["copies"] is None else _copies(item["copies"])
        size = f"{counted(design['n_members'], 'member')}, {counted(design['n_decoys'], 'decoy')}"
        lines += ["", f"{arm}: {size}, {_strata(design)}"]
        lines.append(
            f"  smallest p-values: {p_number(can['attainable'])} of the arm test (corrected), "
            f"{p_number(can['rank_attainable'])} of one trap's rank test"
        )
        for power, auc in can["smallest_auc"].items():
            what = "no AUC is found so often" if auc is None else f"AUC {fixed(auc, 3)} or more is found"
            lines.append(f"  with {percent(power)} power: {what}")
        for chance, auc in can["excluded_auc"].items():
            if auc is not None:
                lines.append(
                    f"  if the model never saw the traps: AUC {fixed(auc, 3)} or more is ruled out in "
                    f"{percent(chance)} of audits"
                )
        if None in can["excluded_auc"].values():
            lines.append(f"  {FEW_DECOYS}")
        for at in item["at"]:
            lines += [f"  {_effect(at)}", f"    arm test: {_power(at['arm_power'])}"]
            lines.append(
                f"    rank test of one trap at {answer['alpha']:g}, uncorrected: power {fixed(at['rank_power'], 3)}"
            )
        if answer["source"] is not None and not item["at"]:
            lines.append("  no power: so many copies were not measured, and beyond what was measured nothing is known")
    return lines


def _level(answer: dict[str, Any]) -> str:
    arms, alpha = answer["arms"], answer["alpha"]
    return f"alpha {alpha:g} over {counted(arms, 'arm')} (Holm, counted as {alpha / arms:.4g} for each)"


def _effect(item: dict[str, Any]) -> str:
    copies = "" if item["copies"] is None else f"{_copies(item['copies'])}: "
    interval = f" [{fixed(item['low'], 3)}, {fixed(item['high'], 3)}]" if item["low"] is not None else ""
    return f"{copies}AUC {fixed(item['auc'], 3)}{interval} ({item['how']})"


def _copies(n_rep: int) -> str:
    return "1 copy" if n_rep == 1 else f"{n_rep:,} copies"


def _power(power: dict[str, Any]) -> str:
    told = f"power {fixed(power['computed'], 3)} computed"
    simulated = power["simulated"]
    if simulated is None:
        return f"{told}; not simulated"
    interval = f"[{fixed(simulated['low'], 3)}, {fixed(simulated['high'], 3)}]"
    return f"{told}; {fixed(simulated['value'], 3)} {interval} in {simulated['n']:,} simulated audits"


def _warning(power: dict[str, Any], wanted: float) -> list[str]:
    simulated = power["simulated"]
    if simulated is None or simulated["high"] >= wanted:
        return []
    return [
        "    The simulated power falls short: these scores are not normal. Take more members, and check with "
        "--members and --decoys."
    ]


def _decoys(rank: dict[str, Any], wanted: float) -> str:
    if rank["decoys_needed"] is not None:
        return f"{counted(rank['decoys_needed'], 'decoy')} in its stratum for {percent(wanted)}"
    return f"no number of decoys gives {percent(wanted)} (at most {fixed(rank['most'], 3)})"


def _strata(design: dict[str, Any]) -> str:
    return "1 stratum" if design["n_strata"] == 1 else f"{design['n_strata']:,} strata"


def _assumptions(answer: dict[str, Any]) -> list[str]:
    lines = [
        "Assumed: traps are independent; the scores of a stratum's members and decoys are normal with one spread, "
        "unless they are simulated from a run's own scores.",
        "Not covered: training again. Another run of the same training gives another AUC, and no power here allows "
        "for it.",
    ]
    if answer["note"] is not None:
        lines.append(f"AUC from {answer['source']}: {answer['note']}")
    return lines

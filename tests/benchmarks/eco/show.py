"""Tables of a study's record, in Markdown."""

from __future__ import annotations

from typing import Any


def shown(record: dict[str, Any]) -> str:
    """Everything of one study."""
    parts = [f"### {record['name']}"]
    if record.get("recognised"):
        parts.append(_recognised(record))
    if record.get("search"):
        parts.append(_search(record["search"]))
    if record.get("forgotten"):
        parts.append(_forgotten(record["forgotten"]))
    return "\n\n".join(parts)


def number(told: dict[str, Any] | None, digits: int = 3) -> str:
    """A value with its interval and n."""
    if told is None or told["value"] is None:
        return "undefined"
    if told["low"] is None:
        return f"{told['value']:.{digits}f} (n {told['n']})"
    return f"{told['value']:.{digits}f} [{told['low']:.{digits}f}, {told['high']:.{digits}f}]"


def _recognised(record: dict[str, Any]) -> str:
    own = record["recognised"]
    lines = ["| Prompts | Flagged | n |", "|---|---|---|"]
    lines += [f"| {name} | {number(one)} | {one['n']} |" for name, one in own["recall"].items()]
    lines += [f"| {name} (may pass) | {number(one, 4)} | {one['n']} |" for name, one in own["false_positives"].items()]
    held = own["calibration"].get("retain", {})
    promise = f"threshold {own['threshold']:.6g}, alpha {held.get('alpha')}, n {held.get('n')}"
    promise += f", p of surplus {own['surplus_p']}"
    return "\n".join([promise, "", *lines])


def _search(found: dict[str, Any]) -> str:
    lines = [
        f"search: {found['outcome']}, strength {found['strength']}, {found['n_evaluations']} evaluations, "
        f"{found['passes']} passes, {found['seconds']:.1f} s; {found['warnings']} {found['fallbacks']}",
        "",
        "| Metric | Bare | Target | On fresh seeds | Brackets |",
        "|---|---|---|---|---|",
    ]
    for one in found["metrics"]:
        target = one["target"]["estimate"]
        spans = "; ".join(f"{b['low']:.3g} to {b['high']:.3g}" for b in one["brackets"])
        lines.append(f"| {one['name']} | {one['bare']:.3f} | {number(target)} | {number(one['value'])} | {spans} |")
    for one in found["sensitivity"]:
        lines.append(f"{one['factor']} x target: strength {one['strength']}, {[v['value'] for v in one['values']]}")
    curve = ", ".join(f"{row['strength']:.3g}: {row['mean']:.3f}" for row in found["rows"])
    return "\n".join([*lines, "", f"metric at strength: {curve}"])


def _forgotten(own: dict[str, Any]) -> str:
    keys = ("probability", "rouge", "truth")
    lines = ["| System | On | " + " | ".join(keys) + " | less gold: p | less gold: rouge |", "|---|---|" + "---|" * 5]
    for name, parts in own["systems"].items():
        for part, one in parts.items():
            if "refused" not in one:
                continue
            cells = [number(one[key]) for key in keys]
            cells += [number(one.get(f"{key} less gold")) for key in keys[:2]]
            lines.append(f"| {name} | {part} | {' | '.join(cells)} |")
    lines += ["", "| System | Utility | Less bare | KS p raw | folded | by cluster |", "|---|---|---|---|---|---|"]
    for name, parts in own["systems"].items():
        tested = parts["quality"]
        cells = ["undefined" if one["p"] is None else f"{one['p']:.3g}" for one in tested.values()]
        use = [number(parts.get("utility")), number(parts.get("utility less bare"), 4)]
        lines.append(f"| {name} | {' | '.join([*use, *cells])} |")
    lines += ["", f"over {own['n_keys']} noise keys, median [least, most]:"]
    lines += [f"{name}: {q[0]:.4g} [{q[1]:.4g}, {q[2]:.4g}]" for name, q in own["keys"].items()]
    lines += ["", "rows whose numbers changed:"]
    lines += [f"{part}: {one}" for part, one in own["changed"].items()]
    return "\n".join(lines)

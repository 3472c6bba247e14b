"""Every measure of this room, as docs/methods/verification.md lists it.

python -m unlearn.verify.catalogue      prints the table
"""

from __future__ import annotations

from typing import Final

from . import knowledge, muse, tofu, utility, wording
from .measures import Measure
from .privacy import membership, priv_leak, update_leakage
from .robustness import evasion, quantise, relearn_curves, soft_prompt, variants

MODULES: Final = (
    wording, knowledge, tofu, muse, utility, membership, priv_leak, update_leakage, variants, soft_prompt, evasion,
    relearn_curves, quantise,
)  # fmt: skip
MEASURES: Final[tuple[Measure, ...]] = tuple(one for module in MODULES for one in getattr(module, "MEASURES", ()))


def table() -> str:
    """The measures as a Markdown table."""
    lines = [
        "| Key | What | Formula | Range | A larger value | Source | Known failure |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in MEASURES:
        ends = ["-inf" if one.low is None else f"{one.low:g}", "inf" if one.high is None else f"{one.high:g}"]
        cells = [f"`{one.key}`", one.label, one.formula, " to ".join(ends), one.direction, one.source, one.failure]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

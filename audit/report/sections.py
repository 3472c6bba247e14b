"""What the report says in words: the verdict over all findings, and the paragraph for readers who are no engineers.

No number is made here but counts of findings.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..runs.schema import AuditSection, Finding, Findings, RunRecord, Verdict
from ..text.numbers import percent

# Gravest first. "not found" stands below everything that leaves the question open.
GRAVITY: tuple[Verdict, ...] = ("found", "confounded", "inconclusive", "not found", "information")

VERDICT_WORDS: dict[Verdict, tuple[str, str]] = {
    "found": ("Found", "The effect that was tested for is there."),
    "confounded": (
        "Confounded",
        "Something other than memory explains the numbers as well, so nothing can be concluded. This is not a pass.",
    ),
    "inconclusive": (
        "Inconclusive",
        "The evidence is too weak to say yes or no. This is not a pass.",
    ),
    "not found": (
        "Not found",
        "The effect was looked for with enough power and not seen. Absence of evidence has the limits listed below.",
    ),
    "information": ("Information", "A number without a verdict."),
}

_MOST_IN_BOX = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding and the verdict that may be relied on, which can be weaker than the one that it states."""

    finding: Finding
    verdict: Verdict

    @property
    def remark(self) -> str:
        """Why the verdict is not the stated one; "" when it is."""
        if self.verdict == self.finding.verdict:
            return ""
        return (
            f'By itself this finding says "{self.finding.verdict}", but another finding of the same audit is '
            f"confounded, so its numbers are no evidence."
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """The box at the top of the report.

    Attributes:
        verdict: The gravest verdict of all findings; None when there is no finding.
        label: A word or two: "Found", "Inconclusive", "No result".
        meaning: One sentence on what the label means.
        counts: Verdict label and number of findings, gravest first.
        most_important: Up to five findings, gravest first; those without a verdict only if there is no other, those
            whose own verdict does not hold never.
        others: Findings that the box leaves out.
    """

    verdict: Verdict | None
    label: str
    meaning: str
    counts: tuple[tuple[str, int], ...]
    most_important: tuple[Judged, ...]
    others: int


def judged(section: AuditSection) -> tuple[Judged, ...]:
    """The section's findings with the verdicts that may be relied on.

    One confounded finding takes the ground from under its whole audit: "found", "not found" and "inconclusive"
    beside it count as "confounded", so that no headline rests on numbers that the audit itself has refused.
    """
    refused = any(finding.verdict == "confounded" for finding in section.findings)
    return tuple(
        Judged(finding, "confounded" if refused and finding.verdict != "information" else finding.verdict)
        for finding in section.findings
    )


def all_judged(findings: Findings) -> tuple[Judged, ...]:
    """Every finding, section by section."""
    return tuple(one for section in findings.sections for one in judged(section))


def overview(findings: Findings) -> Overview:
    """The gravest verdict and the findings that carry it; no finding at all is "No result", never a pass."""
    listed = all_judged(findings)
    if not listed:
        return Overview(None, "No result", "Nothing was concluded. An empty result is not a pass.", (), (), 0)
    by_verdict = {verdict: [one for one in listed if one.verdict == verdict] for verdict in GRAVITY}
    gravest = next(verdict for verdict in GRAVITY if by_verdict[verdict])
    label, meaning = VERDICT_WORDS[gravest]
    ordered = [one for part in by_verdict.values() for one in part if not one.remark]
    with_verdict = [one for one in ordered if one.verdict != "information"]
    shown = tuple((with_verdict or ordered)[:_MOST_IN_BOX])
    counts = tuple((VERDICT_WORDS[verdict][0], len(part)) for verdict, part in by_verdict.items() if part)
    return Overview(gravest, label, meaning, counts, shown, len(listed) - len(shown))


def in_plain_words(record: RunRecord, findings: Findings) -> str:
    """One paragraph on what was asked, what came out and what it does not mean, for a reader without statistics."""
    listed = all_judged(findings)
    audits = ", ".join(dict.fromkeys(section.title for section in findings.sections)) or "no audit"
    day = record.provenance.created[:10]
    software = f"the software Palimpsest, version {record.provenance.palimpsest}"
    sentences = [f"On {day} (UTC) {software}, carried out: {audits}."]
    if record.kind == "compare":
        sentences = [f"Finished runs, the last of {day} (UTC), were laid side by side by {software}: {audits}."]
    if record.status != "complete":
        sentences.append("The run has not ended: what follows is incomplete and must not be relied on.")
    sentences.append(f"It reached {_count(len(listed), 'finding')}{': ' if listed else '.'}" + _outcomes(listed))
    levels = sorted({e.level for one in listed for e in one.finding.estimates.values() if e.low is not None})
    if levels:
        share = " or ".join(map(percent, levels))
        sentences.append(
            f"A number such as 0.70 [0.60, 0.80] is an estimate with its {share} range of uncertainty; n counts the "
            f"independent items behind it (behind a p-value: controls or random draws), and fewer items make a wider "
            f"range."
        )
    if any(one.finding.p_values for one in listed):
        sentences.append(
            "A p-value is the chance of so strong a result, or a stronger one, if the effect that was tested for were "
            "absent; it is not the chance that the effect is absent."
        )
    sentences.append(
        "The report speaks of the model's measurable behaviour only. It does not show how text came into training "
        "data, who put it there, or whether that was lawful."
    )
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _outcomes(listed: tuple[Judged, ...]) -> str:
    words = {
        "found": "the effect was found",
        "confounded": "another explanation fits as well, so that nothing can be concluded",
        "inconclusive": "the evidence was too weak to say yes or no, which is not a pass",
        "not found": "the effect was looked for and not found",
        "information": "a number is given without a verdict",
    }
    parts = []
    for verdict in GRAVITY:
        number = sum(one.verdict == verdict for one in listed)
        if number:
            parts.append(f"in {number:,} {words[verdict]}")
    return "; ".join(parts) + ("." if parts else "")

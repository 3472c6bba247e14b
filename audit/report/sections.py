"""What the report says in words: the verdict over all findings, and the paragraph for readers who are no engineers.

No number is made here but counts of findings.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..runs.schema import AuditSection, Finding, Findings, RunRecord, Verdict
from ..text.numbers import percent
from .gate import ShownGate
from .safe_text import one_line

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
        "The effect was looked for and not seen, and the finding's numbers exclude one of the size that it names. "
        "Absence of evidence has the limits listed below.",
    ),
    "information": ("Information", "A number without a verdict."),
}

_PLAIN_OUTCOMES: dict[Verdict, str] = {
    "found": "the effect was found",
    "confounded": "another explanation fits as well, so that nothing can be concluded",
    "inconclusive": "the evidence was too weak to say yes or no, which is not a pass",
    "not found": "the effect was looked for and not found",
    "information": "a number is given without a verdict",
}

# Audit -> what was done, in words that a reader without the field's knows.
_DONE = {
    "traps": "a test for copyright traps, sequences that were planted at random among decoys",
    "membership": "a comparison of texts that may have been trained on with texts that were not",
    "extraction": "an attempt to get the post-training data back out of the model",
    "remediation": "remedies against what the model had learnt, each measured before and after",
    "retraining": "trainings on rows that were got out of a model",
    "unlearning": "a training that was to make the model forget a text",
    "eco": "the fitting of a guard that stands before the model",
    "eco-evaluation": "an evaluation of a guard that stands before the model",
    "steer": "the fitting of maps that steer the model",
    "steer-sweep": "a measurement of steering at several strengths",
    "steer-evaluation": "an evaluation of steering",
}
_MOST_IN_BOX = 5
_MOST_AUDITS = 6  # that the paragraph tells one by one


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


def in_plain_words(
    record: RunRecord, findings: Findings, gate: ShownGate | None = None, *, is_broken: bool = False
) -> str:
    """One paragraph on what was asked, what came out and what it does not mean, for a reader without statistics."""
    listed = all_judged(findings)
    done = dict.fromkeys(_done(section) for section in findings.sections)
    audits = "; ".join(list(done)[:_MOST_AUDITS]) or "no audit"
    day = record.provenance.created[:10]
    software = f"the software Palimpsest, version {record.provenance.palimpsest}"
    name = model_name(record)
    model = f'the model "{name}"' if name else ""
    sentences = [f"On {day} (UTC) {software}, {f'examined {model} and ' if model else ''}carried out: {audits}."]
    if record.kind == "compare":
        sentences = [f"Finished runs, the last of {day} (UTC), were laid side by side by {software}: {audits}."]
    if record.status != "complete":
        sentences.append("The run has not ended: what follows is incomplete and must not be relied on.")
    if is_broken:
        sentences.append("The run's files are not as they were sealed: what follows must not be relied on.")
    if gate is not None:
        told = f' "{gate.policy}"' if gate.policy else ""
        sentences.append(f"By the policy{told} the outcome is: {gate.label.lower()}. {gate.meaning}")
    if len(findings.sections) > 1:
        sentences += [f"{_capital(_done(one))}: {_gravest(one)}." for one in findings.sections[:_MOST_AUDITS]]
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


def model_name(record: RunRecord) -> str:
    """The model that was examined, as the run names it: the last part of a folder, or an id; "" where there is none."""
    name = str(record.audited.get("model", "")).rstrip("/")
    return name.rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) else name


def _done(section: AuditSection) -> str:
    return _DONE.get(section.audit) or one_line(section.title, limit=200)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gravest(section: AuditSection) -> str:
    if section.audit == "remediation":
        return _remedies(section)
    verdicts = {one.verdict for one in judged(section)}
    found = next((verdict for verdict in GRAVITY if verdict in verdicts), None)
    return "nothing was concluded, which is not a pass" if found is None else _PLAIN_OUTCOMES[found]


def _remedies(section: AuditSection) -> str:
    """What a loop says of its remedies; subject and gold, which are judged beside them, carry no verdict."""
    listed = [one.verdict for one in judged(section) if one.verdict != "information"]
    told = [
        f"{words} {listed.count(verdict):,}"
        for verdict, words in (
            ("found", "what was to be forgotten is still to be had after"),
            ("not found", "within its tolerance the model is as one that never learnt it after"),
            ("inconclusive", "there is no answer, or a broken model, after"),
        )
        if verdict in listed
    ]
    return f"of {_count(len(listed), 'remedy')}, {'; '.join(told)}" if told else _PLAIN_OUTCOMES["information"]


def _count(number: int, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _outcomes(listed: tuple[Judged, ...]) -> str:
    parts = []
    for verdict in GRAVITY:
        number = sum(one.verdict == verdict for one in listed)
        if number:
            parts.append(f"in {number:,} {_PLAIN_OUTCOMES[verdict]}")
    return "; ".join(parts) + ("." if parts else "")

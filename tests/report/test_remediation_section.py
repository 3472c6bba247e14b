"""The figure of a loop knows the verdict's tolerance, which it may not import."""

from __future__ import annotations

from audit.report.remediation_section import TOLERANCE
from unlearn.verify.residual import TOLERANCE as JUDGED


def test_the_dashed_lines_are_the_verdicts_tolerance() -> None:
    assert TOLERANCE == JUDGED

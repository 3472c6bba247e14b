"""One audit of a plan as `audit.cli.audit.execute` runs it: read, checked, and ready to be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..lm.load import LanguageModel
    from ..lm.subject import Subject
    from ..progress import Progress
    from ..report.figures import Comparison
    from ..runs.schema import AuditSection
    from ..runs.store import Run


class Models(NamedTuple):
    """The models of a plan, and what loads each when something is left to ask it."""

    subject: Subject | None
    reference: Subject | None
    load_subject: Callable[[], LanguageModel] | None
    load_reference: Callable[[], LanguageModel] | None

    @property
    def loaders(self) -> dict[str, Callable[[], LanguageModel] | None]:
        """Role -> what loads the model."""
        return {"subject": self.load_subject, "reference": self.load_reference}


class Work(NamedTuple):
    """One audit of a plan, read and checked: what it rests on, what else can be refused, and how it is made.

    Attributes:
        name: Of the plan's table.
        inputs: Name -> SHA-256 of what it rests on.
        settled: Settings that a file or a model brought, for the run's record.
        seed: Of the audit.
        check: Refuses what can be refused without loading weights; called before a run's folder is made.
        audit: Makes the audit in the run, and goes on where an earlier attempt was killed.
        compare: The strongest matches side by side, where texts may be shown.
    """

    name: str
    inputs: dict[str, str]
    settled: dict[str, Any]
    seed: int
    check: Callable[[], object]
    audit: Callable[[Run, Progress], AuditSection]
    compare: Callable[[Run], Sequence[Comparison]] | None = None

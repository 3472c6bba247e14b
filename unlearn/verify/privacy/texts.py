"""Which texts are compared: what was to be forgotten, what was kept, and what nobody saw, none in two sets."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from audit.answers.rows import QaRow
from audit.errors import DataError, InputError
from audit.forgetting.prompts import Passage
from audit.text.safe import counted, quoted

Role: TypeAlias = Literal["forget", "retain", "never"]
ROLES: Final[tuple[Role, ...]] = ("forget", "retain", "never")
Pair: TypeAlias = tuple[Role, Role]  # those that should score higher, and those that they are compared with
PAIRS: Final[tuple[Pair, ...]] = (("forget", "never"), ("retain", "never"), ("forget", "retain"))
_NAMED: Final = 3


class Text(NamedTuple):
    """A text that is scored; texts of one cluster (a person, a chapter) are resampled together."""

    id: str
    cluster: str
    text: str


def as_text(item: Passage | QaRow) -> Text:
    """A passage as it is, its own cluster; of a question and answer both, with a line break between them.

    Raises:
        DataError: The row has no answer.
    """
    if isinstance(item, Passage):
        return Text(item.id, item.id, item.text)
    if not item.answer.strip():
        raise DataError(f"row {quoted(item.id)} has no answer; membership is asked of question and answer together.")
    return Text(item.id, item.cluster, f"{item.prompt}\n{item.answer}")


@dataclass(frozen=True, slots=True)
class Sets:
    """The three sets of texts.

    Attributes:
        forget: Seen by the subject alone.
        retain: Seen by the subject and by gold; can be empty.
        never: Seen by nobody, and from the same draw as the forget set; can be empty.

    Raises:
        InputError: The forget set is empty, or an id stands twice in a set.
        DataError: One text stands in two sets; white space and the Unicode form of a letter do not count.
    """

    forget: tuple[Text, ...]
    retain: tuple[Text, ...] = ()
    never: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if not self.forget:
            raise InputError("the forget set is empty; expected the texts that were to be forgotten.")
        known: dict[str, tuple[Role, Text]] = {}
        shared: list[str] = []
        for role in ROLES:
            texts = self.of(role)
            if len({text.id for text in texts}) < len(texts):
                raise InputError(f"the {role} set has {len(texts)} texts with fewer ids; expected one id for each.")
            for text in texts:
                before = known.setdefault(_plain(text.text), (role, text))
                if before[0] != role:
                    shared.append(f"{quoted(before[1].id)} of {before[0]} is {quoted(text.id)} of {role}")
        if shared:
            rest = f" and {len(shared) - _NAMED:,} more" if len(shared) > _NAMED else ""
            raise DataError(
                f"{counted(len(shared), 'text')} in two sets: {'; '.join(shared[:_NAMED])}{rest}. A text cannot be "
                "forgotten and kept, or seen and never seen: leave it out of one of them."
            )

    @classmethod
    def made_of(
        cls,
        *,
        forget: Sequence[Passage | QaRow],
        retain: Sequence[Passage | QaRow] = (),
        never: Sequence[Passage | QaRow] = (),
    ) -> Sets:
        """Passages or rows, each by `as_text`."""
        return cls(*(tuple(as_text(item) for item in items) for items in (forget, retain, never)))

    def of(self, role: Role) -> tuple[Text, ...]:
        """The texts of one set."""
        return {"forget": self.forget, "retain": self.retain, "never": self.never}[role]

    def every(self) -> Iterator[tuple[Role, Text]]:
        """All texts with their set, set by set."""
        for role in ROLES:
            for text in self.of(role):
                yield role, text


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())

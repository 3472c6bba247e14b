"""Anchor terms by counting, without a network or a model.

Candidates are (1) names: words that the text writes with a capital letter inside sentences and hardly ever without,
alone or in runs such as "Wicked Witch of the West"; (2) invented words: in small letters, frequent, and with no
relative in the contrast text. A candidate is kept when the contrast text lacks it, or when the forget text uses it
more by the log-odds ratio with an informative Dirichlet prior in standard errors (Monroe, Colaresi and Quinn 2008,
"Fightin' Words", Political Analysis 16(4)); the prior is the two texts together. Words around it say whether it is a
person, place, thing or other, and so which list its substitutes come from.

Source: ours. The paper (Eldan and Russinovich 2023, arXiv:2310.02238) asks GPT-4 instead. The cues are English.
Without a contrast text nothing can be scored: names are kept by their capital letters and counts alone, less a short
list of words that every book capitalises, and invented words in small letters are not looked for. A general list of
word frequencies (wordfreq, say) is not used in its place: text that the model is to keep says better what is particular
to the text that it is to forget, and users have some.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from audit.errors import DataError, InputError

from . import substitute_words as words
from .anchors import Anchor, Anchors, Problem

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?:\"\u201c\u2018(*\[_]|\n\s*\n|--|\u2014|(?<!\w)'")
_LEAST_CUE = 0.15  # weight of cues for each occurrence; below, a term is of no known kind
_PRONOUNS = {"he": "m", "him": "m", "his": "m", "she": "f", "her": "f", "hers": "f", "it": "n", "its": "n"}
_LEAST_VOCABULARY = 5_000  # distinct words; of a contrast text with fewer, most words of any language are absent


@dataclass(frozen=True, slots=True)
class StatisticsPlan:
    """What is taken for an anchor term. The defaults are ours, set on public-domain novels.

    Attributes:
        min_count: Occurrences in the forget text, >= 1.
        min_z: Standard errors by which the forget text must prefer a term that the contrast text has too.
        min_invented: Occurrences of a word in small letters, >= 1. Needs a contrast text of 5,000 distinct words;
            ordinary words are missing there too, hence more than for names.
        max_terms: Most terms, those with most occurrences.
        n_substitutes: Substitutes for each term, >= 1. Parts of one name ("Tars", "Tars Tarkas") have them in the same
            order, but each block draws for each key, so more than one can set apart what belongs together.
        seed: Of the substitutes.
    """

    min_count: int = 2
    min_z: float = 1.96
    min_invented: int = 10
    max_terms: int = 5_000
    n_substitutes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_count", "min_invented", "max_terms", "n_substitutes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        if not math.isfinite(self.min_z):
            raise InputError(f"min_z is {self.min_z}; expected a finite number of standard errors.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more.")


class Candidate(NamedTuple):
    """A term that was kept: occurrences in both texts, and log-odds ratio in standard errors (None: no contrast)."""

    key: str
    kind: str
    n_forget: int
    n_contrast: int
    z: float | None


class StatisticalAnchors(NamedTuple):
    """The terms with substitutes, what was counted for each (most frequent first), and substitutes that were unfit."""

    anchors: Anchors
    candidates: tuple[Candidate, ...]
    dropped: tuple[Problem, ...]


def anchors_from_statistics(
    text: str, contrast: str | None = None, *, plan: StatisticsPlan | None = None
) -> StatisticalAnchors:
    """Anchor terms of a text.

    Args:
        text: The forget text.
        contrast: Text of the same kind that the model is to keep; the longer, the better.
        plan: What is taken.

    Raises:
        DataError: The forget text has no words, or the contrast text is given without any.
    """
    plan = plan or StatisticsPlan()
    forget = _Usage.of(text)
    if not forget.n_words:
        raise DataError("the forget text has no words; give a text of words separated by spaces.")
    other = None if contrast is None else _Usage.of(contrast, cues=False)
    if other is not None and not other.n_words:
        raise DataError("the contrast text has no words; give ordinary prose, or leave it out.")
    chosen = _names(forget, other, plan)
    if other is not None and len(other.folded) >= _LEAST_VOCABULARY:
        chosen += _invented(forget, other, plan)
    chosen = sorted(chosen, key=lambda one: (-one.n_forget, one.key))[: plan.max_terms]
    kinds = {one.key: one.kind for one in chosen}
    substitutes = _Substitutes(forget, kinds, plan)
    anchors = Anchors(tuple(Anchor(key, substitutes.of(key), kind, "statistics") for key, kind in kinds.items()))
    sound, dropped = anchors.sound()
    sound = _without_composed(sound)
    left = set(sound.keys)
    return StatisticalAnchors(sound, tuple(one for one in chosen if one.key in left), dropped)


def log_odds_z(n_forget: int, n_contrast: int, total_forget: int, total_contrast: int) -> float:
    """Log-odds ratio of a word between two texts, in standard errors; positive where the first text prefers it.

    Monroe, Colaresi and Quinn 2008, equations 15, 16 (variance approximated by 20) and 22, with the pooled counts
    as the prior.

    Args:
        n_forget: Occurrences in the first text; with ``n_contrast`` at least 1.
        n_contrast: Occurrences in the second.
        total_forget: Words of the first text.
        total_contrast: Words of the second.
    """
    prior, prior_total = n_forget + n_contrast, total_forget + total_contrast

    def log_odds(count: int, total: int) -> float:
        return math.log((count + prior) / max(total + prior_total - count - prior, 1))

    variance = 1 / (n_forget + prior) + 1 / (n_contrast + prior)
    return (log_odds(n_forget, total_forget) - log_odds(n_contrast, total_contrast)) / math.sqrt(variance)


class _Word(NamedTuple):
    text: str  # without "'s"
    start: int
    end: int
    initial: bool  # where any word would have a capital letter
    gap: str  # what stands between the word before it and this one
    heading: bool


def _read_words(text: str) -> list[_Word]:
    found: list[_Word] = []
    headings = _headings(text)
    reached = 0
    for match in _WORD.finditer(text):
        word = match.group().replace("\u2019", "'")
        end = match.end()
        word = word.removesuffix("'s").removesuffix("'ll").removesuffix("'d")
        gap = text[reached : match.start()]
        after_title = gap == ". " and found and found[-1].text in words.TITLES
        while headings and headings[0][1] <= match.start():
            headings.popleft()
        in_heading = bool(headings) and headings[0][0] <= match.start()
        initial = not found or in_heading or (not after_title and bool(_SENTENCE_END.search(gap)))
        found.append(_Word(word, match.start(), end, initial, gap, in_heading))
        reached = end
    return found


def _headings(text: str) -> deque[tuple[int, int]]:
    """Lines that are titles: every longer word has a capital letter, and no punctuation ends them."""
    found: deque[tuple[int, int]] = deque()
    place = 0
    for line in text.split("\n"):
        begun = [word[0].isupper() for word in _WORD.findall(line)]
        longer = [word[0].isupper() for word in _WORD.findall(line) if len(word) > 3]
        if len(begun) > 2 and all(longer) and sum(begun) >= 0.6 * len(begun) and line.rstrip()[-1:].isalnum():
            found.append((place, place + len(line)))
        place += len(line) + 1
    return found


def _capitalised(word: str) -> bool:
    """Written like a name: a capital letter first and a small one somewhere."""
    return word[0].isupper() and not word.isupper()


@dataclass(slots=True)
class _Usage:
    """How often a text uses each word and each run of capitalised words, and what stands around those."""

    n_words: int = 0
    lower: Counter[str] = field(default_factory=Counter)  # by folded word: in small letters
    middle: Counter[str] = field(default_factory=Counter)  # capitalised inside a sentence
    first: Counter[str] = field(default_factory=Counter)  # capitalised at the start of one
    folded: Counter[str] = field(default_factory=Counter)  # every form
    runs: Counter[tuple[str, ...]] = field(default_factory=Counter)
    in_runs: Counter[str] = field(default_factory=Counter)  # words that stand in runs of several names
    cues: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))

    @classmethod
    def of(cls, text: str, *, cues: bool = True) -> _Usage:
        usage = cls()
        found = _read_words(text)
        usage.n_words = len(found)
        for word in found:
            usage.folded[word.text.casefold()] += 1
            if word.text[0].islower():
                usage.lower[word.text.casefold()] += 1
            elif _capitalised(word.text):
                (usage.first if word.initial else usage.middle)[word.text] += 1
        for start, end in usage._runs(found):
            usage._take(found, start, end, cues=cues)
        return usage

    def is_name(self, word: str) -> bool:
        """Capitalised inside sentences, and in small letters at most once for every four such."""
        return (
            _capitalised(word)
            and word not in words.CAPITALISED
            and word.casefold() not in words.FREQUENT
            and self.middle[word] > 0
            and 4 * self.lower[word.casefold()] <= self.middle[word] + self.first[word]
        )

    def n_name(self, word: str) -> int:
        return self.middle[word] + self.first[word]

    def _runs(self, found: Sequence[_Word]) -> Iterator[tuple[int, int]]:
        """Capitalised words next to each other, "of the" and the like between them included."""
        place = 0
        while place < len(found):
            if not self._may_begin(found[place]):
                place += 1
                continue
            end = place + 1
            while (more := self._more(found, end)) > end:
                end = more
            yield place, end
            place = end

    def _may_begin(self, word: _Word) -> bool:
        if word.heading or not _capitalised(word.text) or word.text in words.CAPITALISED - words.TITLES:
            return False
        return not word.initial or self.is_name(word.text) or word.text in words.TITLES

    def _more(self, found: Sequence[_Word], end: int) -> int:
        """Where a run that ended before word ``end`` ends with the next capitalised word, or ``end``."""
        for joint in ((), *words.CONNECTORS):
            last = end + len(joint)
            if last >= len(found) or any(found[end - 1].text in words.TITLES for _ in joint[:1]):
                continue
            joined = all(one.gap in (" ", "\n") for one in found[end : last + 1])
            if not joint and found[end - 1].text in words.TITLES and found[end].gap == ". ":
                joined = True
            middle = tuple(one.text for one in found[end:last])
            name = found[last].text
            if joined and middle == joint and _capitalised(name) and name not in words.CAPITALISED:
                return last + 1
        return end

    def _take(self, found: Sequence[_Word], start: int, end: int, *, cues: bool) -> None:
        """Count a run without the titles before it, and what its neighbours say about it."""
        seen: dict[str, float] = defaultdict(float)
        while start < end and found[start].text in words.TITLES:
            seen["person"] += 3
            seen["title"] += found[start].text in words.SURNAME_TITLES
            seen["f" if found[start].text in words.FEMALE_TITLES else "m"] += 3
            start += 1
        if start == end:
            return
        run = tuple(one.text for one in found[start:end])
        self.runs[run] += 1
        names = [one for one in run if _capitalised(one)]
        if len(names) > 1:
            self.in_runs.update(names)
        if not cues:
            return
        before = found[start - 1].text.casefold() if start and not _stops(found[start].gap) else ""
        after = found[end : end + 10]
        if after and after[0].text.casefold() in words.SPEECH and not _stops(after[0].gap):
            seen["person"] += 2
        if before in words.SPEECH:
            seen["person"] += 2
        seen["place"] += words.BEFORE_PLACES.get(before, 0)
        seen["determined"] += before in words.DETERMINERS
        sex = next((_PRONOUNS[one.text.casefold()] for one in after if one.text.casefold() in _PRONOUNS), "")
        if sex:
            seen[sex] += 1
            seen["person" if sex != "n" else "thing"] += 0.4
        if any(one in words.PLACE_HEADS for one in (run[0], run[-1])):
            seen["place"] += 3
        if run[-1].casefold().endswith(words.PLACE_ENDS):
            seen["place"] += 0.5
        seen["n"] += 1
        for place, name in enumerate(names):
            role = "leads" if place == 0 else "ends" if place == len(names) - 1 else "inside"
            self._add(name, {**seen, **({role: 1.0} if len(names) > 1 else {})})
        if len(run) > 1:
            self._add(" ".join(run), seen)

    def _add(self, key: str, seen: Mapping[str, float]) -> None:
        for cue, weight in seen.items():
            self.cues[key][cue] += weight

    def kind(self, key: str) -> str:
        """Person, place, thing or other, by what stands around a key."""
        cues = self.cues.get(key)
        if not cues:
            return "thing"
        n = cues["n"]
        person, place = cues["person"] / n, cues["place"] / n
        thing = (cues["thing"] + 0.5 * cues["determined"]) / n
        best, kind = max((person, "person"), (place, "place"), (thing, "thing"))
        return kind if best >= _LEAST_CUE else "other"


def _stops(gap: str) -> bool:
    return bool(re.search(r"[.!?;:]|\n\s*\n", gap))


def _names(forget: _Usage, other: _Usage | None, plan: StatisticsPlan) -> list[Candidate]:
    found = []
    for word in sorted({*forget.middle, *forget.first}):
        count = forget.n_name(word)
        if count < plan.min_count or word in words.TITLES:
            continue
        if not (forget.is_name(word) or _only_initial(word, forget, other)) or _part_only(word, forget, other):
            continue
        found.append(_candidate(word, count, _count_in(word, other), forget, other))
    for run, count in sorted(forget.runs.items()):
        if len(run) > 1 and count >= plan.min_count and any(forget.is_name(word) or _rare(word, other) for word in run):
            known = 0 if other is None else other.runs[run]
            found.append(_candidate(" ".join(run), count, known, forget, other))
    return [one for one in found if one.z is None or not one.n_contrast or one.z >= plan.min_z]


def _part_only(word: str, forget: _Usage, other: _Usage | None) -> bool:
    """An ordinary word that is capitalised for the sake of a longer name: the "Tin" of "Tin Woodman"."""
    folded = word.casefold()
    ordinary = forget.lower[folded] or (other is not None and other.lower[folded])
    return word in words.DIRECTIONS or bool(ordinary and forget.in_runs[word] > 0.8 * forget.n_name(word))


def _only_initial(word: str, forget: _Usage, other: _Usage | None) -> bool:
    """A name that happens to stand at starts of sentences only: no text at hand has it in small letters."""
    folded = word.casefold()
    return (
        other is not None
        and len(other.folded) >= _LEAST_VOCABULARY
        and forget.middle[word] == 0
        and not forget.lower[folded]
        and not other.folded[folded]
        and folded not in words.FREQUENT
        and word not in words.CAPITALISED
        and not _related(folded, other)
        and not _related(folded, forget, itself=False)
    )


def _rare(word: str, other: _Usage | None) -> bool:
    return _capitalised(word) and other is not None and not other.folded[word.casefold()]


def _count_in(word: str, other: _Usage | None) -> int:
    return 0 if other is None else other.n_name(word)


def _candidate(key: str, count: int, known: int, forget: _Usage, other: _Usage | None) -> Candidate:
    z = None if other is None else log_odds_z(count, known, forget.n_words, other.n_words)
    return Candidate(key, forget.kind(key), count, known, z)


def _invented(forget: _Usage, other: _Usage, plan: StatisticsPlan) -> list[Candidate]:
    found = []
    for word, count in sorted(forget.lower.items()):
        if count < plan.min_invented or len(word) < 3 or other.folded[word] or word in words.FREQUENT:
            continue
        parts = word.split("-")
        if "'" in word or (len(parts) > 1 and all(other.folded[part] for part in parts)) or _related(word, other):
            continue
        z = log_odds_z(count, 0, forget.n_words, other.n_words)
        if z >= plan.min_z:
            found.append(Candidate(word, "thing", count, 0, z))
    return found


def _related(word: str, usage: _Usage, *, itself: bool = True) -> bool:
    """Whether a text has the word, or one with another English ending on the same stem."""
    stems = {word}
    for ending in ("s", "es", "ed", "d", "ing", "ly", "er", "ers", "est", "ness", "y", "n", "en", "ful", "less"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stems.add(word[: -len(ending)])
    related = set()
    for stem in stems:
        related |= {stem + ending for ending in ("", "e", "s", "es", "ed", "d", "ing", "ly", "er", "y")}
        if len(stem) > 3 and stem[-1] == stem[-2]:
            related.add(stem[:-1])
        if stem.endswith("i"):
            related.add(stem[:-1] + "y")
    return any(usage.folded[one] for one in related - (set() if itself else {word}))


def _without_composed(anchors: Anchors) -> Anchors:
    """Without runs whose every capitalised word is a key: those are translated word by word, to the same names."""
    keys = set(anchors.keys)

    def composed(anchor: Anchor) -> bool:
        names = [word for word in anchor.key.split() if _capitalised(word)]
        return len(names) > 1 and all(name in keys for name in names)

    return Anchors(tuple(anchor for anchor in anchors if not composed(anchor))).pruned()


class _Substitutes:
    """Deals generic words to keys: none that the text uses, and the same ones for the same part of a name."""

    def __init__(self, forget: _Usage, kinds: Mapping[str, str], plan: StatisticsPlan) -> None:
        self._forget = forget
        self._kinds = kinds
        self._plan = plan
        self._pools: dict[str, Iterator[str]] = {}
        self._parts: dict[str, tuple[str, ...]] = {}

    def of(self, key: str) -> tuple[str, ...]:
        parts = key.split()
        if self._kinds[key] == "person" and len(parts) > 1 and all(map(_capitalised, parts)):
            dealt = [self._part(part) for part in parts]
            return tuple(" ".join(texts) for texts in zip(*dealt, strict=True))
        return self._part(key)

    def _part(self, word: str) -> tuple[str, ...]:
        held = self._parts.get(word)
        if held is None:
            singular = word[:-1]
            if word.endswith("s") and self._kinds.get(singular) in ("person", "thing") and " " not in word:
                held = tuple(map(words.plural, self._part(singular)))
            else:
                pool = self._pool(word)
                held = tuple(dict.fromkeys(self._next(pool) for _ in range(self._plan.n_substitutes)))
            self._parts[word] = held
        return held

    def _pool(self, word: str) -> str:
        kind = self._kinds.get(word, "person")
        cues = self._forget.cues.get(word) or defaultdict(float)
        determined = 2 * cues["determined"] > cues["n"]
        if kind == "place" or (kind == "other" and not determined):
            return "places"
        group = word.endswith("s") and not word.endswith("ss")
        if determined and group and word[0].isupper():
            return "peoples"
        if kind == "thing" or word[0].islower():
            return "several" if group and word[0].islower() else "things"
        if determined:
            return "people"
        if cues["ends"] + cues["title"] > cues["leads"] and cues["ends"] + cues["title"] > cues["n"] / 2:
            return "surnames"
        return "girls" if cues["f"] > cues["m"] else "boys"

    def _next(self, pool: str) -> str:
        if pool not in self._pools:
            self._pools[pool] = self._deal(pool)
        return next(self._pools[pool])

    def _deal(self, pool: str) -> Iterator[str]:
        """The words of a list that the text does not use, in an order of the seed, again and again."""
        lists = {
            "girls": words.GIRLS,
            "boys": words.BOYS,
            "surnames": words.SURNAMES,
            "places": words.PLACES,
            "things": words.THINGS,
            "several": tuple(map(words.plural, words.THINGS)),
            "people": words.PEOPLE,
            "peoples": tuple(map(words.plural, (one for one in words.PEOPLE if not one.endswith("man")))),
        }
        # No word stands in two lists that are dealt to different kinds, or a place would share a person's name.
        free = [one for one in dict.fromkeys(lists[pool]) if not self._forget.folded[one.casefold()]]
        if pool in ("places", "surnames"):
            taken = {*words.BOYS, *(words.SURNAMES if pool == "places" else ())}
            free = [one for one in free if one not in taken]
        order = sorted(
            free or lists[pool], key=lambda one: hashlib.sha256(f"{self._plan.seed}/{pool}/{one}".encode()).digest()
        )
        while True:
            yield from order

"""Forget text with anchor terms replaced, and where in it each original token has its counterpart.

Paper: Eldan and Russinovich 2023, arXiv:2310.02238, the translated text and its alignment. Its text was not at hand:
the steps, both rules for repeated anchors and the two surface forms are read from the authors' released script. In
our letters: x are the tokens of a block, y those of its translation, and places[i] is where in y a model's logits
predict what follows x_i.

1. A key is matched by characters, as whole words, leftmost first, the longest of those that begin there. It takes up
   every token that holds any of its characters, and a token that is only the space before it.
2. A token outside of every match is copied: places[i] is its index in y.
3. Tokens s to e of a match give way to the substitute in the same surface form (after a space, or not), tokenised
   with what else those tokens hold (a quotation mark, "'s"): places[i] = -1 for s <= i < e, and places[e] is the
   last of the new tokens. Matches that share a token are replaced together.
4. Rule A: where that key has matched in this block before, places[s - 1] = -1.
5. Rule B: the first tokens of the substitute, in both surface forms, stand in ``begun`` with the place in y where the
   substitute began. They are forbidden at every later place of y.

Departures from the script, each a mended defect: character offsets instead of token ids, so that any fast tokenizer
works; longest match; word boundaries; one substitute for a key in a block, whatever its form; tokens that are white
space or very frequent are never forbidden; case can be ignored. ``compat=True`` does as the script does.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from audit.errors import DataError, InputError
from audit.text.safe import quoted

from .anchor_match import AnchorMatcher, Found, comparable
from .anchors import Anchor, Anchors
from .blocks import Block, FastTokenizer, require_fast, tokenise
from .substitute_words import FREQUENT

Suppress = Literal["first", "span", "none"]
_SPACE_FORM = ("a", " ")  # what stands before a word in its two surface forms: the context, and its own space
_LINE_FORM = ("\n", "")
_CONTEXTS = ("\n", '"', "(", "-", ".")  # what else a word without its own space may follow
_REMEMBERED = 100_000  # replacements whose tokens are kept


class Replaced(NamedTuple):
    """An anchor that was replaced: tokens ``first`` to ``last`` of x; ``repeated`` when rule A applies."""

    key: str
    substitute: str
    first: int
    last: int
    repeated: bool


class Translated(NamedTuple):
    """A translated block.

    Attributes:
        token_ids: y.
        places: For each token i of x the place in y whose logits predict what follows token i; -1 where none.
        begun: (place in y where a substitute began, token ids that are forbidden at every later place), by place.
        replaced: What was replaced, in order.
    """

    token_ids: tuple[int, ...]
    places: tuple[int, ...]
    begun: tuple[tuple[int, tuple[int, ...]], ...]
    replaced: tuple[Replaced, ...] = ()


class _Piece(NamedTuple):
    """A text's token ids in some context, and the characters of each."""

    token_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


def frequent_tokens(token_ids: Collection[int], *, share: float = 0.002) -> frozenset[int]:
    """Tokens that make up at least ``share`` (of 1) of a text, for `Translator`'s ``frequent``.

    The default is ours: in English prose it takes in articles, pronouns, prepositions and punctuation.
    """
    counts: dict[int, int] = {}
    for token in token_ids:
        counts[token] = counts.get(token, 0) + 1
    return frozenset(token for token, count in counts.items() if count >= share * len(token_ids))


class Translator:
    """Translates blocks with one dictionary and one tokenizer.

    What is drawn for a block depends on the seed, the block's number and the key alone, so blocks can be translated
    in any order, by any number of processes.

    Args:
        tokenizer: A fast tokenizer, the one that made the blocks.
        anchors: A dictionary that passes `Anchors.check`.
        seed: Of the substitutes.
        fold_case: Find keys whatever their case; a substitute is used as it is written.
        suppress: What rule B forbids: the "first" token of a substitute, the whole "span" of its tokens, or "none".
        frequent: Ids that rule B never forbids; None takes very frequent English words that are a single token, see
            also `frequent_tokens`.
        compat: Do as the released script. Keys are matched by token ids, of the dictionary's keys the first that fits
            in the order of the dictionary, inside longer words as well, and only in the two surface forms; so a name
            with other tokens (a quotation mark in the first, "'s" in the last) is missed. The substitute is drawn
            separately for the two forms. Rule B forbids the first token of both, were it a space or "The". Case
            counts. ``fold_case``, ``suppress`` and ``frequent`` have no effect.

    Raises:
        ModelError: A slow tokenizer.
        DataError: The dictionary has a problem, or a key or substitute has no tokens.
    """

    def __init__(
        self,
        tokenizer: FastTokenizer,
        anchors: Anchors,
        *,
        seed: int = 0,
        fold_case: bool = False,
        suppress: Suppress = "first",
        frequent: Collection[int] | None = None,
        compat: bool = False,
    ) -> None:
        require_fast(tokenizer)
        if suppress not in ("first", "span", "none"):
            raise InputError(f'suppress is {quoted(suppress)}; expected "first", "span" or "none".')
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._seed = seed
        self._compat = compat
        self._suppress = suppress
        self._pieces: dict[tuple[str, str], _Piece] = {}
        if anchors.anchors:
            anchors.check(fold_case=fold_case and not compat, source="the dictionary")
        self._anchors = tuple(
            Anchor(" ".join(one.key.split()), tuple(" ".join(text.split()) for text in one.substitutes))
            for one in anchors
        )
        self._frequent = frozenset(self._frequent_words() if frequent is None else frequent)
        self._forbidden: dict[str, tuple[int, ...]] = {}
        for anchor in self._anchors:
            self._require_tokens(anchor.key, f"the key {quoted(anchor.key)}")
            for substitute in anchor.substitutes:
                self._require_tokens(substitute, f"the substitute {quoted(substitute)} of {quoted(anchor.key)}")
                if substitute not in self._forbidden:
                    self._forbidden[substitute] = self._to_forbid(substitute)
        self._matcher = AnchorMatcher([anchor.key for anchor in self._anchors], fold_case=fold_case)
        self._forms = self._key_forms() if compat else {}

    def __call__(self, block: Block) -> Translated:
        """Translate a block.

        Raises:
            DataError: A replaced piece has no tokens.
        """
        return self._translate_as_released(block) if self._compat else self._translate(block)

    def _translate(self, block: Block) -> Translated:
        starts = [start for start, _ in block.offsets]
        ends = [end for _, end in block.offsets]
        ids: list[int] = []
        places: list[int] = []
        begun: list[tuple[int, tuple[int, ...]]] = []
        replaced: list[Replaced] = []
        seen: set[int] = set()

        def copy_until(end: int) -> None:
            for token in block.token_ids[len(places) : end]:
                places.append(len(ids))
                ids.append(token)

        for first, last, matches in self._groups(block, starts, ends):
            copy_until(first)
            if first and matches[0].number in seen:
                places[first - 1] = -1  # rule A
            begin = min(ends[first - 1], matches[0].start) if first else 0
            end = max(ends[last], matches[-1].end)
            text, drawn = self._replacement(block, begin, end, matches)
            piece = self._in_context(_before(block, begin), text)
            if not piece.token_ids:
                raise DataError(f"block {block.number}: the replacement {quoted(text)} has no tokens.")
            for match, (place, substitute) in zip(matches, drawn, strict=True):
                if forbidden := self._forbidden[substitute]:
                    index = next(
                        (i for i, (_, stop) in enumerate(piece.offsets) if stop > place), len(piece.offsets) - 1
                    )
                    begun.append((len(ids) + index, forbidden))
                key = self._anchors[match.number].key
                replaced.append(Replaced(key, substitute, first, last, match.number in seen))
                seen.add(match.number)
            ids += piece.token_ids
            places += [-1] * (last - first) + [len(ids) - 1]
        copy_until(len(block.token_ids))
        return Translated(tuple(ids), tuple(places), tuple(begun), tuple(replaced))

    def first_tokens_of_keys(self) -> frozenset[int]:
        """First tokens of every key in both surface forms; white space, special and very frequent ones are left out."""
        return frozenset(token for anchor in self._anchors for token in self._first_tokens(anchor.key))

    def _groups(self, block: Block, starts: Sequence[int], ends: Sequence[int]) -> list[tuple[int, int, list[Found]]]:
        """First token, last token and matches, those that share a token together."""
        groups: list[tuple[int, int, list[Found]]] = []
        for match in self._matcher.find(block.text, before=block.before, after=block.after):
            first = bisect_right(ends, match.start)
            last = bisect_left(starts, match.end) - 1
            if last < first:
                continue  # characters that the tokenizer drops
            free = groups[-1][1] + 1 if groups else 0
            if first < free:
                groups[-1] = (groups[-1][0], max(last, groups[-1][1]), [*groups[-1][2], match])
                continue
            while first > free and self._is_lead(block, first - 1, ends, match.start):
                first -= 1
            groups.append((first, last, [match]))
        return groups

    def _is_lead(self, block: Block, token: int, ends: Sequence[int], start: int) -> bool:
        """Whether a token is only the space directly before a key, or the mark of a word's beginning."""
        begin = ends[token - 1] if token else 0
        if begin == ends[token]:
            return begin == start == 0 and not block.before and block.token_ids[token] not in self._special
        return ends[token] == start == begin + 1 and block.text[begin:start] in (" ", "\t", "\u00a0")

    def _replacement(
        self, block: Block, begin: int, end: int, matches: Sequence[Found]
    ) -> tuple[str, list[tuple[int, str]]]:
        """What characters ``begin`` to ``end`` become, and where in it each substitute begins."""
        parts: list[str] = []
        drawn = []
        reached = begin
        for match in matches:
            parts.append(block.text[reached : match.start])
            anchor = self._anchors[match.number]
            substitute = anchor.substitutes[self._draw(block.number, anchor.key, len(anchor.substitutes))]
            drawn.append((sum(map(len, parts)), substitute))
            parts.append(substitute)
            reached = match.end
        return "".join((*parts, block.text[reached:end])), drawn

    def _draw(self, block: int, label: str, n: int) -> int:
        digest = hashlib.sha256(f"{self._seed}/{block}/{label}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % n

    def _in_context(self, before: str, text: str) -> _Piece:
        """Tokens of ``text`` as it is tokenised after ``before``, or after another character where the two merge."""
        held = self._pieces.get((before, text))
        if held is not None:
            return held
        for context in dict.fromkeys((before, *_CONTEXTS, "")):
            ids, offsets = tokenise(self._tokenizer, context + text)
            edge = len(context)
            if any(start < edge < end for start, end in offsets):
                continue
            kept = [
                (one, start, end) for one, (start, end) in zip(ids, offsets, strict=True) if end > edge or start >= edge
            ]
            if kept:
                break
        else:
            kept = []
        piece = _Piece(tuple(one for one, _, _ in kept), tuple((start - edge, end - edge) for _, start, end in kept))
        if len(self._pieces) >= _REMEMBERED:
            self._pieces.clear()
        self._pieces[before, text] = piece
        return piece

    def _form(self, text: str, form: tuple[str, str]) -> _Piece:
        before, space = form
        return self._in_context(before, space + text)

    def _require_tokens(self, text: str, name: str) -> None:
        if not self._form(text, _SPACE_FORM).token_ids or not self._form(text, _LINE_FORM).token_ids:
            raise DataError(f"{name} has no tokens in this tokenizer; leave it out or write it otherwise.")

    def _to_forbid(self, substitute: str) -> tuple[int, ...]:
        """What rule B forbids once this substitute has begun."""
        if self._compat:
            forms = (self._form(substitute, _SPACE_FORM), self._form(substitute, _LINE_FORM))
            return tuple(dict.fromkeys(form.token_ids[0] for form in forms))
        if self._suppress == "none":
            return ()
        return self._first_tokens(substitute, n=1 if self._suppress == "first" else None)

    def _first_tokens(self, text: str, *, n: int | None = 1) -> tuple[int, ...]:
        """The first ``n`` tokens that can be seen, in both surface forms, but special and very frequent ones."""
        ids: dict[int, None] = {}
        for before, space in (_SPACE_FORM, _LINE_FORM):
            form = self._form(text, (before, space))
            visible = [
                one
                for one, (start, end) in zip(form.token_ids, form.offsets, strict=True)
                if (space + text)[max(start, 0) : end].strip()
            ]
            ids.update(dict.fromkeys(visible[:n]))
        return tuple(one for one in ids if one not in self._frequent and one not in self._special)

    def _frequent_words(self) -> set[int]:
        """Ids of very frequent words, in both surface forms and with a capital letter, that are one token each."""
        found = set()
        for word in sorted(FREQUENT):
            for spelling in (word, word.capitalize()):
                for form in (_SPACE_FORM, _LINE_FORM):
                    ids = self._form(spelling, form).token_ids
                    if len(ids) == 1:
                        found.add(ids[0])
        return found

    def _key_forms(self) -> dict[int, dict[tuple[int, ...], tuple[int, tuple[str, str]]]]:
        """From a key's first token to its tokens, in the order of the dictionary, to its number and surface form."""
        table: dict[int, dict[tuple[int, ...], tuple[int, tuple[str, str]]]] = {}
        for number, anchor in enumerate(self._anchors):
            for form in (_SPACE_FORM, _LINE_FORM):
                ids = self._form(anchor.key, form).token_ids
                table.setdefault(ids[0], {})[ids] = (number, form)
        return table

    def _translate_as_released(self, block: Block) -> Translated:
        """By token ids; see ``compat``."""
        x = block.token_ids
        ids: list[int] = []
        places: list[int] = []
        begun: list[tuple[int, tuple[int, ...]]] = []
        replaced: list[Replaced] = []
        seen: set[str] = set()
        here = 0
        while here < len(x):
            candidates = self._forms.get(x[here], {})
            tokens = next((tokens for tokens in candidates if x[here : here + len(tokens)] == tokens), None)
            if tokens is None:
                places.append(len(ids))
                ids.append(x[here])
                here += 1
                continue
            number, form = candidates[tokens]
            anchor = self._anchors[number]
            label = f"{anchor.key}/{_FORM_NAMES[form]}"
            substitute = anchor.substitutes[self._draw(block.number, label, len(anchor.substitutes))]
            repeated = comparable(anchor.key) in seen
            if repeated and places:
                places[-1] = -1
            begun.append((len(ids), self._forbidden[substitute]))
            ids += self._form(substitute, form).token_ids
            last = here + len(tokens) - 1
            places += [-1] * (last - here) + [len(ids) - 1]
            replaced.append(Replaced(anchor.key, substitute, here, last, repeated))
            seen.add(comparable(anchor.key))
            here = last + 1
        return Translated(tuple(ids), tuple(places), tuple(begun), tuple(replaced))


_FORM_NAMES = {_SPACE_FORM: "space", _LINE_FORM: "line"}


def _before(block: Block, begin: int) -> str:
    """The character before a place, as context for its tokens; for white space, which has its own token, a newline."""
    character = block.text[begin - 1] if begin else block.before
    return "\n" if character.isspace() else character

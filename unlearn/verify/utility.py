r"""What a remedy cost: loss on other text, knowledge of other rows, and whether answers are still answers.

    loss of a passage    -(1/T) sum_t log p(x_t | x_<t)                nats per token, after the model's BOS
    loss of a set        sum of all losses / number of tokens          long passages weigh more
    perplexity           exp(loss of the set)
    damage               loss of the set after - before                nats per token; the same passages drawn for both

General text tells what the model lost at large, neighbours (text and rows of the kind that was to be forgotten, which
were to be kept) what the remedy lost beside its aim: the two are never pooled. Knowledge of neighbour rows is that of
`audit.answers.qa` (TOFU's p, ROUGE-L recall and truth ratio), asked through a `System`, so that a guard is asked too.

    repetition           1 - distinct 4-grams / 4-grams of an answer   Welleck et al. 2020, arXiv:1908.04319
    sound answer         1, or 0 where it has no words, where more than half of its 4-grams are repeated, or where it
                         is a stock answer: the same words, white space and case aside, as those to a fifth of the
                         questions with another right answer, and to three of them at least

Sources: losses as everywhere; sound answers and their two bounds are ours, set before a model was looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import torch

from audit.answers.qa import MAX_NEW_TOKENS, Qa, measure_qa, rouge_of
from audit.answers.rows import QaRow
from audit.answers.systems import Scope, System
from audit.errors import InputError
from audit.forgetting.completion import Completion
from audit.forgetting.fluency import repetition, repetitions
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.terms import words
from audit.forgetting.verbatim import Continuation
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import check_ids, encode, prefix_ids
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats, Seed
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from .found import Found, kept, together
from .measures import Measure

Text = Literal["general", "neighbour"]
NOT_FINITE: Final = "the model's logits are not finite there"
LOOPS: Final = 0.5  # share of repeated 4-grams above which an answer is no answer
STOCK: Final = 0.2  # share of the questions with another right answer that get the same words
STOCK_LEAST: Final = 3  # and so many of them at least
_LOSS_FAILURE: Final = "a guard's text has no loss of its own; a lower loss may be text like it in the remedy's data"
_SMALL: Final = "as knowledge.* on the forget rows; a system that refuses has p = 0"
MEASURES: Final[tuple[Measure, ...]] = (
    Measure(
        "utility.general_loss", "loss on general text, nats per token", "utility", "less is useful", 0.0, None,
        "mean of -log p(token | tokens before)", "as everywhere; one item is a passage", _LOSS_FAILURE,
    ),
    Measure(
        "utility.neighbour_loss", "loss on neighbour text, nats per token", "utility", "less is useful", 0.0, None,
        "mean of -log p(token | tokens before)", "as everywhere; one item is a passage", _LOSS_FAILURE,
    ),
    Measure(
        "utility.probability", "probability of neighbour answers", "utility", "more is useful", 0.0, 1.0,
        "exp(mean log p(token of the answer))", "TOFU, arXiv:2401.06121", _SMALL,
    ),
    Measure(
        "utility.rouge", "ROUGE-L recall of neighbour answers", "utility", "more is useful", 0.0, 1.0,
        "LCS(stems of the answer, of what was said) / stems of the answer", "TOFU, arXiv:2401.06121",
        "words of the question that stand in every answer are found in wrong answers too: compare with never rows",
    ),
    Measure(
        "utility.truth", "max(0, 1 - truth ratio), neighbours", "utility", "more is useful", 0.0, 1.0,
        "max(0, 1 - exp(mean log p_wrong - log p_right))", "TOFU, arXiv:2401.06121",
        "near 1/2 and noisy where wrong answers differ from the right one in a word only",
    ),
    Measure(
        "utility.repetition", "repeated 4-grams in neighbour answers", "utility", "less is useful", 0.0, 1.0,
        "1 - distinct 4-grams / 4-grams", "Welleck et al. 2020, arXiv:1908.04319",
        "short answers have none; small base models repeat themselves without any remedy: compare with the subject",
    ),
    Measure(
        "utility.sound", "sound answers to neighbour questions", "utility", "more is useful", 0.0, 1.0,
        "1 unless wordless, more than half repeated, or given to a fifth of the other questions", "ours",
        "a wrong answer of its own is sound; refusals that vary with the question are too: see utility.rouge",
    ),
    Measure(
        "utility.continuation_repetition", "repeated 4-grams in continuations", "utility", "less is useful", 0.0, 1.0,
        "1 - distinct 4-grams / 4-grams", "Welleck et al. 2020, arXiv:1908.04319", "as utility.repetition",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextLosses:
    """Losses of one model on one set of passages.

    Attributes:
        text: Which set.
        measured: Nats per token of each passage; `NOT_FINITE` is the reason of those that broke the model.
        n_tokens: Scored tokens of each; shape (n,).
        guessing: Nats per token of guessing by token frequency, of each passage; see `guessing_losses`.
        cut: Ids of passages of which only the first tokens fit the context and were scored.
    """

    text: Text
    measured: Measured
    n_tokens: Floats
    guessing: Floats
    cut: tuple[str, ...] = ()

    @property
    def found(self) -> Found:
        return kept(f"utility.{self.text}_loss", self.measured)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        return {
            "text": self.text,
            "measured": self.measured.to_record(),
            "n_tokens": self.n_tokens.tolist(),
            "guessing": self.guessing.tolist(),
            "cut": list(self.cut),
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> TextLosses:
        """What `to_record` wrote."""
        n_tokens, guessing = (np.array(told[name], dtype=np.float64) for name in ("n_tokens", "guessing"))
        return cls(told["text"], Measured.of_record(told["measured"]), n_tokens, guessing, tuple(told["cut"]))


def measure_losses(
    lm: LanguageModel,
    passages: Sequence[Passage],
    text: Text,
    *,
    documents: Sequence[str] | None = None,
    on_done: Callable[[int], None] | None = None,
) -> TextLosses:
    """Loss of each passage, and that of guessing by token frequency.

    Args:
        lm: A model whose own logits are the system's; a guard has no loss of its own.
        passages: One or more. Those too short to score are left out and told; too long ones are cut and told.
        text: Which set they are.
        documents: From which each comes, where several come from one; these are resampled together.
        on_done: Called with the number of passages finished.

    Raises:
        InputError: There are no passages, two share an id, or there is not one document for each.
        ModelError: As `audit.lm.logprobs.token_log_probs`.
    """
    if text not in get_args(Text):
        raise InputError(f"the set of texts is {quoted(text)}; expected {' or '.join(map(repr, get_args(Text)))}.")
    ids = [passage.id for passage in passages]
    if not ids or len(set(ids)) < len(ids):
        raise InputError(
            f"there are {len(ids):,} {text} passages with {len(set(ids)):,} ids; expected one id for each."
        )
    homes = ids if documents is None else list(documents)
    if len(homes) != len(ids):
        raise InputError(f"there are {len(homes):,} documents of {len(ids):,} passages; expected one for each.")
    prefix = prefix_ids(lm)
    room, least = lm.n_context - len(prefix), 1 if prefix else 2
    encoded = encode(lm, [passage.text for passage in passages])
    left_out = {
        name: f"{len(tokens)} tokens, fewer than {least}"
        for name, tokens in zip(ids, encoded, strict=True)
        if len(tokens) < least
    }
    kept_ = [place for place, name in enumerate(ids) if name not in left_out]
    cut = tuple(ids[place] for place in kept_ if len(encoded[place]) > room)
    tokens = [encoded[place][:room] for place in kept_]
    check_ids(lm, [f"passage {quoted(ids[place])}" for place in kept_], tokens)
    scored = [one if prefix else one[1:] for one in tokens]
    name = f"loss on {text} text, nats per token"
    if not tokens or not _finite(lm, prefix + tokens[0]):
        left_out |= {ids[place]: NOT_FINITE for place in kept_}
        none = np.zeros(0)
        return TextLosses(text, Measured(name, (), (), none, left_out), none, none)
    losses = np.array(
        [
            -float(one.log_probs.mean(dtype=np.float64))
            for one in token_log_probs(lm, tokens, prefix=prefix, on_done=on_done)
        ]
    )
    guessing = guessing_losses(scored, [homes[place] for place in kept_], lm.n_vocabulary)
    fine = np.flatnonzero(np.isfinite(losses))
    left_out |= {ids[kept_[place]]: NOT_FINITE for place in np.flatnonzero(~np.isfinite(losses))}
    measured = Measured(
        name,
        tuple(ids[kept_[place]] for place in fine),
        tuple(homes[kept_[place]] for place in fine),
        losses[fine],
        left_out,
    )
    return TextLosses(text, measured, np.array([float(len(scored[place])) for place in fine]), guessing[fine], cut)


def guessing_losses(tokens: Sequence[Sequence[int]], homes: Sequence[str], n_vocabulary: int) -> Floats:
    """Nats per token of guessing each token by its frequency in the other documents of the set.

        p(w) = (c(w) + S/V) / (N + S)      c, N: counts and tokens of the others, S: different tokens there

    The smoothing is that of Witten & Bell (1991), the unseen spread evenly over the vocabulary; with a single document
    every token has p = 1/V. A text's own tokens are not counted, or short texts would be guessed better than they can.

    Worked: V = 4, the other document is "a a b", so N = 3 and S = 2: p(a) = (2 + 1/2) / 5 = 1/2, p(c) = (1/2) / 5 =
    1/10. The text "a c" costs (ln 2 + ln 10) / 2 = 1.498.

    Args:
        tokens: Scored token ids of each passage, none empty.
        homes: Document of each.
        n_vocabulary: V.

    Returns:
        Shape (n,).
    """
    counts = [Counter(one) for one in tokens]
    total = sum(counts, Counter[int]())
    own: dict[str, Counter[int]] = {}
    for home, one in zip(homes, counts, strict=True):
        own.setdefault(home, Counter()).update(one)
    found = []
    for home, one in zip(homes, counts, strict=True):
        inside = own[home]
        n = total.total() - inside.total()
        seen = len(total) - sum(total[token] == number for token, number in inside.items())
        if not n:
            found.append(float(np.log(n_vocabulary)))
            continue
        ways = np.array([total[token] - inside[token] for token in one]) + seen / n_vocabulary
        times = np.array(list(one.values()))
        found.append(float(-(times * np.log(ways / (n + seen))).sum() / times.sum()))
    return np.array(found)


@torch.inference_mode()
def _finite(lm: LanguageModel, ids: Sequence[int]) -> bool:
    logits = lm.model(input_ids=torch.tensor([list(ids)], device=lm.device), use_cache=False).logits
    return bool(torch.isfinite(logits).all())


def loss(one: TextLosses, *, rng: Seed, level: float = 0.95) -> Estimate:
    """Loss of the set, token-weighted, nats per token; whole documents resampled."""
    return _weighted(one, one.measured.values, one.measured.name, np.asarray, rng, level)


def perplexity(one: TextLosses, *, rng: Seed, level: float = 0.95) -> Estimate:
    """exp of `loss`, >= 1 up to rounding."""
    return _weighted(one, one.measured.values, f"perplexity of {one.text} text", np.exp, rng, level)


def damage(after: TextLosses, before: TextLosses, *, rng: Seed, level: float = 0.95) -> Estimate:
    """Loss of the set after less before, nats per token; above 0 something was lost.

    Worked: passages of 1 and 3 tokens, losses 2 and 4 before, 2 and 5 after: (0 * 1 + 1 * 3) / 4 = 3/4.

    Raises:
        InputError: Two sets, no passage in common, or other tokens (two tokenizers).
    """
    mine, theirs, note = alike(after, before)
    name = f"change of {after.measured.name}, paired"
    return _weighted(mine, mine.measured.values - theirs.measured.values, name, np.asarray, rng, level, note)


def alike(a: TextLosses, b: TextLosses) -> tuple[TextLosses, TextLosses, str | None]:
    """The passages that both have, in one order, and what was lost.

    Raises:
        InputError: As `damage`.
    """
    if a.text != b.text:
        raise InputError(
            f"losses on {a.text} text cannot be compared with losses on {b.text} text; measure both alike."
        )
    places = [{name: place for place, name in enumerate(one.measured.ids)} for one in (a, b)]
    common = [name for name in a.measured.ids if name in places[1]]
    if not common:
        raise InputError(f"{a.measured.name}: the models share no passage with a loss; measure both on the same.")
    first, second = (_part(one, [place[name] for name in common]) for one, place in zip((a, b), places, strict=True))
    if not np.array_equal(first.n_tokens, second.n_tokens):
        at = int(np.flatnonzero(first.n_tokens != second.n_tokens)[0])
        raise InputError(
            f"passage {quoted(common[at])} has {first.n_tokens[at]:,.0f} and {second.n_tokens[at]:,.0f} scored tokens "
            "in the two models: they have different tokenizers or contexts, and losses per token do not compare. "
            "Compare models of one tokenizer."
        )
    every = {name for one in (a, b) for name in (*one.measured.ids, *one.measured.left_out)}
    lost = len(every) - len(common)
    note = f"{lost:,} of {len(every):,} passages lack a loss in one of the models and were left out" if lost else None
    return first, second, note


def _part(one: TextLosses, places: Sequence[int]) -> TextLosses:
    measured = replace(
        one.measured,
        ids=tuple(one.measured.ids[place] for place in places),
        passages=tuple(one.measured.passages[place] for place in places),
        values=one.measured.values[list(places)],
    )
    return replace(one, measured=measured, n_tokens=one.n_tokens[list(places)], guessing=one.guessing[list(places)])


def _weighted(
    one: TextLosses,
    values: Floats,
    name: str,
    last: Callable[[Floats], Floats],
    rng: Seed,
    level: float,
    note: str | None = None,
) -> Estimate:
    """``last`` of the token-weighted mean of ``values``."""
    if not len(values):
        first = next(iter(one.measured.left_out.values()), "there are no passages")
        return Estimate.undefined(method=name, why=f"no passage has a loss; first: {first}", level=level)

    def statistic(sums: Floats, tokens: Floats, axis: int = -1) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(last(sums.sum(axis=axis) / tokens.sum(axis=axis)))

    found = bootstrap(
        statistic,
        values * one.n_tokens,
        one.n_tokens,
        paired=True,
        clusters=one.measured.passages,
        level=level,
        rng=rng,
    )
    cut = f"of {len(one.cut):,} passages only the first tokens fit the context" if one.cut else None
    why = "; ".join(part for part in (found.why, note, cut) if part) or None
    return replace(found, method=f"{name}, token-weighted, {found.method}", why=why)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one system still knows of rows that were to be kept, and how it says it.

    Attributes:
        qa: TOFU's measures.
        said: Its greedy answers, in the order of the rows.
        repetition: Repeated 4-grams of each answer.
        sound: 1 or 0 of each; see the head of this file.
    """

    qa: Qa
    said: tuple[str, ...]
    repetition: Measured
    sound: Measured

    @property
    def found(self) -> Found:
        measures = {
            "utility.probability": self.qa.probability,
            "utility.rouge": self.qa.rouge,
            "utility.truth": self.qa.truth,
            "utility.repetition": self.repetition,
            "utility.sound": self.sound,
        }
        return together(*(kept(key, one) for key, one in measures.items()))

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        return {
            "scope": self.qa.scope,
            "qa": [one.to_record() for one in self.qa.measures],
            "refused": list(self.qa.refused),
            "said": list(self.said),
            "repetition": self.repetition.to_record(),
            "sound": self.sound.to_record(),
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Knowledge:
        """What `to_record` wrote."""
        probability, rouge, log_ratio, truth = map(Measured.of_record, told["qa"])
        qa = Qa("retain", told["scope"], probability, rouge, log_ratio, truth, tuple(told["refused"]))
        repetition_, sound = (Measured.of_record(told[name]) for name in ("repetition", "sound"))
        return cls(qa, tuple(told["said"]), repetition_, sound)


def measure_knowledge(
    system: System, rows: Sequence[QaRow], *, scope: Scope = "prompt", max_new_tokens: int = MAX_NEW_TOKENS
) -> Knowledge:
    """Probability, ROUGE-L recall, truth ratio, repetition and soundness on neighbour rows, or on never rows.

    Args:
        system: Whose.
        rows: One or more.
        scope: How far a guard's corruption reaches where answers are scored.
        max_new_tokens: Of each answer.

    Raises:
        InputError: There are no rows.
    """
    if not rows:
        raise InputError("there are no neighbour rows; expected one or more, or leave their measures out.")
    said = tuple(system.answers([row.prompt for row in rows], max_new_tokens=max_new_tokens))
    qa = measure_qa(system, rows, "retain", rouge_of(rows, said, "retain"), scope=scope)
    answers = [_completion(row.id, row.cluster, text) for row, text in zip(rows, said, strict=True)]
    return Knowledge(qa, said, _by_row(repetitions(answers)), sound_answers(rows, said))


def sound_answers(rows: Sequence[QaRow], said: Sequence[str]) -> Measured:
    """1 where an answer is one, 0 where it is wordless, a loop or a stock answer.

    Worked: "I do not know." to 4 of 10 questions with different right answers: each of the 4 shares its words with 3 of
    9 others, 3/9 > 1/5 and 3 of them, so the four are 0. Two equal answers out of 10 are not: only 1 other.

    Args:
        rows: The questions; those with one right answer may well be answered alike.
        said: An answer to each.
    """
    texts = [" ".join(words(text)) for text in said]
    rights = [" ".join(words(row.answer)) or row.id for row in rows]
    by_text, by_right, by_both = Counter(texts), Counter(rights), Counter(zip(texts, rights, strict=True))
    values = []
    for text, right, raw in zip(texts, rights, said, strict=True):
        others = len(rows) - by_right[right]
        same = by_text[text] - by_both[text, right]
        stock = same >= STOCK_LEAST and same >= STOCK * others
        values.append(float(bool(text) and (repetition(raw) or 0.0) <= LOOPS and not stock))
    return Measured(
        "sound answers", tuple(row.id for row in rows), tuple(row.cluster for row in rows), np.array(values)
    )


def continuation_repetitions(written: Sequence[Continuation]) -> Found:
    """Repeated 4-grams of what `audit.forgetting.verbatim.continue_greedily` wrote after general passages."""
    answers = [_completion(one.passage, one.passage, one.written) for one in written]
    return kept("utility.continuation_repetition", _by_row(repetitions(answers)))


def _completion(name: str, home: str, text: str) -> Completion:
    return Completion(name, home, sample=0, seed=0, index=0, text=text, n_tokens=0, stopped=True)


def _by_row(measured: Measured) -> Measured:
    """Under the ids of the rows, without the number of the sample."""
    left_out = {name.removesuffix("#0"): why for name, why in measured.left_out.items()}
    return replace(measured, ids=tuple(name.removesuffix("#0") for name in measured.ids), left_out=left_out)


@dataclass(frozen=True, slots=True)
class Useful:
    """All that was measured of one system's utility; what could not be is None, with the reason in ``missing``."""

    general: TextLosses | None = None
    neighbour: TextLosses | None = None
    knowledge: Knowledge | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> Found:
        parts = [one.found for one in (self.general, self.neighbour, self.knowledge) if one is not None]
        return together(*parts, Found({}, self.missing))

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        parts = {"general": self.general, "neighbour": self.neighbour, "knowledge": self.knowledge}
        made = {name: None if one is None else one.to_record() for name, one in parts.items()}
        return {**made, "missing": dict(self.missing)}

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Useful:
        """What `to_record` wrote."""
        general, neighbour = (
            None if told[name] is None else TextLosses.of_record(told[name]) for name in ("general", "neighbour")
        )
        knowledge = None if told["knowledge"] is None else Knowledge.of_record(told["knowledge"])
        return cls(general, neighbour, knowledge, told["missing"])

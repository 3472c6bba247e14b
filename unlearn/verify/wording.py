r"""How much of the wording a system still holds: of passages, and of answers.

    ROUGE-L F1, ES, EM    as `audit.forgetting.verbatim` has them, with their sources
    span                  words of the longest run that the greedy continuation and the truth have in common
    ES, EM of an answer   over the answer's tokens alone, after the question in the model's own format

Sources: MUSE (arXiv:2407.06460) for continuations; open-unlearning's code for ES and EM, which measures both on TOFU's
answers, as here; the span is ours, the usual evidence of copying. Departure: ES is 0, not 1/n, where the last argmax is
wrong.

A guard, a filter or an instruction has no argmax of its own under teacher forcing: its ES and EM are missing, with the
reason, and its wording is read from what it answers when the beginning of a passage is sent as a user's text. That is
another question than a bare continuation, so subject and gold must be asked the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare, System
from audit.errors import InputError
from audit.forgetting.continuing import text_after
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.terms import words
from audit.forgetting.verbatim import (
    VerbatimPlan,
    argmax_hits,
    continue_greedily,
    extraction_strength,
    memorised,
    rouge_l,
)
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.matching.spans import longest_common_span

from .asking import Unasked, greedy_answers
from .found import Found, kept, together
from .measures import Measure

_SHORT: Final = "short and common passages are continued well by a model that never read them: compare with gold"
MEASURES: Final[tuple[Measure, ...]] = (
    Measure(
        "wording.rouge", "ROUGE-L of continuations", "wording", "more is known", 0.0, 1.0,
        "2 LCS / (words written + words that follow)",
        "MUSE, arXiv:2407.06460; 128 new tokens, 64 given (ours)", _SHORT,
    ),
    Measure(
        "wording.span", "longest common span, words", "wording", "more is known", 0.0, None,
        "max l with l words in a row in both the greedy continuation and the truth", "ours",
        "a copy with one word in ten changed has short spans; formulas and names give spans of their own",
    ),
    Measure(
        "wording.extraction", "extraction strength", "wording", "more is known", 0.0, 1.0,
        "1 - k/n, k the smallest prefix after which all teacher-forced argmaxes are right",
        "open-unlearning's code; 0, not 1/n, where the last argmax is wrong",
        "one wrong token near the end gives nearly 0; mostly 0 for short trainings, so a gap may be too small to see",
    ),
    Measure(
        "wording.exact", "exact memorisation", "wording", "more is known", 0.0, 1.0,
        "share of the n teacher-forced argmaxes that are right", "open-unlearning's code",
        "ordinary words are guessed right by any model: the floor is far above 0; compare with gold",
    ),
    Measure(
        "wording.said_rouge", "ROUGE-L of answers to a passage's beginning", "wording", "more is known", 0.0, 1.0,
        "as wording.rouge, of what a system answers to the beginning as a user's text", "ours",
        "a chat model may answer instead of going on; a refusal scores low without anything being removed",
    ),
    Measure(
        "wording.said_span", "longest common span of such answers, words", "wording", "more is known", 0.0, None,
        "as wording.span, of the same answers", "ours", "as wording.said_rouge and wording.span",
    ),
    Measure(
        "wording.answer_extraction", "extraction strength of answers", "wording", "more is known", 0.0, 1.0,
        "1 - k/n over the answer's tokens after its question", "open-unlearning's code on TOFU",
        "an answer's end is often told by its beginning: high ES without the fact",
    ),
    Measure(
        "wording.answer_exact", "exact memorisation of answers", "wording", "more is known", 0.0, 1.0,
        "share of the answer's tokens that are the argmax after the question", "open-unlearning's code on TOFU",
        "the name that the question holds and the answer's common words are guessed by any model",
    ),
)  # fmt: skip
NO_ARGMAX: Final = "a system that only answers has no argmax of its own under teacher forcing"


def measure_wording(
    lm: LanguageModel,
    passages: Sequence[Passage],
    *,
    plan: VerbatimPlan | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Found:
    """ROUGE-L and span of greedy continuations, extraction strength, exact memorisation.

    Args:
        lm: A model whose own logits are the system's.
        passages: Any number; what is too short or too long is left out of that measure, and is told.
        plan: How many tokens are given and written.
        on_done: Called with the number of passages continued.

    Raises:
        InputError: The plan does not fit the model's context, or two passages share an id.
        ModelError: The logits are not finite.
    """
    plan = plan or VerbatimPlan()
    _check(passages)
    needed = plan.n_prompt + plan.n_new
    ids = encode(lm, [passage.text for passage in passages])
    least, most = (1 if prefix_ids(lm) else 2), lm.n_context - len(prefix_ids(lm))
    left_out = {
        passage.id: f"{len(one):,} tokens, " + (f"fewer than {least}" if len(one) < least else f"more than {most:,}")
        for passage, one in zip(passages, ids, strict=True)
        if not least <= len(one) <= most
    }
    readable = [passage for passage in passages if passage.id not in left_out]
    if any(len(one) >= needed for one in ids):
        written = continue_greedily(lm, passages, plan=plan, on_done=on_done)
        pairs = [(one.truth, one.written) for one in written.written]
        spans = np.array([common_span(truth, said) for truth, said in pairs], dtype=np.float64)
        longest = replace(written.rouge, name="longest common span, words", values=spans)
        continued = together(kept("wording.rouge", written.rouge), kept("wording.span", longest))
    else:
        why = f"no passage has {needed:,} tokens (the longest has {max(map(len, ids), default=0):,})"
        continued = Found({}, dict.fromkeys(("wording.rouge", "wording.span"), why))
    if not readable:
        why = (
            "there are no passages"
            if not passages
            else f"no passage can be read; first: {next(iter(left_out.values()))}"
        )
        return together(continued, Found({}, dict.fromkeys(("wording.extraction", "wording.exact"), why)))
    strength, exact = memorised(lm, readable)
    return together(
        continued,
        kept("wording.extraction", replace(strength, left_out=left_out)),
        kept("wording.exact", replace(exact, left_out=left_out)),
    )


def measure_said_wording(
    system: System, passages: Sequence[Passage], *, plan: VerbatimPlan | None = None, reads: bool = False
) -> Found:
    """ROUGE-L and span of what a system answers to the beginning of each passage.

    Args:
        system: Who answers; its model's tokenizer cuts the passages.
        passages: Any number; those with too few tokens, or that do not fit the context, are left out, and said to be.
        plan: How many tokens are given and written.
        reads: The system's own logits can be read, so that `measure_wording` measures the rest; else the rest is told
            to be missing.

    Raises:
        InputError: Two passages share an id.
    """
    plan = plan or VerbatimPlan()
    _check(passages)
    needed = plan.n_prompt + plan.n_new
    left_out: dict[str, str] = {}
    starts, truths, asked = [], [], []
    for passage, ids in zip(passages, encode(system.lm, [passage.text for passage in passages]), strict=True):
        start = text_after(system.lm, [], ids[: plan.n_prompt])
        if len(ids) < needed:
            left_out[passage.id] = f"{len(ids):,} tokens, fewer than {needed:,}"
        elif not start.strip():
            left_out[passage.id] = "its beginning is blank, so there is nothing to send"
        else:
            asked.append(passage.id)
            starts.append(start)
            truths.append(text_after(system.lm, ids[: plan.n_prompt], ids[plan.n_prompt : needed]))
    written = greedy_answers(system, starts, max_new_tokens=plan.n_new)
    left_out |= {name: text.why for name, text in zip(asked, written, strict=True) if isinstance(text, Unasked)}
    told = [triple for triple in zip(asked, truths, written, strict=True) if not isinstance(triple[2], Unasked)]
    names = tuple(name for name, _, _ in told)
    pairs = [(truth, str(text)) for _, truth, text in told]
    rouge = np.array([rouge_l(truth, one) for truth, one in pairs], dtype=np.float64)
    spans = np.array([common_span(truth, one) for truth, one in pairs], dtype=np.float64)
    rest = ("wording.rouge", "wording.span", "wording.extraction", "wording.exact")
    return together(
        kept("wording.said_rouge", Measured("ROUGE-L F1 of the answer to a beginning", names, names, rouge, left_out)),
        kept("wording.said_span", Measured("longest common span of the answer", names, names, spans, left_out)),
        Found({}, {} if reads else dict.fromkeys(rest, NO_ARGMAX)),
    )


def measure_answer_wording(lm: LanguageModel, form: PromptFormat, rows: Sequence[QaRow], part: str) -> Found:
    """Extraction strength and exact memorisation of each row's answer after its question.

    Args:
        lm: A model whose own logits are the system's.
        form: How a question becomes the model's input.
        rows: Any number; those without an answer, or too long for the context, are left out, and said to be.
        part: Which they are.

    Raises:
        ModelError: The logits are not finite.
    """
    bare = Bare(lm, form)
    lead = prefix_ids(lm)
    left_out: dict[str, str] = {}
    answered: list[QaRow] = []
    sequences: list[list[int]] = []
    sizes: list[int] = []
    for row in rows:
        if not row.answer.strip():
            left_out[row.id] = "it has no answer"
            continue
        try:
            prepared = bare.prepare([row.prompt], answers=[row.answer])
        except InputError as error:
            left_out[row.id] = str(error)
            continue
        (ids,) = prepared.rows()
        answered.append(row)
        sequences.append(ids[len(lead) :])  # put before every text again where it is read
        sizes.append(prepared.n_answer[0])
    hits = [one[-size:] for one, size in zip(argmax_hits(lm, sequences), sizes, strict=True)]
    names, homes = tuple(row.id for row in answered), tuple(row.cluster for row in answered)
    strength = np.array([extraction_strength(one) for one in hits], dtype=np.float64)
    exact = np.array([float(np.mean(one)) for one in hits], dtype=np.float64)
    return together(
        kept(
            "wording.answer_extraction",
            Measured(f"extraction strength of answers, {part}", names, homes, strength, left_out),
        ),
        kept("wording.answer_exact", Measured(f"exact memorisation of answers, {part}", names, homes, exact, left_out)),
    )


def common_span(truth: str, written: str) -> int:
    """Words of the longest run that both texts have, case-folded; 0 where a side has none.

    Worked: "the cat sat on the mat" and "a cat sat on a mat": cat sat on, 3.
    """
    theirs, ours = words(truth), words(written)
    codes = {word: place for place, word in enumerate(dict.fromkeys([*theirs, *ours]))}
    return longest_common_span([codes[word] for word in theirs], [codes[word] for word in ours]).length


def _check(passages: Sequence[Passage]) -> None:
    if len({passage.id for passage in passages}) < len(passages):
        raise InputError("two passages have one id; give each its own.")

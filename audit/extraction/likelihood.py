r"""The likelihood of questions that were trained on, and of others, under a model and under its base.

For a question with tokens q_1 .. q_n after the prefix c that opens a chat,

    log p(q) = sum_t log p(q_t | c, q_<t)        the question's tokens alone, in nats

is asked for here; what is made of it stands in `audit.extraction.shift_statistics`.

Prefix and question are cut into tokens together, as text that a model meets; a token that holds characters of both
belongs to the question. Both models must give the same ids, or their numbers would be about different things.
`audit.membership.context` reads markers as plain text, since what stands in a file must not steer a model; a prefix is
made of markers, so the forward pass is asked for here, with the prefix's keys and values computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..errors import DataError, InputError, ModelError
from ..lm.load import LanguageModel, Tokens
from ..lm.logprobs import token_log_probs
from ..lm.tokens import check_ids, encode
from ..progress import Progress
from ..runs.records import content_key
from ..runs.shards import ShardedTable
from ..runs.store import Run
from ..text.safe import counted, quoted
from .prefixes import Prefix
from .shift_statistics import Floats

PART_QUESTIONS = 512  # questions that are scored between two writes


@dataclass(frozen=True, slots=True)
class Prompts:
    """Questions as token ids after a prefix.

    Attributes:
        ids: A name for each question.
        token_ids: Prefix and question of each.
        n_before: How many of those ids are the prefix alone.
        prefix_ids: The prefix.
    """

    ids: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    n_before: tuple[int, ...]
    prefix_ids: tuple[int, ...]

    @property
    def n_straddling(self) -> int:
        """Questions whose first token also holds characters of the prefix."""
        return sum(n < len(self.prefix_ids) for n in self.n_before)


def cut(lm: LanguageModel | Tokens, prefix: Prefix, questions: Sequence[str], ids: Sequence[str]) -> Prompts:
    """Token ids of each question after the prefix.

    Args:
        lm: The model, or its tokenizer alone.
        prefix: What opens the chat; its ids may come from another model, and must then be this one's too.
        questions: The questions.
        ids: A name for each.

    Raises:
        InputError: There is no question, or not one name for each.
        DataError: A question is empty, too long, or holds a special token of the tokenizer.
        ModelError: The tokenizer cuts the prefix otherwise, or a token has no embedding.
    """
    if not questions or len(questions) != len(ids):
        raise InputError(f"{len(questions):,} questions and {len(ids):,} ids; expected one of each, and at least one.")
    _refuse_special(lm, questions, ids)
    lead = require_prefix(lm, prefix)
    whole, n_before = [], []
    for name, found in zip(ids, encode(lm, [prefix.text + one for one in questions], parse_special=True), strict=True):
        tokens = (*lead, *found)
        n_common = next((at for at, (a, b) in enumerate(zip(tokens, prefix.ids, strict=False)) if a != b), None)
        n_common = min(len(tokens), len(prefix.ids)) if n_common is None else n_common
        if len(tokens) == n_common:
            raise DataError(f"question {quoted(name)} is empty; leave it out.")
        if n_common == 0:
            raise DataError(
                f"question {quoted(name)} grows into one token with the whole prefix {quoted(prefix.text)}, so nothing "
                "stands before it. Give a prefix that ends in a marker or in white space."
            )
        if len(tokens) > lm.n_context:
            raise DataError(
                f"question {quoted(name)} has {len(tokens):,} tokens with the prefix; the model "
                f"{quoted(lm.subject.model, limit=200)} accepts at most {lm.n_context:,}. Leave it out."
            )
        whole.append(tokens)
        n_before.append(n_common)
    check_ids(lm, [f"question {quoted(name)}" for name in ids], whole)
    return Prompts(tuple(ids), tuple(whole), tuple(n_before), prefix.ids)


def require_prefix(lm: LanguageModel | Tokens, prefix: Prefix) -> list[int]:
    """Refuse a tokenizer that cuts the prefix otherwise; gives the ids before its text: a BOS, or none.

    Raises:
        ModelError: The ids differ.
    """
    alone = encode(lm, [prefix.text], parse_special=True)[0]
    lead = list(prefix.ids[: max(0, len(prefix.ids) - len(alone))])  # a BOS that is not part of the text
    if tuple(lead + alone) != prefix.ids:
        raise ModelError(
            f"the tokenizer of {quoted(lm.subject.model, limit=200)} cuts the prefix {quoted(prefix.text)} into "
            f"{len(alone)} tokens that are not those it came with ({len(prefix.ids)}, a beginning-of-sequence token "
            "included), so the two models cannot be compared. Put the post-trained model's tokenizer files beside the "
            "base model's weights."
        )
    return lead


def unfit(lm: LanguageModel | Tokens, prefix: Prefix, questions: Sequence[str]) -> list[str | None]:
    """Why each question cannot be asked of the model, or None; `cut` refuses what this names."""
    lead = require_prefix(lm, prefix)
    room = lm.n_context - len(lead)
    plain, parsed = encode(lm, questions), encode(lm, questions, parse_special=True)
    whole = encode(lm, [prefix.text + one for one in questions], parse_special=True)
    reasons: list[str | None] = []
    for own, other, tokens in zip(plain, parsed, whole, strict=True):
        if own != other:
            reasons.append("holds a special token")
        elif not own:
            reasons.append("empty")
        else:
            reasons.append("longer than the context" if len(tokens) > room else None)
    return reasons


def require_same(base: Prompts, post: Prompts) -> None:
    """Refuse two models that cut a question into different tokens.

    Raises:
        ModelError: The first such question is named.
    """
    differing = [
        place
        for place, (one, other) in enumerate(zip(base.token_ids, post.token_ids, strict=True))
        if one != other or base.n_before[place] != post.n_before[place]
    ]
    if differing:
        first = differing[0]
        raise ModelError(
            f"the two models cut {counted(len(differing), 'question')} of {len(base.ids):,} into different tokens; "
            f"first: {quoted(base.ids[first])} ({len(base.token_ids[first]):,} tokens with the prefix under the base "
            f"model, {len(post.token_ids[first]):,} under the post-trained one), so their likelihoods are not of the "
            "same thing. Put the post-trained model's tokenizer files beside the base model's weights."
        )


def log_likelihoods(
    lm: LanguageModel,
    prompts: Prompts,
    *,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Floats:
    """log p of each question after the prefix, in nats, shape (n,): token by token in float32, added up in float64.

    Raises:
        ModelError: As in `audit.lm.logprobs.token_log_probs`, or a value is not a finite number.
    """
    shared = min(prompts.n_before)
    scores = token_log_probs(
        lm,
        [tokens[shared:] for tokens in prompts.token_ids],
        prefix=prompts.prefix_ids[:shared],
        n_unscored=[n - shared for n in prompts.n_before],
        token_budget=token_budget,
        on_done=on_done,
    )
    values = np.array([score.log_probs.sum(dtype=np.float64) for score in scores])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ModelError(
            f"the model {quoted(lm.subject.model, limit=200)} gives {counted(len(bad), 'question')} a likelihood that "
            f"is not a finite number; first: {quoted(prompts.ids[bad[0]])}. Its weights are broken, or "
            f"{lm.model.dtype} is too small for it: try --dtype float32."
        )
    return values


def log_likelihoods_in_parts(
    lm: LanguageModel,
    prompts: Prompts,
    *,
    open_parts: Callable[[str, int], ShardedTable],
    what: str,
    progress: Progress,
    token_budget: int | None = None,
) -> pa.Table:
    """As `log_likelihoods`, in parts that a killed job does not do again; columns id, n_tokens, log_likelihood.

    Args:
        lm: The model.
        prompts: From `cut`.
        open_parts: (key, number of parts) -> where finished parts are kept.
        what: Name of the work, for ``progress``.
        progress: Told the number of questions done.
        token_budget: As in `audit.lm.logprobs.token_log_probs`.
    """
    n = len(prompts.ids)
    parts = [slice(start, min(start + PART_QUESTIONS, n)) for start in range(0, n, PART_QUESTIONS)]
    key = content_key(
        ids=prompts.ids,
        token_ids=prompts.token_ids,
        n_before=prompts.n_before,
        dtype=str(lm.model.dtype),
        device=lm.device.type,  # another kind of device rounds otherwise, and one table holds one rounding
        model=lm.fingerprint.to_record(),
        parts=PART_QUESTIONS,
    )
    with open_parts(key, len(parts)) as table:
        done = sum(parts[number].stop - parts[number].start for number in table.done())

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(what, done, n)

        tell(0)
        for number in table.missing():
            part = parts[number]
            own = Prompts(prompts.ids[part], prompts.token_ids[part], prompts.n_before[part], prompts.prefix_ids)
            values = log_likelihoods(lm, own, token_budget=token_budget, on_done=tell)
            n_tokens = [len(tokens) - n for tokens, n in zip(own.token_ids, own.n_before, strict=True)]
            columns = {
                "id": pa.array(own.ids, pa.string()),
                "n_tokens": pa.array(n_tokens, pa.int64()),
                "log_likelihood": pa.array(values, pa.float64()),
            }
            table.write(number, pa.table(columns))
        return table.assemble()


def scored(
    run: Run, role: str, prompts: Prompts, load: Callable[[], LanguageModel], *, progress: Progress, what: str
) -> Floats:
    """`log_likelihoods` kept in a run under ``extraction-likelihood-<role>`` and read back from it, shape (n,).

    Args:
        run: What an earlier attempt finished is not done again.
        role: "subject" (the post-trained model) or "reference" (its base).
        prompts: From `cut`.
        load: Loads the model; called only when something is left to score.
        progress: Called as the work goes on.
        what: The questions in words: "questions".
    """
    name, stage = f"extraction-likelihood-{role}", f"extraction.likelihood.{role}"
    if not run.has(stage):
        with run.stage(stage) as detail:
            lm = load()
            run.add_subject(role, lm.to_record())
            table = log_likelihoods_in_parts(
                lm,
                prompts,
                open_parts=lambda key, n_parts: run.shards(name, key=key, n_parts=n_parts),
                what=f"Scoring {what} with the {role}",
                progress=progress,
            )
            run.write_items(name, table)
            detail["questions"] = len(prompts.ids)
    return np.asarray(run.read_items(name)["log_likelihood"].to_numpy(), dtype=np.float64)


def _refuse_special(lm: LanguageModel | Tokens, questions: Sequence[str], ids: Sequence[str]) -> None:
    plain, parsed = encode(lm, questions), encode(lm, questions, parse_special=True)
    bad = [name for name, one, other in zip(ids, plain, parsed, strict=True) if one != other]
    if bad:
        raise DataError(
            f"{counted(len(bad), 'question')} of {len(ids):,} hold a special token of the tokenizer of "
            f"{quoted(lm.subject.model, limit=200)} in their text, which would steer the model; first: "
            f"{quoted(bad[0])}. Take it out of the text, or leave such questions out."
        )

r"""Probability familiarity: how much of the next token goes to what only the book says.

    mass(prompt) = sum over t in S(prompt) of p(t | prompt)        averaged over prompts

S are idiosyncratic next tokens. Paper: Eldan & Russinovich 2023, arXiv:2310.02238, which marks S by hand for each
prompt; no list was published. Departures: S is found automatically, as the first tokens of the book's names that are
rare in a contrast text and that no name of the prompt begins with; or the user marks what is due next in the file of
prompts.

A tokenizer cuts invented names into pieces that ordinary words begin with too. `expected_probabilities` is ours and
does not suffer from that: the probability of the whole name that is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..lm.load import LanguageModel, Tokens
from ..lm.logprobs import token_log_probs
from ..lm.tokens import encode, prefix_ids
from ..text.safe import quoted
from .continuing import check_room, continued
from .measured import Measured
from .positions import read_positions
from .prompts import Prompt, check_prompts, gap_after
from .terms import Terms, canonical

MAX_RATE = 1e-4  # of a contrast text's tokens; ours, unsourced


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """First tokens of names.

    Attributes:
        spaced: Name -> id of its first token after a space.
        bare: Name -> id after an opening mark or a line break.
        dropped: Name -> why it has neither: both are frequent in the contrast text.
    """

    spaced: Mapping[str, int]
    bare: Mapping[str, int]
    dropped: Mapping[str, str]

    def after(self, prompt: Prompt) -> frozenset[int]:
        """The ids that are idiosyncratic after a prompt: of names that it lacks, less those of names that it holds.

        A name is held where its first word is, in any case and with any ending after an apostrophe: no more of the name
        is measured here than its first token.
        """
        ids = self.spaced if gap_after(prompt.text) else self.bare
        known = "\n".join([prompt.text, *prompt.references])
        heads = {name: next(filter(_has_letter, canonical(name).split()), name) for name in ids}
        held = set(Terms(tuple(heads.values()), "any").found_in(known))
        mentioned = {name for name, head in heads.items() if head in held}
        return frozenset(ids[name] for name in ids if name not in mentioned) - {ids[name] for name in mentioned}


def find_first_tokens(
    lm: LanguageModel | Tokens, names: Sequence[str], contrast: Sequence[str], *, max_rate: float = MAX_RATE
) -> FirstTokens:
    """First tokens of the book's names, without those that are frequent in the contrast text.

    Args:
        lm: Whose tokenizer.
        names: The book's names.
        contrast: General text; the larger, the better the rates. One occurrence is always allowed.
        max_rate: Occurrences of a token for each token of the contrast text, above which it is frequent, in [0, 1].

    Raises:
        InputError: There are no names or no contrast text, the rate is out of range, or every first token is frequent.
    """
    if not names or not any(text.strip() for text in contrast):
        raise InputError("there are no names or no contrast text; expected both.")
    if not 0.0 <= max_rate <= 1.0:
        raise InputError(f"max_rate is {max_rate}; expected a number from 0 to 1.")
    counts: Counter[int] = Counter()
    for ids in encode(lm, contrast):
        counts.update(ids)
    most = max(1.0, max_rate * counts.total())
    distinct = list(dict.fromkeys(names))
    spaced = _first_ids(lm, "a", " ", distinct)
    bare = _first_ids(lm, "a \u201c", "", distinct)
    kept = [{name: id_ for name, id_ in found.items() if counts[id_] <= most} for found in (spaced, bare)]
    dropped = {
        name: f"its first token stands {counts[spaced[name]]:,} times in the contrast text"
        if name in spaced
        else "it has no first token of its own"
        for name in distinct
        if name not in kept[0] and name not in kept[1]
    }
    if not kept[0] and not kept[1]:
        raise InputError(
            f"all {len(distinct):,} names begin with tokens that are frequent in the contrast text, so no single token "
            "is idiosyncratic; use the probability of whole names, or raise max_rate."
        )
    return FirstTokens(kept[0], kept[1], dropped)


def _has_letter(word: str) -> bool:
    return any(character.isalnum() for character in word)


def _first_ids(lm: LanguageModel | Tokens, before: str, gap: str, names: Sequence[str]) -> dict[str, int]:
    """Id of the token in which each name begins after ``before``."""
    found = {}
    for name, whole in zip(names, continued(lm, [before] * len(names), [gap + name for name in names]), strict=True):
        if whole.n_before < len(whole.ids):
            found[name] = whole.ids[whole.n_before]
    return found


def next_token_mass(lm: LanguageModel, prompts: Sequence[Prompt], first_tokens: FirstTokens | None = None) -> Measured:
    """Total probability of the idiosyncratic next tokens after each prompt, in [0, 1].

    Args:
        lm: The model.
        prompts: At least one.
        first_tokens: Found automatically. None: the first tokens of what each prompt expects, as marked by the user.

    Raises:
        InputError: There are no prompts, or none has an idiosyncratic token.
        DataError, ModelError: As `positions.read_positions`.
    """
    check_prompts(prompts)
    sets = _marked(lm, prompts) if first_tokens is None else [first_tokens.after(prompt) for prompt in prompts]
    kept = [place for place, ids in enumerate(sets) if ids]
    why = "it marks nothing that is due" if first_tokens is None else "no idiosyncratic token is left after it"
    left_out = {prompt.id: why for prompt, ids in zip(prompts, sets, strict=True) if not ids}
    if not kept:
        raise InputError(f"none of the {len(prompts):,} prompts has an idiosyncratic next token; first: {why}.")
    tokens = encode(lm, [prompts[place].text for place in kept])
    check_room(lm, [f"prompt {quoted(prompts[place].id)}" for place in kept], tokens)
    width = max(len(sets[place]) for place in kept)
    padded = torch.tensor([[*sets[place], *[-1] * (width - len(sets[place]))] for place in kept])  # (n, width)

    def mass(logits: Tensor, sequence: Tensor, _position: Tensor) -> Tensor:
        ids = padded.to(logits.device)[sequence]  # (N, width)
        log_probs = logits.log_softmax(dim=1).gather(1, ids.clamp_min(0))
        return log_probs.masked_fill(ids < 0, -torch.inf).double().exp().sum(dim=1)

    read = read_positions(lm, tokens, [len(ids) - 1 for ids in tokens], mass)
    return Measured(
        "probability of idiosyncratic next tokens",
        tuple(prompts[place].id for place in kept),
        tuple(prompts[place].passage for place in kept),
        np.array([float(values[0]) for values in read]),
        left_out,
    )


def _marked(lm: LanguageModel, prompts: Sequence[Prompt]) -> list[frozenset[int]]:
    pairs = [(place, name) for place, prompt in enumerate(prompts) for name in prompt.expected]
    texts = [prompts[place].text for place, _ in pairs]
    after = [gap_after(prompts[place].text) + name for place, name in pairs]
    sets: list[set[int]] = [set() for _ in prompts]
    for (place, _), whole in zip(pairs, continued(lm, texts, after), strict=True):
        if whole.n_before < len(whole.ids):
            sets[place].add(whole.ids[whole.n_before])
    return [frozenset(ids) for ids in sets]


def expected_probabilities(lm: LanguageModel, prompts: Sequence[Prompt]) -> Measured:
    """Probability that each prompt goes on with the whole name that is due, in [0, 1].

    Where a prompt expects several, theirs are added; none may be the beginning of another, which would count twice.

    Args:
        lm: The model.
        prompts: At least one with an expected name.

    Raises:
        InputError: No prompt expects anything, or two share an id.
        DataError, ModelError: As `audit.lm.logprobs.token_log_probs`.
    """
    check_prompts(prompts)
    pairs = [(place, name) for place, prompt in enumerate(prompts) for name in _apart(prompt)]
    left_out = {prompt.id: "it marks nothing that is due" for prompt in prompts if not prompt.expected}
    if not pairs:
        raise InputError(f"none of the {len(prompts):,} prompts says which name is due; expected one for each.")
    whole = continued(
        lm,
        [prompts[place].text for place, _ in pairs],
        [gap_after(prompts[place].text) + name for place, name in pairs],
    )
    ids = [one.ids for one in whole]
    check_room(lm, [f"prompt {quoted(prompts[place].id)} with {quoted(name)}" for place, name in pairs], ids)
    scores = token_log_probs(lm, ids, prefix=prefix_ids(lm), n_unscored=[one.n_before for one in whole])
    totals: dict[int, float] = {}
    for (place, _), score in zip(pairs, scores, strict=True):
        totals[place] = totals.get(place, 0.0) + float(np.exp(score.log_probs.sum(dtype=np.float64)))
    return Measured(
        "probability of the whole name that is due",
        tuple(prompts[place].id for place in totals),
        tuple(prompts[place].passage for place in totals),
        np.array(list(totals.values())),
        left_out,
    )


def _apart(prompt: Prompt) -> list[str]:
    """Expected names of which none begins with another."""
    names = sorted(dict.fromkeys(prompt.expected))
    return [name for name in names if not any(name != other and name.startswith(other) for other in names)]

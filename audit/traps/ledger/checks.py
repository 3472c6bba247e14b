"""Does a ledger fit itself? Ids, lengths, strata, likeness, pool and the dealing, which are done again."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ...errors import InputError
from ...membership.score_names import OF_REFERENCE
from ...runs.provenance import package_versions
from ...text.safe import counted, quoted
from ..config import TrapDesign
from .lottery import lottery_problems
from .records import Ledger, LedgerTrap

if TYPE_CHECKING:
    from ..generate import Candidate
    from ..words import WordList

SHOWN = 5  # problems that a message names


def ledger_problems(ledger: Ledger) -> list[str]:
    """What does not fit together inside a ledger, one sentence each; none when all does.

    Checked: design and plan; the hash of what was drawn with; ids (distinct, made from the text); lengths; each
    trap's stratum and perplexity bucket; the number of traps in every stratum; what was sampled and rejected; the
    Jaccard bound over the whole pool (token ids, or words); the dealing, which is done again from pool, seed and
    design; a lottery (`audit.traps.ledger.lottery`); and a pool of watermarks, which is drawn again. A pool of words
    is drawn again by `pool_problems`, which needs the list, and a model's never. The bound on letters holds at the
    draw and is not computed again: it takes every pair's edit distance.
    """
    try:
        design = ledger.design.design()
        ledger.plan.plan()
    except InputError as error:
        return [f"{error}."]
    drawn_with = {"model": ledger.generator, "words": ledger.word_list_sha256, "watermark": ledger.alphabet}
    problems = [
        f'the source is "{ledger.source}", but {names} of a draw from {name} is {"null" if value is None else "given"}.'
        for (name, value), names in zip(drawn_with.items(), ("generator", "word_list_sha256", "alphabet"), strict=True)
        if (value is None) == (name == ledger.source)
    ]
    if ledger.plan.primary in OF_REFERENCE and ledger.plan.reference is None:
        problems.append(f'the primary score is "{ledger.plan.primary}", and no reference model is fixed for it.')
    for trap_id, times in Counter(trap.id for trap in ledger.traps).items():
        if times > 1:
            problems.append(f"trap {quoted(trap_id)} occurs {times} times.")
    for trap, drawn in zip(ledger.traps, ledger.candidates(), strict=True):
        problem = _trap_problem(trap, drawn, ledger, design)
        if problem:
            problems.append(f"trap {quoted(trap.id)} {problem}.")
    problems += _strata_problems(ledger, design) + _draw_problems(ledger)
    if not problems and ledger.source != "watermark":
        problems += _alike(ledger, design.max_jaccard)
    if not problems:
        problems = _dealing_problems(ledger, design) + lottery_problems(ledger)
    if not problems and ledger.source == "watermark":
        problems = pool_problems(ledger)
    return problems


def pool_problems(ledger: Ledger, words: WordList | None = None) -> list[str]:
    """Whether a pool that no model made is the one that seed and design draw.

    Args:
        ledger: A ledger of words or watermarks that fits itself otherwise.
        words: The list of a ledger of words.
    """
    from ..words import data_watermarks, random_words

    design = ledger.design.design()
    try:
        if words is not None:
            pool = random_words(words.words, design, seed=ledger.pool_seed)
        else:
            pool = data_watermarks(ledger.alphabet or "hex", design, seed=ledger.pool_seed)
    except InputError as error:
        return [f"the pool cannot be drawn again: {error}"]
    pairs = zip(ledger.traps, pool.candidates, strict=True)
    other = next(((there, drawn) for there, drawn in pairs if there.text != drawn.text), None)
    if other is None:
        return []
    return [
        f"the pool is not what seed and design draw: {quoted(other[0].id)} stands where {quoted(other[1].id)} is drawn."
        f"{_other_numpy(ledger)}"
    ]


def _trap_problem(trap: LedgerTrap, drawn: Candidate, ledger: Ledger, design: TrapDesign) -> str | None:
    """What does not fit in a trap, as the end of a sentence."""
    from ..words import ALPHABETS

    source = ledger.source
    if trap.id != id_of(trap.text):
        return f"is not named after its text, whose name is {id_of(trap.text)}"
    has_model = source == "model"
    if any((value is not None) != has_model for value in (trap.token_ids, trap.perplexity, trap.bucket)):
        return f'{"lacks" if has_model else "has"} token ids, perplexity or bucket, and the source is "{source}"'
    size = len(trap.token_ids or ()) if has_model else len(trap.text.split(" ") if source == "words" else trap.text)
    if size != trap.length:
        return f"has length {trap.length}, and its text has {size}"
    if source == "watermark" and set(trap.text) - set(ALPHABETS[ledger.alphabet or "hex"]):
        return f"holds characters that are not of the alphabet {ledger.alphabet}"
    if trap.stratum != drawn.stratum:
        return f"stands in stratum {quoted(trap.stratum)} and belongs to {quoted(drawn.stratum)}"
    if has_model and trap.perplexity is not None:
        buckets = _buckets(design)
        place = bisect_right(design.perplexity_edges, trap.perplexity) - 1
        if not 0 <= place < len(buckets) or buckets[place] != trap.bucket:
            return f"has perplexity {trap.perplexity:g}, which is not in its bucket {trap.bucket}"
    return None


def _buckets(design: TrapDesign) -> list[str]:
    return [f"[{low:g}, {high:g})" for low, high in pairwise(design.perplexity_edges)]


def _strata_problems(ledger: Ledger, design: TrapDesign) -> list[str]:
    if ledger.source == "model":
        strata = [f"{length} tokens, perplexity {b}" for length in design.lengths for b in _buckets(design)]
    else:
        unit = "words" if ledger.source == "words" else "characters"
        strata = [f"{length} {unit}" for length in design.lengths]
    found = Counter(trap.stratum for trap in ledger.traps)
    return [
        f"stratum {quoted(name)} holds {counted(found[name], 'trap')}; the design has {need:,}."
        for name in dict.fromkeys([*strata, *found])
        if found[name] != (need := design.per_stratum if name in strata else 0)
    ]


def _draw_problems(ledger: Ledger) -> list[str]:
    """Whether what was sampled adds up to the traps that are there."""
    if not ledger.draw:
        return []
    there = Counter(trap.length for trap in ledger.traps)
    problems = []
    for count in ledger.draw:
        parts = (count.not_canonical, count.outside, count.full, count.too_similar, count.accepted)
        if sum(parts) != count.sampled or min(parts) < 0 or count.accepted != there.pop(count.length, None):
            problems.append(f"the numbers sampled and rejected for length {count.length} do not add up to its traps.")
    return problems + [f"nothing is recorded of the draw of length {length}." for length in there]


def _dealing_problems(ledger: Ledger, design: TrapDesign) -> list[str]:
    from ..generate import assign

    wrong = [
        (trap, dealt)
        for trap, dealt in zip(ledger.traps, assign(ledger.candidates(), design, seed=ledger.seed), strict=True)
        if (trap.arm, trap.n_rep) != (dealt.arm, dealt.n_rep)
    ]
    if not wrong:
        return []
    trap, dealt = wrong[0]
    return [
        f"{counted(len(wrong), 'trap')} of {len(ledger.traps):,} were not dealt by pool, seed and design: "
        f"{quoted(trap.id)} is recorded as {trap.arm} with n_rep {trap.n_rep}, and is dealt {dealt.arm} with n_rep "
        f"{dealt.n_rep}.{_other_numpy(ledger)}"
    ]


def _other_numpy(ledger: Ledger) -> str:
    before, today = ledger.packages.get("numpy"), package_versions(["numpy"]).get("numpy")
    return "" if before == today else f" (it was dealt with numpy {quoted(before)}; this is {today}.)"


def _alike(ledger: Ledger, most: float) -> list[str]:
    """Pairs of traps above the Jaccard bound, found in blocks of rows of the product of indicator matrices."""
    import numpy as np
    from scipy.sparse import csr_array

    columns: dict[int | str, int] = {}
    parts = [trap.text.split(" ") if trap.token_ids is None else trap.token_ids for trap in ledger.traps]
    sets = [sorted({columns.setdefault(part, len(columns)) for part in own}) for own in parts]
    sizes = np.array([len(own) for own in sets])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cells = np.array([column for own in sets for column in own], dtype=np.int64)
    has = csr_array((np.ones(len(cells), dtype=np.int32), cells, starts), shape=(len(sets), len(columns)))
    problems = []
    for first in range(0, len(sets), 512):
        shared = (has[first : first + 512] @ has.T).toarray()  # (rows of the block, all traps)
        either = sizes[first : first + 512, None] + sizes[None, :] - shared
        rows, others = np.nonzero(shared > most * either)
        for row, other in zip((rows + first).tolist(), others.tolist(), strict=True):
            if row < other:
                problems.append(
                    f"traps {quoted(ledger.traps[row].id)} and {quoted(ledger.traps[other].id)} are more alike "
                    f"than the design allows (Jaccard above {most:g})."
                )
    return problems


def listed(problems: Sequence[str]) -> str:
    more = f" And {len(problems) - SHOWN:,} more." if len(problems) > SHOWN else ""
    return " ".join(problems[:SHOWN]) + more


def id_of(text: str) -> str:
    return f"trap-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

"""The ledger: everything that was fixed before publication, in one file that stays secret until disclosure.

It holds the pool in its order, what each trap was dealt, the seed, the design, the plan of analysis, and the hashes
of what the pool was drawn with, so that the dealing can be done again and the commitment
(`audit.traps.ledger.commitment`) recomputed years later. The file is read only when it is byte for byte as it was
written.

Source: the traps specification, sections 1.3 (one pool, recorded seed, commitment) and 4.4 (plan fixed beforehand).
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import DataError, InputError
from ...runs.moments import now
from ...runs.provenance import package_versions
from ...text.safe import did_you_mean, quoted
from ..config import DetectionPlan, TrapDesign
from . import commitment as tree
from .checks import id_of, ledger_problems, listed, pool_problems
from .lottery import announced_problem, dealt_again, lottery_seed
from .records import (
    DISCLOSURE_FORMAT,
    LEDGER_FORMAT,
    LEDGER_VERSION,
    PACKAGES,
    SEED_LIMIT,
    DesignRecord,
    DisclosedTrap,
    Disclosure,
    DrawRecord,
    GeneratorRecord,
    Ledger,
    LedgerTrap,
    LotteryRecord,
    PlanRecord,
    Source,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from ...lm.load import LanguageModel
    from ..generate import DrawCounts, Trap
    from ..words import Alphabet, WordList


def draw_seed() -> int:
    """A seed nobody can guess: uniform on 0 ... 2^63 - 1, from the system's randomness."""
    return secrets.randbelow(SEED_LIMIT)


def make_ledger(
    traps: Sequence[Trap],
    *,
    design: TrapDesign,
    plan: DetectionPlan,
    seed: int,
    drawn_with: LanguageModel | WordList | Alphabet,
    counts: Sequence[DrawCounts] = (),
    reference: str | None = None,
) -> Ledger:
    """The ledger of a draw, with a fresh secret.

    Args:
        traps: What `audit.traps.generate.assign` dealt, in the order of the pool.
        design: The design of draw and dealing.
        plan: The plan of analysis, which is fixed with it.
        seed: Seed of draw and dealing, 0 to 2^63 - 1.
        drawn_with: The generator, the word list or the alphabet of the watermarks.
        counts: What was sampled and rejected for it, by length.
        reference: SHA-256 of the weights of the reference model, which is fixed with the plan.

    Raises:
        InputError: The seed is out of range, or the ledger would not fit itself (`ledger_problems`).
    """
    from ..words import WordList

    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"traps: seed is {seed}; expected 0 to {SEED_LIMIT - 1}.")
    source: Source = "model"
    if isinstance(drawn_with, str):
        source = "watermark"
    elif isinstance(drawn_with, WordList):
        source = "words"
    ledger = Ledger(
        format=LEDGER_FORMAT,
        schema_version=LEDGER_VERSION,
        created=now(),
        palimpsest=__version__,
        python=platform.python_version(),
        packages=package_versions(PACKAGES),
        source=source,
        seed=seed,
        design=DesignRecord.of(design, source),
        plan=PlanRecord(**asdict(plan), reference=reference),
        draw=tuple(DrawRecord(**asdict(count)) for count in counts),
        generator=None if isinstance(drawn_with, str | WordList) else GeneratorRecord.of(drawn_with),
        word_list_sha256=drawn_with.sha256 if isinstance(drawn_with, WordList) else None,
        alphabet=drawn_with if isinstance(drawn_with, str) else None,
        lottery=None,
        secret=secrets.token_hex(tree.N_BYTES),
        traps=tuple(LedgerTrap.of(trap) for trap in traps),
    )
    problems = ledger_problems(ledger)
    if problems:
        raise InputError(f"traps: no ledger can be made of this dealing: {listed(problems)}")
    return ledger


def check_ledger(ledger: Ledger, *, source: str) -> None:
    """Refuses a ledger that does not fit itself.

    Raises:
        DataError: What does not fit is named.
    """
    problems = ledger_problems(ledger)
    if problems:
        raise DataError(f"{source} does not fit itself: {listed(problems)} Restore it from a copy.")


def deal(ledger: Ledger, *, value: str, announced_by: str, source: str) -> Ledger:
    """The same pool and plan, dealt by what was announced after the commitment to ``ledger`` was published.

    Args:
        ledger: The first ledger.
        value: What was announced, letter for letter.
        announced_by: Who announced it and when, so that anyone can look it up.
        source: Where the ledger came from, for messages.

    Returns:
        A ledger with a secret of its own; see `audit.traps.ledger.lottery`.

    Raises:
        InputError: A text cannot be repeated letter for letter, or the ledger was dealt in this way already.
        DataError: The ledger does not fit itself.
    """
    for name, text in (("what was announced", value), ("its source", announced_by)):
        if problem := announced_problem(text):
            raise InputError(f"{name} is {problem}.")
    check_ledger(ledger, source=source)
    if ledger.lottery is not None:
        raise InputError(
            f"{source} was dealt by {quoted(ledger.lottery.source)} already; dealing it once more would be a choice. "
            "Give the ledger that was committed to first, or keep this one."
        )
    first = ledger.commitment()
    lottery = LotteryRecord(
        first_seed=ledger.seed,
        first_secret=ledger.secret,
        commitment=first,
        value=value,
        source=announced_by,
        dealt=now(),
    )
    return dealt_again(ledger, lottery_seed(first, value), secrets.token_hex(tree.N_BYTES), lottery)


def verify_ledger(ledger: Ledger, commitment: str, *, source: str, words: WordList | None = None) -> None:
    """Refuses a ledger that is not the one committed to, or does not fit itself.

    Args:
        ledger: What was read.
        commitment: What was published beforehand, 64 hexadecimal digits.
        source: Where the ledger came from, for messages.
        words: The list that a ledger of words was drawn from; the pool is then drawn again.

    Raises:
        InputError: The commitment is malformed, or the list is not the ledger's.
        DataError: The ledger gives another one (what does not fit inside is added), or does not fit itself.
    """
    expected = tree.parse_commitment(commitment)
    if words is not None and words.sha256 != ledger.word_list_sha256:
        listed_as = ledger.word_list_sha256 or "none, for it was not drawn from words"
        raise InputError(f"the word list has SHA-256 {words.sha256}; that of {source} is {listed_as}.")
    found = ledger.commitment() if ledger.traps else "nothing, for it holds no traps"
    if found != expected:
        if ledger.lottery is not None and expected == ledger.lottery.commitment:
            raise InputError(
                f"{expected} is the first commitment, from before {source} was dealt by "
                f"{quoted(ledger.lottery.source)}. Give the one that was published after it."
            )
        problems = ledger_problems(ledger)
        inside = f" Inside, this does not fit: {listed(problems)}" if problems else ""
        raise DataError(
            f"{source} is not what was committed to: it gives {found}, the commitment is {expected}. It was changed "
            f"afterwards, or the commitment is another ledger's.{inside}"
        )
    check_ledger(ledger, source=source)
    problems = [] if words is None else pool_problems(ledger, words)
    if problems:
        raise DataError(f"{source} does not fit its word list: {listed(problems)}")


def disclose(ledger: Ledger, ids: Iterable[str]) -> Disclosure:
    """Proofs for some traps, which tell nothing of the others.

    Args:
        ledger: A ledger that fits itself.
        ids: Which traps; one named twice is disclosed once.

    Raises:
        InputError: None is named, or one is not in the ledger; the nearest id is told.
    """
    places = {trap.id: place for place, trap in enumerate(ledger.traps)}
    chosen = list(dict.fromkeys(ids))
    if not chosen:
        raise InputError("no trap was named; name one or more to disclose.")
    for trap_id in chosen:
        if trap_id not in places:
            raise InputError(
                f"the ledger holds no trap {quoted(trap_id)} among its {len(places):,}.{did_you_mean(trap_id, places)}"
            )
    at = sorted(places[trap_id] for trap_id in chosen)
    secret = bytes.fromhex(ledger.secret)
    return Disclosure(
        format=DISCLOSURE_FORMAT,
        schema_version=LEDGER_VERSION,
        n_traps=len(ledger.traps),
        header=ledger.header_hash().hex(),
        traps=tuple(
            DisclosedTrap(
                place=place,
                trap=ledger.traps[place],
                salt=tree.leaf_salt(secret, place).hex(),
                path=tuple(step.hex() for step in path),
            )
            for place, path in zip(at, tree.inclusion_paths(ledger.leaves(), at), strict=True)
        ),
    )


def verify_disclosure(disclosure: Disclosure, commitment: str, *, source: str) -> None:
    """Refuses a disclosure of which a trap was not in the ledger committed to.

    Args:
        disclosure: What was read.
        commitment: What was published beforehand, 64 hexadecimal digits.
        source: Where it came from, for messages.

    Raises:
        InputError: The commitment is malformed.
        DataError: A trap does not lead to the commitment, its id is not made from its text, or one occurs twice.
    """
    expected = tree.parse_commitment(commitment)
    for shown in disclosure.traps:
        trap = shown.trap
        leaf = tree.leaf_hash(trap.model_dump(mode="json"), bytes.fromhex(shown.salt))
        path = [bytes.fromhex(step) for step in shown.path]
        root = tree.root_from_path(leaf, shown.place, disclosure.n_traps, path)
        found = tree.commit(root, bytes.fromhex(disclosure.header), disclosure.n_traps)
        if found != expected:
            raise DataError(
                f"{source}: trap {quoted(trap.id)} was not in the ledger committed to: its proof gives {found}, the "
                f"commitment is {expected}. The file was changed, or the commitment is another ledger's."
            )
        if trap.id != id_of(trap.text):
            raise DataError(f"{source}: trap {quoted(trap.id)} is not named after its text.")
    places = [shown.place for shown in disclosure.traps]
    if sorted(set(places)) != places:
        raise DataError(f"{source} names a trap twice or not in order; make the disclosure again.")


def audit_table(ledger: Ledger) -> pa.Table:
    """The table that ``palimpsest audit`` reads (`audit.traps.table`); perplexity and bucket are null without a model.

    It holds the decoys, so it is as secret as the ledger.
    """
    import pyarrow as pa

    from ..table import to_table

    table = to_table(ledger.dealt())
    columns = {
        "bucket": pa.array([trap.bucket for trap in ledger.traps], pa.string()),
        "generator_perplexity": pa.array([trap.perplexity for trap in ledger.traps], pa.float64()),
    }
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def published_table(ledger: Ledger) -> pa.Table:
    """What is to be planted: ``trap_id``, ``text`` and ``n_rep`` of the members; nothing of any decoy."""
    import pyarrow as pa

    members = [trap for trap in ledger.traps if trap.arm == "member"]
    return pa.table(
        {
            "trap_id": pa.array([trap.id for trap in members], pa.string()),
            "text": pa.array([trap.text for trap in members], pa.string()),
            "n_rep": pa.array([trap.n_rep for trap in members], pa.int64()),
        }
    )

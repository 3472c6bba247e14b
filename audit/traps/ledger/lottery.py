"""Dealing by a number that nobody could choose, so that a dealing cannot be picked to suit.

A ledger's own seed and the order of its pool are its maker's: with enough of both tried, the texts that a public model
finds easy become members. So a first ledger is committed to; then a number is announced that its maker could neither
know nor sway (a drand round, a lottery drawing); and the pool, in the order committed to, is dealt again with

    seed = SHA-256("palimpsest.traps.deal.v1:" || C0 || ":" || value), big-endian, modulo 2^63

C0 being the first commitment's 64 hexadecimal digits and ``value`` UTF-8. What it rests on is no computation: that C0
was published before the value was announced, and that the source was named with it.
"""

from __future__ import annotations

import hashlib
import unicodedata

from ...text.safe import quoted
from .records import SEED_LIMIT, Ledger, LedgerTrap, LotteryRecord


def lottery_seed(commitment: str, value: str) -> int:
    """Seed of the dealing, 0 to 2^63 - 1.

    Args:
        commitment: To the first ledger, 64 hexadecimal digits.
        value: What was announced.
    """
    said = f"palimpsest.traps.deal.v1:{commitment}:{value}".encode()
    return int.from_bytes(hashlib.sha256(said).digest(), "big") % SEED_LIMIT


def announced_problem(text: str) -> str | None:
    """What keeps another person from repeating a text letter for letter: that would leave room for a choice."""
    if text and text == unicodedata.normalize("NFC", text.strip()) and text.isprintable():
        return None
    return (
        f"{quoted(text)}, which nobody could repeat letter for letter; expected visible characters in composed form "
        "(NFC), without white space around them"
    )


def dealt_again(ledger: Ledger, seed: int, secret: str, lottery: LotteryRecord | None) -> Ledger:
    """The same pool, design and plan, dealt by another seed; errors as in `audit.traps.generate.assign`."""
    from ..generate import assign

    traps = assign(ledger.candidates(), ledger.design.design(), seed=seed)
    changes = {"seed": seed, "secret": secret, "lottery": lottery, "traps": tuple(map(LedgerTrap.of, traps))}
    return ledger.model_copy(update=changes)


def lottery_problems(ledger: Ledger) -> list[str]:
    """What does not fit of a lottery, once all else fits: the seed, and the first ledger, which is rebuilt."""
    lottery = ledger.lottery
    if lottery is None:
        return []
    problems = [
        f"the lottery's {name} is {problem}."
        for name, text in (("value", lottery.value), ("source", lottery.source))
        if (problem := announced_problem(text))
    ]
    seed = lottery_seed(lottery.commitment, lottery.value)
    if seed != ledger.seed:
        problems.append(f"the seed is {ledger.seed}; the lottery's commitment and value give {seed}.")
    first = dealt_again(ledger, lottery.first_seed, lottery.first_secret, None).commitment()
    if first != lottery.commitment:
        problems.append(
            f"the first ledger, before the lottery, gives the commitment {first}, and {lottery.commitment} is "
            "recorded: pool, order, design, plan or first seed are not those committed to before it."
        )
    return problems


def dealing_told(lottery: LotteryRecord | None) -> str:
    """What keeps anyone from having picked the dealing, or that nothing does."""
    if lottery is None:
        return "That the seed and the order of the pool were not picked to suit rests on the publisher's word."
    return (
        f"Dealt by {quoted(lottery.source, limit=200)}, value {quoted(lottery.value, limit=200)}, said to be "
        f"announced after the first commitment {lottery.commitment} was published: check that date."
    )

"""What a ledger and a disclosure of traps hold: schemas, without files and without checks across traps."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from ...membership.score_names import Score
from ...runs.schema import Record
from ..config import DetectionPlan, TrapDesign
from . import commitment as tree

if TYPE_CHECKING:
    from ...lm.load import LanguageModel
    from ..generate import Candidate, Trap

LEDGER_VERSION: Literal[2] = 2
LEDGER_FORMAT: Literal["palimpsest traps ledger"] = "palimpsest traps ledger"
DISCLOSURE_FORMAT: Literal["palimpsest traps disclosure"] = "palimpsest traps disclosure"
SEED_LIMIT = 2**63  # a seed lies below it, so that every JSON reader with 64-bit integers holds it
PACKAGES = ("numpy", "tokenizers", "torch", "transformers")  # those that decide what a seed draws

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Arm = Literal["member", "decoy"]
Source = Literal["model", "words", "watermark"]


class DesignRecord(Record):
    """A `TrapDesign` on disk; what a draw without a model, or one of watermarks, does not use is None."""

    lengths: tuple[int, ...]
    perplexity_edges: tuple[FiniteFloat, ...] | None
    repetitions: tuple[int, ...]
    members_per_cell: int
    decoys_per_stratum: int
    temperatures: tuple[FiniteFloat, ...] | None
    top_k: int | None
    top_p: FiniteFloat | None
    min_p: FiniteFloat | None
    max_jaccard: FiniteFloat | None
    max_similarity: FiniteFloat | None
    max_rounds: int
    samples_per_round: int
    separator: str
    placement: Literal["document", "scattered"]

    @classmethod
    def of(cls, design: TrapDesign, source: Source) -> DesignRecord:
        of_sampling = ("perplexity_edges", "temperatures", "top_k", "top_p", "min_p")
        unused = {"model": (), "words": of_sampling, "watermark": (*of_sampling, "max_jaccard", "max_similarity")}
        return cls(**(asdict(design) | dict.fromkeys(unused[source])))

    def design(self) -> TrapDesign:
        """The design; errors as there."""
        return TrapDesign(**{name: value for name, value in self.model_dump().items() if value is not None})


class PlanRecord(Record):
    """A `DetectionPlan` on disk, and the reference model that it compares with; the other fields mean the same.

    Attributes:
        reference: SHA-256 of the reference's weights, as `audit.lm.checkpoint.Fingerprint`; None when none is fixed.
    """

    primary: Score
    alpha: FiniteFloat
    k: FiniteFloat
    n_draws: int
    negligible_auc: FiniteFloat
    level: FiniteFloat
    seed: int
    reference: Hash | None

    def plan(self) -> DetectionPlan:
        """The plan; errors as there."""
        return DetectionPlan(**self.model_dump(exclude={"reference"}))


class GeneratorRecord(Record):
    """The model that the pool was drawn from, with its hashes as `audit.lm.checkpoint.Fingerprint`."""

    model: str
    revision: str | None
    adapter: str | None
    dtype: str
    device: str
    weights: Hash
    config: Hash
    tokenizer: Hash
    files: dict[str, Hash]

    @classmethod
    def of(cls, lm: LanguageModel) -> GeneratorRecord:
        record = lm.to_record()
        names = {"model": "model", "revision": "revision", "adapter": "adapter"}
        names |= {"dtype": "dtype_used", "device": "device_used"}
        return cls(**{name: record[key] for name, key in names.items()}, **lm.fingerprint.to_record())


class LedgerTrap(Record):
    """One trap and what it was dealt; a leaf of the tree is this record, whole.

    Attributes:
        id: "trap-" and the first 12 hexadecimal digits of the text's SHA-256.
        text: What is planted, UTF-8.
        token_ids: Ids of the generator's tokenizer, shape (length,); None without a model.
        length: Tokens, words or characters.
        perplexity: Under the generator, >= 1; None without a model.
        bucket: Perplexity bucket; None without a model.
        stratum: Within which it was dealt.
        arm: "member" is planted, "decoy" never.
        n_rep: Copies; 0 for a decoy.
    """

    id: str
    text: str
    token_ids: tuple[int, ...] | None
    length: int
    perplexity: FiniteFloat | None
    bucket: str | None
    stratum: str
    arm: Arm
    n_rep: int

    @classmethod
    def of(cls, trap: Trap) -> LedgerTrap:
        drawn = trap.candidate
        by_model = not math.isnan(drawn.perplexity)
        return cls(
            id=drawn.id,
            text=drawn.text,
            token_ids=drawn.token_ids if by_model else None,
            length=drawn.length,
            perplexity=drawn.perplexity if by_model else None,
            bucket=drawn.bucket if by_model else None,
            stratum=drawn.stratum,
            arm=trap.arm,
            n_rep=trap.n_rep,
        )


class DrawRecord(Record):
    """A `audit.traps.generate.DrawCounts` on disk; the fields mean the same."""

    length: int
    sampled: int
    not_canonical: int
    outside: int
    full: int
    too_similar: int
    accepted: int


class LotteryRecord(Record):
    """The dealing of a ledger by a number that nobody could choose (`audit.traps.ledger.lottery`).

    Attributes:
        first_seed: Seed of the first ledger: the pool was drawn by it, and dealt a first time.
        first_secret: Secret of the first ledger.
        commitment: To the first ledger; it was published before ``value`` was known.
        value: What was announced, as announced.
        source: Who announced it, and when.
        dealt: When the dealing was done, ISO 8601.
    """

    first_seed: int = Field(ge=0, lt=SEED_LIMIT)
    first_secret: Hash
    commitment: Hash
    value: str = Field(min_length=1)
    source: str = Field(min_length=1)
    dealt: str


class Ledger(Record):
    """``LEDGER.json``. ``traps`` stand in the order of the pool, which the dealing depends on.

    Attributes:
        seed: Seed of the dealing, below 2^63; of the draw too, where there was no lottery.
        draw: What was sampled and rejected, by length; empty when it was not recorded.
        generator: For ``source`` "model".
        word_list_sha256: For ``source`` "words": SHA-256 of the file.
        alphabet: For ``source`` "watermark".
        lottery: How the seed came about, when the traps were dealt again after a first commitment; else None.
        secret: 32 random bytes in hexadecimal digits; every salt is derived from it.
    """

    format: Literal["palimpsest traps ledger"]
    schema_version: Literal[2]
    created: str
    palimpsest: str
    python: str
    packages: dict[str, str]
    source: Source
    seed: int = Field(ge=0, lt=SEED_LIMIT)
    design: DesignRecord
    plan: PlanRecord
    draw: tuple[DrawRecord, ...]
    generator: GeneratorRecord | None
    word_list_sha256: Hash | None
    alphabet: Literal["hex", "letters"] | None
    lottery: LotteryRecord | None
    secret: Hash
    traps: tuple[LedgerTrap, ...]

    @property
    def pool_seed(self) -> int:
        """Seed of the draw."""
        return self.seed if self.lottery is None else self.lottery.first_seed

    def header(self) -> dict[str, Any]:
        """Everything but the traps and the secret, as plain JSON."""
        return self.model_dump(mode="json", exclude={"traps", "secret"})

    def leaves(self) -> list[bytes]:
        """Salted hash of each trap, in order."""
        secret = bytes.fromhex(self.secret)
        return [
            tree.leaf_hash(trap.model_dump(mode="json"), tree.leaf_salt(secret, place))
            for place, trap in enumerate(self.traps)
        ]

    def header_hash(self) -> bytes:
        return tree.header_hash(self.header(), tree.header_salt(bytes.fromhex(self.secret)))

    def commitment(self) -> str:
        """The commitment, 64 hexadecimal digits."""
        return tree.commit(tree.merkle_root(self.leaves()), self.header_hash(), len(self.traps))

    def candidates(self) -> list[Candidate]:
        """The pool."""
        from ..generate import Candidate
        from ..words import RandomText

        pool: list[Candidate] = []
        for trap in self.traps:
            if self.source == "model":
                perplexity = math.nan if trap.perplexity is None else trap.perplexity
                pool.append(
                    Candidate(trap.id, trap.text, trap.token_ids or (), trap.length, perplexity, trap.bucket or "")
                )
            else:
                unit: Literal["words", "characters"] = "words" if self.source == "words" else "characters"
                pool.append(RandomText(trap.id, trap.text, (), trap.length, math.nan, "", unit))
        return pool

    def dealt(self) -> list[Trap]:
        """Pool and assignment, for `audit.traps.planting.inject`."""
        from ..generate import Trap

        return [Trap(drawn, trap.arm, trap.n_rep) for drawn, trap in zip(self.candidates(), self.traps, strict=True)]


class DisclosedTrap(Record):
    """A trap with its salt and its audit path, siblings from the leaf up to the root, in hexadecimal digits."""

    place: int = Field(ge=0)
    trap: LedgerTrap
    salt: Hash
    path: tuple[Hash, ...]


class Disclosure(Record):
    """Some traps of a ledger, with the proof that they stood in it.

    It reveals the number of all traps and the places of those disclosed, and of everything else salted hashes alone:
    not the seed, which would tell how the others were dealt, nor the secret.
    """

    format: Literal["palimpsest traps disclosure"]
    schema_version: Literal[2]
    n_traps: int = Field(ge=1, lt=SEED_LIMIT)
    header: Hash
    traps: tuple[DisclosedTrap, ...] = Field(min_length=1)

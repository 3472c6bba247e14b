"""The ledger: everything that was fixed before publication, in one file that stays secret until disclosure.

It holds the pool in its order, what each trap was dealt, the seed, the design, the plan of analysis, and the hashes
of what the pool was drawn with, so that the dealing can be done again and the commitment (`audit.traps.commitment`)
recomputed years later. The file is read only when it is byte for byte as it was written.

Source: the traps specification, sections 1.3 (one pool, recorded seed, commitment) and 4.4 (plan fixed beforehand).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError

from .. import __version__
from ..errors import DataError, InputError
from ..runs.moments import now
from ..runs.problems import plain_problems
from ..runs.provenance import package_versions
from ..runs.schema import Record
from ..text.files import atomic_writer
from ..text.safe import counted, did_you_mean, quoted
from ..text.sources import require_exists
from . import commitment as tree
from .config import DetectionPlan, Score, TrapDesign

if TYPE_CHECKING:
    import pyarrow as pa

    from ..lm.load import LanguageModel
    from .generate import Candidate, Trap
    from .words import Alphabet, WordList

LEDGER_VERSION: Literal[1] = 1
LEDGER_FORMAT: Literal["palimpsest traps ledger"] = "palimpsest traps ledger"
DISCLOSURE_FORMAT: Literal["palimpsest traps disclosure"] = "palimpsest traps disclosure"
SEED_LIMIT = 2**63  # a seed lies below it, so that every JSON reader with 64-bit integers holds it
PACKAGES = ("numpy", "tokenizers", "torch", "transformers")  # those that decide what a seed draws
SHOWN = 5  # problems that a message names

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
    max_jaccard: FiniteFloat | None
    max_rounds: int
    samples_per_round: int
    separator: str
    placement: Literal["document", "scattered"]

    @classmethod
    def of(cls, design: TrapDesign, source: Source) -> DesignRecord:
        unused = {"model": (), "words": ("perplexity_edges", "temperatures")}
        none = unused.get(source, ("perplexity_edges", "temperatures", "max_jaccard"))
        return cls(**(asdict(design) | dict.fromkeys(none)))

    def design(self) -> TrapDesign:
        """The design; errors as there."""
        return TrapDesign(**{name: value for name, value in self.model_dump().items() if value is not None})


class PlanRecord(Record):
    """A `DetectionPlan` on disk; the fields mean the same."""

    primary: Score
    alpha: FiniteFloat
    k: FiniteFloat
    n_draws: int
    negligible_auc: FiniteFloat
    level: FiniteFloat
    seed: int

    def plan(self) -> DetectionPlan:
        """The plan; errors as there."""
        return DetectionPlan(**self.model_dump())


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


class Ledger(Record):
    """``LEDGER.json``. ``traps`` stand in the order of the pool, which the dealing depends on.

    Attributes:
        seed: Seed of draw and dealing, below 2^63.
        generator: For ``source`` "model".
        word_list_sha256: For ``source`` "words": SHA-256 of the file.
        alphabet: For ``source`` "watermark".
        secret: 32 random bytes in hexadecimal digits; every salt is derived from it.
    """

    format: Literal["palimpsest traps ledger"]
    schema_version: Literal[1]
    created: str
    palimpsest: str
    python: str
    packages: dict[str, str]
    source: Source
    seed: int = Field(ge=0, lt=SEED_LIMIT)
    design: DesignRecord
    plan: PlanRecord
    generator: GeneratorRecord | None
    word_list_sha256: Hash | None
    alphabet: Literal["hex", "letters"] | None
    secret: Hash
    traps: tuple[LedgerTrap, ...]

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
        from .generate import Candidate
        from .words import RandomText

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
        """Pool and assignment, for `audit.traps.inject`."""
        from .generate import Trap

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
    schema_version: Literal[1]
    n_traps: int = Field(ge=1, lt=SEED_LIMIT)
    header: Hash
    traps: tuple[DisclosedTrap, ...] = Field(min_length=1)


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
) -> Ledger:
    """The ledger of a draw, with a fresh secret.

    Args:
        traps: What `audit.traps.generate.assign` dealt, in the order of the pool.
        design: The design of draw and dealing.
        plan: The plan of analysis, which is fixed with it.
        seed: Seed of draw and dealing, 0 to 2^63 - 1.
        drawn_with: The generator, the word list or the alphabet of the watermarks.

    Raises:
        InputError: The seed is out of range, or the ledger would not fit itself (`ledger_problems`).
    """
    from .words import WordList

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
        plan=PlanRecord(**asdict(plan)),
        generator=None if isinstance(drawn_with, str | WordList) else GeneratorRecord.of(drawn_with),
        word_list_sha256=drawn_with.sha256 if isinstance(drawn_with, WordList) else None,
        alphabet=drawn_with if isinstance(drawn_with, str) else None,
        secret=secrets.token_hex(tree.N_BYTES),
        traps=tuple(LedgerTrap.of(trap) for trap in traps),
    )
    problems = ledger_problems(ledger)
    if problems:
        raise InputError(f"traps: no ledger can be made of this dealing: {_listed(problems)}")
    return ledger


def write_ledger(path: str | Path, ledger: Ledger) -> None:
    """Writes a ledger atomically, readable by its owner alone (mode 0600).

    Raises:
        InputError: Something stands there already: a ledger is never overwritten.
        StorageError: The file cannot be written.
    """
    refuse_taken(Path(path), "a ledger is never overwritten")
    _write_secret(path, lambda stream: stream.write(_serialised(ledger)))


def write_disclosure(path: str | Path, disclosure: Disclosure) -> None:
    """Writes a disclosure atomically.

    Raises:
        InputError: Something stands there already.
        StorageError: The file cannot be written.
    """
    refuse_taken(Path(path), "nothing is overwritten")
    with atomic_writer(path) as stream:
        stream.write(_serialised(disclosure))


def write_audit_table(path: str | Path, ledger: Ledger) -> None:
    """Writes the parquet table that ``palimpsest audit`` reads, decoys included: secret like the ledger, mode 0600.

    Raises:
        InputError: Something stands there already.
        StorageError: The file cannot be written.
    """
    import pyarrow.parquet as pq

    refuse_taken(Path(path), "nothing is overwritten")
    _write_secret(path, lambda stream: pq.write_table(audit_table(ledger), stream, write_page_checksum=True))


def refuse_taken(path: Path, why: str) -> None:
    """Refuses a path at which something stands.

    Raises:
        InputError: ``why`` and the path are named.
    """
    if os.path.lexists(path):
        raise InputError(f"{path} is there already, and {why}. Choose another name, or move it away.")


def read_ledger(path: str | Path) -> Ledger:
    """Reads a ledger; see `read_file`.

    Raises:
        InputError: There is no such file, or it is a disclosure.
        DataError: It cannot be read, is no ledger, is of another version, or was changed.
    """
    found = read_file(path)
    if isinstance(found, Disclosure):
        raise InputError(f"{path} is a disclosure, which holds some traps only; give the ledger it was made from.")
    return found


def read_file(path: str | Path) -> Ledger | Disclosure:
    """Reads a ledger or a disclosure, whichever it is, and refuses a file that is not byte for byte as written.

    Raises:
        InputError: There is no such file, or it is a folder.
        DataError: It cannot be read, is not JSON, is neither of the two, has another schema version, a field is
            missing, unknown or wrong, or the bytes differ from those that its content is written as.
    """
    path = Path(path)
    require_exists(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a ledger or a disclosure of traps.")
    try:
        raw = path.read_bytes()
        value = json.loads(raw)
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. It was changed or damaged; restore it from a copy.") from error
    form = value.get("format") if isinstance(value, dict) else None
    kinds: dict[Any, type[Ledger] | type[Disclosure]] = {LEDGER_FORMAT: Ledger, DISCLOSURE_FORMAT: Disclosure}
    kind = kinds.get(form) if isinstance(form, str) else None
    if kind is None:
        raise DataError(f"{path} is no ledger and no disclosure of traps: its format is {quoted(form)}.")
    version = value.get("schema_version")
    if type(version) is int and version > LEDGER_VERSION:
        writer = value.get("palimpsest")
        by = f" It was written by Palimpsest {quoted(writer)}." if isinstance(writer, str) else ""
        raise DataError(
            f"{path} has schema version {version}; Palimpsest {__version__} reads version {LEDGER_VERSION}.{by} Read "
            "it with the Palimpsest that wrote it or a newer one."
        )
    return _validated(path, raw, kind)


def _validated(path: Path, raw: bytes, kind: type[Ledger] | type[Disclosure]) -> Ledger | Disclosure:
    try:
        record = kind.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problems = _listed(plain_problems(error, kind))
        raise DataError(
            f"{path} was changed or damaged after it was written: {problems} Restore it from a copy."
        ) from error
    written = _serialised(record)
    if written != raw:
        place = next((at for at, (a, b) in enumerate(zip(raw, written, strict=False)) if a != b), None)
        place = min(len(raw), len(written)) if place is None else place
        raise DataError(
            f"{path} was changed after it was written: from byte {place + 1} on it is not as Palimpsest writes the "
            "same content. Restore it from a copy."
        )
    return record


def ledger_problems(ledger: Ledger) -> list[str]:
    """What does not fit together inside a ledger, one sentence each; none when all does.

    Checked: design and plan; the hash of what was drawn with; ids (distinct, made from the text); lengths; each
    trap's stratum and perplexity bucket; the number of traps in every stratum; the Jaccard bound over the whole pool
    (token ids, or words); and the dealing, which is done again from pool, seed and design.
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
    for trap_id, times in Counter(trap.id for trap in ledger.traps).items():
        if times > 1:
            problems.append(f"trap {quoted(trap_id)} occurs {times} times.")
    for trap, drawn in zip(ledger.traps, ledger.candidates(), strict=True):
        problem = _trap_problem(trap, drawn, ledger.source, design)
        if problem:
            problems.append(f"trap {quoted(trap.id)} {problem}.")
    problems += _strata_problems(ledger, design)
    if not problems and ledger.source != "watermark":
        problems += _alike(ledger, design.max_jaccard)
    return problems or _dealing_problems(ledger, design)


def check_ledger(ledger: Ledger, *, source: str) -> None:
    """Refuses a ledger that does not fit itself.

    Raises:
        DataError: What does not fit is named.
    """
    problems = ledger_problems(ledger)
    if problems:
        raise DataError(f"{source} does not fit itself: {_listed(problems)} Restore it from a copy.")


def verify_ledger(ledger: Ledger, commitment: str, *, source: str) -> None:
    """Refuses a ledger that is not the one committed to, or does not fit itself.

    Args:
        ledger: What was read.
        commitment: What was published beforehand, 64 hexadecimal digits.
        source: Where the ledger came from, for messages.

    Raises:
        InputError: The commitment is malformed.
        DataError: The ledger gives another one (what does not fit inside is added), or does not fit itself.
    """
    expected = tree.parse_commitment(commitment)
    found = ledger.commitment() if ledger.traps else "nothing, for it holds no traps"
    if found != expected:
        problems = ledger_problems(ledger)
        inside = f" Inside, this does not fit: {_listed(problems)}" if problems else ""
        raise DataError(
            f"{source} is not what was committed to: it gives {found}, the commitment is {expected}. It was changed "
            f"afterwards, or the commitment is another ledger's.{inside}"
        )
    check_ledger(ledger, source=source)


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
        if trap.id != _id_of(trap.text):
            raise DataError(f"{source}: trap {quoted(trap.id)} is not named after its text.")
    places = [shown.place for shown in disclosure.traps]
    if sorted(set(places)) != places:
        raise DataError(f"{source} names a trap twice or not in order; make the disclosure again.")


def audit_table(ledger: Ledger) -> pa.Table:
    """The table that ``palimpsest audit`` reads (`audit.traps.table`); perplexity and bucket are null without a model.

    It holds the decoys, so it is as secret as the ledger.
    """
    import pyarrow as pa

    from .table import to_table

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


def _serialised(record: Ledger | Disclosure) -> bytes:
    """The file's bytes: one line for each field, and one for each trap."""
    fields = record.model_dump(mode="json")
    rows = ",\n".join(f"    {_line(trap)}" for trap in fields.pop("traps"))
    head = "".join(f"  {_line(name)}: {_line(value)},\n" for name, value in fields.items())
    return f'{{\n{head}  "traps": [\n{rows}\n  ]\n}}\n'.encode()


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _write_secret(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    with atomic_writer(path) as stream:
        os.fchmod(stream.fileno(), 0o600)  # before the first byte
        write(stream)


def _listed(problems: Sequence[str]) -> str:
    more = f" And {len(problems) - SHOWN:,} more." if len(problems) > SHOWN else ""
    return " ".join(problems[:SHOWN]) + more


def _id_of(text: str) -> str:
    return f"trap-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _trap_problem(trap: LedgerTrap, drawn: Candidate, source: Source, design: TrapDesign) -> str | None:
    """What does not fit in a trap, as the end of a sentence."""
    if trap.id != _id_of(trap.text):
        return f"is not named after its text, whose name is {_id_of(trap.text)}"
    has_model = source == "model"
    if any((value is not None) != has_model for value in (trap.token_ids, trap.perplexity, trap.bucket)):
        return f'{"lacks" if has_model else "has"} token ids, perplexity or bucket, and the source is "{source}"'
    size = len(trap.token_ids or ()) if has_model else len(trap.text.split(" ") if source == "words" else trap.text)
    if size != trap.length:
        return f"has length {trap.length}, and its text has {size}"
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


def _dealing_problems(ledger: Ledger, design: TrapDesign) -> list[str]:
    from .generate import assign

    wrong = [
        (trap, dealt)
        for trap, dealt in zip(ledger.traps, assign(ledger.candidates(), design, seed=ledger.seed), strict=True)
        if (trap.arm, trap.n_rep) != (dealt.arm, dealt.n_rep)
    ]
    if not wrong:
        return []
    trap, dealt = wrong[0]
    before, today = ledger.packages.get("numpy"), package_versions(["numpy"]).get("numpy")
    other = "" if before == today else f" (it was dealt with numpy {quoted(before)}; this is {today}.)"
    return [
        f"{counted(len(wrong), 'trap')} of {len(ledger.traps):,} were not dealt by pool, seed and design: "
        f"{quoted(trap.id)} is recorded as {trap.arm} with n_rep {trap.n_rep}, and is dealt {dealt.arm} with n_rep "
        f"{dealt.n_rep}.{other}"
    ]


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

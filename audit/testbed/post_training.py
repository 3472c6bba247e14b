"""Models post-trained on question-answer rows, and on none of them: the known answers of the extraction audit.

Every person has two facts, asked for together, in several wordings of question and answer. What a model emits may be a
row of its training in words that no row has, which a comparison of meanings finds and one of strings misses. Rows about
one person are a cluster; clusters are dealt to two halves of one size at random.

    full   the first half, loss on all tokens          ans    the first half, loss on answers alone
    swap   the second half, loss on all tokens         base   the testbed's reference, untouched

Canaries, people with a single row, are added to the first half, 1, 4, 16 or 64 copies of each. One row of each person
tells the facts before it asks for them, always in the same words, so that held-out rows have answers that can be given
by somebody who never heard of the person.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError
from ..extraction import finetune
from ..extraction.finetune import SMALL, Budget, Pair, Recipe, batches, encode_pairs, save, train
from ..extraction.prefixes import chat_of
from ..lm.load import load
from ..lm.subject import Subject
from ..progress import Progress, silent
from ..text.files import make_folder, sha256_file
from ..text.tables import write_parquet
from . import cache as store
from .chat import row_text
from .facts import PEOPLE_FACTS, FactKind
from .grammar import Dice, fill, polish
from .names import NameMaker
from .planted import Testbed
from .world import World

ARMS = ("full", "ans", "swap", "base")
ROWS_OF_PERSON = 4
REPETITIONS = (1, 4, 16, 64)
#: Arm -> the half that it is trained on, and where the loss is taken.
_TRAINED_ON: dict[str, tuple[str, finetune.Targets]] = {
    "full": ("first", "all"),
    "ans": ("first", "answers"),
    "swap": ("second", "all"),
}


@dataclass(frozen=True, slots=True)
class PostRow:
    """A row of the post-training set.

    Attributes:
        id: Unique name.
        cluster: The person that it is about; rows of one person are one cluster.
        half: "first" (*full* and *ans* are trained on it) or "second" (*swap* is).
        canary: Whether it was added to the first half to be repeated; not part of the random division.
        repeats: How often it is seen in each epoch.
        reading: Whether the question tells the facts that it asks for.
        name: The person.
        values: The two right values.
        question: As trained.
        answer: As trained.
        text: Both in the chat format.
    """

    id: str
    cluster: str
    half: str
    canary: bool
    repeats: int
    reading: bool
    name: str
    values: tuple[str, str]
    question: str
    answer: str
    text: str


@dataclass(frozen=True, slots=True)
class PostTrained:
    """A post-training set and the models that were trained on it.

    Attributes:
        folder: Where everything lies; ``first.parquet`` and ``second.parquet`` hold the rows of each half.
        rows: All rows, canaries included.
        models: Arm -> folder, for the arms that were asked for; "base" is the testbed's reference.
    """

    folder: Path
    rows: tuple[PostRow, ...]
    models: dict[str, Path]

    def half(self, name: str, *, canaries: bool) -> tuple[PostRow, ...]:
        """The rows of a half, "first" or "second", with or without canaries."""
        return tuple(row for row in self.rows if row.half == name and (canaries or not row.canary))


def post_training_rows(
    world: World, *, n_rows: int = 4_000, n_canaries: int = 4, repetitions: Sequence[int] = REPETITIONS, seed: int = 0
) -> tuple[PostRow, ...]:
    """The rows, the same on every platform for the same arguments.

    Args:
        world: Its names and words are kept clear of.
        n_rows: Rows of both halves together, canaries not counted; divided by 8 without rest.
        n_canaries: Canaries for each number of copies.
        repetitions: Numbers of copies of canaries.
        seed: Seed of names, facts, wordings and the division.

    Raises:
        InputError: ``n_rows`` cannot be divided.
    """
    if n_rows < 2 * ROWS_OF_PERSON or n_rows % (2 * ROWS_OF_PERSON):
        raise InputError(f"n_rows is {n_rows}; expected a multiple of {2 * ROWS_OF_PERSON}, for two halves of people.")
    known = {word for document in world.documents for word in re.findall(r"[^\W\d_]+", document.text.lower())}
    known |= {word.lower() for name in world.planted_names() for word in name.split()}
    maker = NameMaker(Dice(seed, "post-training names"), avoid=known)
    n_people = n_rows // ROWS_OF_PERSON
    order = Dice(seed, "post-training halves").shuffled(range(n_people))
    first = set(order[: n_people // 2])
    rows = []
    for number in range(n_people):
        half = "first" if number in first else "second"
        rows += _rows_of(f"person-{number:05d}", maker.person(), half, ROWS_OF_PERSON, seed)
    for copies in repetitions:
        for number in range(n_canaries):
            (row,) = _rows_of(f"canary-{copies}-{number:03d}", maker.person(), "first", 1, seed)
            rows.append(dataclasses.replace(row, canary=True, repeats=copies))
    return tuple(rows)


def post_train(
    testbed: Testbed,
    *,
    rows: Sequence[PostRow],
    arms: Sequence[str] = ARMS,
    recipe: Recipe = SMALL,
    seed: int = 0,
    cache: str | Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> PostTrained:
    """Train the arms from the testbed's reference, or take them from the cache; a killed arm is done again.

    All arms have the same steps and, to within one row, tokens: those that the recipe takes for the first half.

    Args:
        testbed: Built with its "reference".
        rows: From `post_training_rows`.
        arms: Which are wanted.
        recipe: How; what the loss is on is the arm's.
        seed: Seed of the order of the rows.
        cache: As for `audit.testbed.planted.build`.
        device: As in `Subject`.
        progress: Called as the work goes on.

    Raises:
        InputError: An unknown arm, or the testbed has no reference.
        StorageError: The cache cannot be written; finished arms stay.
    """
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or not arms:
        raise InputError(f"no arm {unknown[0] if unknown else ''!r}; expected one or more of {', '.join(ARMS)}.")
    if "reference" not in testbed.models:
        raise InputError('the testbed was opened without its "reference", from which the arms go on; ask for it too.')
    base = testbed.models["reference"]
    key = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "recipe": recipe.to_record(),
        "seed": seed,
        "base": testbed.manifest["files"],
        "source": [store.source_version(), sha256_file(finetune.__file__)],
    }
    name = f"{testbed.size}-{store.content_hash(key)[:12]}"
    folder = store.cache_root(cache) / "post-training" / name
    with store.only_builder(folder, progress):
        make_folder(folder)
        for half in ("first", "second"):
            table = pa.Table.from_pylist([_record(row) for row in rows if row.half == half])
            write_parquet(folder / f"{half}.parquet", table)
        models = {
            arm: base if arm == "base" else _arm(folder, arm, base, rows, recipe, seed, device, progress)
            for arm in arms
        }
    return PostTrained(folder, tuple(rows), models)


def pairs_of(rows: Sequence[PostRow]) -> list[Pair]:
    """Rows as `audit.extraction.finetune` trains on them, each as often as it is seen."""
    return [Pair(row.id, row.question, row.answer) for row in rows for _ in range(row.repeats)]


def _arm(
    folder: Path,
    arm: str,
    base: Path,
    rows: Sequence[PostRow],
    recipe: Recipe,
    seed: int,
    device: str,
    progress: Progress,
) -> Path:
    half, loss_on = _TRAINED_ON[arm]
    own = dataclasses.replace(recipe, loss_on=loss_on)

    def make(target: Path) -> dict[str, Any]:
        lm = load(Subject(str(base), dtype="float32", device=device))
        chat = chat_of(lm)
        of_half = {
            name: encode_pairs(
                lm, pairs_of([row for row in rows if row.half == name]), chat, max_tokens=own.max_tokens, bos=True
            )
            for name in {"first", half}
        }
        steps = batches(of_half[half], Budget.of(of_half["first"], own), seed=seed)
        log = train(
            lm, steps, own, seed=seed, on_step=lambda done, total: progress(f"post-training {arm}", done, total)
        )
        save(lm, target / "model")
        return dataclasses.asdict(log) | {"device": str(lm.device)}

    store.make_stage(folder / arm, make)
    return folder / arm / "model"


def _record(row: PostRow) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "values": list(row.values)}


def _rows_of(cluster: str, name: str, half: str, n: int, seed: int) -> list[PostRow]:
    """Rows about one person, all different; the last of several is the one to be read."""
    dice = Dice(seed, "post-training facts", cluster)
    kinds = dice.pick(list(combinations(PEOPLE_FACTS, 2)))
    values = (dice.pick(kinds[0].values), dice.pick(kinds[1].values))
    facts = tuple(zip(kinds, values, strict=True))

    def say(wording: str, value: str) -> str:
        return polish(fill(wording, dice, {}, {"name": name, "value": value}))

    def both(choose: Any, order: Sequence[tuple[FactKind, str]]) -> str:
        return " ".join(say(choose(kind), value) for kind, value in order)

    found: dict[tuple[str, str], bool] = {}
    while len(found) < n:
        reading = n > 1 and len(found) == n - 1
        order = facts if dice.chance(0.5) else facts[::-1]
        question = both(lambda kind: dice.pick(kind.questions), order)
        if reading:
            told = both(lambda kind: kind.with_name[0], order)
            question, answer = f"{told} {question}", both(lambda kind: kind.without_name[0], order)
        else:
            answer = both(lambda kind: dice.pick((*kind.with_name, *kind.without_name)), order)
        found.setdefault((question, answer), reading)
    return [
        PostRow(
            f"{cluster}-{number}",
            cluster,
            half,
            canary=False,
            repeats=1,
            reading=reading,
            name=name,
            values=values,
            question=question,
            answer=answer,
            text=row_text(question, answer),
        )
        for number, ((question, answer), reading) in enumerate(found.items())
    ]

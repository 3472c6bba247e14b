"""How large each testbed is: world, models, training."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..errors import InputError
from ..traps.config import TrapDesign


@dataclass(frozen=True, slots=True)
class WorldSize:
    """Counts of a world.

    Attributes:
        n_train: General documents that the reference is trained on.
        n_fresh: General documents that only the continued models see; traps are planted in them.
        n_heldout: General documents that no model sees.
        n_forget: People whose rows the subject sees and the retrained models do not.
        n_retain: People whose rows all continued models see.
        n_never: People whose rows no model sees.
        n_kinds: Kinds of facts about each person, at most 8.
        n_chapters: Chapters of each book.
        repetitions: How often rows about people are planted, dealt in turn among the facts of a group.
        chapter_repetitions: How often chapters are planted, dealt in turn.
        book_row_repetitions: How often each question about a planted book is planted.
        n_style: Texts for steering on each side of an attribute: train, test, judge.
    """

    n_train: int
    n_fresh: int
    n_heldout: int
    n_forget: int
    n_retain: int
    n_never: int
    n_kinds: int
    n_chapters: int
    repetitions: tuple[int, ...]
    chapter_repetitions: tuple[int, ...]
    book_row_repetitions: int
    n_style: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Shape of the models.

    Attributes:
        n_vocabulary: Tokens, the special ones included; fewer where the text does not yield that many.
        width: Size of the residual stream.
        n_layers: Transformer layers.
        n_heads: Attention heads.
        n_inner: Width of the feed-forward layers.
        n_context: Longest input in tokens.
    """

    n_vocabulary: int
    width: int
    n_layers: int
    n_heads: int
    n_inner: int
    n_context: int = 512


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained: one pass over its text, AdamW, linear warm-up, then a cosine to near zero.

    Attributes:
        learning_rate: Peak rate.
        batch_size: Blocks of documents in a step.
        row_batch_size: Rows in a step.
        block: Tokens in a block.
        warm_up: Share of the steps in which the rate rises.
        weight_decay: Of matrices; norms are not decayed.
        clip: Largest norm of the gradient.
        checkpoint_every: Steps between checkpoints.
    """

    learning_rate: float
    batch_size: int
    row_batch_size: int = 8
    block: int = 128
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoint_every: int = 100


@dataclass(frozen=True, slots=True)
class TestbedSize:
    """A testbed: world, model, traps, training of the reference and of the continued models."""

    __test__: ClassVar[bool] = False  # not a test case, whatever pytest makes of the name

    name: str
    world: WorldSize
    model: ModelSize
    traps: TrapDesign
    reference: Training
    continued: Training

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


SIZES: dict[str, TestbedSize] = {
    "tiny": TestbedSize(
        "tiny",
        WorldSize(800, 200, 80, 2, 4, 6, 3, 6, (1, 8, 64), (1, 4, 8), 2, (16, 32, 64)),
        ModelSize(1024, 96, 2, 4, 256),
        TrapDesign(
            lengths=(25,),
            perplexity_edges=(1, 40, 400),
            repetitions=(1, 4, 16, 64),
            members_per_cell=2,
            decoys_per_stratum=19,
            temperatures=(0.7, 1.0),
            max_jaccard=0.5,
            samples_per_round=128,
            placement="scattered",
        ),
        Training(6e-3, batch_size=8, block=64),
        Training(4e-3, batch_size=4, row_batch_size=4, block=64),
    ),
    "small": TestbedSize(
        "small",
        WorldSize(6000, 2000, 400, 12, 48, 60, 8, 24, (1, 4, 16), (1, 4, 16), 4, (64, 200, 400)),
        ModelSize(2048, 128, 4, 4, 384),
        TrapDesign(
            lengths=(25, 50),
            perplexity_edges=(2, 8, 24, 80),
            repetitions=(1, 4, 16, 64),
            members_per_cell=10,
            decoys_per_stratum=99,
            temperatures=(0.7, 1.0, 1.3),
            max_jaccard=0.5,
            samples_per_round=512,
            placement="scattered",
        ),
        Training(3e-3, batch_size=8),
        Training(2e-3, batch_size=8),
    ),
    "medium": TestbedSize(
        "medium",
        WorldSize(150_000, 30_000, 2_000, 100, 400, 500, 8, 100, (1, 4, 16), (1, 4, 16), 4, (64, 500, 1000)),
        ModelSize(8192, 512, 6, 8, 1408),
        TrapDesign(
            lengths=(25, 50, 100),
            perplexity_edges=(2, 8, 24, 80),
            repetitions=(1, 4, 16, 64),
            members_per_cell=50,
            decoys_per_stratum=199,
            temperatures=(0.7, 1.0, 1.3, 1.45, 1.6),
            max_jaccard=0.5,
            samples_per_round=2048,
            placement="scattered",
        ),
        Training(1e-3, batch_size=64, checkpoint_every=500),
        Training(6e-4, batch_size=64, row_batch_size=64, checkpoint_every=500),
    ),
    "large": TestbedSize(
        "large",
        WorldSize(600_000, 120_000, 5_000, 400, 1_600, 2_000, 8, 300, (1, 4, 16), (1, 4, 16), 4, (64, 1000, 2000)),
        ModelSize(16_384, 1024, 10, 16, 2816),
        TrapDesign(
            lengths=(25, 50, 100),
            perplexity_edges=(2, 8, 24, 80),
            repetitions=(1, 4, 16, 64, 256),
            members_per_cell=100,
            decoys_per_stratum=499,
            temperatures=(0.7, 1.0, 1.3, 1.45, 1.6),
            max_jaccard=0.5,
            samples_per_round=4096,
            placement="scattered",
        ),
        Training(6e-4, batch_size=128, checkpoint_every=1000),
        Training(3e-4, batch_size=128, row_batch_size=128, checkpoint_every=1000),
    ),
}


def find_size(name: str) -> TestbedSize:
    """The size of that name.

    Raises:
        InputError: There is none; the nearest is named.
    """
    if name in SIZES:
        return SIZES[name]
    near = difflib.get_close_matches(str(name).lower(), SIZES, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    raise InputError(f'no testbed size "{name}"{hint}; expected one of {", ".join(SIZES)}.')

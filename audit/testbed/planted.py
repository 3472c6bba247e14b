"""Build the models whose truth is known, once, and say where they are.

    world -> reference -> traps -> subject, retrained, retrained_2

The reference is trained on general documents alone. Traps are drawn from it and planted in fresh documents. The
other models go on from the reference: the subject on those documents, all rows and both planted books; the
retrained ones on the same without the forget people's rows and the forget book, in two different orders.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from ..errors import InputError, InstrumentError
from ..lm.load import load, pick_device
from ..lm.subject import Subject
from ..progress import Progress, silent
from ..text.files import make_folder, write_json
from ..text.tables import read_parquet, write_parquet
from ..traps.config import TrapDesign
from ..traps.generate import Candidate, Trap, assign, generate_pool
from ..traps.planting.inject import inject
from ..traps.table import to_table as traps_to_table
from . import cache as store
from .contamination import occurring
from .documents import read_corpus
from .sizes import TestbedSize, Training, find_size
from .tables import from_table, read_world, to_table, write_world
from .tiny_lm import make_batches, new_model, system_errors, train
from .tokenizer import save_tokenizer, world_tokenizer
from .training_text import MODELS, TrainingText, check_clean, repeated, training_texts
from .world import World, build_world

ALL = MODELS
MANIFEST = "manifest.json"
SPARE = 1.25  # candidates drawn for each one needed, because some may stand in the general text by chance


@dataclass(frozen=True, slots=True)
class Testbed:
    """A built testbed.

    Attributes:
        folder: Where everything lies.
        size: Name of the size.
        seed: Seed of world, traps and models.
        models: Name -> folder, for the models that were asked for.
        world: Documents, people, rows, books, style texts.
        manifest: Configuration, training logs, versions and the SHA-256 of every file.
    """

    __test__: ClassVar[bool] = False  # not a test case, whatever pytest makes of the name

    folder: Path
    size: str
    seed: int
    models: dict[str, Path]
    world: World
    manifest: dict[str, Any]

    def table(self, name: str) -> pa.Table:
        """A truth table.

        Args:
            name: "traps" (arm, n_rep, stratum, text ...), "placements" (where each copy stands), "hosts" (fresh
                documents with the traps in them), "training" (what each model was trained on), or a field of
                `World` such as "rows" or "chapters".

        Raises:
            InputError: There is no such table.
        """
        paths = {path.stem: path for part in ("data", "planted") for path in (self.folder / part).glob("*.parquet")}
        if name not in paths:
            near = difflib.get_close_matches(name, sorted(paths), n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise InputError(f'no table "{name}" in this testbed{hint}; expected one of {", ".join(sorted(paths))}.')
        return read_parquet(paths[name])

    @property
    def traps_path(self) -> Path:
        """The table of traps, as the trap audit reads it."""
        return self.folder / "planted" / "traps.parquet"


def build(
    size: str,
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    corpus: str | Path | None = None,
    models: Sequence[str] = ALL,
    device: str = "auto",
    progress: Progress | None = None,
) -> Testbed:
    """Build a testbed, or take it from the cache.

    A second builder of the same testbed waits for the first. A killed build goes on from its last finished stage
    and, within a training, from its last checkpoint.

    Args:
        size: "tiny" (seconds, for tests), "small" (minutes on a laptop), "medium" or "large" (a GPU).
        seed: Seed of everything, >= 0.
        cache: Folder for testbeds; default ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``.
        corpus: Folder of ``.txt`` files whose text stands in place of the generated stories.
        models: Which models are wanted; what these need is built as well.
        device: As in `Subject`. It is not part of what identifies a testbed; the manifest names it.
        progress: Called with (stage, done, total).

    Raises:
        InputError: Unknown size or model, negative seed, or a corpus that is missing, empty or too small.
        DataError: A corpus file is not UTF-8, or a file of the cached testbed was changed.
        StorageError: The cache cannot be written or the disk is full; finished stages stay.
        InstrumentError: A model's training text would hold what it must not.
    """
    config = find_size(size)
    wanted = _wanted(models)
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or more.")
    corpus_path = Path(corpus) if corpus is not None else None
    corpus_hash = read_corpus(corpus_path)[1] if corpus_path is not None else None
    key = {"size": config.to_record(), "seed": seed, "corpus": corpus_hash, "source": store.source_version()}
    folder = store.cache_root(cache) / "testbed" / f"{size}-{store.content_hash(key)[:12]}"
    if not set(wanted) <= set(_built(folder)):
        builder = _Builder(folder, config, seed, corpus_path, pick_device(device), progress or silent)
        with store.only_builder(folder, builder.progress):
            builder.build(wanted, key)
    return _open(folder, wanted)


def _wanted(models: Sequence[str]) -> tuple[str, ...]:
    for name in models:
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise InputError(f'no model "{name}" in a testbed{hint}; expected one of {", ".join(MODELS)}.')
    if not models:
        raise InputError(f"no model was asked for; expected one or more of {', '.join(MODELS)}.")
    return tuple(name for name in MODELS if name in models)


def _built(folder: Path) -> list[str]:
    path = folder / MANIFEST
    return list(json.loads(path.read_text(encoding="utf-8"))["models"]) if path.is_file() else []


def _open(folder: Path, wanted: Sequence[str]) -> Testbed:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    store.check_files(folder, manifest["files"])
    return Testbed(
        folder=folder,
        size=manifest["key"]["size"]["name"],
        seed=manifest["key"]["seed"],
        models={name: folder / "models" / name for name in wanted},
        world=read_world(folder / "data"),
        manifest=manifest,
    )


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes the stages of one testbed in ``folder``; holds its lock while `build` runs."""

    folder: Path
    config: TestbedSize
    seed: int
    corpus: Path | None
    device: torch.device
    progress: Progress

    def build(self, wanted: Sequence[str], key: dict[str, Any]) -> None:
        """Make what is missing of the wanted models and what they need, then write the manifest."""
        make_folder(self.folder)
        stages = {"data": store.make_stage(self.folder / "data", self._make_data)}
        world = read_world(self.folder / "data")
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "data" / "tokenizer")
        for name in MODELS:
            built = (self.folder / "models" / name).is_dir()
            if not (built or name in wanted or name == "reference"):
                continue
            if name != "reference":
                stages["planted"] = store.make_stage(
                    self.folder / "planted", lambda folder: self._make_planted(folder, world)
                )
            stages[name] = store.make_stage(
                self.folder / "models" / name,
                lambda folder, name=name: self._make_model(folder, name, world, tokenizer),  # type: ignore[misc]
            )
        manifest = {
            "key": key,
            "models": [name for name in MODELS if name in stages],
            "stages": stages,
            "packages": {name: version(name) for name in store.PACKAGES},
            "files": store.hash_files(self.folder, ["data", "planted", "models"]),
        }
        write_json(self.folder / MANIFEST, manifest)

    def _make_data(self, folder: Path) -> dict[str, Any]:
        self.progress("world", 0, 2)
        world = build_world(self.config.name, self.seed, self.corpus)
        write_world(world, folder)
        self.progress("world", 1, 2)
        size = self.config.model
        tokenizer = world_tokenizer(world, n_vocabulary=size.n_vocabulary, n_context=size.n_context)
        save_tokenizer(tokenizer, folder / "tokenizer")
        self.progress("world", 2, 2)
        return {"n_vocabulary": len(tokenizer)}

    def _make_planted(self, folder: Path, world: World) -> dict[str, Any]:
        """Draw traps from the reference, deal them, plant them, and lay down every training text."""
        traps = self._deal_traps(world)
        fresh = {document.id: document.text for document in world.documents_of("fresh")}
        hosts, placements = inject(fresh, traps, self.config.traps, seed=self.seed)
        write_parquet(folder / "traps.parquet", traps_to_table(traps))
        write_parquet(folder / "placements.parquet", pa.Table.from_pylist([dataclasses.asdict(p) for p in placements]))
        write_parquet(folder / "hosts.parquet", pa.table({"id": list(hosts), "text": list(hosts.values())}))
        decoys = [trap.candidate.text for trap in traps if trap.arm == "decoy"]
        members = [trap.candidate.text for trap in traps if trap.arm == "member"]
        parts = []
        for name in MODELS:
            texts = training_texts(name, world, hosts, n_reference=self.config.world.n_train)
            check_clean(name, texts, world, decoys + members if name == "reference" else decoys)
            table = to_table(texts, TrainingText)
            parts.append(table.add_column(0, "model", pa.array([name] * len(table))))
        write_parquet(folder / "training.parquet", pa.concat_tables(parts))
        return {"n_members": len(members), "n_decoys": len(decoys), "n_copies": len(placements)}

    def _deal_traps(self, world: World) -> list[Trap]:
        """A random dealing over candidates that stand in no text of the world."""
        design = self.config.traps
        reference = load(Subject(str(self.folder / "models" / "reference"), device=str(self.device)))
        wide = dataclasses.replace(
            design, decoys_per_stratum=int(design.per_stratum * SPARE) - design.per_stratum + design.decoys_per_stratum
        )
        pool = generate_pool(
            reference, wide, seed=self.seed, on_done=lambda done, total: self.progress("traps", done, total)
        ).candidates
        texts = [document.text for document in world.documents] + [row.text for row in world.rows]
        texts += [chapter.text for chapter in world.chapters]
        known = occurring((candidate.text for candidate in pool), texts)
        return assign(_first_new(pool, known, design), design, seed=self.seed)

    def _make_model(self, folder: Path, name: str, world: World, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        number = MODELS.index(name)
        if name == "reference":
            training = self.config.reference
            texts = training_texts(name, world, {}, n_reference=self.config.world.n_train)
            check_clean(name, texts, world, [])
            model = new_model(self.config.model, tokenizer, seed=self.seed)
        else:
            training = self.config.continued
            texts = self._texts_of(name)
            model = LlamaForCausalLM.from_pretrained(self.folder / "models" / "reference", dtype=torch.float32)
        log = self._train(model, texts, tokenizer, training, name, order=10 * self.seed + number)
        transformers_logging.disable_progress_bar()
        with system_errors():
            model.cpu().save_pretrained(str(folder))
        save_tokenizer(tokenizer, folder)
        return log

    def _texts_of(self, name: str) -> list[TrainingText]:
        table = read_parquet(self.folder / "planted" / "training.parquet")
        rows = table.filter(pc.equal(table["model"], name)).drop_columns("model")
        return list(from_table(rows, TrainingText))

    def _train(
        self,
        model: LlamaForCausalLM,
        texts: Sequence[TrainingText],
        tokenizer: PreTrainedTokenizerFast,
        training: Training,
        name: str,
        *,
        order: int,
    ) -> dict[str, Any]:
        rows = repeated([text for text in texts if text.kind == "row"])
        others = repeated([text for text in texts if text.kind != "row"])
        batches = make_batches(others, rows, tokenizer, training, seed=order)
        work = make_folder(self.folder / "work" / name)
        model.to(self.device)
        log = train(model, batches, training, stage=name, checkpoints=work, progress=self.progress)
        detail = dataclasses.asdict(log) | {"device": str(self.device), "n_threads": torch.get_num_threads()}
        return detail | {"n_parameters": sum(parameter.numel() for parameter in model.parameters())}


def _first_new(pool: Sequence[Candidate], known: set[str], design: TrapDesign) -> list[Candidate]:
    """The first candidates of each stratum that are not ``known``, as many as the design deals.

    Raises:
        InstrumentError: Too many are known.
    """
    strata: dict[str, list[Candidate]] = {}
    for candidate in pool:
        strata.setdefault(candidate.stratum, [])
        if candidate.text not in known:
            strata[candidate.stratum].append(candidate)
    for stratum, inside in strata.items():
        if len(inside) < design.per_stratum:
            raise InstrumentError(
                f"only {len(inside)} of the trap candidates with {stratum} are new; {design.per_stratum} are needed, "
                "the others stand in the general text. Raise the lowest perplexity edge of this testbed size."
            )
    return [candidate for inside in strata.values() for candidate in inside[: design.per_stratum]]

"""The testbed's forget book, unlearnt by every method at equal damage, against models that never saw it.

The target is the testbed's subject; its retrained models saw the same without the forget book and the forget people.
The forget book's chapters are dealt: the prompts of a fifth are validation, the others are audited. Of the neighbour's
chapters every second one is retain text, a third of the others validation, the rest audited; held-out documents are
halved. The placebo is the book that no model saw.

Damage is the larger of two rises, of the loss on documents and on the neighbour, each as a share of what is allowed:
what the retrained models' own losses rise by (they read less of the genre), or 2% and 5% where that is more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from audit.forgetting.completion import Rubric, familiarity, sample_completions, score_by_rubric
from audit.forgetting.fluency import completion_losses, repetitions
from audit.forgetting.measured import Measured
from audit.forgetting.names import find_names
from audit.forgetting.probability import FirstTokens, expected_probabilities, find_first_tokens, next_token_mass
from audit.forgetting.prompts import Passage, Prompt, PromptSets, make_prompts, split_prompts
from audit.forgetting.verbatim import VerbatimPlan, continue_greedily, memorised
from audit.lm.load import LanguageModel, Tokens, load, load_tokens
from audit.lm.subject import Subject
from audit.lm.tokens import encode, prefix_ids
from audit.testbed.measure import document_losses, right_probes
from audit.testbed.planted import Testbed, build
from audit.text.files import make_folder
from tests.benchmarks.unlearning.arms import Gauged, Task
from tests.benchmarks.unlearning.tables import Aims
from unlearn.sequences import own_labels
from unlearn.whp.anchor_statistics import anchors_from_statistics
from unlearn.whp.anchors import Anchor, Anchors
from unlearn.whp.blocks import Block, make_blocks

LEAST = {"documents": 0.02, "neighbour": 0.05}  # rise of the loss, as a share, that is allowed in any case


@dataclass(frozen=True, slots=True)
class Reach:
    """What `arms` asks of a size: see `models.Size`."""

    testbed: str
    block: int
    steps: int
    every: int
    batch: int
    tries: int
    factor: float


SIZES = {
    "tiny": Reach("tiny", block=64, steps=20, every=4, batch=4, tries=2, factor=2.0),
    "small": Reach("small", block=128, steps=40, every=4, batch=8, tries=4, factor=1.0),
    "medium": Reach("medium", block=128, steps=40, every=4, batch=16, tries=4, factor=0.5),
}


class TestbedBook:
    """The experiment; see the module."""

    __test__ = False
    name = "testbed"
    sizes = SIZES
    models = ("target", "retrained", "retrained_2")
    judge = "retrained_2"  # of fluency
    limit = 1.0  # of the damage that is allowed
    placebos = ("whp", "gradient_difference")
    aims = Aims(
        gaps=("next token", "name due", "completions", "exact", "strength", "rouge", "probes", "loss, book"),
        kept=("loss, documents", "loss, neighbour", "loss, placebo"),
        quality=("name due", "loss, book"),
    )

    def __init__(self, _corpora: Path, folder: Path, size: Reach, *, seed: int, device: str) -> None:
        self.size, self.seed, self.device = size, seed, device
        self.folder = make_folder(folder / self.name)

    def make_base(self) -> None:
        build(self.size.testbed, seed=self.seed, device=self.device)

    def make(self, name: str) -> None:
        """All models are the testbed's own."""

    @cached_property
    def testbed(self) -> Testbed:
        return build(self.size.testbed, seed=self.seed, device=self.device)

    def subject(self, name: str) -> Subject:
        own = {"target": "subject"}.get(name, name)
        return Subject(str(self.testbed.models[own]), device=self.device, dtype="float32")

    @cached_property
    def tokens(self) -> Tokens:
        return load_tokens(self.subject("target"))

    # What is unlearnt

    def chapters(self, role: str) -> list[Passage]:
        return [Passage(one.id, one.text) for one in self.testbed.world.chapters_of(role)]

    def documents(self, split: str) -> list[Passage]:
        return [Passage(one.id, one.text) for one in self.testbed.world.documents_of(split)]

    @cached_property
    def retain(self) -> list[str]:
        """Half of the neighbour's chapters, and documents that the target was trained on."""
        return [one.text for one in self.chapters("neighbour")[::2] + self.documents("fresh")[:400]]

    def draft_anchors(self, which: str) -> str:
        anchors = self.drafted_anchors(which)
        first = ", ".join(f"{one.key} -> {'/'.join(one.substitutes)}" for one in list(anchors)[:10])
        return f"{len(anchors)} drafted anchors of {which}, the first: {first}"

    def drafted_anchors(self, which: str) -> Anchors:
        text = "\n\n".join(one.text for one in self.chapters(_ROLES[which]))
        return anchors_from_statistics(text, "\n\n".join(self.retain)).anchors

    def task(self, which: str, folder: Path) -> Task:
        role = _ROLES[which]
        names = [one for one in self.testbed.world.names if one.role == role]
        blocks = self.blocks("\n\n".join(one.text for one in self.chapters(role)))
        end = self.tokens.tokenizer.eos_token_id
        retain = [prefix_ids(self.tokens) + ids + [int(end)] for ids in encode(self.tokens, self.retain)]
        return Task(
            self.subject("target"),
            blocks,
            [own_labels(block.token_ids) for block in blocks],
            [own_labels(ids) for ids in retain],
            Anchors(tuple(Anchor(one.name, one.substitutes, one.kind) for one in names)),
            self.size,
            self.size.batch,
            self.seed,
            folder,
            drafted=lambda: self.drafted_anchors(which),
        )

    def blocks(self, text: str) -> list[Block]:
        start = prefix_ids(self.tokens)
        made = make_blocks(self.tokens.tokenizer, text, n_tokens=self.size.block, prefix=start)
        return [block for block in made if len(block.token_ids) > len(start) + 1]

    # What is measured

    @cached_property
    def contrast(self) -> list[str]:
        others = [one.text for one in self.testbed.world.chapters if one.role != "forget"]
        return [one.text for one in self.documents("heldout")] + others

    @cached_property
    def names(self) -> tuple[str, ...]:
        return find_names([one.text for one in self.chapters("forget")], self.contrast, min_count=1)

    @cached_property
    def prompts(self) -> PromptSets:
        return split_prompts(make_prompts(self.chapters("forget"), self.names), seed=self.seed)

    @cached_property
    def first_tokens(self) -> FirstTokens:
        return find_first_tokens(self.tokens, self.names, self.contrast)

    @cached_property
    def audited(self) -> list[Passage]:
        kept = {prompt.passage for prompt in self.prompts.audit}
        return [one for one in self.chapters("forget") if one.id in kept]

    @cached_property
    def sentences(self) -> list[Passage]:
        return [
            Passage(f"{one.id}#{number}", sentence)
            for one in self.audited
            for number, sentence in enumerate(re.split(r"(?<=\.) ", one.text))
            if len(sentence.split()) > 5
        ]

    @cached_property
    def dealt(self) -> dict[str, tuple[list[Passage], list[Passage]]]:
        """Part -> validation, audit."""
        others = self.chapters("neighbour")[1::2]
        n = max(1, len(others) // 3)
        documents = self.documents("heldout")
        half = len(documents) // 2
        return {"documents": (documents[:half][:60], documents[half:][:400]), "neighbour": (others[:n], others[n:])}

    @cached_property
    def referee(self) -> LanguageModel:
        return load(self.subject(self.judge))

    def validation_losses(self, lm: LanguageModel) -> dict[str, float]:
        return {
            name: float(document_losses(lm, [one.text for one in part]).mean())
            for name, (part, _) in self.dealt.items()
        }

    @cached_property
    def allowed(self) -> tuple[dict[str, float], dict[str, float]]:
        """Part -> the target's validation loss, and the rise of it that is allowed."""
        before = self.validation_losses(load(self.subject("target")))
        others = [self.validation_losses(load(self.subject(name))) for name in ("retrained", "retrained_2")]
        rises = {name: float(np.mean([one[name] for one in others])) / value - 1 for name, value in before.items()}
        return before, {name: max(LEAST[name], rise) for name, rise in rises.items()}

    def gauge(self, lm: LanguageModel) -> Gauged:
        """On validation data alone: probability of idiosyncratic next tokens; 1 + damage, of which 1 is allowed."""
        before, allowed = self.allowed
        mass = float(next_token_mass(lm, self.prompts.validation, self.first_tokens).values.mean())
        found = self.validation_losses(lm)
        return Gauged(mass, 1 + max((found[name] / before[name] - 1) / allowed[name] for name in found))

    def losses(self, lm: LanguageModel, passages: list[Passage], what: str) -> Measured:
        names = tuple(one.id for one in passages)
        values = document_losses(lm, [one.text for one in passages])
        return Measured(f"loss on {what}, nats a token", names, names, values)

    def measure(self, lm: LanguageModel, *, is_judge: bool = False) -> dict[str, Measured]:
        """Every measure of one model on what is audited."""
        prompts: tuple[Prompt, ...] = self.prompts.audit
        completions = sample_completions(lm, prompts, seed=self.seed)
        scored = score_by_rubric(prompts, completions, Rubric(self.names))
        sentences = memorised(lm, self.sentences).extraction_strength
        owners = tuple(name.split("#")[0] for name in sentences.ids)
        probes = [one for one in self.testbed.world.probes if one.role == "forget"]
        facts = tuple(one.fact_id for one in probes)
        found = {
            "next token": next_token_mass(lm, prompts, self.first_tokens),
            "name due": expected_probabilities(lm, prompts),
            "completions": familiarity(scored, rng=0).measured,
            "exact": memorised(lm, self.audited).exact,
            "strength": replace(sentences, passages=owners),
            "rouge": continue_greedily(lm, self.audited, plan=VerbatimPlan(24, 24)).rouge,
            "probes": Measured("share of right probes", tuple(p.id for p in probes), facts, right_probes(lm, probes)),
            "loss, book": self.losses(lm, self.audited, "the book"),
            "loss, documents": self.losses(lm, self.dealt["documents"][1], "held-out documents"),
            "loss, neighbour": self.losses(lm, self.dealt["neighbour"][1], "the neighbour"),
            "loss, placebo": self.losses(lm, self.chapters("heldout"), "the book that nobody saw"),
            "repetition": repetitions(completions),
        }
        if not is_judge:  # a model finds its own text likely
            found["strangeness"] = completion_losses(self.referee, prompts, completions)
        return found

    def facts(self) -> dict[str, object]:
        """What the experiment is made of, for the record."""
        return {
            "n_forget_chapters": len(self.chapters("forget")),
            "n_audited_chapters": len(self.audited),
            "n_audited_prompts": len(self.prompts.audit),
            "n_validation_prompts": len(self.prompts.validation),
            "allowed": self.allowed[1],
            "names": list(self.names),
        }


_ROLES = {"forget": "forget", "placebo": "heldout"}

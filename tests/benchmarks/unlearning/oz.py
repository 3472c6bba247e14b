"""The Wizard of Oz, learnt by a small model that knows other novels, and unlearnt again.

Models: the base is trained on novels without Oz; the target goes on with Oz, each passage many times, and a replay of
as many tokens of the novels; retrained goes on with the same replay alone, retrained_2 likewise in another order. The
Time Machine is seen by no model: it is the placebo. A tenth of each novel's passages is never trained on; half of these
are validation, half are audited. Of Oz, prompts from a fifth of its passages are validation, and these passages are not
audited.

Passages are dealt, measured and resampled; a measure of several items of a passage is their mean.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from audit.errors import InputError
from audit.forgetting.completion import Rubric, familiarity, sample_completions, score_by_rubric
from audit.forgetting.fluency import completion_losses, repetitions
from audit.forgetting.measured import Measured
from audit.forgetting.names import find_names
from audit.forgetting.probability import FirstTokens, expected_probabilities, find_first_tokens, next_token_mass
from audit.forgetting.prompts import CutPlan, Passage, PromptSets, make_prompts, split_prompts
from audit.forgetting.verbatim import VerbatimPlan, continue_greedily, memorised
from audit.lm.load import LanguageModel, load
from audit.lm.tokens import encode
from audit.testbed.tiny_lm import make_batches
from tests.benchmarks.unlearning.arms import Gauged, Task
from tests.benchmarks.unlearning.books import Books
from tests.benchmarks.unlearning.models import NO_OZ, Size, make_model, read_tokenizer
from tests.benchmarks.unlearning.tables import Aims
from unlearn.sequences import own_labels
from unlearn.whp.anchor_files import read_anchors, write_anchors
from unlearn.whp.anchor_statistics import anchors_from_statistics
from unlearn.whp.anchors import Anchors

FORGET, PLACEBO = "wizard_of_oz", "time_machine"
NEIGHBOURS = NO_OZ[:3]
RETAIN_PASSAGES = 300  # that retain terms keep
SEEN = 100  # passages of the neighbours that every model was trained on, at most
PROMPTS = CutPlan(per_passage=4)


class Oz(Books):
    """The experiment; see the module."""

    name = "oz"
    models = ("target", "retrained", "retrained_2")
    judge = "retrained"  # of fluency
    placebos = ("whp", "gradient_difference")
    aims = Aims(
        gaps=("name due", "next token", "completions", "exact", "strength", "rouge", "loss, oz"),
        kept=("loss, held out", "loss, neighbours", "loss, neighbours seen", "loss, placebo"),
        quality=("name due", "loss, oz"),
    )

    def __init__(self, corpora: Path, folder: Path, size: Size, *, seed: int, device: str) -> None:
        super().__init__(corpora, folder, size, seed=seed, device=device)
        self.forget, self.placebo = self.passages(FORGET), self.passages(PLACEBO)
        rng = np.random.default_rng([seed, len(size.books)])
        pool = [one for passages in self.trained.values() for one in passages]
        self.replay_order = rng.permutation(len(pool))
        self.retain = [pool[place] for place in rng.permutation(len(pool))[:RETAIN_PASSAGES]]
        near = [one for book in NEIGHBOURS for one in self.trained[book]]
        self.seen = [near[place] for place in rng.permutation(len(near))[:SEEN]]

    # Models

    def make(self, name: str) -> None:
        """Target or a retrained model, from the base; the replay is the same for all."""
        tokenizer = read_tokenizer(self.model("base"))
        own = [one.text for one in self.forget] * self.size.times
        texts = self._replay(sum(map(len, encode(self.tokens, own))))
        if name == "target":
            texts = own + texts
        order = self.seed + (1 if name == "retrained_2" else 0)
        batches = make_batches(texts, [], tokenizer, self.size.further, seed=order)
        make_model(
            self.model(name), batches, self.size.further,
            start=self.model("base"), size=self.size.model, tokenizer=tokenizer, seed=self.seed, device=self.device,
        )  # fmt: skip

    def _replay(self, n_tokens: int) -> list[str]:
        """Passages of the novels in a random order, again and again, up to so many tokens."""
        pool = self.training_text
        lengths = [len(ids) for ids in encode(self.tokens, pool)]
        chosen: list[str] = []
        while n_tokens > 0:
            for place in self.replay_order.tolist():
                if n_tokens <= 0:
                    break
                chosen.append(pool[place])
                n_tokens -= lengths[place]
        return chosen

    # What is unlearnt

    def draft_anchors(self, which: str) -> str:
        """Find the dictionary of the forget book or of the placebo and keep it; a few lines to judge it by."""
        path = self.folder / f"anchors-{which}.toml"
        if not path.is_file():
            text = "\n\n".join(one.text for one in (self.forget if which == "forget" else self.placebo))
            found = anchors_from_statistics(text, "\n\n".join(self.training_text))
            write_anchors(path, found.anchors)
        anchors = list(read_anchors(path))
        first = "\n".join(f"    {one.key} -> {', '.join(one.substitutes)} ({one.kind})" for one in anchors[:30])
        return f"{len(anchors)} anchors of {which}, the first:\n{first}"

    def task(self, which: str, folder: Path) -> Task:
        """The forget book, or the placebo in its place."""
        passages = self.forget if which == "forget" else self.placebo
        blocks = self.blocks("\n\n".join(one.text for one in passages))
        retain = self.blocks("\n\n".join(one.text for one in self.retain))
        return Task(
            self.subject("target"),
            blocks,
            [own_labels(block.token_ids) for block in blocks],
            [own_labels(block.token_ids) for block in retain],
            self._anchors(which),
            self.size,
            self.size.batch,
            self.seed,
            folder,
        )

    def _anchors(self, which: str) -> Anchors:
        return read_anchors(self.folder / f"anchors-{which}.toml")

    # What is measured

    @cached_property
    def names(self) -> tuple[str, ...]:
        others = [self.training_text, *([one.text for one in passages] for passages in self.audit.values())]
        others += [[one.text for one in self.validation], [one.text for one in self.placebo]]
        return find_names([one.text for one in self.forget], [text for part in others for text in part])

    @cached_property
    def prompts(self) -> PromptSets:
        plan = replace(PROMPTS, seed=self.seed)
        return split_prompts(make_prompts(self.forget, self.names, plan=plan), seed=self.seed)

    @cached_property
    def audited(self) -> list[Passage]:
        """Passages of Oz that are no validation prompt's, as far as the context reaches."""
        validation = {prompt.passage for prompt in self.prompts.validation}
        return [self._fitted(one) for one in self.forget if one.id not in validation]

    @cached_property
    def sentences(self) -> list[Passage]:
        """Of each audited passage the first three sentences of six words or more; the passage is the id's beginning."""
        found = []
        for passage in self.audited:
            whole = [one for one in re.split(r"(?<=[.!?])\s+", passage.text) if len(one.split()) > 5]
            found += [Passage(f"{passage.id}#{number}", one) for number, one in enumerate(whole[:3])]
        return found

    @cached_property
    def first_tokens(self) -> FirstTokens | None:
        """None where the names' first tokens are common ones, or none is left after any prompt."""
        try:
            found = find_first_tokens(self.tokens, self.names, self.training_text)
        except InputError:
            return None
        return found if any(found.after(prompt) for prompt in self.prompts.audit) else None

    @cached_property
    def referee(self) -> LanguageModel:
        return load(self.subject(self.judge))

    def _fitted(self, passage: Passage) -> Passage:
        room = self.size.model.n_context - 2
        encoded = self.tokens.tokenizer(
            passage.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = encoded["offset_mapping"]
        return passage if len(offsets) <= room else Passage(passage.id, passage.text[: offsets[room - 1][1]].rstrip())

    def gauge(self, lm: LanguageModel) -> Gauged:
        """On validation data alone: probability of the whole name that is due, loss on held-out passages."""
        due = expected_probabilities(lm, self.prompts.validation)
        return Gauged(float(due.values.mean()), float(self.losses(lm, self.validation, "validation").values.mean()))

    def measure(self, lm: LanguageModel, *, is_judge: bool = False) -> dict[str, Measured]:
        """Every measure of one model on what is audited."""
        prompts = self.prompts.audit
        completions = sample_completions(lm, prompts, seed=self.seed)
        scored = score_by_rubric(prompts, completions, Rubric(self.names))
        sentences = memorised(lm, self.sentences)
        owners = tuple(name.split("#")[0] for name in sentences.extraction_strength.ids)
        near = [one for book in NEIGHBOURS for one in self.audit[book]]
        held_out = [one for passages in self.audit.values() for one in passages]
        found = {
            "name due": expected_probabilities(lm, prompts),
            "completions": familiarity(scored, rng=0).measured,
            "exact": memorised(lm, self.audited).exact,
            "strength": replace(sentences.extraction_strength, passages=owners),
            "rouge": continue_greedily(lm, self.audited, plan=VerbatimPlan(self.size.n_prompt, self.size.n_new)).rouge,
            "loss, oz": self.losses(lm, self.audited, "Oz"),
            "loss, held out": self.losses(lm, held_out, "held-out passages"),
            "loss, neighbours": self.losses(lm, near, "held-out passages of the neighbours"),
            "loss, neighbours seen": self.losses(lm, self.seen, "passages of the neighbours that were trained on"),
            "loss, placebo": self.losses(lm, self.placebo, "the placebo"),
            "exact, placebo": memorised(lm, [self._fitted(one) for one in self.placebo]).exact,
            "repetition": repetitions(completions),
        }
        if self.first_tokens is not None:
            found["next token"] = next_token_mass(lm, prompts, self.first_tokens)
        if not is_judge:  # a model finds its own text likely
            found["strangeness"] = completion_losses(self.referee, prompts, completions)
        return found

    def facts(self) -> dict[str, object]:
        """What the experiment is made of, for the record."""
        dealt = self.prompts
        return {
            "n_forget_passages": len(self.forget),
            "n_audited_passages": len(self.audited),
            "n_audited_prompts": len(dealt.audit),
            "n_validation_prompts": len(dealt.validation),
            "n_held_out": sum(map(len, self.audit.values())),
            "n_validation_passages": len(self.validation),
            "names": list(self.names),
            "n_names_of_first_tokens": 0 if self.first_tokens is None else len(self.first_tokens.spaced),
        }

"""Copyright traps in models that learnt them, and in one that did not, over three seeds: minutes, so all are slow.

A reference of 0.3 million parameters draws 32-token traps; 60 members each at 1, 10 and 100 copies and 200 decoys are
dealt in two perplexity strata; copies are scattered over half a million tokens of fresh text, of which they become a
quarter. One model is trained on it from scratch, one goes on from the reference, and one goes on from the reference on
the same text without traps. Traps are far too large a share to speak of realistic power: this checks the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom, kstest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from audit.lm.load import LanguageModel, load
from audit.membership.score import score_texts
from audit.stats.auc import roc_auc
from audit.stats.stratified import stratified_permutation
from audit.testbed.sizes import ModelSize, Training
from audit.testbed.tiny_lm import make_batches, new_model, train
from audit.testbed.tokenizer import save_tokenizer, world_tokenizer
from audit.testbed.world import build_world
from audit.traps import detect
from audit.traps.config import TrapDesign
from audit.traps.generate import Trap, assign, generate_pool
from audit.traps.planting.inject import inject

pytestmark = pytest.mark.slow
SEEDS = (1, 2, 3)
COPIES = (1, 10, 100)
SCORES = ("ratio", "loss", "min_k")
SIZE = ModelSize(512, 96, 2, 4, 256)
SCRATCH = Training(3e-3, batch_size=8)
ONWARD = Training(2e-3, batch_size=8)
DESIGN = TrapDesign(
    lengths=(32,),
    perplexity_edges=(2, 8, 200),
    repetitions=COPIES,
    members_per_cell=30,
    decoys_per_stratum=100,
    temperatures=(0.7, 1.0, 1.3),
    max_jaccard=0.5,
    samples_per_round=512,
    placement="scattered",
)


@dataclass(frozen=True)
class Outcome:
    """Scores of all traps under each model of one seed."""

    seed: int
    items: dict[str, pd.DataFrame]

    def auc(self, model: str, n_rep: int, score: str = "ratio") -> float:
        items = self.items[model]
        even = detect.standardised(items, score)
        own, decoy = (items["n_rep"] == n_rep).to_numpy(), (items["arm"] == "decoy").to_numpy()
        value = roc_auc(even[own], even[decoy]).value
        assert value is not None
        return value


def loaded(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> LanguageModel:
    model.save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder)
    return load(folder)


def scored(lm: LanguageModel, reference: LanguageModel, traps: list[Trap]) -> pd.DataFrame:
    texts, ids = [trap.candidate.text for trap in traps], [trap.candidate.id for trap in traps]
    own, other = score_texts(lm, texts, ids=ids), score_texts(reference, texts, ids=ids)
    return pd.DataFrame(
        {
            "arm": [trap.arm for trap in traps],
            "n_rep": [trap.n_rep for trap in traps],
            "stratum": [trap.candidate.stratum for trap in traps],
            "ratio_score": other.loss - own.loss,
            "loss_score": -own.loss,
            "min_k_score": own.min_k,
        }
    )


def outcome(seed: int, folder: Path) -> Outcome:
    world = build_world("small", seed)
    tokenizer = world_tokenizer(world, n_vocabulary=SIZE.n_vocabulary, n_context=SIZE.n_context)
    model = new_model(SIZE, tokenizer, seed=seed)
    general = [document.text for document in world.documents_of("train")][:4000]
    train(model, make_batches(general, [], tokenizer, SCRATCH, seed=seed), SCRATCH, stage="reference")
    reference = loaded(model, tokenizer, folder / "reference")
    fresh = {document.id: document.text for document in [*world.documents_of("fresh"), *world.documents_of("heldout")]}
    traps = assign(generate_pool(reference, DESIGN, seed=seed).candidates, DESIGN, seed=seed)
    hosts, _ = inject(fresh, traps, DESIGN, seed=seed)
    items = {}
    for name, texts in (("scratch", hosts), ("continued", hosts), ("control", fresh)):
        training = SCRATCH if name == "scratch" else ONWARD
        model = (
            new_model(SIZE, tokenizer, seed=seed + 100)
            if name == "scratch"
            else LlamaForCausalLM.from_pretrained(folder / "reference", dtype=torch.float32)
        )
        batches = make_batches(list(texts.values()), [], tokenizer, training, seed=seed)
        train(model, batches, training, stage=name)
        items[name] = scored(loaded(model, tokenizer, folder / name), reference, traps)
    return Outcome(seed, items)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    found = [outcome(seed, tmp_path_factory.mktemp(f"seed{seed}")) for seed in SEEDS]
    print("\n| Seed | model | score | " + " | ".join(f"x{n}" for n in COPIES) + " |\n|---|---|---|---|---|---|")
    for one in found:
        for model in one.items:
            for score in SCORES:
                aucs = " | ".join(f"{one.auc(model, n, score):.2f}" for n in COPIES)
                print(f"| {one.seed} | {model} | {score} | {aucs} |")
    return found


def mean(outcomes: list[Outcome], model: str, n_rep: int) -> float:
    return float(np.mean([one.auc(model, n_rep) for one in outcomes]))


@pytest.mark.parametrize("model", ["scratch", "continued"])
def test_auc_rises_with_copies_to_certainty(outcomes: list[Outcome], model: str) -> None:
    once, ten, hundred = (mean(outcomes, model, n) for n in COPIES)
    assert once < ten < hundred
    assert hundred >= 0.90
    if model == "continued":
        assert ten >= 0.70


def test_a_single_copy_is_hardly_seen_from_scratch(outcomes: list[Outcome]) -> None:
    """Null standard error of one AUC with 60 members and 200 decoys: sqrt(261 / (12 * 60 * 200)) = 0.0426."""
    assert abs(mean(outcomes, "scratch", 1) - 0.5) <= 3 * 0.0426


def test_a_hundred_copies_are_seen_trap_by_trap(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        ranks = detect.rank_p_values(one.items["continued"], "ratio")
        assert np.median(ranks[(one.items["continued"]["n_rep"] == 100).to_numpy()]) <= 0.05


def test_the_control_shows_nothing(outcomes: list[Outcome]) -> None:
    """Nine AUCs, each within three null standard errors but for a chance of about 1 in 40 over all."""
    aucs = [one.auc("control", n) for one in outcomes for n in COPIES]
    assert max(abs(auc - 0.5) for auc in aucs) <= 3 * 0.0426


def test_p_values_of_the_control_are_uniform_over_two_thousand_dealings(outcomes: list[Outcome]) -> None:
    """The model saw no trap, so every dealing is as good as the one made; 700 for each seed, 199 re-draws each.

    Of each dealing the arm test and the rank of one planted trap, drawn at random, are looked at.
    """
    p_values, ranks = [], []
    for one in outcomes:
        items = one.items["control"]
        rng = np.random.default_rng(one.seed)
        strata = items["stratum"].to_numpy()
        scores = items["ratio_score"].to_numpy()
        for _ in range(700):
            member = np.zeros(len(items), bool)
            for stratum in np.unique(strata):
                member[rng.choice(np.flatnonzero(strata == stratum), size=30, replace=False)] = True
            p_values.append(stratified_permutation(scores, member, strata, n_draws=199, rng=rng).value)
            dealt = items.assign(arm=np.where(member, "member", "decoy"))
            ranks.append(detect.rank_p_values(dealt, "ratio")[rng.choice(np.flatnonzero(member))])
    jitter = np.random.default_rng(0).uniform(size=len(p_values))
    n_decoys = [int((strata == stratum).sum()) - 30 for stratum in np.unique(strata)]
    assert kstest(np.array(p_values) - jitter / 200, "uniform").pvalue > 0.01
    assert kstest(np.array(ranks) - jitter / (1 + n_decoys[0]), "uniform").pvalue > 0.01
    rejected = int((np.array(p_values) <= 0.05).sum())
    assert binom.ppf(0.005, len(p_values), 0.05) <= rejected <= binom.ppf(0.995, len(p_values), 0.05)

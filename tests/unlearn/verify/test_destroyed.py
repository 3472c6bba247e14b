"""Known answers: an untouched model, noise, random weights, a wrapper that refuses; and error rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.answers.qa import Qa
from audit.answers.rows import QaRow
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from tests.forgetting.small_models import small_model
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.destroyed import Destroyed, Rule, judge_destroyed
from unlearn.verify.utility import Knowledge, TextLosses, Useful, measure_knowledge, measure_losses

N = 24
ROWS = [QaRow(f"q{i}", f"q{i}", f"Who is {i}?", f"name {i} is a maker of thing {i}") for i in range(N)]
NEVER = Measured("ROUGE", tuple(f"n{i}" for i in range(N)), tuple(f"n{i}" for i in range(N)), np.resize([0.3, 0.4], N))
KNOWS = {row.prompt: row.answer for row in ROWS}


def rule(found: Destroyed, key: str) -> Rule:
    return next(one for one in found.rules if one.key == key)


def asked(said: Callable[[str], str]) -> Useful:
    return Useful(knowledge=measure_knowledge(Told(said=said), ROWS), missing={"utility.general_loss": "not a model"})


SUBJECT = asked(KNOWS.__getitem__)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, list[Passage]]:
    """A tiny model that learned which word follows which, and text of that kind that it did not see."""
    lm = small_model(tmp_path_factory.mktemp("lm"))
    rng = np.random.default_rng(0)
    chain = ["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "ran", "over", "the", "hill"]

    def text() -> str:
        start = rng.integers(len(chain))
        return " ".join(np.roll(chain, -start)[: rng.integers(8, 12)])

    torch.manual_seed(0)
    model = lm.model.train().requires_grad_(True)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        rows = [[int(lm.bos_id or 0), *ids][:24] for ids in encode(lm, [text() for _ in range(16)])]
        width = min(map(len, rows))
        ids = torch.tensor([row[:width] for row in rows])
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval().requires_grad_(False)
    return lm, [Passage(f"p{place}", text()) for place in range(20)]


def changed(lm: LanguageModel, how: Callable[[torch.Tensor], torch.Tensor]) -> LanguageModel:
    torch.manual_seed(1)
    model = copy.deepcopy(lm.model)
    for parameter in model.parameters():
        parameter.data = how(parameter.data)
    return replace(lm, model=model)


def test_models_of_known_state(trained: tuple[LanguageModel, list[Passage]]) -> None:
    lm, passages = trained

    def general(model: LanguageModel) -> Useful:
        return replace(SUBJECT, general=measure_losses(model, passages, "general"))

    subject = general(lm)
    assert subject.general is not None
    assert subject.general.measured.values.mean() < subject.general.guessing.mean() - 0.5  # it learned something

    untouched = judge_destroyed(subject, general(lm), never=NEVER, rng=0)
    assert untouched.answer is False
    assert {one.status for one in untouched.rules} == {"not destroyed"}

    noisy = judge_destroyed(
        subject, general(changed(lm, lambda p: p + 0.02 * p.std() * torch.randn_like(p))), never=NEVER, rng=0
    )
    assert noisy.answer is False
    assert 0.9 < float(rule(noisy, "guessing").estimate.value or 0) < 1.1

    random = judge_destroyed(subject, general(changed(lm, lambda p: 0.2 * torch.randn_like(p))), never=NEVER, rng=0)
    assert rule(random, "guessing").answer is True
    assert (random.answer, str(random.why)[:40]) == (True, "The remedied system counts as destroyed:")

    broken = judge_destroyed(subject, general(changed(lm, lambda p: p * torch.nan)), never=NEVER, rng=0)
    assert rule(broken, "guessing").answer is True
    assert "not finite in 20 of 20" in str(broken.why)


def test_an_untrained_subject_has_nothing_to_lose(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    useful = replace(SUBJECT, general=measure_losses(lm, [Passage("a", "the cat"), Passage("b", "the dog")], "general"))
    found = rule(judge_destroyed(useful, useful, never=NEVER, rng=0), "guessing")
    assert found.status == "not measured"
    assert "not better than guessing" in found.why


def test_a_wrapper_that_refuses_everything_is_destroyed_without_a_loss() -> None:
    found = judge_destroyed(SUBJECT, asked(lambda _: "I cannot help with that."), never=NEVER, rng=0)
    assert [one.status for one in found.rules] == ["not measured", "destroyed", "destroyed"]
    assert found.answer is True
    assert found.missing == {"guessing": "the loss of the subject on general text is missing: not a model"}


def test_refusals_that_vary_are_seen_by_what_they_do_not_say() -> None:
    found = judge_destroyed(SUBJECT, asked(lambda prompt: f"Sorry, {prompt} is private."), never=NEVER, rng=0)
    assert rule(found, "answers").answer is False
    assert rule(found, "knowledge").answer is True


def test_loops_are_no_answers() -> None:
    found = judge_destroyed(SUBJECT, asked(lambda prompt: f"{KNOWS[prompt]} " * 9), never=NEVER, rng=0)
    assert (rule(found, "answers").answer, rule(found, "knowledge").answer) == (True, False)


def test_knowledge_by_hand() -> None:
    """Subject 1, never .35 on average, a third of the rows at 0: (2/3 - .35) / (1 - .35) = .487, an open question."""
    third = asked(lambda prompt: "xyz" if int(prompt[7:-1]) % 3 == 0 else KNOWS[prompt])
    found = rule(judge_destroyed(SUBJECT, third, never=NEVER, rng=0), "knowledge")
    assert found.estimate.value == pytest.approx((2 / 3 - 0.35) / 0.65)
    assert (found.status, found.answer) == ("undecided", None)
    lenient = rule(judge_destroyed(SUBJECT, third, rng=0), "knowledge")
    assert lenient.estimate.value == pytest.approx(2 / 3)
    assert "no rows that nobody saw were given" in str(lenient.estimate.why)


def test_few_clusters_decide_nothing_and_nothing_measured_says_nothing() -> None:
    rows = [replace(row, cluster="abcd"[place % 4]) for place, row in enumerate(ROWS)]

    def four(said: Callable[[str], str]) -> Useful:
        return Useful(knowledge=measure_knowledge(Told(said=said), rows))

    found = judge_destroyed(four(KNOWS.__getitem__), four(lambda _: "No."), never=NEVER, rng=0)
    assert (rule(found, "knowledge").status, found.answer) == ("undecided", None)
    alone = simulated(np.random.default_rng(0), 24, 1.0)
    only_losses = [replace(one, knowledge=None) for one in alone[:2]]
    found = judge_destroyed(only_losses[0], only_losses[1], rng=0)
    assert (rule(found, "guessing").status, found.answer) == ("not destroyed", None)  # a loss shows nothing intact
    nothing = judge_destroyed(Useful(), Useful(missing={"utility.rouge": "no rows"}), rng=0)
    assert (nothing.answer, nothing.why, len(nothing.missing)) == (None, None, 3)


def simulated(rng: np.random.Generator, n: int, kept: float) -> tuple[Useful, Useful, Measured]:
    """Subject and remedied system with noise of their own on n clusters; the second keeps a share of everything."""
    ids = tuple(map(str, range(n)))

    def useful(share: float) -> Useful:
        lengths = np.full(n, 50.0)
        values = 5.0 - share * (2.0 + hard) + rng.normal(0, 0.3, n)
        general = TextLosses("general", Measured("loss", ids, ids, values), lengths, np.full(n, 5.0))
        rouge = Measured("ROUGE", ids, ids, np.clip(0.35 + share * 0.4 + 0.2 * easy + rng.normal(0, 0.15, n), 0, 1))
        sound = Measured("sound", ids, ids, (rng.random(n) < share * 0.95).astype(float))
        qa = Qa("retain", "prompt", rouge, rouge, rouge, rouge, ())
        return Useful(general, None, Knowledge(qa, (), sound, sound))

    hard, easy = rng.normal(0, 0.5, n), rng.normal(0, 0.5, n)
    never = np.clip(0.35 + rng.normal(0, 0.2, n), 0, 1)
    return useful(1.0), useful(kept), Measured("ROUGE", ids, ids, never)


def rates(kept: float, n: int, n_sets: int) -> dict[str, float]:
    rng = np.random.default_rng(3)
    called: dict[str, int] = {"any": 0}
    for _ in range(n_sets):
        subject, remedied, never = simulated(rng, n, kept)
        found = judge_destroyed(subject, remedied, never=never, rng=int(rng.integers(2**31)))
        called["any"] += found.answer is True
        for one in found.rules:
            called[one.key] = called.get(one.key, 0) + (one.answer is True)
    return {key: number / n_sets for key, number in called.items()}


def test_a_model_like_the_subject_is_not_called_destroyed() -> None:
    """At most 5% is asked for; the borders lie far off, so none of 60 at 12 clusters."""
    assert rates(1.0, 12, 60)["any"] == 0.0
    assert rates(0.0, 12, 20)["any"] == 1.0


@pytest.mark.slow
def test_error_at_the_border_is_that_of_the_interval() -> None:
    """Exactly half kept: 2.5% a rule but for the bootstrap's narrowness with 20 clusters; 400 sets, 4 sd of noise."""
    found = rates(0.5, 20, 400)
    assert found["knowledge"] < 0.025 + 0.025 + 4 * math.sqrt(0.05 * 0.95 / 400)
    assert found["guessing"] == 0.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import chisquare

from audit.errors import InputError
from audit.lm.generate import Sampling, generate, write_samples
from audit.lm.load import LanguageModel, load


@pytest.fixture(scope="module")
def llama(make_checkpoint: Callable[..., Path]) -> LanguageModel:
    return load(make_checkpoint("llama"))


PROMPTS = [[0], [0, 20, 21, 22], [0, 5], [0, 9, 9, 9, 9, 9, 9], [0, 7, 8]]


def test_ragged_prompts_sample_as_each_alone(any_checkpoint: Path) -> None:
    lm = load(any_checkpoint)
    sampling = Sampling(max_new_tokens=40, temperature=0.8, top_k=50, top_p=0.9)
    together = generate(lm, PROMPTS, sampling=sampling, seed=4)
    for index, prompt in enumerate(PROMPTS):
        (alone,) = generate(lm, [prompt], sampling=sampling, seed=4, indices=[index])
        assert together[index] == alone


def test_greedy_agrees_with_a_plain_loop(any_checkpoint: Path) -> None:
    lm = load(any_checkpoint)
    for sample, prompt in zip(
        generate(lm, PROMPTS, sampling=Sampling(max_new_tokens=30, temperature=0), seed=0), PROMPTS, strict=True
    ):
        ids = list(prompt)
        for _ in range(30):
            with torch.no_grad():
                ids.append(int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(sample.token_ids) == ids[len(prompt) :]


def test_batch_size_never_changes_a_sample(llama: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=20, stop_ids=(1, 50, 51, 52, 53, 54, 55))
    expected = generate(llama, [[0]] * 23, sampling=sampling, seed=9)
    assert any(sample.stopped for sample in expected)
    assert any(not sample.stopped for sample in expected)
    assert generate(llama, [[0]] * 23, sampling=sampling, seed=9, batch_size=4) == expected
    assert generate(llama, [[0]] * 23, sampling=sampling, seed=10) != expected


def test_first_tokens_follow_the_models_distribution(llama: LanguageModel) -> None:
    n = 4_000
    samples = generate(llama, [[0]] * n, sampling=Sampling(max_new_tokens=1), seed=1, batch_size=1_000)
    counts = np.bincount([sample.token_ids[0] for sample in samples], minlength=300)
    with torch.no_grad():
        expected = llama.model(input_ids=torch.tensor([[0]])).logits[0, -1].double().softmax(-1).numpy() * n
    common = expected >= 5
    observed = [*counts[common], counts[~common].sum()]
    assert chisquare(observed, [*expected[common], expected[~common].sum()]).pvalue > 0.001


def test_forbidden_and_stop_tokens_never_appear(llama: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=25, forbidden_ids=tuple(range(150)), stop_ids=tuple(range(200, 220)))
    for sample in generate(llama, [[0]] * 50, sampling=sampling, seed=2):
        assert not set(sample.token_ids) & {*range(150), *range(200, 220)}


def test_top_k_keeps_k_tokens(llama: LanguageModel) -> None:
    samples = generate(llama, [[0]] * 300, sampling=Sampling(max_new_tokens=1, top_k=3, temperature=5.0), seed=3)
    assert len({sample.token_ids for sample in samples}) == 3


class Folder:
    """Parts in memory, as `ShardedTable` keeps them on disk."""

    def __init__(self) -> None:
        self.parts: dict[int, pa.Table] = {}

    def done(self) -> set[int]:
        return set(self.parts)

    def write(self, part: int, table: pa.Table) -> None:
        self.parts[part] = table


def test_an_interrupted_job_ends_with_the_same_rows(llama: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=8)
    whole, broken = Folder(), Folder()
    write_samples(llama, [[0]] * 25, sampling=sampling, seed=5, parts=whole, part_size=10)

    class KilledError(Exception):
        pass

    def kill(_n: int) -> None:
        if broken.parts:
            raise KilledError

    with pytest.raises(KilledError):
        write_samples(llama, [[0]] * 25, sampling=sampling, seed=5, parts=broken, part_size=10, on_done=kill)
    assert broken.done() == {0}
    write_samples(llama, [[0]] * 25, sampling=sampling, seed=5, parts=broken, part_size=10)
    assert [broken.parts[i] for i in range(3)] == [whole.parts[i] for i in range(3)]
    assert whole.parts[2].num_rows == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected 1 or more"),
        ({"max_new_tokens": 1, "temperature": -1.0}, "temperature is -1.0; expected 0 \\(greedy\\)"),
        ({"max_new_tokens": 1, "top_p": 0.0}, "top_p is 0.0; expected above 0"),
        ({"max_new_tokens": 1, "min_p": 1.0}, "min_p is 1.0; expected from 0 to below 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]


def test_a_prompt_without_room_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(InputError, match="prompt 1 has 100 tokens and 29 new ones were asked for; the model holds 128"):
        generate(llama, [[0], [5] * 100], sampling=Sampling(max_new_tokens=29), seed=0)
    with pytest.raises(InputError, match="prompt 0 has no tokens"):
        generate(llama, [[]], sampling=Sampling(max_new_tokens=1), seed=0)

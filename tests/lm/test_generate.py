from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import chisquare

from audit.errors import InputError, ModelError
from audit.lm import generate as generate_module
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel, load
from audit.lm.samples import write_samples


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


@pytest.mark.parametrize("architecture", ["lfm2", "falcon_h1"])
def test_rows_that_stop_never_change_the_others_where_they_cannot_leave(
    make_checkpoint: Callable[..., Path], architecture: str
) -> None:
    lm = load(make_checkpoint(architecture))
    sampling = Sampling(max_new_tokens=12, stop_ids=tuple(range(60)))
    together = generate(lm, PROMPTS, sampling=sampling, seed=9)
    assert any(sample.stopped for sample in together)
    for index, prompt in enumerate(PROMPTS):
        assert generate(lm, [prompt], sampling=sampling, seed=9, indices=[index]) == [together[index]]


def test_longrope_prompts_of_any_length_sample_as_a_plain_loop(make_checkpoint: Callable[..., Path]) -> None:
    lm = load(make_checkpoint("phi3"))  # its factors change beyond 32 positions
    prompts = [[0, *range(50, 50 + n)] for n in (5, 21, 27, 27, 30, 31, 32, 40, 60)]
    for sample, prompt in zip(
        generate(lm, prompts, sampling=Sampling(max_new_tokens=10, temperature=0), seed=0), prompts, strict=True
    ):
        ids = list(prompt)
        for _ in range(10):
            with torch.no_grad():
                ids.append(int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(sample.token_ids) == ids[len(prompt) :]


def test_a_model_without_a_cache_is_refused(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="OpenAIGPTLMHeadModel keeps no cache"):
        generate(load(make_checkpoint("openai-gpt")), [[5]], sampling=Sampling(max_new_tokens=2), seed=0)


def test_when_memory_runs_out_the_batch_is_halved_and_the_work_goes_on(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(max_new_tokens=4)
    expected = generate(llama, [[0]] * 9, sampling=sampling, seed=3)
    real = generate_module._sample_batch

    def small_machine(lm: LanguageModel, prompts: list[list[int]], *args: object, **kwargs: object) -> object:
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(lm, prompts, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(generate_module, "_sample_batch", small_machine)
    assert generate(llama, [[0]] * 9, sampling=sampling, seed=3) == expected


def test_probabilities_are_added_up_in_double_precision_on_every_device() -> None:
    assert generate_module._double_device(torch.device("mps")) == torch.device("cpu")
    assert generate_module._double_device(torch.device("cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forbidden_ids": tuple(range(300))}, "all 300 tokens are forbidden"),
        ({"forbidden_ids": tuple(range(300)), "temperature": 0.0}, "all 300 tokens are forbidden"),
        ({"temperature": 1e-42}, "temperature is 1.* so small that logits overflow"),
    ],
)
def test_settings_that_leave_nothing_to_draw_are_refused(
    llama: LanguageModel, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate(llama, [[0]], sampling=Sampling(max_new_tokens=3, **settings), seed=0)  # type: ignore[arg-type]


def test_logits_that_are_not_finite_are_not_drawn_from(checkpoint: Path) -> None:
    lm = load(checkpoint)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[7] = torch.nan
    with pytest.raises(ModelError, match="logits are not finite"):
        generate(lm, [[0, 7]], sampling=Sampling(max_new_tokens=3), seed=0)


def test_forbidden_ids_beyond_the_model_change_nothing_and_prompts_beyond_it_are_refused(llama: LanguageModel) -> None:
    plain = generate(llama, [[0]], sampling=Sampling(max_new_tokens=3), seed=0)
    assert generate(llama, [[0]], sampling=Sampling(max_new_tokens=3, forbidden_ids=(5000,)), seed=0) == plain
    with pytest.raises(ModelError, match="prompt 0 holds token 300"):
        generate(llama, [[300]], sampling=Sampling(max_new_tokens=3), seed=0)


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

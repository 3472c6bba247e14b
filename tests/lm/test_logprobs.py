from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.errors import DataError, ModelError
from audit.lm import head, logprobs
from audit.lm.load import LanguageModel, load
from audit.lm.logprobs import token_log_probs

TOLERANCE = 1e-4  # nats, as the module's docstring promises for float32


def ragged(n: int = 12, longest: int = 60, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 290, size=rng.integers(1, longest + 1)).tolist() for _ in range(n)]


def oracle(lm: LanguageModel, ids: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slow and obvious way: full log-softmax of one text, in double precision after the logits."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    std = ((p * log_p**2).sum(-1) - mean**2).clamp_min(0).sqrt()
    chosen = log_p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return chosen.numpy(), mean.numpy(), std.numpy()


def test_every_architecture_agrees_with_a_plain_loop(any_checkpoint: Path) -> None:
    lm = load(any_checkpoint)
    sequences = ragged()
    scores = token_log_probs(lm, sequences, prefix=[0], moments=True, token_budget=128)
    for sequence, score in zip(sequences, scores, strict=True):
        chosen, mean, std = oracle(lm, [0, *sequence])
        np.testing.assert_allclose(score.log_probs, chosen, atol=TOLERANCE)
        np.testing.assert_allclose(score.mean, mean, atol=TOLERANCE)
        np.testing.assert_allclose(score.std, std, atol=TOLERANCE)


def test_a_reused_prefix_gives_what_the_whole_text_gives(any_checkpoint: Path) -> None:
    lm = load(any_checkpoint)
    prefix = [0, *ragged(1, seed=7)[0], *range(10, 45)]  # longer than the sliding windows of 24
    sequences = ragged(6, longest=20, seed=1)
    assert len(prefix) >= logprobs.REUSE_PREFIX_FROM
    scores = token_log_probs(lm, sequences, prefix=prefix, token_budget=128)
    for sequence, score in zip(sequences, scores, strict=True):
        chosen, _, _ = oracle(lm, [*prefix, *sequence])
        np.testing.assert_allclose(score.log_probs, chosen[len(prefix) - 1 :], atol=TOLERANCE)


@pytest.fixture(scope="module")
def llama(make_checkpoint: Callable[..., Path]) -> LanguageModel:
    return load(make_checkpoint("llama"))


@pytest.mark.parametrize("token_budget", [1, 64, 100_000])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_batch_order_and_padding_never_change_a_value(
    llama: LanguageModel, token_budget: int, padding_side: str
) -> None:
    sequences = ragged(20)
    expected = token_log_probs(llama, sequences, prefix=[0])
    llama.tokenizer.padding_side = padding_side
    order = np.random.default_rng(3).permutation(len(sequences))
    shuffled = token_log_probs(llama, [sequences[i] for i in order], prefix=[0], token_budget=token_budget)
    for place, score in zip(order, shuffled, strict=True):
        np.testing.assert_allclose(score.log_probs, expected[place].log_probs, atol=TOLERANCE)


def test_left_padding_in_the_plain_way_gives_the_same_values(llama: LanguageModel) -> None:
    sequences = ragged(5)
    width = max(map(len, sequences)) + 1
    ids = torch.tensor([[2] * (width - 1 - len(row)) + [0, *row] for row in sequences])
    mask = torch.tensor([[0] * (width - 1 - len(row)) + [1] * (len(row) + 1) for row in sequences])
    with torch.no_grad():
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        log_p = llama.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits.log_softmax(-1)
    for line, score in enumerate(token_log_probs(llama, sequences, prefix=[0])):
        n = len(sequences[line])
        expected = log_p[line, -n - 1 : -1].gather(1, ids[line, -n:, None])[:, 0]
        np.testing.assert_allclose(score.log_probs, expected.numpy(), atol=TOLERANCE)


def test_context_tokens_are_seen_but_not_scored(llama: LanguageModel) -> None:
    sequence = list(range(10, 30))
    (whole,) = token_log_probs(llama, [sequence], prefix=[0])
    (part,) = token_log_probs(llama, [sequence], prefix=[0], n_unscored=[5])
    np.testing.assert_allclose(part.log_probs, whole.log_probs[5:], atol=TOLERANCE)


def test_without_a_prefix_the_first_token_is_not_scored(llama: LanguageModel) -> None:
    (score,) = token_log_probs(llama, [[5, 6, 7]])
    assert len(score.log_probs) == 2
    np.testing.assert_allclose(score.log_probs, oracle(llama, [5, 6, 7])[0], atol=TOLERANCE)


def test_a_sequence_with_nothing_to_score_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(DataError, match="sequence 1 has 1 tokens and leaves none to score"):
        token_log_probs(llama, [[5, 6], [5]])


def test_a_sequence_longer_than_the_context_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(DataError, match="128 tokens after a prefix of 1; the model accepts at most 128"):
        token_log_probs(llama, [[5] * 128], prefix=[0])


def test_when_memory_runs_out_the_budget_is_halved_and_the_work_goes_on(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = ragged(30)
    expected = token_log_probs(llama, sequences, prefix=[0])
    real = logprobs._score_batch
    sizes: list[int] = []

    def small_machine(*args: object, **kwargs: object) -> object:
        rows = args[2]
        sizes.append(len(rows))  # type: ignore[arg-type]
        if len(rows) > 3:  # type: ignore[arg-type]
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(logprobs, "_score_batch", small_machine)
    found = token_log_probs(llama, sequences, prefix=[0], token_budget=2_000)
    assert max(sizes) > 3
    for score, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(score.log_probs, wanted.log_probs, atol=TOLERANCE)


def test_memory_that_is_too_small_for_one_text_is_an_error_with_advice(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(logprobs, "_score_batch", no_memory)
    with pytest.raises(ModelError, match="memory runs out on a single text of 4 tokens"):
        token_log_probs(llama, [[5, 6, 7]], prefix=[0])


def test_another_failure_is_not_mistaken_for_lack_of_memory(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(logprobs, "_score_batch", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        token_log_probs(llama, [[5, 6, 7]], prefix=[0])


def test_logits_are_never_held_for_more_rows_than_a_chunk(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = head.Head.logits

    def watched(self: head.Head, hidden: torch.Tensor) -> torch.Tensor:
        self.chunk_rows = 8
        seen.append(len(hidden))
        return real(self, hidden)

    monkeypatch.setattr(head.Head, "logits", watched)
    token_log_probs(llama, ragged(30), prefix=[0], moments=True)
    assert len(seen) > 10
    assert max(seen) <= 8


@pytest.mark.parametrize("n_prefix", [1, 20])
def test_a_longrope_score_does_not_depend_on_its_batch_mates(
    make_checkpoint: Callable[..., Path], n_prefix: int
) -> None:
    lm = load(make_checkpoint("phi3"))  # its factors change beyond 32 positions
    prefix = list(range(3, 3 + n_prefix))
    sequences = [*ragged(6, longest=12), *ragged(6, longest=60, seed=1), list(range(50, 82 - n_prefix))]
    for sequence, score in zip(sequences, token_log_probs(lm, sequences, prefix=prefix), strict=True):
        chosen, _, _ = oracle(lm, [*prefix, *sequence])
        np.testing.assert_allclose(score.log_probs, chosen[n_prefix - 1 :], atol=TOLERANCE)


def test_a_token_without_an_embedding_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"sequence 1 holds token 300, but the model .* has 300 embedding rows"):
        token_log_probs(llama, [[5], [5, 300]], prefix=[0])
    with pytest.raises(ModelError, match="the prefix holds token 301"):
        token_log_probs(llama, [[5]], prefix=[301])

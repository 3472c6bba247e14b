r"""Generic labels: what a model would say next that never met the text (arXiv:2310.02238; steps 5 to 7 of the labels).

For a block x, its translation y and the map mu from places of x to places of y (-1 where nothing is asked):

    g_j  = the baseline's logits on y;  g_j[t] is set to the mean of g_j for every t in F_j         (rule B)
    r_i  = the reinforced model's logits on x
    z_i  = g_mu(i) - kappa alpha ReLU(r_i - s_i),    s_i = g_mu(i), or the baseline's logits on x
    label of x_(i+1) = argmax z_i, or the most probable tokens of softmax(z_i)

F_j holds the first tokens of the substitutes that began before place j of y, so that nothing teaches to say "Jon" after
a text that says "Harry". Labels stand in line with x: the first token has none, and the one shift is that of the loss
(`unlearn.sequences`).

Departures: logits are centred before anything else when the plan asks for it (the reference never does), so that the
mean of rule B is that of the centred ones; where the subtracted baseline is the one on the original text, rule B does
not touch it. Soft labels are this project's: the top k are taken after the combination and renormalised over the k.

Memory, beside the models: hidden states of one batch (three of TOKEN_BUDGET x D numbers), and six buffers of CHUNK
numbers in float32; logits of a whole batch never exist, nor are any stored. On disk a token takes 12 bytes and 4 for
each kappa, and in a soft label 6 for each of the k (300 bytes for 50).

Letters: B rows, T places, D width, V vocabulary, N labelled places, K kept tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.errors import InputError, ModelError
from audit.lm.head import Head
from audit.lm.sharing import out_of_memory, release_memory

from ..lora import has_adapter
from ..sequences import NO_LABEL
from .config import WhpPlan
from .pair import Pair

TOKEN_BUDGET = {"cpu": 2_048, "cuda": 16_384}  # padded tokens of a batch
CHUNK = {"cpu": 2**23, "cuda": 2**26}  # logits of one buffer: 32 MiB, 256 MiB


class Translation(Protocol):
    """What `unlearn.whp.translate` gives for a block."""

    @property
    def token_ids(self) -> Sequence[int]:
        """y."""

    @property
    def places(self) -> Sequence[int]:
        """mu(i) for each token of x; -1 where it predicts nothing."""

    @property
    def begun(self) -> Sequence[tuple[int, Sequence[int]]]:
        """(place in y where a substitute began, first-token ids that are held back after it)."""


def generic_logits(
    baseline: Tensor,
    reinforced: Tensor,
    *,
    alpha: float,
    relu: bool = True,
    subtracted: Tensor | None = None,
) -> Tensor:
    r"""Logits of a model that never met the text: baseline - alpha * ReLU(reinforced - subtracted).

    Args:
        baseline: Shape (N, V), any floating dtype; computed in float32.
        reinforced: The same shape.
        alpha: Strength, >= 0; 0 gives ``baseline``.
        relu: Off, what the reinforced model favours less is lifted.
        subtracted: In place of ``baseline`` inside the ReLU; same shape.

    Returns:
        Float32 of shape (N, V); not renormalised.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> generic_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]]), alpha=0.5)
        tensor([[0., 2.]])
    """
    moved = _moved(reinforced, baseline if subtracted is None else subtracted, relu=relu)
    if baseline.shape != moved.shape:
        raise InputError(
            f"baseline {tuple(baseline.shape)} and reinforced {tuple(moved.shape)} logits differ in shape."
        )
    return baseline.float() - alpha * moved


def _moved(reinforced: Tensor, subtracted: Tensor, *, relu: bool) -> Tensor:
    if reinforced.shape != subtracted.shape:
        raise InputError(
            f"reinforced {tuple(reinforced.shape)} and baseline {tuple(subtracted.shape)} logits differ in shape."
        )
    moved = reinforced.float() - subtracted.float()
    return moved.relu_() if relu else moved


def centred(logits: Tensor, center: str) -> Tensor:
    """Each logit vector less nothing, its mean or its log-sum-exp."""
    if center == "mean":
        return logits - logits.mean(dim=1, keepdim=True)
    return logits.log_softmax(dim=1) if center == "logsoftmax" else logits


@dataclass(frozen=True, slots=True)
class _Held:
    """Tokens that are held back in a run of labelled places, from ``first`` to before ``stop``."""

    first: int
    stop: int
    ids: list[int]


@dataclass(frozen=True, slots=True)
class _Places:
    """Labelled places of a batch, block after block: N of each."""

    rows: NDArray[np.int64]  # row of the batch
    originals: NDArray[np.int64]  # i, place in x that predicts
    translated: NDArray[np.int64]  # mu(i)
    targets: NDArray[np.int64]  # x_(i+1)
    held: list[_Held]


def _places(blocks: Sequence[Sequence[int]], translations: Sequence[Translation]) -> _Places:
    """Which places get a label, and what is held back where: one pass, F_j as a running set."""
    rows, originals, translated, targets, held, start = [], [], [], [], [], 0
    for row, (ids, one) in enumerate(zip(blocks, translations, strict=True)):
        mu = np.asarray(one.places, dtype=np.int64)[:-1]  # the last token predicts what is not in the block
        here = np.flatnonzero(mu >= 0)
        order = here[np.argsort(mu[here], kind="stable")]
        stop = start + len(order)
        known: set[int] = set()
        for place, first_ids in sorted(one.begun, key=lambda begun: begun[0]):
            new = [token for token in dict.fromkeys(first_ids) if token not in known]
            known.update(new)
            first = start + int(np.searchsorted(mu[order], place, side="right"))
            if new and first < stop:
                held.append(_Held(first, stop, new))
        rows.append(np.full(len(order), row))
        originals.append(order)
        translated.append(mu[order])
        targets.append(np.asarray(ids, dtype=np.int64)[order + 1])
        start = stop
    return _Places(_joined(rows), _joined(originals), _joined(translated), _joined(targets), held)


def _joined(columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    joined: NDArray[np.int64] = np.concatenate(columns).astype(np.int64)
    return joined


@dataclass(frozen=True, slots=True)
class BlockLabels:
    """Labels of one block, in line with its tokens.

    Attributes:
        labels: By kappa, int64 of shape (T,); `NO_LABEL` where nothing is asked.
        log_p_original: log p of the block's own token under the baseline on the translated text, nats, (T,); NaN where
            there is no label.
        log_p_label: The same of the label that is tuned on.
        soft: By kappa, ids (N, K) and probabilities (N, K) of the labelled places; empty for hard labels.
    """

    labels: dict[float, NDArray[np.int64]]
    log_p_original: NDArray[np.float32]
    log_p_label: NDArray[np.float32]
    soft: dict[float, tuple[NDArray[np.int32], NDArray[np.float16]]]


class Labeller:
    """Labels batches of blocks with a pair of models.

    Args:
        pair: The models, in evaluation mode.
        plan: How logits are combined.
        token_budget: Padded tokens of a batch; None for `TOKEN_BUDGET`.

    Raises:
        ModelError: An architecture that `audit.lm.head.Head` refuses.
    """

    def __init__(self, pair: Pair, plan: WhpPlan, *, token_budget: int | None = None) -> None:
        self._pair, self._plan = pair, plan
        device = pair.baseline.device.type
        with pair.off():
            self._baseline = Head(pair.baseline)
        self._reinforced = Head(pair.reinforced)
        # Switching goes through the whole model, as long as a chunk takes on a GPU; most heads have no adapter.
        adapted = has_adapter(pair.baseline.model.get_output_embeddings())
        self._head_off = pair.off if adapted else contextlib.nullcontext
        self._budget = token_budget or TOKEN_BUDGET.get(device, TOKEN_BUDGET["cuda"])
        self._rows = max(1, CHUNK.get(device, CHUNK["cuda"]) // pair.baseline.n_vocabulary)
        self.n_read = 0

    def label(
        self, blocks: Sequence[Sequence[int]], translations: Sequence[Translation]
    ) -> Iterator[tuple[int, BlockLabels]]:
        """(index, labels) of each block, those of like length together; memory as the module says.

        Raises:
            ModelError: Logits are not finite, or memory runs out on a single block.
        """
        width = [max(len(ids), len(one.token_ids)) for ids, one in zip(blocks, translations, strict=True)]
        order = sorted(range(len(blocks)), key=lambda place: -width[place])
        start = 0
        while start < len(order):
            stop = start + max(1, self._budget // width[order[start]])
            chosen = order[start:stop]
            try:
                found = self._batch([blocks[one] for one in chosen], [translations[one] for one in chosen])
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1 and self._rows == 1:
                    raise ModelError(
                        f"memory runs out on a single block of {width[chosen[0]]:,} tokens; use a smaller --dtype, an "
                        "adapter twin, or shorter blocks."
                    ) from error
                self._budget = max(1, len(chosen) * width[chosen[0]] // 2)
                self._rows = max(1, self._rows // 2)
                release_memory(self._pair.baseline.device)
                continue
            yield from zip(chosen, found, strict=True)
            start = stop

    def _batch(self, blocks: Sequence[Sequence[int]], translations: Sequence[Translation]) -> list[BlockLabels]:
        plan, pair = self._plan, self._pair
        places = _places(blocks, translations)
        n, k = len(places.rows), min(plan.top_k, pair.baseline.n_vocabulary)
        labels = {kappa: np.empty(n, dtype=np.int64) for kappa in plan.kappas}
        log_p = np.empty((2, n), dtype=np.float32)
        soft = {
            kappa: (np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float16))
            for kappa in (plan.kappas if plan.labels == "soft" else ())
        }
        n_read = 0
        with torch.inference_mode():
            translated = [one.token_ids for one in translations]
            with pair.off():
                on_y = self._baseline.hidden_states(_padded(translated, pair.baseline.device))  # (B, T, D)
                on_x = None
                if plan.baseline == "original":
                    on_x = self._baseline.hidden_states(_padded(blocks, pair.baseline.device))
            reinforced = self._reinforced.hidden_states(_padded(blocks, pair.reinforced.device))
            n_read += sum(map(len, translated)) + (1 if on_x is None else 2) * sum(map(len, blocks))
            for start in range(0, n, self._rows):
                part = slice(start, min(n, start + self._rows))
                g, s, r = self._logits(places, part, on_y, on_x, reinforced)
                self._combine(places, part, (g, s, r), labels=labels, log_p=log_p, soft=soft)
        self.n_read += n_read
        return [_of_block(row, len(ids), places, labels, log_p, soft) for row, ids in enumerate(blocks)]

    def _logits(
        self, places: _Places, part: slice, on_y: Tensor, on_x: Tensor | None, reinforced: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """g before rule B, s where it is another, and r, centred, float32 of shape (n, V)."""
        rows, at, to = (torch.from_numpy(column[part]) for column in (places.rows, places.originals, places.translated))
        found = []
        with self._head_off():
            for hidden, place in ((on_y, to), (on_x, at)):
                found.append(None if hidden is None else self._baseline.logits(_taken(hidden, rows, place)))
        g, s = found
        assert g is not None
        r = self._reinforced.logits(_taken(reinforced, rows, at)).to(g.device)
        for name, logits in (("baseline", g), ("reinforced model", r)):
            if not bool(torch.isfinite(logits.sum())):
                raise ModelError(
                    f"the {name} gives logits that are not finite; its weights are broken, or its dtype is too small "
                    "for it. Try --dtype float32 or bfloat16."
                )
        center = self._plan.center
        return centred(g, center), None if s is None else centred(s, center), centred(r, center)

    def _combine(
        self,
        places: _Places,
        part: slice,
        logits: tuple[Tensor, Tensor | None, Tensor],
        *,
        labels: Mapping[float, NDArray[np.int64]],
        log_p: NDArray[np.float32],
        soft: Mapping[float, tuple[NDArray[np.int32], NDArray[np.float16]]],
    ) -> None:
        plan = self._plan
        g, s, r = logits
        targets = torch.from_numpy(places.targets[part]).to(g.device)
        normaliser = g.logsumexp(dim=1)
        original = g.gather(1, targets[:, None])[:, 0] - normaliser
        generic = g.clone() if any(held.stop > part.start and held.first < part.stop for held in places.held) else g
        hold_back(generic, places.held, part)
        moved = _moved(r, generic if s is None else s, relu=plan.relu)
        for kappa in plan.kappas:
            z = torch.sub(generic, moved, alpha=kappa * plan.alpha)
            chosen = z.argmax(dim=1)
            labels[kappa][part] = chosen.cpu().numpy()
            if kappa == plan.kappa:
                label = g.gather(1, chosen[:, None])[:, 0] - normaliser
                log_p[:, part] = torch.stack([original, label]).cpu().numpy()
            if kappa in soft:
                ids, probs = soft[kappa]
                top = z.topk(probs.shape[1], dim=1)
                ids[part] = top.indices.cpu().numpy()
                probs[part] = top.values.softmax(dim=1).cpu().numpy()


def hold_back(logits: Tensor, held: Sequence[_Held], part: slice) -> None:
    """Rule B, in place: in the rows that come after a substitute began, its first tokens get the row's mean.

    Args:
        logits: Rows ``part`` of all labelled places, (n, V).
        held: What is held back where.
        part: Start and stop of the rows.
    """
    mean = logits.mean(dim=1)
    for one in held:
        first, stop = max(one.first, part.start) - part.start, min(one.stop, part.stop) - part.start
        if first < stop:
            logits[first:stop, one.ids] = mean[first:stop, None]


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(B, T), padded on the right with a row's last token, where no real place ever looks."""
    width = max(len(ids) for ids in rows)
    return torch.tensor([[*ids, *[ids[-1]] * (width - len(ids))] for ids in rows], device=device)


def _taken(hidden: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    return hidden[rows.to(hidden.device), places.to(hidden.device)]  # (n, D)


def _of_block(
    row: int,
    n_tokens: int,
    places: _Places,
    labels: Mapping[float, NDArray[np.int64]],
    log_p: NDArray[np.float32],
    soft: Mapping[float, tuple[NDArray[np.int32], NDArray[np.float16]]],
) -> BlockLabels:
    inside = np.flatnonzero(places.rows == row)
    inside = inside[np.argsort(places.originals[inside])]
    at = places.originals[inside] + 1  # the label of x_(i+1)

    def spread(values: NDArray[Any], filler: float) -> NDArray[Any]:
        whole = np.full(n_tokens, filler, dtype=values.dtype)
        whole[at] = values[inside]
        return whole

    return BlockLabels(
        {kappa: spread(values, NO_LABEL) for kappa, values in labels.items()},
        spread(log_p[0], np.nan),
        spread(log_p[1], np.nan),
        {kappa: (ids[inside], probs[inside]) for kappa, (ids, probs) in soft.items()},
    )

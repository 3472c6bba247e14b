r"""Is what was forgotten back in coarser weights? INT8 and INT4 by plain rounding, and NF4.

    symmetric    s = max |w| / (2^(b-1) - 1)                     q = round(w / s)                   w' = s q
    asymmetric   s = (max(w, 0) - min(w, 0)) / (2^b - 1)         q = round(w / s) + z,  z = -round(min(w, 0) / s)
    nf4          s = max |w|                                     q = the nearest of 16 levels       w' = s level(q)

over the weights of one output channel, or of groups of ``group`` along its inputs; rounding is to the nearest, ties to
the even one, so that |w - w'| <= s / 2 in the first two.

A remedy that moves each weight by less than half a step leaves the quantised model where it was (Zhang et al.,
arXiv:2410.16454: 4-bit weights bring back most of what methods with a utility constraint forgot; INT8 hardly any). So
the same measures are taken again of the quantised subject, remedied and gold model.

Departures: this is rounding of weights alone, computed in float32 and multiplied out again. GPTQ and AWQ choose the
rounding by the layers' inputs and lose less; bitsandbytes' INT8 (LLM.int8()) keeps columns of outlying inputs in half
precision and rounds activations too, its NF4 (arXiv:2305.14314) takes blocks of 64 in memory order and also rounds the
scales, which is left out here. Nothing here is faster or smaller: it answers what a deployed 4-bit copy would say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from audit.errors import InputError, ModelError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.progress import Progress, silent
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from ...ranges import check_ranges
from ..measures import Measure
from ..residual import Ingredient, recovered

Scheme: TypeAlias = Literal["symmetric", "asymmetric", "nf4"]
#: Dettmers et al. 2023, arXiv:2305.14314, appendix E, as float32 in bitsandbytes.
NF4_LEVELS: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How weights are rounded.

    Attributes:
        bits: Of a weight, 2 to 8.
        group: Inputs of an output channel that share a scale, >= 1; None for all of them. Where it does not divide
            their number the last group is shorter.
        scheme: See the head of this file; "nf4" has 4 bits.
        head: Whether the output head is rounded too, where it is not tied to the embedding.
    """

    bits: int
    group: int | None = None
    scheme: Scheme = "symmetric"
    head: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "bits": (2 <= self.bits <= 8, "from 2 to 8"),
            "group": (self.group is None or self.group >= 1, "1 or more, or none"),
            "scheme": (self.scheme in get_args(Scheme), ", ".join(get_args(Scheme))),
        }
        check_ranges(self, "quantisation", ranges)
        if self.scheme == "nf4" and self.bits != 4:
            raise InputError(f"quantisation: nf4 has 4 bits and not {self.bits}.")

    @property
    def name(self) -> str:
        """In tables: ``INT4, groups of 64``."""
        kind = "NF4" if self.scheme == "nf4" else f"INT{self.bits}"
        parts = [kind, "per channel" if self.group is None else f"groups of {self.group}"]
        if self.scheme == "asymmetric":
            parts.append("asymmetric")
        if self.head:
            parts.append("with the head")
        return ", ".join(parts)

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


MEASURES: Final = (
    Measure(
        key="quantisation.recovered",
        label="lead over gold with rounded weights, share of the subject's",
        axis="knowledge",
        direction="more is known",
        low=None,
        high=None,
        formula="(m_remedied - m_gold), both rounded, / (m_subject - m_gold), as they are",
        source="ours, after Zhang et al. (arXiv:2410.16454)",
        failure="plain rounding may destroy a model that GPTQ or NF4 would keep: look at what the subject loses",
    ),
)
WHOLE: Final = "whole"  # the model as it is, among what was measured
INT8: Final = Quantisation(8)
INT4: Final = Quantisation(4, group=32)
NF4: Final = Quantisation(4, group=64, scheme="nf4")


@dataclass(frozen=True, slots=True)
class Quantised:
    """What was rounded in a model.

    Attributes:
        plan: How.
        names: The weight matrices that were rounded.
        n_rounded: Weights in them.
        n_weights: Weights of the model.
        error: Root of sum (w - w')^2 / sum w^2 over what was rounded; None where all of it is 0.
        left_out: Name of a weight of two dimensions or more that was left as it is -> why.
    """

    plan: Quantisation
    names: tuple[str, ...]
    n_rounded: int
    n_weights: int
    error: float | None
    left_out: Mapping[str, str]

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def round_weight(weight: Tensor, plan: Quantisation) -> Tensor:
    """A weight matrix after rounding, in its own precision.

    Args:
        weight: Shape (output channels, inputs), of floating point.
        plan: How.

    Raises:
        InputError: It is no matrix of floating-point numbers, or they are not all finite.
    """
    if weight.dim() != 2 or not weight.is_floating_point():
        raise InputError(
            f"a weight of shape {tuple(weight.shape)} and type {weight.dtype} cannot be rounded; expected a matrix of "
            "floating-point numbers. A model that is quantised already has none: load the one that it was made from."
        )
    w = weight.detach().float()
    if not bool(torch.isfinite(w).all()):
        raise InputError("the weight holds numbers that are not finite.")
    n_out, n_in = w.shape
    group = min(plan.group or n_in, n_in)
    padded = functional.pad(w, (0, -n_in % group))  # zeros move neither max |w| nor a range that holds 0
    groups = padded.view(n_out, -1, group)  # (out, groups, group)
    return _rounded(groups, plan).view(n_out, -1)[:, :n_in].to(weight.dtype).contiguous()


def _rounded(w: Tensor, plan: Quantisation) -> Tensor:
    """Rounds (..., group), each group with its own scale; a group of zeros stays so."""
    if plan.scheme == "asymmetric":
        low, high = w.amin(-1, keepdim=True).clamp(max=0), w.amax(-1, keepdim=True).clamp(min=0)
        scale = _or_one((high - low) / (2**plan.bits - 1))
        zero = -torch.round(low / scale)
        return scale * ((torch.round(w / scale) + zero).clamp(0, 2**plan.bits - 1) - zero)
    largest = w.abs().amax(-1, keepdim=True)
    if plan.scheme == "symmetric":
        most = 2 ** (plan.bits - 1) - 1
        scale = _or_one(largest / most)
        return scale * torch.round(w / scale).clamp(-most, most)
    scale = _or_one(largest)
    levels = torch.tensor(NF4_LEVELS, device=w.device)
    return scale * levels[torch.bucketize(w / scale, (levels[1:] + levels[:-1]) / 2)]


def _or_one(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))


@contextlib.contextmanager
def quantised(model: nn.Module, plan: Quantisation) -> Iterator[Quantised]:
    """The model with rounded weights inside the block; after it, also after an error, its own are back to the bit.

    Rounded are the weight matrices of its linear layers (`torch.nn.Linear` and GPT-2's Conv1D, whose weights lie the
    other way round), each once where several layers share it. Left as they are, and told: embeddings and what is tied
    to them, the head unless the plan says otherwise, an adapter's own matrices (as where an adapter is served over a
    quantised model; merge it to round both), and weights of other layers, such as experts that lie in one block of
    three dimensions. No hook and no module is touched, and no folder.

    Args:
        model: Any; its own weights stay in memory beside the rounded ones.
        plan: How weights are rounded.

    Raises:
        ModelError: It has no such layer, is quantised already, or has weights that are not finite.
    """
    chosen, left_out = _matrices(model, plan)
    if not chosen:
        raise ModelError(
            f"{type(model).__name__} has no linear layer whose weights could be rounded, so a quantised audit of it "
            "would be the same audit again."
        )
    own: list[tuple[nn.Parameter, Tensor]] = []
    lost = total = 0.0
    torch.clear_autocast_cache()  # it holds weights in half precision by their parameter, whose values change here
    try:
        for name, (parameter, transposed) in chosen.items():
            before = parameter.data
            matrix = before.t() if transposed else before
            try:
                after = round_weight(matrix, plan)
            except InputError as error:
                raise ModelError(f"{name} of {type(model).__name__}: {error}") from error
            lost += float((matrix.float() - after.float()).square().sum())
            total += float(matrix.float().square().sum())
            own.append((parameter, before))
            parameter.data = after.t().contiguous() if transposed else after
        yield Quantised(
            plan,
            tuple(chosen),
            sum(parameter.numel() for parameter, _ in chosen.values()),
            sum(parameter.numel() for parameter in model.parameters()),
            (lost / total) ** 0.5 if total else None,
            left_out,
        )
    finally:
        for parameter, before in own:
            parameter.data = before
        torch.clear_autocast_cache()


def surviving_update(subject: nn.Module, remedied: nn.Module, plan: Quantisation) -> dict[str, float]:
    """How much of a remedy's change of the weights is left after rounding.

    Args:
        subject: Before the remedy.
        remedied: After it, of the same shapes.
        plan: How both are rounded.

    Returns:
        "changed": share of the matrices' weights that the remedy changed; "changed after rounding": that differ when
        both models are rounded; "norm kept": length of the difference between the rounded models in that of the
        difference between the models themselves, 0 where the rounded ones are the same, near 1 where rounding only adds
        noise, above it where it pushes weights a whole step. Without "norm kept" where nothing was changed.

    Raises:
        ModelError: The two have different layers or shapes.
    """
    first, second = _matrices(subject, plan)[0], _matrices(remedied, plan)[0]
    if {name: one[0].shape for name, one in first.items()} != {name: one[0].shape for name, one in second.items()}:
        raise ModelError("the two models differ in their layers, so the change between them cannot be followed.")
    n = moved = moved_after = 0
    length = length_after = 0.0
    for name, (one, transposed) in first.items():
        pair = [weight.data.t() if transposed else weight.data for weight in (one, second[name][0])]
        before = pair[0].float() - pair[1].float().to(pair[0].device)
        after = round_weight(pair[0], plan).float() - round_weight(pair[1], plan).float().to(pair[0].device)
        n += before.numel()
        moved, moved_after = moved + int((before != 0).sum()), moved_after + int((after != 0).sum())
        length += float(before.square().sum())
        length_after += float(after.square().sum())
    told = {"changed": moved / n, "changed after rounding": moved_after / n}
    return told | ({"norm kept": (length_after / length) ** 0.5} if length else {})


def _matrices(model: nn.Module, plan: Quantisation) -> tuple[dict[str, tuple[nn.Parameter, bool]], dict[str, str]]:
    """Name -> weight and whether it lies as (inputs, outputs), of what is rounded; name -> why, of what is not."""
    getters = [getattr(model, name, lambda: None) for name in ("get_input_embeddings", "get_output_embeddings")]
    embedding, head = (getattr(get(), "weight", None) for get in getters)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)} | {id(embedding)}
    adapters = _adapter_weights(model)
    linear = {
        id(module.weight): isinstance(module, Conv1D)
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    chosen: dict[str, tuple[nn.Parameter, bool]] = {}
    left_out: dict[str, str] = {}
    for name, parameter in model.named_parameters():  # a shared one comes once
        key = id(parameter)
        if key in linear and key not in embeddings | adapters and (plan.head or parameter is not head):
            chosen[name] = parameter, linear[key]
        elif parameter.dim() >= 2:
            left_out[name] = (
                "an embedding, or tied to one" if key in embeddings else
                "the output head" if parameter is head else
                "an adapter's own" if key in adapters else
                "not the weight of a linear layer"
            )  # fmt: skip
    return chosen, left_out


def _adapter_weights(model: nn.Module) -> set[int]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            base = {id(one) for one in layer.get_base_layer().parameters()}
            found |= {id(one) for one in layer.parameters()} - base
    return found


def measure_quantised(
    lm: LanguageModel,
    plans: Sequence[Quantisation],
    measure: Callable[[LanguageModel], Measured],
    *,
    progress: Progress = silent,
) -> dict[str, Measured]:
    """A measure of one model as it is (under `WHOLE`) and under each rounding (under the plan's name).

    Args:
        lm: The model.
        plans: How it is rounded, one after the other; different ones.
        measure: Of a model; it must not keep anything of the weights from one call to the next.
        progress: Called after each measurement.

    Raises:
        InputError: Two plans are the same.
        ModelError: As `quantised`, or from ``measure``.
    """
    names = [plan.name for plan in plans]
    if len(set(names)) < len(names):
        raise InputError(f"the roundings are {quoted(names, limit=200)}; expected each once.")
    stage = f"rounded weights of {quoted(lm.subject.model)}"
    found = {WHOLE: measure(lm)}
    for done, plan in enumerate(plans, start=1):
        progress(stage, done, len(plans) + 1)
        with quantised(lm.model, plan):
            found[plan.name] = measure(lm)
    progress(stage, len(plans) + 1, len(plans) + 1)
    return found


def ingredients(
    subject: Mapping[str, Measured],
    remedied: Mapping[str, Measured],
    gold: Mapping[str, Measured],
    *,
    falls: bool = False,
    rng: int,
) -> list[Ingredient]:
    """What each rounding recovers, for a verdict: (remedied - gold), both rounded, by (subject - gold) as they are.

    Worked: subject .9, gold .1 as they are; under INT4 remedied .6, gold .2: (.6 - .2) / .8 = .5.

    Args:
        subject: From `measure_quantised`, before the remedy.
        remedied: After it.
        gold: Of the model that never saw the text.
        falls: A smaller value says that more is known, as a loss does.
        rng: Seed.

    Raises:
        InputError: The three were not measured under the same roundings.
    """
    _check_alike(subject, remedied, gold)

    def made(name: str) -> Ingredient:
        def at(level: float) -> Estimate:
            return recovered(subject[WHOLE], gold[WHOLE], remedied[name], gold[name], falls=falls, rng=rng, level=level)

        key = "_".join(re.findall(r"[a-z0-9.]+", name.lower()))
        return Ingredient(f"quantisation.{key}", f"{subject[WHOLE].name}, {name}", "quantisation", at)

    return [made(name) for name in subject if name != WHOLE]


def _check_alike(
    subject: Mapping[str, Measured], remedied: Mapping[str, Measured], gold: Mapping[str, Measured]
) -> None:
    if not subject.keys() == remedied.keys() == gold.keys() or WHOLE not in subject:
        raise InputError(
            f"the models were measured under {quoted([*subject], limit=200)}, {quoted([*remedied], limit=200)} and "
            f"{quoted([*gold], limit=200)}; expected the same roundings, and {WHOLE!r}, of all three."
        )

"""Watch or patch a model's modules; the only place where a forward hook is registered.

Both context managers remove exactly the hooks that they added, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.utils import ModelOutput

from ..errors import InputError
from ..text.safe import did_you_mean


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        hint = did_you_mean(name, (known for known, _ in model.named_modules()))
        raise InputError(f"{type(model).__name__} has no module {name!r}.{hint}") from None


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Record the output of the named modules at every forward pass inside the block.

    Args:
        model: Any module.
        names: Dotted names as in ``model.named_modules()``.

    Yields:
        Name -> one detached tensor for each call, in call order. Of a tuple or of transformers' named outputs,
        the first element is kept.

    Raises:
        InputError: A name is not in the model, or a module gives no tensor; no hook is then left behind.
    """
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name].append(_first(name, output).detach())

        return hook

    modules = {name: _submodule(model, name) for name in outputs}
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(hooked(module, keep(name)))
        yield outputs


@contextmanager
def patched(model: nn.Module, patches: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[dict[str, int]]:
    """Replace the output of the named modules inside the block.

    Args:
        model: Any module.
        patches: Name -> function from the module's output to what stands in its place. It must not change
            its input in place. Of a tuple or of transformers' named outputs, the first element is replaced.

    Yields:
        Name -> number of calls so far, so that a caller can tell that a patch really took effect.

    Raises:
        InputError: A name is not in the model, or a module gives no tensor; no hook is then left behind.
    """
    calls = dict.fromkeys(patches, 0)

    def replace(name: str, patch: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            calls[name] += 1
            patched_tensor = patch(_first(name, output))
            if isinstance(output, tuple):
                return (patched_tensor, *output[1:])
            if isinstance(output, ModelOutput):
                return type(output)(**{**output, next(iter(output)): patched_tensor})
            return patched_tensor

        return hook

    modules = {name: _submodule(model, name) for name in patches}
    with ExitStack() as stack:
        for name, patch in patches.items():
            stack.enter_context(hooked(modules[name], replace(name, patch)))
        yield calls


def _first(name: str, output: Any) -> Tensor:
    """A module's output tensor, or the first of several."""
    tensor = output[0] if isinstance(output, tuple | ModelOutput) else output
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"module {name!r} gives {type(tensor).__name__}, not a tensor; name a module inside it, such as a layer."
        )
    return tensor


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Calls ``hook(module, inputs, output)`` after each forward pass of ``module`` inside the block, as torch does."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def pre_hooked(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Calls ``hook(module, args, named)``, which changes nothing, before each forward pass inside the block."""
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()

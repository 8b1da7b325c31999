"""What a network does to an image of a given size, operation by operation, computing nothing.

The network runs on abstract tensors, which have a shape and no values. Whatever it does in the
end is one of torch's primitive operations (aten), so that every module is traced alike, ours,
MONAI's or anybody's, skips and functional calls included. A network that asks for values, such as
by `if x.mean() > 0`, has to run on noise instead.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from medseg.analysis.vocabulary import POOLS, UNPOOLINGS
from medseg.errors import ConfigError

_SEED = 0  # of the noise
_POOLING = ("kernel_size", "stride", "padding", "dilation")
WRITE_THROUGH_VIEW = "write through a view"
"""The step of a tensor that is read after others on the same memory were overwritten."""
_END = ContextVar("end of the time allowed, by the monotonic clock", default=float("inf"))


@dataclass(frozen=True)
class Value:
    """One tensor of a trace.

    Args:
        index: Its number; equal numbers are the same values.
        shape: Of the tensor.
        bytes: That it occupies.
        is_weight: Whether it is a parameter or buffer of the network.
    """

    index: int
    shape: tuple[int, ...]
    bytes: int
    is_weight: bool


@dataclass(frozen=True)
class Step:
    """One primitive operation.

    Args:
        operator: Its name in aten without namespace: `convolution`.
        layer: Path of the module that asked for it; empty for the network itself.
        arguments: Name → argument, tensors replaced by values; of max-unpooling also `pooling`,
            the options of the pooling that found the places, None if it is not known.
        outputs: What it made.
    """

    operator: str
    layer: str
    arguments: dict[str, Any]
    outputs: tuple[Value, ...]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """All tensors that it reads."""
        return tuple(leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Value))


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Args:
        layer: The module's path.
        module: The module.
        inputs: Tensors that it was given.
        outputs: Tensors that it gave back.
        last: Number of steps that were done when it returned.
    """

    layer: str
    module: nn.Module
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    last: int


@dataclass(frozen=True)
class Trace:
    """All that a network did.

    Args:
        image: Its input.
        logits: Its first output.
        steps: Operations in their order.
        calls: Calls of its modules, in the order in which they returned.
    """

    image: Value
    logits: Value
    steps: tuple[Step, ...]
    calls: tuple[Call, ...]


def trace(
    network: nn.Module, in_channels: int, size: Sequence[int], *, on_noise: bool = False
) -> Trace:
    """Follows an image `(1, in_channels, *size)` through a network in evaluation mode.

    The network is left as it was.

    Args:
        network: Image → logits.
        in_channels: Channels of the image.
        size: Of the image in voxels.
        on_noise: Run the network itself on an image of noise, computing everything.

    Raises:
        ConfigError: the network does not accept the image; the message names the layer.
        TimeoutError: see `time_limit`.
    """
    own = network if on_noise or _is_abstract(network) else abstracted(network)
    recorder = _Recorder(own)
    image = _noise(own, in_channels, size) if on_noise else _shape(in_channels, size)
    shown = recorder.value(image)
    try:
        with evaluating(own), torch.no_grad(), recorder.watching_layers(), recorder:
            result = own(image)
    except TimeoutError:
        raise
    except Exception as error:  # whatever a foreign module raises at a size that it cannot use
        raise ConfigError(
            f"size={list(size)} with {in_channels} channels does not pass "
            f"{_place(recorder, network)}: {first_line(error)}"
        ) from error
    outputs = _tensors(result)
    if not outputs:
        raise ConfigError(f"{type(network).__name__} returned no tensor; its output is {result!r}")
    return Trace(shown, recorder.value(outputs[0]), tuple(recorder.steps), tuple(recorder.calls))


def _shape(in_channels: int, size: Sequence[int]) -> Tensor:
    return torch.empty((1, in_channels, *size), device="meta")


def _noise(network: nn.Module, in_channels: int, size: Sequence[int]) -> Tensor:
    some = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn((1, in_channels, *size), generator=generator).to(some)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Sets a network to evaluation, and gives its modes and buffers back afterwards."""
    modes = {module: module.training for module in network.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)


def first_line(error: BaseException) -> str:
    """Of what an error says; its class if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def abstracted(network: nn.Module) -> nn.Module:
    """A copy of a network whose tensors have no values and take no memory."""
    memo: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copied(network, memo)


def copied(network: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of a network with other tensors in place of its own.

    Raises:
        ConfigError: it holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(network, memo)
    except (TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{type(network).__name__} cannot be copied ({error}); "
            "keep files, locks and results of calculations out of its attributes"
        ) from error


def hookable(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules that say when they are called; those of TorchScript do not."""
    every = network.named_modules()
    return [(name, m) for name, m in every if not isinstance(m, torch.jit.ScriptModule)]


def _is_abstract(network: nn.Module) -> bool:
    return all(t.is_meta for t in (*network.parameters(), *network.buffers()))


def _sampled(image: Tensor, places: Tensor, *_: Any) -> Tensor:
    return image.new_empty((*image.shape[:2], *places.shape[1:-1]))


def _resized(image: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return image.new_empty((*image.shape[:2], *size))


def _batch_normalised(image: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(image), *(image.new_empty(image.shape[1]) for _ in range(2))


def _group_normalised(image: Tensor, *options: Any) -> tuple[Tensor, ...]:
    groups = options[5]
    return torch.empty_like(image), *(image.new_empty(len(image), groups) for _ in range(2))


def _like(image: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(image)


_aten = torch.ops.aten
_SHAPES: dict[Any, Callable[..., Any]] = {
    _aten.grid_sampler_2d.default: _sampled,
    _aten.grid_sampler_3d.default: _sampled,
    _aten.upsample_bilinear2d.default: _resized,
    _aten.upsample_trilinear3d.default: _resized,
    _aten.native_batch_norm.default: _batch_normalised,
    _aten.native_group_norm.default: _group_normalised,
    _aten.leaky_relu_.default: lambda image, *_: image,
    _aten.relu.default: _like,
    _aten.gelu.default: _like,
    _aten._prelu_kernel.default: _like,
}
"""What operations return whose shape torch takes some hundred operations to find."""


class _Recorder(TorchDispatchMode):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.steps: list[Step] = []
        self.calls: list[Call] = []
        self.path: list[str] = []
        self._indices = WeakIdKeyDictionary()  # tensor → number; no memory is held by it
        self._written: dict[int, list[Value]] = {}  # memory → values that overwrote it
        self._pools: dict[int, dict[str, Any]] = {}  # places of maxima → how they were pooled
        self._numbers = count(1)
        self._weights = {id(t) for t in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        check_time()
        given = self._named(func, args, kwargs or {})
        is_abstract = func in _SHAPES and args[0].is_meta and not kwargs
        result = _SHAPES[func](*args) if is_abstract else func(*args, **(kwargs or {}))
        outputs = tuple(self._fresh(tensor) for tensor in _tensors(result))
        name = func.overloadpacket.__name__
        if name in POOLS and len(outputs) == 2:
            self._pools[outputs[1].index] = {option: given[option] for option in _POOLING}
        if name in UNPOOLINGS:
            given["pooling"] = self._pools.get(given["indices"].index)
        self.steps.append(Step(name, self._layer, given, outputs))
        if func._schema.is_mutable:
            for tensor, value in zip(_tensors(result), outputs, strict=True):
                self._written.setdefault(_memory(tensor), []).append(value)
        return result

    @property
    def _layer(self) -> str:
        return self.path[-1] if self.path else ""

    def value(self, tensor: Tensor) -> Value:
        """The value that a tensor now holds."""
        if tensor not in self._indices:
            return self._fresh(tensor)
        number = self._indices[tensor]
        written = self._written.get(_memory(tensor), [])
        if views := tuple(other for other in written if other.index > number):
            given = {"self": self._described(tensor), "views": views}
            self.steps.append(Step(WRITE_THROUGH_VIEW, self._layer, given, (self._fresh(tensor),)))
        return self._described(tensor)

    @contextmanager
    def watching_layers(self) -> Iterator[None]:
        """Notes which module is at work."""
        hooks = []
        for name, module in hookable(self.network):
            hooks.append(module.register_forward_pre_hook(self._entering(name)))
            hooks.append(module.register_forward_hook(self._leaving(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _entering(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            self.path.append(name)

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.path.pop()
            given = tuple(self.value(tensor) for tensor in _tensors(inputs))
            made = tuple(self.value(tensor) for tensor in _tensors(output))
            self.calls.append(Call(name, module, given, made, len(self.steps)))

        return hook

    def _named(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        named = {}
        for position, argument in enumerate(func._schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            given = args[position] if position < len(args) else kwargs.get(argument.name, default)
            named[argument.name] = self._replaced(given)
        return named

    def _replaced(self, argument: Any) -> Any:
        match argument:
            case Tensor():
                return self.value(argument)
            case list() | tuple():
                return tuple(self._replaced(item) for item in argument)
            case _:
                return argument

    def _fresh(self, tensor: Tensor) -> Value:
        """A new number, also for a tensor that an operation has overwritten."""
        self._indices[tensor] = next(self._numbers)
        return self._described(tensor)

    def _described(self, tensor: Tensor) -> Value:
        size = tensor.numel() * tensor.element_size()
        is_weight = id(tensor) in self._weights
        return Value(self._indices[tensor], tuple(tensor.shape), size, is_weight)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _place(recorder: _Recorder, network: nn.Module) -> str:
    """The innermost module at work, as `layer (Class)`."""
    path = recorder.path[-1] if recorder.path else ""
    if not path:
        return type(network).__name__
    return f"{path} ({type(network.get_submodule(path)).__name__}) of {type(network).__name__}"


def _tensors(items: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(items) if isinstance(leaf, Tensor)]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Lets what is called inside take this long, and no longer than a limit around it allows."""
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def check_time() -> None:
    """Does nothing while there is time.

    Raises:
        TimeoutError: there is none left.
    """
    if time.monotonic() > _END.get():
        raise TimeoutError("the time allowed is over")

"""What is timed: blocks and networks, ready to be called at each precision and memory layout."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.analysis.cost import count_parameters
from medseg.analysis.timing import Call

FORWARD = "forward"
STEP = "forward+backward"
"""The work by which candidates are compared."""

CONTIGUOUS = "contiguous"
CHANNELS_LAST = "channels last"
BOTH_LAYOUTS = (CONTIGUOUS, CHANNELS_LAST)

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_TINY_CHANNELS, _TINY_SIDE = 16, 8


@dataclass(frozen=True)
class Problem:
    """An input of a block: `batch` items of `channels` on a grid of `size` voxels."""

    channels: int
    size: tuple[int, ...]
    batch: int

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.size)

    @property
    def voxels(self) -> int:
        """Number of voxels of one item."""
        return math.prod(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(batch, channels, *size)`."""
        return (self.batch, self.channels, *self.size)

    @property
    def label(self) -> str:
        """The problem as the tables name it."""
        sides = "×".join(map(str, self.size))
        return f"{self.dims}-D, {self.channels} ch, {sides}, batch {self.batch}"


VOLUMES = tuple(
    Problem(channels, (side,) * 3, batch)
    for channels, side, batch in ((32, 48, 2), (64, 32, 2), (128, 16, 2), (32, 96, 1))
)
PLANES = (Problem(64, (128, 128), 4), Problem(16, (128, 128), 8))
MIDDLE = (Problem(64, (32, 32, 32), 2), Problem(64, (128, 128), 4))
"""The size of each dimension at which all options of a slot are measured."""


def chosen(problems: Iterable[Problem], dims: Iterable[int], *, quick: bool) -> list[Problem]:
    """The problems of these dimensions; one tiny problem for each of them if quick."""
    kept = [p for p in problems if p.dims in tuple(dims)]
    if quick:
        kept = [Problem(_TINY_CHANNELS, (_TINY_SIDE,) * p.dims, 1) for p in kept]
    return list(dict.fromkeys(kept))


@dataclass(frozen=True)
class Setting:
    """Where and how a candidate is called."""

    device: torch.device
    precision: str
    layout: str

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor on the device in this memory layout."""
        tensor = tensor.to(self.device)
        if self.layout == CONTIGUOUS:
            return tensor.contiguous()
        return tensor.contiguous(memory_format=_LAST[tensor.ndim])

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the precision."""
        return _DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager:
        """Autocast to the precision, as in training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row of a table before it is measured.

    Args:
        name: What the table calls it.
        calls: Setting → work → call.
        batch: Items in the input.
        layouts: The memory layouts that are measured.
        macs: Multiply-accumulates of one item's forward pass.
        parameters: Trainable parameters.
    """

    name: str
    calls: Callable[[Setting], dict[str, Call]]
    batch: int
    layouts: tuple[str, ...]
    macs: int | None = None
    parameters: int | None = None


def forward(module: Callable[..., Tensor], inputs: Sequence[Tensor], setting: Setting) -> Call:
    """One forward pass without gradients, as in prediction."""

    def call() -> None:
        with torch.no_grad(), setting.autocast():
            module(*inputs)

    return call


class Step:
    """One forward and backward pass; gradients are computed and thrown away."""

    def __init__(
        self,
        module: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        leaves: Sequence[Tensor],
        setting: Setting,
    ):
        self.module, self.inputs, self.leaves, self.setting = module, inputs, leaves, setting
        self.gradient: Tensor | None = None

    def __call__(self) -> None:
        """Computes both passes."""
        with self.setting.autocast():
            output = self.module(*self.inputs)
        if self.gradient is None:
            self.gradient = torch.randn_like(output)
        torch.autograd.grad(output, self.leaves, self.gradient, allow_unused=True)


class BackwardOnly:
    """The gradient by one leaf of an output that is computed once."""

    def __init__(self, module: Callable[[], Tensor], leaf: Tensor):
        self.module, self.leaf = module, leaf
        self.output: Tensor | None = None
        self.gradient: Tensor | None = None

    def __call__(self) -> None:
        """Computes the backward pass; the first time the forward pass before it."""
        if self.output is None:
            self.output = self.module()
            self.gradient = torch.randn_like(self.output)
        torch.autograd.grad(self.output, self.leaf, self.gradient, retain_graph=True)


def module_candidate(
    name: str,
    module: nn.Module,
    shapes: Sequence[Sequence[int]],
    *,
    layouts: tuple[str, ...],
    macs: int | None = None,
) -> Candidate:
    """A block: forward, and forward+backward by its inputs and parameters.

    Args:
        name: What the table calls it.
        module: Tensors of `shapes` → tensor.
        shapes: Of its inputs.
        layouts: The memory layouts that are measured.
        macs: Multiply-accumulates of one item's forward pass.
    """

    def calls(setting: Setting) -> dict[str, Call]:
        own = module.to(setting.device).train()
        # inside a network under autocast a block is handed what the one before computed in
        inputs = [
            setting.laid_out(torch.randn(*shape, dtype=setting.dtype)).requires_grad_()
            for shape in shapes
        ]
        return {
            FORWARD: forward(copy.deepcopy(own).eval(), inputs, setting),
            STEP: Step(own, inputs, [*inputs, *own.parameters()], setting),
        }

    return Candidate(
        name=name,
        calls=calls,
        batch=shapes[0][0],
        layouts=layouts,
        macs=macs,
        parameters=count_parameters(module),
    )


def network_candidate(
    name: str, network: nn.Module, shape: Sequence[int], *, macs: int
) -> Candidate:
    """A network: forward, and the training step of the mean of its squared logits."""

    def calls(setting: Setting) -> dict[str, Call]:
        own = network.to(setting.device).train()
        image = setting.laid_out(torch.randn(*shape))

        def loss(image: Tensor) -> Tensor:
            return own(image).float().square().mean()

        return {
            FORWARD: forward(copy.deepcopy(own).eval(), [image], setting),
            STEP: Step(loss, [image], list(own.parameters()), setting),
        }

    return Candidate(
        name=name,
        calls=calls,
        batch=shape[0],
        layouts=(CONTIGUOUS,),  # ours lay their image out themselves
        macs=macs,
        parameters=count_parameters(network),
    )


def layout_in_use(device: torch.device) -> tuple[str, ...]:
    """The memory layout that blocks of this package have inside its networks."""
    return (CHANNELS_LAST,) if device.type == "cpu" else (CONTIGUOUS,)

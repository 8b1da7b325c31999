"""Candidates: what is timed, ready to be called at each precision and memory layout."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.analysis.cost import count_parameters
from medseg.analysis.timing import Call
from medseg.analysis.timing_results import STEP

FORWARD = "forward"
CONTIGUOUS = "contiguous"
CHANNELS_LAST = "channels last"
BOTH_LAYOUTS = (CONTIGUOUS, CHANNELS_LAST)

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Setting:
    """Where and how a candidate is called."""

    device: torch.device
    precision: str
    layout: str

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor on the device in this layout."""
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


class Step:
    """One forward+backward pass; gradients are computed and thrown away."""

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
    """The gradient by some leaves of an output that is computed once."""

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


class Forward:
    """One forward pass without gradients, as in prediction."""

    def __init__(self, module: Callable[..., Tensor], inputs: Sequence[Tensor], setting: Setting):
        self.module, self.inputs, self.setting = module, inputs, setting

    def __call__(self) -> None:
        """Computes the pass."""
        with torch.no_grad(), self.setting.autocast():
            self.module(*self.inputs)


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
            FORWARD: Forward(copy.deepcopy(own).eval(), inputs, setting),
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
            FORWARD: Forward(copy.deepcopy(own).eval(), [image], setting),
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
    """The layout that this package's blocks have inside its networks."""
    return (CHANNELS_LAST,) if device.type == "cpu" else (CONTIGUOUS,)

"""Blocks beside their reference: torch's, MONAI's, or the standard option of their slot."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.candidates import (
    BOTH_LAYOUTS,
    CONTIGUOUS,
    FORWARD,
    MIDDLE,
    PLANES,
    STEP,
    VOLUMES,
    BackwardOnly,
    Candidate,
    Problem,
    Setting,
    Step,
    chosen,
    forward,
    layout_in_use,
    module_candidate,
)
from benchmarks.measure import Bench, Case
from medseg.analysis.cost import count_macs
from medseg.analysis.timing import Call
from medseg.blocks import activation, conv, norm, unit
from medseg.layers.fast_conv import Conv3d, Geometry, fast_conv
from medseg.layers.resampling import MaxUnpool
from medseg.models.description import build

INPUT_GRADIENT = "input gradient"
WEIGHT_GRADIENT = "weight gradient"

_SLOPE = 0.01
_DEPTHWISE = (*((problem, 3) for problem in VOLUMES), (VOLUMES[1], 5), (PLANES[0], 7))
_SINGLE = (Problem(8, (32, 40, 32), 1), Problem(32, (20, 28, 20), 1), Problem(128, (12,) * 3, 1))
_CONV = {2: functional.conv2d, 3: functional.conv3d}
_CONV_MODULE: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

_SCALE = 2  # of a downsampling or upsampling

Fill = Callable[[str, Any, Problem, tuple[str, ...]], Candidate]
"""Option, its block, problem and layouts → the candidate."""

Depthwise = Callable[[Tensor, Tensor], Tensor]


def depthwise_cases(bench: Bench, dims: Iterable[int]) -> list[Case]:
    """Depthwise convolution, its two gradients each by itself: torch's own and ours."""
    dims = tuple(dims)
    kept = [
        (problem, kernel)
        for wanted, kernel in _DEPTHWISE
        for problem in chosen([wanted], dims, quick=bench.quick)
    ]
    return [_depthwise_case(bench, problem, kernel) for problem, kernel in dict.fromkeys(kept)]


def _depthwise_case(bench: Bench, problem: Problem, kernel: int) -> Case:
    padding = (kernel // 2,) * problem.dims
    ones = (1,) * problem.dims
    geometry = Geometry(ones, padding, ones, problem.channels)

    def native(x: Tensor, weight: Tensor) -> Tensor:
        return _CONV[problem.dims](x, weight, None, 1, padding, 1, problem.channels)

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return fast_conv(x, weight, geometry)

    weight_shape = (problem.channels, 1, *(kernel,) * problem.dims)
    candidates = [
        Candidate(
            name=name,
            calls=_depthwise_calls(operator, problem.shape, weight_shape),
            batch=problem.batch,
            layouts=layouts,
            macs=problem.channels * kernel**problem.dims * problem.voxels,
            parameters=problem.channels * kernel**problem.dims,
        )
        for name, operator, layouts in (
            ("torch", native, BOTH_LAYOUTS),
            ("medseg", ours, layout_in_use(bench.device)),
        )
    ]
    return bench.case(f"{problem.label}, kernel {kernel}", candidates, reference="torch")


def _depthwise_calls(
    operator: Depthwise, shape: tuple[int, ...], weight_shape: tuple[int, ...]
) -> Callable[[Setting], dict[str, Call]]:
    def calls(setting: Setting) -> dict[str, Call]:
        image = setting.laid_out(torch.randn(*shape, dtype=setting.dtype))
        weight = torch.randn(*weight_shape, dtype=setting.dtype, device=setting.device)
        x, w = image.detach().requires_grad_(), weight.detach().requires_grad_()
        return {
            FORWARD: forward(operator, [image, weight], setting),
            INPUT_GRADIENT: BackwardOnly(lambda: operator(x, weight), x),
            WEIGHT_GRADIENT: BackwardOnly(lambda: operator(image, w), w),
            STEP: Step(operator, [x, w], [x, w], setting),
        }

    return calls


def single_cases(bench: Bench, dims: Iterable[int]) -> list[Case]:
    """The convolution of one small volume, as windows of a prediction are: torch's own and ours."""
    return [_single_case(bench, p) for p in chosen(_SINGLE, dims, quick=bench.quick)]


def _single_case(bench: Bench, problem: Problem) -> Case:
    channels = problem.channels
    kinds: tuple[tuple[str, type[nn.Conv3d]], ...] = (("torch", nn.Conv3d), ("medseg", Conv3d))
    candidates = [
        module_candidate(
            name,
            (module := kind(channels, channels, 3, padding=1, bias=False)),
            [problem.shape],
            layouts=BOTH_LAYOUTS,
            macs=count_macs(module, channels, problem.size),
        )
        for name, kind in kinds
    ]
    return bench.case(problem.label, candidates, reference="torch")


def separable_cases(bench: Bench, dims: Iterable[int]) -> list[Case]:
    """The standard convolution against two that are depthwise, then pointwise."""
    problems = chosen([*VOLUMES, *PLANES], dims, quick=bench.quick)
    return [_separable_case(bench, problem) for problem in problems]


def _separable_case(bench: Bench, problem: Problem) -> Case:
    channels = problem.channels
    native = _CONV_MODULE[problem.dims]
    separable = nn.Sequential(
        native(channels, channels, 3, padding=1, groups=channels, bias=False),
        native(channels, channels, 1, bias=False),
    )
    modules = (
        ("standard", conv.Standard()(problem.dims, channels, channels), BOTH_LAYOUTS),
        ("depthwise + pointwise, torch", separable, BOTH_LAYOUTS),
        (
            "depthwise_separable, medseg",
            conv.DepthwiseSeparable()(problem.dims, channels, channels),
            layout_in_use(bench.device),
        ),
    )
    candidates = [
        module_candidate(
            name,
            module,
            [problem.shape],
            layouts=layouts,
            macs=count_macs(module, channels, problem.size),
        )
        for name, module, layouts in modules
    ]
    return bench.case(problem.label, candidates, reference="standard")


def norm_cases(bench: Bench, dims: Iterable[int]) -> list[Case]:
    """Instance norm and activation, torch's and ours; the standard block, MONAI's and ours."""
    problems = chosen([*VOLUMES, *PLANES], dims, quick=bench.quick)
    norms = [_norm_case(bench, problem) for problem in problems]
    return norms + [_block_case(bench, problem) for problem in problems]


def _norm_case(bench: Bench, problem: Problem) -> Case:
    channels, leaky = problem.channels, activation.LeakyReLU(negative_slope=_SLOPE)
    native = _INSTANCE_NORM[problem.dims](channels, affine=True)
    ours = norm.Instance()(problem.dims, channels)
    candidates = [
        module_candidate(name, nn.Sequential(layer, leaky()), [problem.shape], layouts=layouts)
        for name, layer, layouts in (
            ("torch", native, BOTH_LAYOUTS),
            ("medseg", ours, layout_in_use(bench.device)),
        )
    ]
    return bench.case(f"norm + activation: {problem.label}", candidates, reference="torch")


def _block_case(bench: Bench, problem: Problem) -> Case:
    channels = problem.channels
    theirs = Convolution(
        problem.dims,
        channels,
        channels,
        act=("LEAKYRELU", {"negative_slope": _SLOPE, "inplace": True}),
        norm=("INSTANCE", {"affine": True}),
        bias=False,
    )
    slots = unit.Plain(activation=activation.LeakyReLU(negative_slope=_SLOPE))
    ours = slots(problem.dims, channels, channels, conv.Standard())
    candidates = [
        module_candidate(
            name,
            module,
            [problem.shape],
            layouts=layouts,
            macs=count_macs(module, channels, problem.size),
        )
        for name, module, layouts in (
            ("MONAI Convolution", theirs, (CONTIGUOUS,)),
            ("medseg unit.Plain", ours, layout_in_use(bench.device)),
        )
    ]
    label = f"convolution + norm + activation: {problem.label}"
    return bench.case(label, candidates, reference="MONAI Convolution")


def slot_cases(
    bench: Bench, slug: str, options: Mapping[str, Any], dims: Iterable[int]
) -> list[Case]:
    """All options of a slot against its standard one, one case per dimension.

    Args:
        bench: How they are measured.
        slug: `convolutions`, `units`, `downsamplings` or `upsamplings`.
        options: Option → its description (see `medseg.models.description`).
        dims: Spatial dimensions.
    """
    fill, reference = _SLOTS[slug]
    layouts = layout_in_use(bench.device)
    return [
        bench.case(
            problem.label,
            [fill(name, build(text), problem, layouts) for name, text in options.items()],
            reference=reference,
        )
        for problem in chosen(MIDDLE, dims, quick=bench.quick)
    ]


def _convolution(name: str, block, problem: Problem, layouts: tuple[str, ...]) -> Candidate:
    return _candidate(
        name, block(problem.dims, problem.channels, problem.channels), problem, layouts
    )


def _unit(name: str, block, problem: Problem, layouts: tuple[str, ...]) -> Candidate:
    module = block(problem.dims, problem.channels, problem.channels, conv.Standard())
    return _candidate(name, module, problem, layouts)


def _downsampling(name: str, block, problem: Problem, layouts: tuple[str, ...]) -> Candidate:
    return _candidate(name, block(problem.dims, problem.channels, _SCALE), problem, layouts)


def _candidate(
    name: str, module: nn.Module, problem: Problem, layouts: tuple[str, ...]
) -> Candidate:
    macs = count_macs(module, problem.channels, problem.size)
    return module_candidate(name, module, [problem.shape], layouts=layouts, macs=macs)


def _upsampling(name: str, block, problem: Problem, layouts: tuple[str, ...]) -> Candidate:
    """To the problem's grid, from twice the voxel's side; the channels are halved."""
    out_channels = problem.channels // 2
    module = block(problem.dims, problem.channels, out_channels, _SCALE)
    coarse = tuple(side // _SCALE for side in problem.size)
    shapes = [(problem.batch, problem.channels, *coarse)]
    counted = module
    if isinstance(module, MaxUnpool):
        shapes.append((problem.batch, out_channels, *problem.size))
        counted = _WithSkip(module, out_channels, problem.size)
    macs = count_macs(counted, problem.channels, coarse)
    return module_candidate(name, module, shapes, layouts=layouts, macs=macs)


class _WithSkip(nn.Module):
    """An unpooling that makes its skip, so that it can be counted like the others."""

    def __init__(self, unpool: nn.Module, channels: int, size: Sequence[int]):
        super().__init__()
        self.unpool, self.channels, self.size = unpool, channels, tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.unpool(x, x.new_empty(len(x), self.channels, *self.size))


_SLOTS: dict[str, tuple[Fill, str]] = {
    "convolutions": (_convolution, "standard"),
    "units": (_unit, "plain"),
    "downsamplings": (_downsampling, "strided"),
    "upsamplings": (_upsampling, "transposed"),
}

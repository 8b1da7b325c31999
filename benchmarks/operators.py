"""The operators that this package computes by itself, beside torch's own."""

from collections.abc import Callable, Iterable

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure import Bench
from benchmarks.sizes import PLANES, VOLUMES, Problem, chosen
from medseg.analysis.cost import count_macs
from medseg.analysis.timing import Call
from medseg.analysis.timing_results import STEP, Case
from medseg.analysis.workloads import (
    BOTH_LAYOUTS,
    CONTIGUOUS,
    FORWARD,
    BackwardOnly,
    Candidate,
    Forward,
    Setting,
    Step,
    layout_in_use,
    module_candidate,
)
from medseg.blocks import activation, conv, norm, unit
from medseg.layers.fast_conv import Geometry, fast_conv

INPUT_GRADIENT = "input gradient"
WEIGHT_GRADIENT = "weight gradient"

_SLOPE = 0.01
_DEPTHWISE = (*((problem, 3) for problem in VOLUMES), (VOLUMES[1], 5), (PLANES[0], 7))
_CONV = {2: functional.conv2d, 3: functional.conv3d}
_CONV_MODULE: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

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
            FORWARD: Forward(operator, [image, weight], setting),
            INPUT_GRADIENT: BackwardOnly(lambda: operator(x, weight), x),
            WEIGHT_GRADIENT: BackwardOnly(lambda: operator(image, w), w),
            STEP: Step(operator, [x, w], [x, w], setting),
        }

    return calls


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

"""Every option of a slot against the slot's standard one."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from benchmarks.measure import Bench
from benchmarks.request import Options
from benchmarks.sizes import MIDDLE, Problem, chosen
from medseg.analysis.cost import count_macs
from medseg.analysis.timing_results import Case
from medseg.analysis.workloads import Candidate, layout_in_use, module_candidate
from medseg.blocks.conv import Standard
from medseg.layers.resampling import MaxUnpool
from medseg.models.description import build

_SCALE = 2

Fill = Callable[[str, object, Problem, tuple[str, ...]], Candidate]
"""Option, its block, problem and layouts → the candidate."""


def slot_cases(bench: Bench, slug: str, options: Options, dims: Iterable[int]) -> list[Case]:
    """One case per dimension with all options of a slot.

    Args:
        bench: How they are measured.
        slug: `convolutions`, `units`, `downsamplings` or `upsamplings`.
        options: Option → description.
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
    module = block(problem.dims, problem.channels, problem.channels, Standard())
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

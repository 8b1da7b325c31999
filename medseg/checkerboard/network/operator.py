"""Any upsampling as a black box: also one that is not linear or depends on its data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.checkerboard.network.probing import cell_means, evaluating
from medseg.checkerboard.phases import phase_means, require_finite, require_phases
from medseg.checkerboard.weights.imbalance import dc_gain_imbalance

_CELLS = {1: 1024, 2: 48, 3: 24}
_CELLS_OF_CONSTANTS = 4
_SILENT = 1e-6  # of the gain of noise; rounding of taps that cancel ends below it
_ROUNDING = 1e-4  # relative; operators may compute in single precision


@dataclass(frozen=True)
class OperatorProbe:
    """What an operator of stride s makes of constants and of noise.

    Args:
        constants: `A` of the phase means on constants of one channel each: the DC-gain imbalance
            of a linear operator, in [0, 1].
        noise: Energy of the pattern of phase means on white noise over all energy, in [0, 1];
            0 for what is not locked to the grid, up to one over the number of cells.
        within_cell: `1 − E[(mean of a cell)²] / E[y²]` on white noise, in [0, 1]: 0 if each cell
            is constant, `1 − 1/P` if one voxel of it is alive, at whatever phase.
        periodicity: Largest over the axes of `‖op(T x) − T^s op(x)‖ / ‖op(x)‖` on white noise, T
            a shift by one cell: 0 iff the operator repeats with its stride.
        linearity: `‖op(x − 2z) − op(x) + 2 op(z)‖ / ‖op(x)‖` on white noise, `op(0)` taken off.
    """

    constants: float
    noise: float
    within_cell: float
    periodicity: float
    linearity: float

    @property
    def is_periodic(self) -> bool:
        """Whether it repeats with its stride, without which phases have no meaning."""
        return self.periodicity < _ROUNDING

    @property
    def is_linear(self) -> bool:
        """Whether its answers add up, so that what it makes of constants is told by one of them."""
        return self.linearity < _ROUNDING


@torch.no_grad()
def probe_operator(
    operator: Callable[[Tensor], Tensor],
    in_channels: int,
    stride: Sequence[int],
    *,
    keeps_grid: bool = False,
    margin: int = 4,
    seed: int = 0,
) -> OperatorProbe:
    """Phase means, cells and periodicity of `op(x) − op(0)`, for constants and white noise x.

    For max-unpooling, content-aware or deformable upsampling, interpolation between corners: what
    has no kernel to read. Independent of scale, bias and the order of phases. A linear one has
    the constants of `dc_gain_imbalance`; max-unpooling of what was pooled puts a constant on one
    phase, `1 − 1/P`, and noise on all alike, while each cell keeps one live voxel.

    Args:
        operator: `(N, in_channels, *S)` → `(N, channels, *(S · stride))`; a module is left as it
            was, probed in evaluation mode, in the dtype and on the device of its parameters; all
            else in single precision on the CPU.
        in_channels: Channels of its input.
        stride: Voxels per axis after which it repeats.
        keeps_grid: Whether the input lies on the fine grid too, as for pooling and unpooling
            together; a cell of it is then `stride` voxels.
        margin: Cells next to a border that are not looked at, more than it reaches.
        seed: Of the noise; torch's own generator is left alone.

    Returns:
        What was measured; on constants 0 for an operator that passes none.

    Raises:
        ValueError: stride 1 on all axes, not 1 to 3 of them, an output of another size, or an
            answer that is not finite or is 0 for noise.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts";
    Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks" (unpooling).

    >>> corners = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    >>> probe = probe_operator(corners, 1, (2, 2))
    >>> round(probe.constants, 6), probe.is_periodic, probe.is_linear
    (0.0, False, True)
    """
    steps = _checked(stride, margin)
    probed = _Probed(operator, steps, keeps_grid, margin)
    generator = torch.Generator().manual_seed(seed)
    size = (1, in_channels, *probed.input_size(_CELLS[len(steps)]))
    x, z = (_noise(size, generator) for _ in range(2))
    with evaluating(probed):
        bias = probed(torch.zeros_like(x))
        answer = probed(x) - bias
        rest = probed(x - 2 * z) - bias - answer + 2 * (probed(z) - bias)
        off_stride = [probed.off_stride(x, axis) for axis in range(len(steps))]
        gains = probed.gains(in_channels)
    energy = _mean_square(answer)
    if energy == 0:
        raise ValueError(
            f"an answer of 0 to white noise with stride={steps} has no shares to compare; "
            "probe an operator that passes something"
        )
    passed = gains.abs().max() > _SILENT * math.sqrt(energy)
    means = phase_means(answer, steps)
    return OperatorProbe(
        constants=dc_gain_imbalance(gains) if passed else 0.0,
        noise=_mean_square(means - means.mean(dim=0)) / energy,
        within_cell=max(0.0, 1 - _mean_square(cell_means(answer, steps)) / energy),
        periodicity=math.sqrt(max(off_stride) / energy),
        linearity=math.sqrt(_mean_square(rest) / energy),
    )


class _Probed(nn.Module):
    """The operator with whole cells far from borders for its output, in double precision."""

    def __init__(
        self,
        operator: Callable[[Tensor], Tensor],
        stride: tuple[int, ...],
        keeps_grid: bool,
        margin: int,
    ):
        super().__init__()
        self.operator = operator  # a module is found by `evaluating` here
        self.stride = stride
        self.step = stride if keeps_grid else (1,) * len(stride)
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        home = next(self.parameters(), torch.zeros(()))
        out = self.operator(x.to(home))
        for axis, (n, step, s) in enumerate(
            zip(x.shape[2:], self.step, self.stride, strict=True), start=2
        ):
            cells = n // step
            self._require_size(out, axis, cells * s)
            out = out.narrow(axis, self.margin * s, (cells - 2 * self.margin) * s)
        require_finite(out, "answers of the operator")
        return out.cpu().double()

    def input_size(self, cells: int) -> list[int]:
        return [cells * step for step in self.step]

    def gains(self, in_channels: int) -> Tensor:
        """Means `(phases, inputs, outputs)` of the answers to constants of one channel each."""
        size = self.input_size(2 * self.margin + _CELLS_OF_CONSTANTS)
        constants = torch.eye(in_channels).reshape(in_channels, 1, in_channels, *[1] * len(size))
        constants = constants.expand(-1, -1, -1, *size)
        bias = self(torch.zeros_like(constants[0]))
        return torch.cat([phase_means(self(c) - bias, self.stride) for c in constants], dim=1)

    def off_stride(self, x: Tensor, axis: int) -> float:
        """Mean square of `op(T x) − T^s op(x)` for a shift T by one cell along an axis."""
        at, s = axis + 2, self.stride[axis]
        still, moved = self(x), self(x.roll(self.step[axis], dims=at))
        kept = still.shape[at] - s
        return _mean_square(moved.narrow(at, s, kept) - still.narrow(at, 0, kept))

    def _require_size(self, out: Tensor, axis: int, expected: int) -> None:
        room = self.margin * self.stride[axis - 2]
        if out.ndim != len(self.stride) + 2 or abs(out.shape[axis] - expected) > room:
            raise ValueError(
                f"an answer of shape {tuple(out.shape)} must be about {expected} voxels long on "
                f"axis {axis} for stride={self.stride}; give the stride of the operator, and "
                "keeps_grid=True if its input lies on the fine grid"
            )


def _noise(size: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(size), generator=generator, dtype=torch.float64)


def _mean_square(values: Tensor) -> float:
    return float(values.square().mean())


def _checked(stride: Sequence[int], margin: int) -> tuple[int, ...]:
    steps = tuple(int(s) for s in stride)
    if len(steps) not in _CELLS or min(steps) < 1:
        raise ValueError(
            f"stride={steps} must be 1 to 3 whole numbers, one per axis; give one for each"
        )
    require_phases(math.prod(steps))
    most = min(_CELLS.values()) // 2 - 1
    if not 0 < margin <= most:
        raise ValueError(
            f"margin={margin} must be 1 to {most} cells, which leaves some to look at; "
            "take more only for a larger reach"
        )
    return steps

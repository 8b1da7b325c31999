"""Every block there is, with the options that change its shape of code.

Adding a block is one line here: all laws of its slot are then tested on it.
"""

from medseg.blocks import activation, conv, downsample, norm, unit, upsample

CONVS = [
    conv.Standard(),
    conv.Standard(kernel_size=1),
    conv.Standard(kernel_size=5),
    conv.Dilated(),
    conv.Dilated(dilation=1),
    conv.Dilated(dilation=3),
    conv.Dilated(kernel_size=5, dilation=2),
    conv.DepthwiseSeparable(),
    conv.DepthwiseSeparable(kernel_size=5),
    conv.Grouped(),
    conv.Grouped(kernel_size=5, groups=2),
]
DOWNSAMPLES = [
    downsample.Strided(),
    downsample.Strided(kernel_size=5),
    downsample.MaxPool(),
]
UPSAMPLES = [
    upsample.Transposed(),
    upsample.Transposed(kernel_size=3),
    upsample.Transposed(kernel_size=4),
    upsample.Transposed(kernel_size=5),
    upsample.Interpolate(),
    upsample.Interpolate(mode="nearest"),
]
UNITS = [
    unit.Plain(),
    unit.Plain(norm=norm.Batch(), activation=activation.GELU(), dropout=0.5),
    unit.Residual(),
    unit.Residual(norm=norm.Group(groups=2), activation=activation.ReLU(), dropout=0.5),
]
NORMS = [norm.Instance(), norm.Instance(eps=1e-3), norm.Batch(), norm.Group(groups=4)]
ACTIVATIONS = [
    activation.LeakyReLU(),
    activation.LeakyReLU(negative_slope=0.2),
    activation.ReLU(),
    activation.GELU(),
    activation.SiLU(),
]

# blocks whose options name the axes, by dimension
ANISOTROPIC_CONVS = {
    2: [
        conv.Standard(kernel_size=(1, 3)),
        conv.Dilated(kernel_size=(1, 3), dilation=(1, 4)),
        conv.DepthwiseSeparable(kernel_size=(1, 3)),
        conv.Grouped(kernel_size=(1, 3)),
    ],
    3: [
        conv.Standard(kernel_size=(1, 3, 3)),
        conv.Dilated(kernel_size=(1, 3, 3), dilation=(1, 2, 3)),
        conv.DepthwiseSeparable(kernel_size=(1, 3, 3)),
        conv.Grouped(kernel_size=(1, 3, 3)),
    ],
}

SLOTS = {
    conv: CONVS,
    downsample: DOWNSAMPLES,
    upsample: UPSAMPLES,
    unit: UNITS,
    norm: NORMS,
    activation: ACTIVATIONS,
}
EVERY_BLOCK = [block for blocks in SLOTS.values() for block in blocks] + [
    block for blocks in ANISOTROPIC_CONVS.values() for block in blocks
]

GRIDS = {2: [(7, 10), (9, 9)], 3: [(5, 6, 7), (9, 3, 4)]}  # odd, even, unequal
EVERY_GRID = [grid for grids in GRIDS.values() for grid in grids]
SCALES = {2: [2, 3, 4, (1, 2), (3, 2)], 3: [2, (1, 2, 2), (2, 1, 3)]}
EVERY_SCALE = [(dims, scale) for dims, scales in SCALES.items() for scale in scales]


def smallest_kernel(block) -> int:
    """Smallest scale that a resampling is made for; others must refuse it."""
    return getattr(block, "kernel_size", None) or 99

"""Every block there is, with the options that change its shape of code.

Adding a block is one line here: the contract of its slot is then tested on it.
"""

from medseg.blocks import activation, conv, downsample, norm, skip, unit, upsample

CONVS = [
    conv.Standard(),
    conv.Standard(kernel_size=1),
    conv.Standard(kernel_size=5),
    conv.Pointwise(),
    conv.Depthwise(),
    conv.Depthwise(kernel_size=7),
    conv.DepthwiseSeparable(),
    conv.DepthwiseSeparable(kernel_size=5, multiplier=2),
    conv.SpatiallySeparable(),
    conv.SpatiallySeparable(kernel_size=1),
    conv.Dilated(),
    conv.Dilated(dilation=1),
    conv.Dilated(kernel_size=5, dilation=3),
    conv.DilatedSchedule(),
    conv.DilatedSchedule(kernel_size=5, rates=(2, 3)),
    conv.SmoothedDilated(),
    conv.SmoothedDilated(kernel_size=5, dilation=3),
    conv.Grouped(),
    conv.Grouped(kernel_size=5, groups=2, shuffle=True),
    conv.Deformable(),
    conv.Deformable(version=2),
]
DOWNSAMPLES = [
    downsample.Strided(),
    downsample.Strided(kernel_size=4),
    downsample.Strided(kernel_size=5),
    downsample.MaxPool(),
    downsample.AveragePool(),
    downsample.BlurPool(),
    downsample.SpaceToDepth(),
]
UPSAMPLES = [
    upsample.Transposed(),
    upsample.Transposed(kernel_size=3),
    upsample.Transposed(kernel_size=4),
    upsample.Transposed(kernel_size=5),
    upsample.BilinearTransposed(),
    upsample.SmoothedTransposed(),
    upsample.SmoothedTransposed(kernel_size=4),
    upsample.LargeKernelTransposed(small_kernel_size=4),
    upsample.Interpolate(),
    upsample.Interpolate(mode="nearest"),
    upsample.AdditiveInterpolate(),
    upsample.BedOfNails(),
    upsample.PixelShuffle(),
    upsample.PixelShuffle(init="icnr"),
    upsample.PixelShuffle(kernel_size=1, init="icnr", blur=True),
]
GUIDED_UPSAMPLES = [upsample.MaxUnpool()]  # they see the skip besides
UNITS = [
    unit.Plain(),
    unit.Plain(norm=norm.Batch(), activation=activation.GELU(), dropout=0.5),
    unit.Residual(),
    unit.Residual(convs=1, norm=norm.Group(groups=2), activation=activation.ReLU(), dropout=0.5),
    unit.Residual(convs=3, activation=activation.PReLU()),
    unit.Bottleneck(),
    unit.Bottleneck(reduction=2),
    unit.InvertedBottleneck(expansion=2),
    unit.InvertedBottleneck(expansion=2, conv_on="narrow"),
    unit.SeparableResidual(),
    unit.SeparableResidual(repeats=3),
    unit.Inception(),
    unit.Fire(),
    unit.Dense(layers=2),
    unit.Dense(growth=4),
]
NORMS = [norm.Instance(), norm.Instance(eps=1e-3), norm.Batch(), norm.Group(groups=4)]
ACTIVATIONS = [
    activation.LeakyReLU(),
    activation.LeakyReLU(negative_slope=0.2),
    activation.ReLU(),
    activation.PReLU(),
    activation.GELU(),
    activation.SiLU(),
]
SKIPS = [skip.Concatenate(), skip.Add(), skip.Attention(), skip.Nothing()]

# blocks whose options name the axes, by dimension
ANISOTROPIC_CONVS = {
    dims: [
        conv.Standard(kernel_size=kernel),
        conv.Depthwise(kernel_size=kernel),
        conv.DepthwiseSeparable(kernel_size=kernel),
        conv.SpatiallySeparable(kernel_size=kernel),
        conv.Dilated(kernel_size=kernel, dilation=rates),
        conv.DilatedSchedule(kernel_size=kernel),
        conv.SmoothedDilated(kernel_size=kernel, dilation=rates),
        conv.Grouped(kernel_size=kernel),
        conv.Deformable(kernel_size=kernel),
    ]
    for dims, kernel, rates in [(2, (1, 3), (1, 4)), (3, (1, 3, 3), (1, 2, 3))]
}

SLOTS = {
    conv: CONVS,
    downsample: DOWNSAMPLES,
    upsample: [*UPSAMPLES, *GUIDED_UPSAMPLES],
    unit: UNITS,
    norm: NORMS,
    activation: ACTIVATIONS,
    skip: SKIPS,
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
    small = getattr(block, "small_kernel_size", None) or getattr(block, "kernel_size", None)
    return 99 if isinstance(block, upsample.PixelShuffle) else small or 99

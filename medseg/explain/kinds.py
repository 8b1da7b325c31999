"""Every kind of operator: name, meaning, options with their defaults, source."""

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of operator.

    Args:
        title: Its name in a heading.
        meaning: What it computes, in one sentence.
        family: Which rule gives its output size: conv, transposed, scale or dense.
        options: The options that it has, with their defaults; None follows from the others.
        sizes: Voxels per axis of the default input, in 1-D, 2-D and 3-D.
        source: Paper and place.
    """

    title: str
    meaning: str
    family: str
    options: Mapping[str, int | None]
    sizes: tuple[int, int, int] = (8, 5, 4)
    source: str = "Dumoulin & Visin 2016, “A guide to convolution arithmetic for deep learning”"

    @property
    def upsamples(self) -> bool:
        """Whether its output grid is the finer one."""
        return self.family in ("transposed", "scale")


_CHANNELS: dict[str, int | None] = {"in_channels": 16, "out_channels": 32}
_WINDOW: dict[str, int | None] = {"kernel": 3, "stride": 1, "padding": None, "dilation": 1}
_SCALE: dict[str, int | None] = {"stride": 2, "in_channels": 16}
_POOL: dict[str, int | None] = {"kernel": 2, "stride": None, "padding": 0, "in_channels": 16}

KINDS: dict[str, Kind] = {
    "conv": Kind(
        title="Convolution",
        meaning="Every output voxel is the weighted sum of the input voxels below the kernel, "
        "over all input channels.",
        family="conv",
        options={**_WINDOW, **_CHANNELS, "groups": 1},
    ),
    "pointwise": Kind(
        title="Pointwise convolution",
        meaning="A kernel of one tap: every voxel's channels are mixed, voxels are not.",
        family="conv",
        options={"in_channels": 32, "out_channels": 16},
        source="Lin, Chen & Yan 2014, “Network in Network”, section 3.1",
    ),
    "depthwise": Kind(
        title="Depthwise convolution",
        meaning="Every channel is convolved by itself; nothing mixes the channels.",
        family="conv",
        options={**_WINDOW, "in_channels": 16, "out_channels": None},
        source="Howard et al. 2017, “MobileNets”, section 3.1",
    ),
    "depthwise_separable": Kind(
        title="Depthwise-separable convolution",
        meaning="A depthwise convolution, which looks at space, then a pointwise one, which mixes "
        "channels.",
        family="conv",
        options={**_WINDOW, **_CHANNELS},
        source="Howard et al. 2017, “MobileNets”, section 3.1",
    ),
    "spatially_separable": Kind(
        title="Spatially separable convolution",
        meaning="One axis after the other: together they are a kernel that is an outer product.",
        family="conv",
        options={"kernel": 3, "padding": None, "in_channels": 16, "out_channels": 16},
        source="Szegedy et al. 2016, “Rethinking the Inception Architecture”, section 3.2",
    ),
    "grouped": Kind(
        title="Grouped convolution",
        meaning="The channels are dealt into groups, and each group is convolved by itself.",
        family="conv",
        options={**_WINDOW, **_CHANNELS, "groups": 4},
        source="Krizhevsky, Sutskever & Hinton 2012, section 3.5; Xie et al. 2017, “ResNeXt”",
    ),
    "dilated": Kind(
        title="Dilated convolution",
        meaning="The taps stand apart: a larger receptive field for the same number of weights.",
        family="conv",
        options={**_WINDOW, "dilation": 2, **_CHANNELS, "groups": 1},
        sizes=(10, 7, 5),
        source="Yu & Koltun 2016, “Multi-Scale Context Aggregation by Dilated Convolutions”",
    ),
    "deformable": Kind(
        title="Deformable convolution",
        meaning="Every tap is displaced by an offset that a second convolution learns; values "
        "between voxels are interpolated linearly.",
        family="conv",
        options={"kernel": 3, **_CHANNELS},
        source="Dai et al. 2017, “Deformable Convolutional Networks”, equation 2",
    ),
    "transposed": Kind(
        title="Transposed convolution",
        meaning="Every input voxel adds the kernel, weighted by its value, to the finer grid.",
        family="transposed",
        options={
            "kernel": 3,
            "stride": 2,
            "padding": None,
            "output_padding": None,
            "dilation": 1,
            **_CHANNELS,
            "groups": 1,
        },
        sizes=(4, 2, 2),
        source="Dumoulin & Visin 2016, chapter 4; Odena, Dumoulin & Olah 2016, Distill",
    ),
    "nearest": Kind(
        title="Nearest-neighbour upsampling",
        meaning="Every voxel is repeated over its cell of the finer grid.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
    ),
    "linear": Kind(
        title="Linear upsampling",
        meaning="Values between voxel centres are interpolated linearly along every axis (bilinear "
        "in 2-D, trilinear in 3-D).",
        family="scale",
        options=_SCALE,
        sizes=(4, 3, 2),
    ),
    "bed_of_nails": Kind(
        title="Bed of nails",
        meaning="Every voxel goes to the first corner of its cell; the rest of the cell is zero.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
    ),
    "pixel_shuffle": Kind(
        title="Pixel shuffle",
        meaning="A convolution makes a channel for every place of a cell, and the channels become "
        "the voxels of the cell.",
        family="scale",
        options={"kernel": 3, "stride": 2, "in_channels": 16, "out_channels": 16},
        sizes=(4, 3, 2),
        source="Shi et al. 2016, “Real-Time Single Image … Sub-Pixel Convolutional Neural Network”",
    ),
    "max_pool": Kind(
        title="Max pooling",
        meaning="Every output voxel is the largest input voxel below its window.",
        family="conv",
        options=_POOL,
        sizes=(8, 4, 4),
    ),
    "average_pool": Kind(
        title="Average pooling",
        meaning="Every output voxel is the mean of the input voxels below its window.",
        family="conv",
        options=_POOL,
        sizes=(8, 4, 4),
    ),
    "max_unpool": Kind(
        title="Max unpooling",
        meaning="Every value goes to the place where max pooling found the maximum of its cell; "
        "the rest is zero.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
        source="Zeiler & Fergus 2014, “Visualizing and Understanding Convolutional Networks”, 2.1",
    ),
    "dense": Kind(
        title="Dense (fully connected) layer",
        meaning="Every output is a weighted sum of all voxels of all channels.",
        family="dense",
        options={"in_channels": 16, "out_channels": 10},
        sizes=(6, 3, 2),
    ),
}

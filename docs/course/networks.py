"""Classification networks of the lectures, from their published layer tables.

A row counts a layer with weights; parameters include biases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from course.closed_form import conv, dense
from medseg.analysis.cost import Cost
from medseg.explain.operator import conv_output_size


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer with weights; `kernel=0` is a dense layer."""

    name: str
    kernel: int
    in_channels: int
    out_channels: int
    groups: int = 1

    def cost(self, *, bias: bool) -> Cost:
        """Its parameters; MACs are those of one place of the grid."""
        if not self.kernel:
            return dense(self.in_channels, self.out_channels, bias=bias)
        window = (self.kernel, self.kernel)
        return conv(window, (1,), self.in_channels, self.out_channels, self.groups, bias=bias)


def total(rows: Sequence[Row], *, bias: bool = True) -> int:
    """Parameters of all rows."""
    return sum(row.cost(bias=bias).parameters for row in rows)


def alexnet() -> list[Row]:
    """AlexNet on two GPUs: convolutions 2, 4 and 5 see one half of the channels.

    Reference: Krizhevsky, Sutskever & Hinton 2012, section 3.5 and figure 2.
    """
    return [
        Row(name="conv 1", kernel=11, in_channels=3, out_channels=96),
        Row(name="conv 2", kernel=5, in_channels=96, out_channels=256, groups=2),
        Row(name="conv 3", kernel=3, in_channels=256, out_channels=384),
        Row(name="conv 4", kernel=3, in_channels=384, out_channels=384, groups=2),
        Row(name="conv 5", kernel=3, in_channels=384, out_channels=256, groups=2),
        Row(name="dense 1", kernel=0, in_channels=256 * alexnet_grid() ** 2, out_channels=4096),
        Row(name="dense 2", kernel=0, in_channels=4096, out_channels=4096),
        Row(name="dense 3", kernel=0, in_channels=4096, out_channels=1000),
    ]


def alexnet_grid() -> int:
    """Voxels per axis that reach AlexNet's first dense layer: three poolings of 3 with stride 2."""
    grid = conv_output_size(227, 11, stride=4)
    grid = conv_output_size(grid, 3, stride=2)
    grid = conv_output_size(conv_output_size(grid, 5, padding=2), 3, stride=2)
    for _ in range(3):
        grid = conv_output_size(grid, 3, padding=1)
    return conv_output_size(grid, 3, stride=2)


def zfnet() -> list[Row]:
    """ZFNet: AlexNet's eight layers on one GPU, the first with 7×7; with its many filters.

    Reference: Zeiler & Fergus 2014, figure 3 and table 2 (layers 3 to 5 with 512, 1024, 512).
    """
    channels = (3, 96, 256, 512, 1024, 512)
    kernels = (7, 5, 3, 3, 3)
    convs = [
        Row(name=f"conv {i}", kernel=kernel, in_channels=before, out_channels=after)
        for i, (kernel, before, after) in enumerate(
            zip(kernels, channels, channels[1:], strict=False), start=1
        )
    ]
    return [*convs, *_dense_rows((512 * 6**2, 4096, 4096, 1000))]


def vgg19() -> list[Row]:
    """VGG configuration E: sixteen convolutions of 3×3, three dense layers.

    Reference: Simonyan & Zisserman 2015, table 1.
    """
    rows, before = [], 3
    for channels, repeats in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(repeats):
            name = f"conv {len(rows) + 1}"
            rows.append(Row(name=name, kernel=3, in_channels=before, out_channels=channels))
            before = channels
    return [*rows, *_dense_rows((512 * 7**2, 4096, 4096, 1000))]


_INCEPTIONS = (
    (192, 64, 96, 128, 16, 32, 32),
    (256, 128, 128, 192, 32, 96, 64),
    (480, 192, 96, 208, 16, 48, 64),
    (512, 160, 112, 224, 24, 64, 64),
    (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64),
    (528, 256, 160, 320, 32, 128, 128),
    (832, 256, 160, 320, 32, 128, 128),
    (832, 384, 192, 384, 48, 128, 128),
)
"""Input, 1×1, reduction and 3×3, reduction and 5×5, projection after pooling."""


def googlenet() -> list[Row]:
    """GoogLeNet without its auxiliary classifiers.

    Reference: Szegedy et al. 2015, "Going Deeper with Convolutions", table 1.
    """
    rows = [
        Row(name="conv 7×7", kernel=7, in_channels=3, out_channels=64),
        Row(name="conv 1×1", kernel=1, in_channels=64, out_channels=64),
        Row(name="conv 3×3", kernel=3, in_channels=64, out_channels=192),
    ]
    for ins, one, reduce3, three, reduce5, five, pool in _INCEPTIONS:
        rows += [
            Row(name="1×1", kernel=1, in_channels=ins, out_channels=one),
            Row(name="3×3 reduce", kernel=1, in_channels=ins, out_channels=reduce3),
            Row(name="3×3", kernel=3, in_channels=reduce3, out_channels=three),
            Row(name="5×5 reduce", kernel=1, in_channels=ins, out_channels=reduce5),
            Row(name="5×5", kernel=5, in_channels=reduce5, out_channels=five),
            Row(name="pool projection", kernel=1, in_channels=ins, out_channels=pool),
        ]
    return [*rows, Row(name="dense", kernel=0, in_channels=1024, out_channels=1000)]


def googlenet_depth() -> int:
    """Layers with weights on the longest way through GoogLeNet: two in an inception module."""
    stem, head = 3, 1
    return stem + 2 * len(_INCEPTIONS) + head


def resnet152_depth() -> int:
    """Layers with weights on the way through ResNet-152: three in a bottleneck.

    Reference: He et al. 2016, table 1.
    """
    bottlenecks = (3, 8, 36, 3)
    stem, head = 1, 1
    return stem + 3 * sum(bottlenecks) + head


def inception_cost(reduced: bool, size: int = 28) -> Cost:
    """The 5×5 branch of inception module 3a on its grid, with or without its 1×1 reduction."""
    ins, *_, reduce5, five, _ = _INCEPTIONS[0]
    grid = (size, size)
    if not reduced:
        return conv((5, 5), grid, ins, five)
    return conv((1, 1), grid, ins, reduce5) + conv((5, 5), grid, reduce5, five)


def _dense_rows(widths: Sequence[int]) -> list[Row]:
    return [
        Row(name=f"dense {i}", kernel=0, in_channels=before, out_channels=after)
        for i, (before, after) in enumerate(pairwise(widths), start=1)
    ]

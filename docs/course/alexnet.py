"""AlexNet as lecture 3 counts it: each layer's weights, and two errata."""

import math

from course import fact, networks
from course.fact import Fact, Topic, work

_PRINTED = (
    ("conv 1", "11 x 11 x 3 x 48 * 2 ≈ 35K", 35_000),
    ("conv 2", "≈ 307K", 307_000),
    ("conv 3", "3 x 3 x 128 * 2 x 192 * 2 ≈ 884K", 884_000),
    ("conv 4", "3 x 3 x 192 x 192 * 2 ≈ 663K", 663_000),
    ("conv 5", "3 x 3 x 192 x 128 * 2 ≈ 442K", 442_000),
    ("dense 2", "2048 * 2 x 2048 * 2 ≈ 16M", 16_000_000),
    ("dense 3", "2048 * 2 x 1000 ≈ 4M", 4_000_000),
)


def convolutions() -> Topic:
    """Its five convolutions."""
    return Topic(
        title="AlexNet: convolutions",
        text=(
            "AlexNet was split over two GPUs. Layers 2, 4 and 5 see only the channels of their "
            "own GPU, which makes them convolutions of two groups: (48 → 128) twice, and so on; "
            "layer 3 sees all. The notes cut off where they write ≈: rounded, 884K would be 885K, "
            "663K 664K and 16M 17M.",
        ),
        works=(work("conv", size=27, kernel=5, in_channels=96, out_channels=256, groups=2),),
        facts=(
            *_rounded("conv"),
            Fact(
                lecture=3,
                place="AlexNet, conv 2",
                printed="5 x 5 x 28 x 128 * 2",
                stated=math.prod((5, 5, 28, 128, 2)),
                computed=_weights()["conv 2"],
                how="5·5·48·128·2 from the layer table",
                erratum="28 should be 48, the maps that layer 1 leaves on each GPU; the printed "
                "product is 179,200, and only 48 gives the printed 307K.",
            ),
        ),
    )


def dense_layers() -> Topic:
    """Its three dense layers, and the sum of all."""
    rows = _weights()
    dense = sum(count for name, count in rows.items() if name.startswith("dense"))
    grid = networks.alexnet_grid()
    return Topic(
        title="AlexNet: dense layers",
        text=(
            "A dense layer has a weight for every pair of input and output. A convolution shares "
            "its weights over all places, so that the dense layers hold nearly all of AlexNet's.",
            f"Before the first dense layer stands a pooling of 3×3 with stride 2: 13 × 13 becomes "
            f"{grid} × {grid}. With this size all eight layers and their biases make "
            f"{networks.total(networks.alexnet()):,} parameters, the 61 million of lecture 4.",
        ),
        works=(work("dense", size=grid, in_channels=256, out_channels=4096),),
        facts=(
            *_rounded("dense"),
            Fact(
                lecture=3,
                place="AlexNet, dense 1",
                printed="13 * 13 * 128 * 2 x 2048 * 2 ≈ 177M",
                stated=math.prod((13, 13, 128, 2, 2048, 2)),
                computed=rows["dense 1"],
                how=f"{grid}·{grid}·256 · 4,096 from the layer table",
                erratum="the layer reads the grid after the last pooling, 6 × 6, not 13 × 13; "
                "it has 37.7M weights, and only with these the network has 61M.",
            ),
            Fact(
                lecture=3,
                place="AlexNet",
                printed="dense layers have far more parameters than convolutions",
                stated=True,
                computed=dense > 10 * (sum(rows.values()) - dense),
                how=f"{dense:,} in dense layers, {sum(rows.values()) - dense:,} in convolutions",
            ),
        ),
    )


def _rounded(layers: str) -> list[Fact]:
    """The rounded counts that the notes print for the layers of a kind."""
    how = "weights of the layer table by the closed form"
    cut = f"{how}; the notes cut it off here where rounding goes up"
    return [
        fact.rounded(
            lecture=3,
            place=f"AlexNet, {layer}",
            printed=printed,
            stated=stated,
            computed=_weights()[layer],
            how=cut if fact.is_cut_off(stated, _weights()[layer]) else how,
        )
        for layer, printed, stated in _PRINTED
        if layer.startswith(layers)
    ]


def _weights() -> dict[str, int]:
    return {row.name: row.cost(bias=False).parameters for row in networks.alexnet()}

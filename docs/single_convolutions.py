"""Estimated against measured peaks of memory of random single convolutions.

    python docs/single_convolutions.py [--count N] [--seed SEED]

Prints, for layers, transposed layers and groups in 2-D and 3-D, how often the estimate is within
5 % of the measured peak, and the differences below and above which a tenth of them lie. In a
network these peaks add to its other tensors, so that it differs by less.
"""

import argparse
import random

import numpy as np
import pandas as pd
import torch
from torch import nn

from medseg.analysis.memory import network_peak_bytes, predicted_memory
from medseg.formatting import markdown_table

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


class Layer(nn.Module):
    """A convolution whose input needs a gradient, as inside a network."""

    def __init__(self, layer, layout):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.layer = layer
        self.layout = layout

    def forward(self, x):
        return self.layer((x * self.scale).contiguous(memory_format=self.layout))


def drawn(rng):
    """A network, its channels, a size, a batch and what kind of convolution it is."""
    dims = rng.choice([2, 3])
    kind = rng.choice(["dense", "dense", "depthwise", "grouped", "transposed"])
    channels, out = (rng.choice([8, 12, 16, 24, 32, 48, 64]) for _ in range(2))
    groups = {"depthwise": channels, "grouped": rng.choice([2, 4])}.get(kind, 1)
    if kind == "transposed":
        kernel, stride, dilation = rng.choice([2, 3, 4]), 2, 1
    else:
        kernel, stride = rng.choice([1, 3, 3, 5, 7]), rng.choice([1, 1, 2])
        dilation = rng.choice([1, 2, 3]) if kernel == 3 else 1
    name = f"Conv{'Transpose' if kind == 'transposed' else ''}{dims}d"
    layer = getattr(nn, name)(
        channels,
        channels if kind == "depthwise" else out,
        kernel,
        stride,
        dilation * (kernel // 2),
        groups=groups,
        dilation=dilation,
    )
    size = [rng.randint(16, {2: 96, 3: 40}[dims]) for _ in range(dims)]
    layout = LAYOUTS[dims] if rng.random() < 0.25 else torch.contiguous_format
    return Layer(layer, layout), channels, size, rng.choice([1, 2, 4]), f"{kind}, {dims}-D"


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, rows = random.Random(arguments.seed), []
    for _ in range(arguments.count):
        network, channels, size, batch, kind = drawn(rng)
        for training in (False, True):
            found = predicted_memory(network, channels, size, batch=batch, training=training)
            shape = (batch, channels, *size)
            peak = network_peak_bytes(network, shape, training=training, bf16=False)
            assert found.tensors <= peak, (network, shape, found, peak)
            use = "training" if training else "prediction"
            rows.append((kind, use, found.tensors / peak, found.peak / peak - 1))
    table = pd.DataFrame(rows, columns=["convolution", "use", "tensors", "difference"])
    lines = [
        (kind, use, str(len(own)), f"{own['tensors'].median():.0%}",
         f"{(own['difference'].abs() <= 0.05).mean():.0%}",
         *(f"{np.quantile(own['difference'], q):+.0%}" for q in (0.1, 0.9)))
        for (kind, use), own in table.groupby(["convolution", "use"])
    ]  # fmt: skip
    head = ("convolution", "use", "layers", "tensors alone, median", "within 5 %", "10 %", "90 %")
    print(markdown_table(head, lines))


if __name__ == "__main__":
    main()

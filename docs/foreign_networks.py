"""What the upsamplings of MONAI's and nnU-Net's networks print, before and after training.

Trains each network for a while on noisy ellipses, and prints one Markdown table of whole networks
and one of their layers: the measures of medseg.checkerboard on weights, channels weighted
by held-out images. nnU-Net's network needs, besides medseg:
`pip install --no-deps dynamic-network-architectures`.
"""

import argparse
import warnings

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.layers import input_moments
from medseg.checkerboard.probes import constant_response

warnings.simplefilter("ignore")

CLASSES = 3
SIZE = {2: 64, 3: 32}
BATCH = {2: 4, 3: 2}
HELD_OUT = 8
MEASURES = (
    "overlap",
    "dc_gain",
    "dc_gain_mean",
    "dc_gain_data",
    "noise_gain",
    "imaging",
    "sum_rule_order",
)


def plain_conv_unet(dims):
    try:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
    except ImportError:
        print("nnU-Net's: pip install --no-deps dynamic-network-architectures\n")
        return None
    conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
    return PlainConvUNet(
        1, 4, (8, 16, 32, 64), conv, 3, (1, 2, 2, 2), 2, CLASSES, 2, conv_bias=True, norm_op=norm,
        norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip


def basic_unet(upsample):
    return lambda dims: BasicUNet(
        dims, 1, CLASSES, features=(8, 8, 16, 32, 64, 8), upsample=upsample
    )


# name → widths of its scales, and how it is built
NETWORKS = {
    "MONAI UNet": (
        "8, 16, 32, 64", lambda d: UNet(d, 1, CLASSES, (8, 16, 32, 64), (2, 2, 2))),
    "MONAI BasicUNet": ("8, 8, 16, 32, 64", basic_unet("deconv")),
    "MONAI DynUNet": (
        "8, 16, 32, 64",
        lambda d: DynUNet(d, 1, CLASSES, [3] * 4, [1, 2, 2, 2], [2] * 3, [8, 16, 32, 64])),
    "MONAI SegResNet": (
        "8, 16, 32, 64",
        lambda d: SegResNet(d, 8, 1, CLASSES, blocks_down=(1, 2, 2, 2), blocks_up=(1, 1, 1))),
    "nnU-Net PlainConvUNet": ("8, 16, 32, 64", plain_conv_unet),
}  # fmt: skip


def ellipses(dims, count, generator):
    """Images `(N, 1, *space)` of noise over two ellipses, and labels `(N, *space)`."""
    size = SIZE[dims]
    along = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(*[along] * dims, indexing="ij"))
    shape = (count, dims, *[1] * dims)
    labels = torch.zeros(count, *[size] * dims, dtype=torch.long)
    for label in range(1, CLASSES):
        centre = (torch.rand(shape, generator=generator) - 0.5) * 0.9
        radius = 0.2 + 0.3 * torch.rand(shape, generator=generator)
        labels[((grid - centre) / radius).square().sum(dim=1) < 1] = label
    image = labels.unsqueeze(1).float() + 1
    return image + 0.5 * torch.randn(image.shape, generator=generator), labels


def trained(network, dims, steps):
    generator = torch.Generator().manual_seed(0)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        image, label = ellipses(dims, BATCH[dims], generator)
        optimizer.zero_grad()
        loss(network(image), label.unsqueeze(1)).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def dice(network, image, label):
    """Over all held-out voxels, mean of the foreground classes."""
    found = network.eval()(image).argmax(dim=1)
    each = [
        2 * ((found == c) & (label == c)).sum() / ((found == c).sum() + (label == c).sum())
        for c in range(1, CLASSES)
    ]
    return float(torch.stack(each).mean())


def written(value):
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def of_network(network, image, label):
    response = constant_response(network, image[:1])
    return {"Dice": dice(network, image, label), "constant response": response}


def of_layers(network, image):
    return upsampling_rows(network, input_moments(network, [image]))


def pair(before, after):
    """One number where training changes none."""
    before, after = written(before), written(after)
    return before if before == after else f"{before} → {after}"


def measured(name, dims, steps):
    """Rows of the two tables; none for a network that is not installed."""
    widths, build = NETWORKS[name]
    torch.manual_seed(0)
    network = build(dims)
    if network is None:
        return [], []
    image, label = ellipses(dims, HELD_OUT, torch.Generator().manual_seed(1))
    stages = [(of_network(network, image, label), of_layers(network, image))]
    trained(network, dims, steps)
    stages.append((of_network(network, image, label), of_layers(network, image)))
    (whole, layers), (whole_after, layers_after) = stages
    head = f"{name}, {dims}-D"
    weights = sum(p.numel() for p in network.parameters())
    row = [head, widths, f"{weights:,}", *(pair(v, whole_after[k]) for k, v in whole.items())]
    rows = [
        [head, one.layer, *(pair(one.values[m], two.values[m]) for m in MEASURES)]
        for one, two in zip(layers, layers_after, strict=True)
    ]  # fmt: skip
    return [row], rows


def table(columns, rows):
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("|", " | ".join(row), "|")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150, help="of Adam, for each network")
    steps = parser.parse_args().steps
    networks, layers = [], []
    for name in NETWORKS:
        for dims in (2, 3):
            row, rows = measured(name, dims, steps)
            networks += row
            layers += rows
    print(f"Before → after {steps} steps of Adam on {CLASSES - 1} ellipses in noise, seed 0.\n")
    table(["network", "widths", "weights", "Dice", "constant response"], networks)
    table(["network", "layer", *(m.replace("_", " ") for m in MEASURES)], layers)


if __name__ == "__main__":
    main()

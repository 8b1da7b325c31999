"""Multiply-accumulates by public counters, as ratio to the exact count, on decoder operators.

Each tool is called as its documentation says; what counts FLOPs is halved. Prints the cases of
docs/arithmetic.md. Needs, besides medseg: `pip install torchinfo fvcore ptflops thop calflops
transformers accelerate`.
"""

import contextlib
import copy
import io
import logging
import warnings
from importlib.metadata import version

import torch
from monai.networks.nets import DynUNet, UNet
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg.analysis.cost import Cost, cost_of
from medseg.analysis.trace import trace
from medseg.cli.compose import described
from medseg.layers.deformable import DeformableConv
from medseg.models.description import build_network

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


class Functional(nn.Module):
    """The same operator, called as a function instead of a module."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3, 3))

    def forward(self, x):
        return functional.conv3d(x, self.weight, padding=1)


class FunctionalTransposed(Functional):
    def forward(self, x):
        return functional.conv_transpose3d(x, self.weight, stride=2, padding=1, output_padding=1)


class SubclassedConv(nn.Conv3d):
    """What a tool that goes by a module's exact type does not know."""


PRESET = (
    "data.in_channels=1", "data.num_classes=3", "data.spatial_dims=3",
    "data.patch_size=[16,16,16]",
)  # fmt: skip
CASES = {
    "Conv3d k3": (nn.Conv3d(8, 8, 3, padding=1), 8),
    "Conv3d k3 s2": (nn.Conv3d(8, 8, 3, 2, padding=1), 8),
    "Conv3d k3, dilation 2": (nn.Conv3d(8, 8, 3, padding=2, dilation=2), 8),
    "Conv3d k3, 4 groups": (nn.Conv3d(8, 8, 3, padding=1, groups=4), 8),
    "Conv3d k3, depthwise": (nn.Conv3d(8, 8, 3, padding=1, groups=8), 8),
    "Conv3d k3, a subclass": (SubclassedConv(8, 8, 3, padding=1), 8),
    "functional.conv3d k3": (Functional(), 8),
    "ConvTranspose3d k2 s2": (nn.ConvTranspose3d(8, 8, 2, 2), 8),
    "ConvTranspose3d k3 s2": (nn.ConvTranspose3d(8, 8, 3, 2, 1, 1), 8),
    "ConvTranspose3d k4 s2, depthwise": (nn.ConvTranspose3d(8, 8, 4, 2, 1, groups=8), 8),
    "functional.conv_transpose3d k3 s2": (FunctionalTransposed(), 8),
    "Conv3d 1×1 → pixel shuffle 2-D": (nn.Sequential(nn.Conv2d(8, 32, 1), nn.PixelShuffle(2)), 8),
    "1×1 → trilinear upsampling": (
        nn.Sequential(nn.Conv3d(8, 8, 1), nn.Upsample(scale_factor=2, mode="trilinear")), 8),
    "conv → InstanceNorm3d (affine)": (
        nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True)), 8),
    "conv → PReLU": (nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.PReLU()), 8),
    "DeformableConv 2-D": (DeformableConv(8, 8, (3, 3), modulated=False), 8),
    "MONAI UNet 3-D": (UNet(3, 1, 3, (8, 16, 32), (2, 2), num_res_units=2), 1),
    "MONAI DynUNet 3-D": (
        DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], [8, 16, 32], norm_name="instance"), 1),
    "medseg unet 3-D": (build_network(described("train", "model", "model=unet", *PRESET)), 1),
}  # fmt: skip


def size_of(name):
    return (16, 16) if "2-D" in name else (16, 16, 16)


def by_torch(network, channels, size):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.rand(1, channels, *size))
    return counter.get_total_flops() / 2


def by_torchinfo(network, channels, size):
    from torchinfo import summary

    return summary(network, (1, channels, *size), verbose=0).total_mult_adds


def by_fvcore(network, channels, size):
    from fvcore.nn import FlopCountAnalysis

    count = FlopCountAnalysis(network, torch.rand(1, channels, *size))
    return count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def by_ptflops(backend):
    def count(network, channels, size):
        from ptflops import get_model_complexity_info

        macs, _ = get_model_complexity_info(
            network, (channels, *size), backend=backend, as_strings=False,
            print_per_layer_stat=False, verbose=False,
        )  # fmt: skip
        return macs

    return count


def by_thop(network, channels, size):
    from thop import profile

    return profile(network, (torch.rand(1, channels, *size),), verbose=False)[0]


def by_calflops(network, channels, size):
    from calflops import calculate_flops

    _, macs, _ = calculate_flops(
        network, (1, channels, *size), print_results=False, print_detailed=False,
        output_as_string=False,
    )  # fmt: skip
    return macs


TOOLS = {
    f"torch {torch.__version__}": by_torch,
    f"torchinfo {version('torchinfo')}": by_torchinfo,
    f"fvcore {version('fvcore')}": by_fvcore,
    f"ptflops {version('ptflops')} pytorch": by_ptflops("pytorch"),
    f"ptflops {version('ptflops')} aten": by_ptflops("aten"),
    f"thop {version('thop')}": by_thop,
    f"calflops {version('calflops')}": by_calflops,
}


def answer(tool, network, channels, size, exact):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = tool(copy.deepcopy(network).eval(), channels, size)
    except Exception as error:
        return type(error).__name__
    return "–" if found is None else f"{found / exact:.3f}"


def main():
    print("| operator | exact MACs |", " | ".join(TOOLS), "|")
    print("|---|---:" + "|---:" * len(TOOLS) + "|")
    for name, (network, channels) in CASES.items():
        size = size_of(name)
        steps = trace(network, channels, size).steps
        exact = sum((cost_of(step) for step in steps), Cost()).macs
        row = [answer(tool, network, channels, size, exact) for tool in TOOLS.values()]
        print(f"| {name} | {exact} |", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()

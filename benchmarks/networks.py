"""Whole networks: every preset, and pairs of ours and MONAI's of one architecture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai.networks.nets import BasicUNet, DynUNet
from torch import nn

from benchmarks.candidates import Candidate, network_candidate
from benchmarks.measure import Bench, Case
from medseg.analysis.cost import count_macs
from medseg.blocks import conv, downsample, unit, upsample
from medseg.models.decoder import Decoder
from medseg.models.description import build_network
from medseg.models.encoder import Encoder
from medseg.models.padding import Padded
from medseg.models.unet import UNet

IN_CHANNELS = 1
NUM_CLASSES = 3

_INPUTS = {2: (8, (160, 192)), 3: (4, (40, 56, 40))}
_TINY_INPUTS = {2: (1, (32, 32)), 3: (1, (32, 16, 16))}
_BASIC_CHANNELS = (16, 16, 32, 64, 128)
_DYNUNET_CHANNELS = (16, 32, 64, 128)
_LEAKY = ("LeakyReLU", {"negative_slope": 0.01, "inplace": True})
_INSTANCE = ("INSTANCE", {"affine": True})


def network_cases(bench: Bench, networks: Mapping[int, Mapping[str, Any]]) -> list[Case]:
    """One case per dimension with all options of `model`."""
    cases = []
    for dims, options in networks.items():
        built = {name: build_network(text) for name, text in options.items()}
        cases.append(_case(bench, dims, built, reference="unet"))
    return cases


def pair_cases(bench: Bench, dims: Iterable[int]) -> list[Case]:
    """Ours beside MONAI's of the same architecture, or nearly."""
    cases = []
    for number in dims:
        basic = {"BasicUNet, MONAI": _basic(number), "UNet, medseg": _like_basic(number)}
        dyn = {"DynUNet, MONAI": _dynunet(number), "UNet, medseg": _like_dynunet(number)}
        cases.append(_case(bench, number, basic, reference="BasicUNet, MONAI"))
        cases.append(_case(bench, number, dyn, reference="DynUNet, MONAI"))
    return cases


def _case(bench: Bench, dims: int, networks: dict[str, nn.Module], *, reference: str) -> Case:
    batch, size = (_TINY_INPUTS if bench.quick else _INPUTS)[dims]
    sides = "×".join(map(str, size))
    candidates = [_candidate(name, net, batch, size) for name, net in networks.items()]
    return bench.case(
        f"{dims}-D, {IN_CHANNELS} ch, {sides}, batch {batch}", candidates, reference=reference
    )


def _candidate(name: str, network: nn.Module, batch: int, size: Sequence[int]) -> Candidate:
    macs = count_macs(network, IN_CHANNELS, size)
    return network_candidate(name, network, (batch, IN_CHANNELS, *size), macs=macs)


def _basic(dims: int) -> nn.Module:
    network = BasicUNet(
        spatial_dims=dims,
        in_channels=IN_CHANNELS,
        out_channels=NUM_CLASSES,
        features=(*_BASIC_CHANNELS, _BASIC_CHANNELS[0]),
        act=_LEAKY,
        norm=_INSTANCE,
        bias=False,
    )
    return Padded(network=network, multiple=2 ** (len(_BASIC_CHANNELS) - 1))


def _like_basic(dims: int) -> nn.Module:
    return _unet(dims, _BASIC_CHANNELS, downsample.MaxPool(), encoder_depths=2)


def _dynunet(dims: int) -> nn.Module:
    stages = len(_DYNUNET_CHANNELS)
    network = DynUNet(
        spatial_dims=dims,
        in_channels=IN_CHANNELS,
        out_channels=NUM_CLASSES,
        kernel_size=[3] * stages,
        strides=[1] + [2] * (stages - 1),
        upsample_kernel_size=[2] * (stages - 1),
        filters=_DYNUNET_CHANNELS,
        norm_name=_INSTANCE,
        act_name=_LEAKY,
    )
    return Padded(network=network, multiple=2 ** (stages - 1))


def _like_dynunet(dims: int) -> nn.Module:
    """DynUNet's first convolution of a coarser stage strides and widens; ours strides only."""
    depths = [2] + [1] * (len(_DYNUNET_CHANNELS) - 1)
    return _unet(dims, _DYNUNET_CHANNELS, downsample.Strided(), encoder_depths=depths)


def _unet(
    dims: int,
    channels: Sequence[int],
    down: downsample.DownsampleFactory,
    *,
    encoder_depths: int | Sequence[int],
) -> UNet:
    strides = [1] + [2] * (len(channels) - 1)
    encoder = Encoder(
        spatial_dims=dims,
        in_channels=IN_CHANNELS,
        channels=channels,
        strides=strides,
        depths=encoder_depths,
        conv=conv.Standard(),
        downsample=down,
        unit=unit.Plain(),
    )
    decoder = Decoder(
        spatial_dims=dims,
        channels=channels,
        strides=strides,
        depths=2,
        conv=conv.Standard(),
        upsample=upsample.Transposed(),
        unit=unit.Plain(),
    )
    return UNet(encoder=encoder, decoder=decoder, num_classes=NUM_CLASSES)

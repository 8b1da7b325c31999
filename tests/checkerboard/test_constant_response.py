"""What whole networks print on a constant."""

import copy

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.layers import upsampling_period
from medseg.checkerboard.probes import constant_response
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet

NORMS = {
    "instance": block("norm.Instance"),
    "batch": block("norm.Batch"),
    "group of one": block("norm.Group", groups=4),
    "group of many": block("norm.Group", groups=2),
    "one group": block("norm.Group", groups=1),
}
FLAT = [
    block("upsample.Interpolate"),
    block("upsample.Interpolate", mode="nearest"),
    block("upsample.SmoothedTransposed", kernel_size=3),
    block("upsample.PixelShuffle", blur=True),
    block("upsample.PixelShuffle", init="icnr"),
]


def reference(dims: int = 2, channels: int = 1) -> Tensor:
    """A patch with an offset and a contrast far from 0 and 1."""
    return 40 * torch.randn(1, channels, *(24, 20, 16)[:dims]) + 300


def network_with(norm: str = "instance", **options) -> nn.Module:
    """A network whose normalisations have learned something."""
    description = unet(unit=block("unit.Plain", norm=NORMS[norm]), **options)
    network = build_network(description)
    for module in network.modules():
        if "Norm" in type(module).__name__:
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
        if hasattr(module, "running_mean"):
            module.momentum = 1.0  # a batch norm learns its statistics in one pass
    encoder = description["encoder"]
    network.train()(reference(encoder["spatial_dims"], encoder["in_channels"]))
    return network


def scale_transposed_to_ones(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.ones_(module.weight)


@pytest.mark.parametrize(
    ("norm", "upsample", "dims"), [*zip(NORMS, FLAT, (2, 3, 2, 2, 3), strict=True)], ids=repr
)
def test_is_zero_with_flat_upsamplings(norm, upsample, dims) -> None:
    network = network_with(norm, dims=dims, upsample=upsample)
    assert 0 <= constant_response(network, reference(dims)) < 1e-5


@pytest.mark.parametrize(("kernel", "flat"), [(None, True), (4, True), (3, False)])
def test_is_zero_once_all_taps_are_equal_and_the_stride_divides_the_kernel(kernel, flat) -> None:
    network = network_with(upsample=block("upsample.Transposed", kernel_size=kernel))
    scale_transposed_to_ones(network)
    response = constant_response(network, reference())
    assert response < 1e-5 if flat else response > 1e-3


def test_grows_with_the_imbalance_of_the_kernels() -> None:
    flat, random = network_with(), network_with()
    random.load_state_dict(flat.state_dict())
    scale_transposed_to_ones(flat)
    responses = []
    for share in (0.0, 0.03, 0.1, 0.3):
        network = copy.deepcopy(flat)
        for key, value in network.state_dict().items():
            value.lerp_(random.state_dict()[key], share)
        responses.append(constant_response(network, reference()))
    assert responses == sorted(responses)
    assert responses[0] < 1e-5 < responses[1]


def test_by_hand_for_one_layer() -> None:
    network = nn.ConvTranspose2d(1, 1, 2, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    image = reference()
    expected = image.mean() * torch.tensor([1.0, 2, 3, 4]).std(correction=0) / network(image).std()
    assert constant_response(network, image) == pytest.approx(expected.item(), rel=1e-5)


def test_is_the_largest_over_the_classes() -> None:
    network = nn.ConvTranspose2d(1, 2, 2, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.ones(1, 2, 2, 2))
        network.weight[0, 1, 0, 0] = 3
    image = reference()
    spread = torch.tensor([3.0, 1, 1, 1]).std(correction=0)
    expected = image.mean() * spread / network(image).std()
    assert constant_response(network, image) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("conv", [
    block("conv.Standard", kernel_size=11),
    block("conv.Dilated", dilation=8), block("conv.DepthwiseSeparable"), block("conv.Grouped"),
    block("conv.SmoothedDilated", dilation=4), block("conv.Deformable", version=2),
    block("conv.SpatiallySeparable", kernel_size=7),
], ids=str)  # fmt: skip
def test_every_convolution_goes_around_the_torus(conv) -> None:
    for upsample, flat in ((FLAT[0], True), (block("upsample.Transposed", kernel_size=12), False)):
        response = constant_response(network_with(conv=conv, upsample=upsample), reference())
        assert response < 1e-5 if flat else response > 1e-3


@pytest.mark.parametrize("strides", [(1, (1, 2, 2), 2), (1, 3, (2, 1, 1))], ids=str)
def test_strides_that_differ_by_axis(strides) -> None:
    network = network_with(dims=3, strides=strides, upsample=FLAT[0])
    assert constant_response(network, reference(3)) < 1e-5
    network = network_with(dims=3, strides=strides)
    assert upsampling_period(network) == ((2, 4, 4) if strides[1] != 3 else (6, 3, 3))
    assert constant_response(network, reference(3)) > 0.01


class TestOtherNetworks:
    def test_none_without_upsampling(self) -> None:
        assert constant_response(nn.Sequential(nn.Conv2d(1, 2, 3)), reference()) is None

    def test_none_if_the_logits_do_not_vary(self) -> None:
        network = nn.ConvTranspose2d(1, 2, 2, 2)
        nn.init.zeros_(network.weight)
        nn.init.zeros_(network.bias)
        assert constant_response(network, reference()) is None

    @pytest.mark.parametrize(
        ("norm", "residual"), [("INSTANCE", 0), ("BATCH", 2), (["GROUP", {"num_groups": 1}], 2)]
    )
    def test_the_unet_of_monai_leaves_a_pattern(self, norm, residual) -> None:
        network = build_network(MONAI_UNET | {"norm": norm, "num_res_units": residual})
        response = constant_response(network, torch.randn(1, 1, 32, 32) + 3)
        assert response > 0.01

    @pytest.mark.parametrize(("upsample", "flat"), [("nontrainable", True), ("deconv", False)])
    def test_the_segresnet_of_monai_with_its_group_norms(self, upsample, flat) -> None:
        # eight filters in eight groups: a constant has no variance in a group of one
        description = {
            "name": "monai.SegResNet",
            "spatial_dims": 2,
            "init_filters": 8,
            "blocks_down": [1, 1, 1],
            "blocks_up": [1, 1],
            "upsample_mode": upsample,
        }
        response = constant_response(build_network(description), torch.randn(1, 1, 32, 32) + 3)
        assert response < 1e-5 if flat else response > 0.01


class Broken(nn.Module):
    """Fails on every call but the first."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("broken")
        return x


def test_a_network_is_left_as_it_was_even_when_it_raises() -> None:
    network = nn.Sequential(
        network_with(), Broken(), nn.ConvTranspose2d(3, 2, 2, 2), nn.InstanceNorm2d(2)
    ).train()
    before = [(m.training, getattr(m, "padding_mode", None)) for m in network.modules()]
    with pytest.raises(RuntimeError, match="broken"):
        constant_response(network, reference())
    assert network[1].calls == 2
    assert [(m.training, getattr(m, "padding_mode", None)) for m in network.modules()] == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())

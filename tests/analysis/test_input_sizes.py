"""Valid input sizes by the rule and by trying every one; patches that can be trained on."""

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import nn

from medseg.analysis.input_sizes import SizeRule, check_patch, next_valid_size, valid_sizes
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet


def dynunet(strides: list) -> nn.Module:
    return DynUNet(2, 1, 2, [3] * len(strides), strides, strides[1:], filters=[4] * len(strides))


NETWORKS = {
    "ours": build_network(unet()),
    "MONAI UNet": UNet(2, 1, 2, channels=(4, 4, 4), strides=(2, 2)),
    "MONAI DynUNet": dynunet([1, 2, 2]),
    "MONAI DynUNet by 3 and 2": dynunet([1, 3, 2]),
    "MONAI DynUNet, one axis": dynunet([1, (1, 2), (1, 2)]),
    "MONAI SegResNet": SegResNet(2, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
    "valid convolution": nn.Sequential(nn.Conv2d(1, 2, 5), nn.Conv2d(2, 2, 3)),
    "strided alone": nn.Conv2d(1, 2, 3, stride=2),
}


def passes(network: nn.Module, size: tuple[int, int], *, same_grid: bool) -> bool:
    try:
        with torch.no_grad():
            made = network(torch.zeros(1, 1, *size)).shape[2:]
    except (RuntimeError, ValueError):
        return False
    return not same_grid or made == size


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "MONAI DynUNet"])
def test_the_rule_is_what_trying_every_size_finds(name) -> None:
    network = NETWORKS[name].eval()
    size = (36, 36)
    same_grid = passes(network, size, same_grid=True)
    for axis, rule in enumerate(valid_sizes(network, 1, size)):
        assert rule is not None
        for length in range(1, 26):
            tried = (length, 36) if axis == 0 else (36, length)
            expected = length >= rule.least and (length - rule.least) % rule.step == 0
            assert passes(network, tried, same_grid=same_grid) == expected, (axis, length, rule)


def test_a_network_that_gives_back_another_grid_is_not_asked_for_the_same() -> None:
    assert (
        valid_sizes(NETWORKS["valid convolution"], 1, (20, 20)) == (SizeRule(least=7, step=1),) * 2
    )


def test_a_size_that_does_not_pass_is_refused_with_its_layer() -> None:
    message = r"size=\[35, 36\] with 1 channels does not pass upsamples.*DynUNet: "
    with pytest.raises(ConfigError, match=message):
        valid_sizes(NETWORKS["MONAI DynUNet"], 1, (35, 36))


@pytest.mark.parametrize(
    ("name", "size", "fitting"),
    [
        ("ours", (35, 37), (35, 37)),
        ("MONAI DynUNet", (35, 36), (36, 36)),
        ("MONAI DynUNet", (33, 34), (36, 36)),
        ("valid convolution", (3, 30), (8, 32)),
    ],
)
def test_the_nearest_size_that_passes(name, size, fitting) -> None:
    assert next_valid_size(NETWORKS[name], 1, size) == fitting


def test_no_size_helps_a_network_of_other_channels() -> None:
    assert next_valid_size(NETWORKS["ours"], 2, (16, 16)) is None


class TestCheckPatch:
    def test_what_passes_the_check_passes_in_training(self) -> None:
        network = build_network(unet()).train()
        for size in [(1, 1), (4, 4), (4, 5), (2, 7), (9, 3)]:
            try:
                check_patch(network, 1, size, deep_supervision=False)
            except ConfigError:
                with pytest.raises(ValueError, match="more than 1"):
                    network(torch.randn(1, 1, *size))
            else:
                assert network(torch.randn(1, 1, *size)).isfinite().all()

    def test_a_single_voxel_in_the_bottleneck_is_refused_with_instance_norm(self) -> None:
        with pytest.raises(ConfigError, match=r"patch_size=\[4, 4\] shrinks to a single voxel"):
            check_patch(build_network(unet()), 1, (4, 4), deep_supervision=False)
        unit = block("unit.Plain", norm=block("norm.Group", groups=2))
        check_patch(build_network(unet(unit=unit)), 1, (4, 4), deep_supervision=False)

    def test_deep_supervision_needs_sizes_that_the_strides_divide(self) -> None:
        network = build_network(unet(deep_supervision=True))
        check_patch(network, 1, (13, 16), deep_supervision=False)
        check_patch(network, 1, (12, 16), deep_supervision=True)
        with pytest.raises(ConfigError, match=r"patch_size=\[13, 16\].*choose \[16, 16\]"):
            check_patch(network, 1, (13, 16), deep_supervision=True)

    @pytest.mark.parametrize(("channels", "size"), [(2, (16, 16)), (1, (16, 16, 16)), (1, (16,))])
    def test_other_channels_or_dimensions_are_refused(self, channels, size) -> None:
        with pytest.raises(ConfigError, match=rf"patch_size=.* with {channels} channels does not"):
            check_patch(build_network(unet()), channels, size, deep_supervision=False)

    def test_a_network_of_monai_is_checked_too(self) -> None:
        network = build_network(MONAI_UNET)
        check_patch(network, 1, (16, 16), deep_supervision=True)
        with pytest.raises(ConfigError, match=r"patch_size=\[18, 18\].*does not pass UNet"):
            check_patch(network, 1, (18, 18), deep_supervision=False)

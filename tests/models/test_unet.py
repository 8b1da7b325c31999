"""The U-Net: strides, depths, padding, memory layout, deep supervision, refusals."""

import copy

import pytest
import torch
from torch import Tensor, nn

from medseg.blocks.upsample import Interpolate
from medseg.models.description import build_network
from medseg.models.unet import UNet

from ..blocks.specs import UPSAMPLES
from .networks import DECODERS, assert_it_trains, block, name_of, unet

ODD = {2: (13, 18), 3: (9, 12, 5)}


@pytest.mark.parametrize("strides", [(1, (1, 2, 2), 2), (1, 3, (2, 1, 4))], ids=str)
@pytest.mark.parametrize("upsample", UPSAMPLES[::4], ids=repr)
@pytest.mark.parametrize("decoder", DECODERS)
def test_strides_may_differ_by_axis(strides, upsample, decoder) -> None:
    if decoder == "full_scale":  # a kernel must reach over the steps of two stages
        upsample = Interpolate() if hasattr(upsample, "kernel_size") else upsample
    network = build_network(unet(3, strides=strides, upsample=name_of(upsample), decoder=decoder))
    image = torch.randn(1, 1, 11, 7, 9)
    assert_it_trains(network, image)
    features = network.encoder(torch.randn(1, 1, *(2 * n for n in network.total_stride)))
    grids = [f.shape[2:] for f in network.decoder(features)]
    assert grids == [f.shape[2:] for f in features[:-1]]
    assert features[-1].shape[2:] == (2, 2, 2)


def test_the_stem_is_always_standard() -> None:
    network = build_network(unet(conv=block("conv.Grouped"), channels=(8, 8), strides=(1, 2)))
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert convs[0].groups == 1
    assert 4 in {m.groups for m in convs}


class TestPadding:
    def test_the_far_end_is_padded_with_zeros_and_cropped(self) -> None:
        network = build_network(unet()).eval()
        image = torch.randn(1, 1, 13, 18)
        padded = nn.functional.pad(image, (0, 2, 0, 3))
        assert torch.equal(network(image), network(padded)[..., :13, :18])


class TestLayout:
    @pytest.fixture(autouse=True)
    def two_threads(self) -> None:
        """With one thread torch computes small convolutions without its CPU library."""
        torch.set_num_threads(2)

    @pytest.mark.parametrize("decoder", DECODERS)
    @pytest.mark.parametrize("dims", [2, 3])
    def test_features_have_their_channels_last_whatever_comes_in(self, dims, decoder) -> None:
        layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
        upsample = block("upsample.Interpolate")
        wide = {"channels": (16, 32, 32)}
        network = build_network(unet(dims, decoder=decoder, upsample=upsample, **wide))
        seen: list[Tensor] = []
        for half in (network.encoder, network.decoder):
            half.register_forward_hook(lambda module, args, out: seen.extend(out))
        image = torch.randn(2, 1, *(29, 24, 22)[:dims])
        assert image.is_contiguous()
        logits = network.eval()(image)
        assert len(seen) == 5
        for features in seen:
            assert features.is_contiguous(memory_format=layout)
            assert not features.is_contiguous()
        assert torch.equal(network(image.contiguous(memory_format=layout)), logits)


class TestDeepSupervision:
    def test_a_size_that_the_strides_do_not_divide_is_refused(self) -> None:
        network = build_network(unet(deep_supervision=True, strides=(1, 2, (3, 2))))
        message = r"patch_size=\[13, 18\].*total stride \[6, 4\].*choose \[18, 20\]"
        with pytest.raises(ValueError, match=message):
            network.multiscale_logits(torch.randn(1, 1, 13, 18))
        network.multiscale_logits(torch.randn(1, 1, 18, 20))


def parts():
    network = build_network(unet())
    return copy.deepcopy(network.encoder), network.decoder


class TestUNetRefuses:
    @pytest.mark.parametrize(
        "wrong", [{"channels": (4, 16, 8)}, {"channels": (4, 8), "strides": (1, 2)}]
    )
    def test_a_decoder_of_other_channels(self, wrong) -> None:
        encoder, _ = parts()
        decoder = build_network(unet(**({"strides": (1, 2, 2)} | wrong))).decoder
        with pytest.raises(
            ValueError, match=r"decoder channels=.*must mirror the encoder's \(4, 8, 8\)"
        ):
            UNet(encoder=encoder, decoder=decoder, num_classes=2)

    @pytest.mark.parametrize("wrong", [{"strides": (1, 2, 4)}, {"dims": 3}])
    def test_a_decoder_of_other_strides_or_dimensions(self, wrong) -> None:
        encoder, _ = parts()
        decoder = build_network(unet(**wrong)).decoder
        with pytest.raises(ValueError, match=r"decoder strides=.*must mirror the encoder's"):
            UNet(encoder=encoder, decoder=decoder, num_classes=2)

    @pytest.mark.parametrize("classes", [1, 0])
    def test_fewer_than_two_classes(self, classes) -> None:
        encoder, decoder = parts()
        with pytest.raises(ValueError, match=f"num_classes={classes} must be at least 2"):
            UNet(encoder=encoder, decoder=decoder, num_classes=classes)

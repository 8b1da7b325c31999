"""Every decoder against its definition, written out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks import skip
from medseg.errors import ConfigError
from medseg.models.description import build, build_network

from ..blocks.specs import SKIPS
from .networks import DECODERS, block, name_of, unet

WIDTHS = (4, 8, 12)
STRIDES = (1, (2, 1), (2, 3))


def decoder_of(kind: str, **options) -> nn.Module:
    shape = {"channels": WIDTHS, "strides": STRIDES, "upsample": block("upsample.Interpolate")}
    return build(unet(decoder=kind, **(shape | options))["decoder"]).eval()


def features_of(size: tuple[int, int] = (8, 6)) -> list[Tensor]:
    grids = [size, (size[0] // 2, size[1]), (size[0] // 4, size[1] // 3)]
    return [torch.randn(2, width, *grid) for width, grid in zip(WIDTHS, grids, strict=True)]


def first_conv(module: nn.Module) -> nn.Conv2d:
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d))


def interpolated(x: Tensor, *scale: int) -> Tensor:
    factors = tuple(float(s) for s in scale)
    return functional.interpolate(x, scale_factor=factors, mode="bilinear", align_corners=False)


def test_the_decoder_by_hand() -> None:
    decoder = decoder_of("standard")
    x0, x1, x2 = features_of()
    one = decoder.stages[1](torch.cat([x1, decoder.upsamples[1](x2)], dim=1))
    zero = decoder.stages[0](torch.cat([x0, decoder.upsamples[0](one)], dim=1))
    got = decoder([x0, x1, x2])
    assert len(got) == 2
    assert torch.equal(got[0], zero)
    assert torch.equal(got[1], one)


class TestNested:
    @pytest.mark.parametrize("stages", [2, 3, 4, 5])
    def test_it_is_a_triangle_of_nodes(self, stages) -> None:
        options = {"channels": (4, 8, 12, 16, 20)[:stages], "strides": (1, 2, 2, 2, 2)[:stages]}
        decoder = decoder_of("nested", **options)
        assert len(decoder.nodes) == stages * (stages - 1) // 2
        assert sorted(decoder.order) == [
            (i, j) for i in range(stages) for j in range(stages - 1 - i)
        ]
        assert decoder.channels == options["channels"][:-1]

    def test_by_hand(self) -> None:
        decoder = decoder_of("nested")
        node = dict(zip(decoder.order, decoder.nodes, strict=True))
        x00, x10, x20 = features_of()

        def joined(place: tuple[int, int], *parts: Tensor, below: Tensor) -> Tensor:
            up = node[place].upsample(below)
            return node[place].stage(torch.cat([*parts, up], dim=1))

        x01 = joined((0, 0), x00, below=x10)
        x11 = joined((1, 0), x10, below=x20)
        x02 = joined((0, 1), x00, x01, below=x11)
        got = decoder([x00, x10, x20])
        assert len(got) == 2
        assert torch.equal(got[0], x02)
        assert torch.equal(got[1], x11)


class TestFullScale:
    @pytest.mark.parametrize("width", [None, 6])
    def test_every_stage_joins_all_scales_at_one_width(self, width) -> None:
        decoder = decoder_of("full_scale", of_decoder={"width": width})
        each = width or WIDTHS[0]
        assert decoder.channels == (3 * each,) * 2
        arriving = [[4, 3 * each, 12], [4, 8, 12]]  # what is coarser comes from the decoder
        for index, (join, stage) in enumerate(zip(decoder.joins, decoder.stages, strict=True)):
            assert [first_conv(path).in_channels for path in join.paths] == arriving[index]
            assert {first_conv(path[1]).out_channels for path in join.paths} == {each}
            assert first_conv(stage).in_channels == first_conv(stage).out_channels == 3 * each

    def test_by_hand(self) -> None:
        decoder = decoder_of("full_scale")
        x0, x1, x2 = features_of()
        (a0, a1, a2), (b0, b1, b2) = [join.paths for join in decoder.joins]
        parts = [
            b0[1](functional.max_pool2d(x0, (2, 1))),
            b1[1](x1),
            b2[1](interpolated(b2[0][0](x2), 2, 3)),
        ]
        one = decoder.stages[1](torch.cat(parts, dim=1))
        parts = [
            a0[1](x0),
            a1[1](interpolated(a1[0][0](one), 2, 1)),
            a2[1](interpolated(a2[0][0](x2), 4, 3)),
        ]
        zero = decoder.stages[0](torch.cat(parts, dim=1))
        got = decoder([x0, x1, x2])
        assert len(got) == 2
        torch.testing.assert_close(got[0], zero)
        torch.testing.assert_close(got[1], one)


class TestSkips:
    @pytest.mark.parametrize("join", SKIPS, ids=repr)
    def test_finer_features_matter_unless_there_is_no_skip(self, join) -> None:
        decoder = decoder_of("standard", skip=name_of(join))
        features = features_of()
        others = [f + torch.randn_like(f) for f in features[:-1]]
        before, after = decoder(features)[0], decoder([*others, features[-1]])[0]
        assert torch.equal(before, after) == isinstance(join, skip.Nothing)
        coarser = decoder([*features[:-1], torch.randn_like(features[-1])])[0]
        assert not torch.allclose(before, coarser)


@pytest.mark.parametrize("kind", DECODERS)
class TestContract:
    def test_a_decoder_knows_its_encoder_and_itself(self, kind) -> None:
        decoder = decoder_of(kind)
        assert decoder.encoder_channels == WIDTHS
        assert decoder.strides == ((1, 1), (2, 1), (2, 3))
        features = features_of()
        got = decoder(features)
        assert tuple(f.shape[1] for f in got) == decoder.channels
        assert [f.shape[2:] for f in got] == [f.shape[2:] for f in features[:-1]]

    @pytest.mark.parametrize("deep_supervision", [False, True])
    @pytest.mark.parametrize("dims", [2, 3])
    def test_its_logits_are_finest_first_on_nested_grids(
        self, kind, dims, deep_supervision
    ) -> None:
        strides = (1, (2, 1, 2)[:dims], (1, 3, 2)[:dims], 2)
        network = build_network(
            unet(
                dims,
                channels=(4, 8, 8, 16),
                strides=strides,
                upsample=block("upsample.Interpolate"),
                decoder=kind,
                deep_supervision=deep_supervision,
            )
        )
        image = torch.randn(1, 1, *(8, 12, 16)[:dims])
        outputs = network.multiscale_logits(image)
        grids = [(8, 12, 16)[:dims], (4, 12, 8)[:dims], (4, 4, 4)[:dims]]
        assert [tuple(o.shape[2:]) for o in outputs] == grids[: 3 if deep_supervision else 1]
        assert {o.shape[1] for o in outputs} == {3}
        assert torch.equal(outputs[0], network(image))
        sum(o.square().sum() for o in outputs).backward()
        assert all(p.grad.abs().sum() > 0 for p in network.parameters())


def test_one_stage_alone_may_be_unpooled_where_one_alone_is_pooled() -> None:
    pooled = {"stage": {"1": {"downsample": block("downsample.MaxPool")}}}
    unpooled = {"stage": {"0": {"upsample": block("upsample.MaxUnpool")}}}
    network = build_network(unet(of_encoder=pooled, of_decoder=unpooled))
    assert network(torch.randn(1, 1, 13, 18)).shape == (1, 3, 13, 18)
    elsewhere = {"stage": {"1": {"upsample": block("upsample.MaxUnpool")}}}
    with pytest.raises(ConfigError, match="downsampling into stage 2 is Conv2d"):
        build_network(unet(of_encoder=pooled, of_decoder=elsewhere))

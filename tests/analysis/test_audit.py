"""The audit as a whole: its parts agree with each other and with independent counts."""

import copy
import json
from functools import cache

import pandas as pd
import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medseg.analysis.audit import Audit, Subject, audit, memory_of
from medseg.analysis.audit_document import markdown, write_audit
from medseg.analysis.layer_table import upsampling_rows_of
from medseg.analysis.receptive_field import receptive_field
from medseg.analysis.trace import trace
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import block, unet


def subject(network: nn.Module, size=(32, 24), **options) -> Subject:
    return Subject(name="it", network=network, in_channels=1, patch_size=size, **options)


@cache
def audited(network: nn.Module, size=(32, 24), **options) -> Audit:
    return audit(network, (1, 1, *size), name="it", **options)


class Odd(nn.Module):
    """A network with an operation that nobody knows."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.spectrum = Spectrum()

    def forward(self, x):
        return self.spectrum(self.first(x))


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).real


NETWORKS = {
    "ours": build_network(unet(conv=block("conv.Dilated"), depths=2)),
    "MONAI DynUNet": DynUNet(2, 1, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]),
    "MONAI SegResNet": SegResNet(2, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_add_up_to_the_network_and_the_last_has_its_field(name) -> None:
    network = NETWORKS[name]
    result = audited(network)
    parameters = sum(p.numel() for p in network.parameters())
    assert result.parameters == parameters == result.total.parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = copy.deepcopy(network).to("meta").eval()(torch.empty(1, 1, 32, 24, device="meta"))
    assert result.total.macs == counter.get_total_flops() // 2
    assert result.logits == logits.shape[1:]
    assert not result.unknown
    assert result.field == receptive_field(network, 1, (32, 24))
    extents = [extent for extent in result.layers["extent"] if extent]
    assert max(extents) == tuple(field.largest for field in result.field if field)


def test_a_shared_layer_has_its_weights_once_and_its_cost_twice() -> None:
    shared = nn.Conv2d(1, 1, 3, padding=1)
    result = audited(nn.Sequential(shared, shared))
    assert result.parameters == 10
    assert result.total.parameters == 10
    assert result.total.macs == 2 * 9 * 32 * 24


def test_an_unknown_operation_is_named_and_never_free() -> None:
    result = audited(Odd())
    (operation,) = [name for layer, name in result.unknown if name.startswith("_fft")]
    assert result.field == (None, None)
    text = markdown(result)
    assert f"| spectrum | {operation} |" in text
    assert f"unknown: {operation}" in text


def test_a_patch_that_does_not_pass_is_refused_with_layer_and_remedy() -> None:
    message = (
        r"size=\[30, 24\].*does not pass upsamples.0 .*of DynUNet.*choose for instance \[32, 24\]"
    )
    with pytest.raises(ConfigError, match=message):
        audited(NETWORKS["MONAI DynUNet"], size=(30, 24))


def test_deep_supervision_costs_training_memory_alone() -> None:
    network = build_network(unet(deep_supervision=True))
    one, several = (memory_of(subject(network, deep_supervision=on)) for on in (False, True))
    assert several["inference"] == one["inference"]
    assert several["training"]["fp32"].kept != one["training"]["fp32"].kept


def test_deep_supervision_of_another_library_is_audited_as_it_is_called() -> None:
    own = DynUNet(2, 1, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8], deep_supervision=True)
    deep = memory_of(subject(own, deep_supervision=True))["training"]["fp32"]
    assert deep.kept > memory_of(subject(NETWORKS["MONAI DynUNet"]))["training"]["fp32"].kept


def test_every_upsampling_has_a_row() -> None:
    upsamplings = {
        "transposed": block("upsample.Transposed"),
        "bilinear": block("upsample.Interpolate"),
        "max_unpool": block("upsample.MaxUnpool"),
        "pixel_shuffle": block("upsample.PixelShuffle"),
    }
    for name, upsample in upsamplings.items():
        network = build_network(unet(upsample=upsample, downsample=block("downsample.MaxPool")))
        rows = upsampling_rows_of(network, trace(network, 1, (32, 24)))
        assert len(rows) == 2, name
        assert all((row["imbalance"] is None) == (name == "max_unpool") for row in rows)
    assert [row["imbalance"] for row in audited(NETWORKS["MONAI SegResNet"]).upsamplings] == [0]
    shuffled = SegResNet(
        2, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,), upsample_mode="pixelshuffle"
    )
    (row,) = upsampling_rows_of(shuffled, trace(shuffled, 1, (32, 24)))
    assert row["operator"].startswith("SubpixelUpsample(")
    assert row["imbalance"] == pytest.approx(0, abs=1e-9)  # as initialised: ICNR, and a blur


def test_gridding_is_in_the_text() -> None:
    text = markdown(audited(NETWORKS["ours"]))
    assert "**Gridding:**" in text
    assert "common factor 2" in text


def test_millimetres_follow_the_spacing() -> None:
    text = markdown(audited(nn.Conv2d(1, 1, 3, padding=1), spacing=(0.5, 2.0)))
    assert "| 0 | 3 | 1.5 |" in text
    assert "| 1 | 3 | 6 |" in text


def test_what_is_written_is_what_was_found(tmp_path) -> None:
    result = audited(NETWORKS["ours"])
    paths = write_audit(result, tmp_path / "an audit")
    assert [path.name for path in paths] == ["audit.md", "audit.json", "audit.csv"]
    content = json.loads(paths[1].read_text())
    table = pd.read_csv(paths[2])
    assert content["totals"]["macs"] == result.total.macs == table["macs"].sum()
    assert content["parameters"] == table["parameters"].sum()
    assert content["valid_sizes"] == [{"least": 1, "step": 1}] * 2
    assert paths[0].read_text() == markdown(result)

"""Changes that are proposed have the wanted receptive field, without holes, at the stated cost."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from medseg.analysis import field_search
from medseg.analysis.cost import Load, costs
from medseg.analysis.field_search import Advice, advise, as_it_is, changes
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.receptive_field import receptive_field
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet

PATCH = (64, 64)
LOAD = Load(in_channels=1, patch_size=PATCH)
GRIDDED = {"conv": block("conv.Dilated", dilation=2), "depths": 2}
Only = Callable[..., None]


def asked(wanted: Any, spacing: Any = (1,), patch: Any = PATCH, **network: Any) -> Advice:
    load = Load(in_channels=1, patch_size=patch)
    return advise(unet(len(patch), **network), wanted, spacing, load)


def changes_of(description: Any, patch: Any = PATCH) -> dict[str, Any]:
    load = Load(in_channels=1, patch_size=patch)
    return changes(as_it_is(description, (1.0,) * len(patch), load))


def smallest_extents(description: Any) -> tuple[int, ...]:
    fields = receptive_field(build_network(description), 1, PATCH)
    return tuple(field.smallest for field in fields if field)


@pytest.fixture(scope="module")
def own() -> int:
    """The extent of the default network, equal along both axes."""
    return smallest_extents(unet())[0]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Only:
    """Leaves out all kinds of changes but some."""

    def _only(*kinds: str) -> None:
        monkeypatch.setattr(
            field_search, "changes", lambda base: {kind: changes(base)[kind] for kind in kinds}
        )

    return _only


def test_of_each_kind_the_weakest_change_that_is_enough_at_its_cost(only: Only) -> None:
    kinds = ("stages", "coarsest depth", "kernel")
    only(*kinds)
    advice = asked([40])
    found = {candidate.text: candidate for candidate in advice.candidates}
    assert len(found) == len(kinds)
    assert advice.furthest is None
    macs = [candidate.costs["macs"] for candidate in advice.candidates]
    assert macs == sorted(macs)
    options = changes_of(unet())
    for kind in kinds:
        for change in options[kind]:
            network = build_network(change.description)
            extents = smallest_extents(change.description)
            if candidate := found.get(change.text):
                assert candidate.extents_mm == extents
                assert min(extents) >= 40
                assert gridding_warnings(network) == []
                assert candidate.costs == costs(change.description, LOAD)
                assert candidate.overrides
                break
            assert min(extents) < 40 or gridding_warnings(network)


def test_an_extent_is_reached_to_the_voxel_in_mm_of_each_axis(own: int) -> None:
    advice = asked([own - 2, own / 2], spacing=[1, 0.5])
    assert advice.is_reached
    assert advice.candidates == ()
    assert advice.base.extents_mm == (own, own / 2)
    assert advice.surplus_mm == (2, 0)
    assert not advice.base.covers((own, own / 2 + 0.25))


def test_a_further_stage_halves_fine_axes_only(only: Only) -> None:
    only("stages")
    advice = asked([60, 60, 60], spacing=[1, 1, 5], patch=(64, 64, 16), strides=(1, [2, 2, 1], 2))
    (stages,) = advice.candidates
    encoder = stages.description["encoder"]
    assert encoder["strides"][3] == [2, 2, 1]
    mirrored = {name: encoder[name] for name in ("channels", "strides")}
    assert stages.description["decoder"] == unet(3)["decoder"] | mirrored


def test_stages_end_at_four_voxels_and_channels_at_the_largest_width() -> None:
    (stage,) = changes_of(unet(channels=(4, 8, 8)), (32, 32))["stages"]
    assert stage.description["encoder"]["strides"] == [1, 2, 2, 2]
    assert list(changes_of(stage.description, (32, 32))["stages"]) == []
    *_, last = changes_of(unet(3, channels=(64, 128, 256)), (512,) * 3)["stages"]
    assert last.description["encoder"]["channels"] == [64, 128, 256, 320, 320, 320, 320]


def test_units_per_stage_stay_when_stages_are_added() -> None:
    base = unet(depths=[1, 2, 3], of_decoder={"depths": 1})
    first = next(changes_of(base)["stages"])
    assert first.description["encoder"]["depths"] == [1, 2, 3, 3]
    assert first.description["decoder"]["depths"] == 1
    build_network(first.description)


def test_every_change_of_every_kind_can_be_built() -> None:
    kinds = changes_of(unet())
    assert len(kinds) == 8
    for options in kinds.values():
        texts = [change.text for change in options if build_network(change.description)]
        assert len(set(texts)) == len(texts) > 0


def test_a_kernel_never_shrinks() -> None:
    base = unet(conv=block("conv.Standard", kernel_size=5))
    kinds = changes_of(base)
    assert [c.overrides[0] for c in kinds["encoder kernel"]] == ["model.encoder.conv.kernel_size=7"]
    assert "model.encoder.conv.kernel_size=5" in next(kinds["dilation"]).overrides


def test_a_network_with_holes_is_not_enough_and_none_is_proposed(only: Only) -> None:
    only("depth", "separable kernel")
    advice = asked([20], **GRIDDED)
    assert min(advice.base.extents_mm) >= 20
    assert advice.base.holes
    assert not advice.is_reached
    assert advice.candidates
    for candidate in advice.candidates:
        assert not candidate.holes
        assert gridding_warnings(build_network(candidate.description)) == []


def test_two_changes_where_one_is_not_enough(only: Only) -> None:
    only("stages", "encoder kernel")
    tiny = {"channels": (2, 2), "strides": (1, 1), "conv": block("conv.Standard", kernel_size=1)}
    advice = asked([60], **tiny)
    assert advice.candidates
    for candidate in advice.candidates:
        assert "more stages, " in candidate.text
        assert min(smallest_extents(candidate.description)) >= 60


def test_where_nothing_is_enough_the_largest_field_is_named(only: Only) -> None:
    only("depth")
    advice = asked([60], channels=(2, 2), strides=(1, 1))
    assert advice.candidates == ()
    assert advice.furthest is not None
    assert "4 more units" in advice.furthest.text
    assert not advice.furthest.covers(advice.wanted_mm)


def test_another_network_is_not_changed_and_a_whole_image_is_any_extent() -> None:
    advice = advise(MONAI_UNET, [60], [1], LOAD)
    assert advice.base.extents_mm == smallest_extents(MONAI_UNET)
    assert (advice.candidates, advice.furthest) == ((), None)
    attention = {"name": "monai.SegResNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    whole = advise(attention | {"init_filters": 8}, [60], [1], LOAD)
    assert all(extent >= 60 or math.isinf(extent) for extent in whole.base.extents_mm)

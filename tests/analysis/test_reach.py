"""What is advised really reaches, without holes, at the cost that is told."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from medseg.analysis import field_search
from medseg.analysis.changes import Grid, changes
from medseg.analysis.cost import Load, costs
from medseg.analysis.field_search import Advice, advise
from medseg.analysis.receptive_field import gridding_warnings, receptive_field
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet

PATCH = (64, 64)
LOAD = Load(in_channels=1, patch_size=PATCH)
GRIDDED = {"conv": block("conv.Dilated", dilation=2), "depths": 2}
KINDS = {
    "stages",
    "depth",
    "coarsest depth",
    "encoder kernel",
    "kernel",
    "separable encoder kernel",
    "separable kernel",
    "dilation",
    "coarsest dilation",
}


def asked(wanted: Any, spacing: Any = (1,), patch: Any = PATCH, **network: Any) -> Advice:
    load = Load(in_channels=1, patch_size=patch)
    return advise(unet(len(patch), **network), wanted, spacing, load)


def fields_mm(description: Any, spacing: Any, patch: Any) -> tuple[float, ...]:
    fields = receptive_field(build_network(description), 1, patch)
    found = []
    for field, mm in zip(fields, spacing, strict=True):
        assert field is not None
        assert field.coverage == 1
        found.append(field.smallest * mm)
    return tuple(found)


@cache
def forty() -> Advice:
    return asked([40])


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves out all kinds of changes but some."""

    def _only(*kinds: str) -> None:
        monkeypatch.setattr(
            field_search, "changes", lambda *given: {kind: changes(*given)[kind] for kind in kinds}
        )

    return _only


def test_every_candidate_sees_and_costs_what_is_told() -> None:
    advice = forty()
    assert len(advice.candidates) >= 6
    for candidate in advice.candidates:
        description = candidate.change.description
        assert candidate.extents_mm == fields_mm(description, (1, 1), PATCH)
        assert min(candidate.extents_mm) >= 40
        assert gridding_warnings(build_network(description)) == []
        assert candidate.costs == costs(description, LOAD)
        assert candidate.change.overrides
    macs = [candidate.costs["macs"] for candidate in advice.candidates]
    assert macs == sorted(macs)
    assert advice.furthest is None


def test_the_weakest_change_of_a_kind_is_told() -> None:
    advice = forty()
    grid = Grid(spacing=(1, 1), patch_size=PATCH)
    told = {candidate.change.text for candidate in advice.candidates}
    for options in changes(unet(), grid).values():
        for change in options:
            if change.text in told:
                break
            network = build_network(change.description)
            sees = [field.smallest for field in receptive_field(network, 1, PATCH) if field]
            assert min(sees) < 40 or gridding_warnings(network)


def test_a_network_that_reaches_already_is_left_as_it_is() -> None:
    advice = asked([10, 16])
    own = fields_mm(unet(), (1, 1), PATCH)
    assert advice.is_reached
    assert advice.candidates == ()
    assert advice.surplus_mm == (own[0] - 10, own[1] - 16)


def test_the_extent_is_reached_to_the_voxel() -> None:
    own = fields_mm(unet(), (1, 1), PATCH)[0]
    advice = asked([own])
    assert advice.is_reached
    assert not advice.base.covers((own, own + 0.5))


def test_spacing_counts_and_each_axis_for_itself() -> None:
    own = fields_mm(unet(), (1, 1), PATCH)[0]
    fine = asked([own, own / 2], spacing=[1, 0.5])
    assert fine.base.extents_mm == (own, own / 2)
    assert fine.is_reached
    assert not fine.base.covers((own, own))


def test_a_further_stage_halves_fine_axes_only(only: Callable[..., None]) -> None:
    only("stages")
    advice = asked([60, 60, 60], spacing=[1, 1, 5], patch=(64, 64, 16), strides=(1, [2, 2, 1], 2))
    (stages,) = advice.candidates
    assert stages.change.description["encoder"]["strides"][3] == [2, 2, 1]
    assert stages.change.description["decoder"] == {
        **unet(3)["decoder"],
        "channels": stages.change.description["encoder"]["channels"],
        "strides": stages.change.description["encoder"]["strides"],
    }


def test_no_stage_where_the_patch_would_shrink_below_four_voxels() -> None:
    grid = Grid(spacing=(1, 1), patch_size=(32, 32))
    (only,) = changes(unet(channels=(4, 8, 8)), grid)["stages"]
    assert only.description["encoder"]["strides"] == [1, 2, 2, 2]
    assert list(changes(only.description, grid)["stages"]) == []


def test_channels_double_up_to_the_largest_allowed() -> None:
    grid = Grid(spacing=(1,) * 3, patch_size=(512,) * 3)
    *_, last = changes(unet(3, channels=(64, 128, 256)), grid)["stages"]
    assert last.description["encoder"]["channels"] == [64, 128, 256, 320, 320, 320, 320]


def test_units_per_stage_are_kept_when_stages_are_added() -> None:
    grid = Grid(spacing=(1, 1), patch_size=(64, 64))
    base = unet(depths=[1, 2, 3], of_decoder={"depths": 1})
    first = next(changes(base, grid)["stages"])
    assert first.description["encoder"]["depths"] == [1, 2, 3, 3]
    assert first.description["decoder"]["depths"] == 1
    build_network(first.description)


def test_every_change_of_every_kind_can_be_built() -> None:
    kinds = changes(unet(), Grid(spacing=(1, 1), patch_size=PATCH))
    assert set(kinds) == KINDS
    for options in kinds.values():
        found = [change for change in options if build_network(change.description)]
        assert found
        assert len({change.text for change in found}) == len(found)


def test_a_kernel_is_not_made_smaller_and_a_filled_stage_stays() -> None:
    stage = {2: {"conv": block("conv.Standard", kernel_size=3)}}
    base = unet(conv=block("conv.Standard", kernel_size=5), of_encoder={"stage": stage})
    base["encoder"]["stage"] = {"2": stage[2]}
    kinds = changes(base, Grid(spacing=(1, 1), patch_size=PATCH))
    assert [c.overrides[0] for c in kinds["encoder kernel"]] == ["model.encoder.conv.kernel_size=7"]
    assert list(kinds["coarsest dilation"]) == []
    dilated = next(kinds["dilation"])
    assert "model.encoder.conv.kernel_size=5" in dilated.overrides


def test_other_slots_of_a_stage_stay_beside_its_dilation() -> None:
    own = {"2": {"unit": block("unit.Residual")}, "1": {"conv": block("conv.Pointwise")}}
    base = unet(of_encoder={"stage": own})
    change = next(changes(base, Grid(spacing=(1, 1), patch_size=PATCH))["coarsest dilation"])
    stage = change.description["encoder"]["stage"]
    assert stage["1"] == own["1"]
    assert stage["2"]["unit"] == own["2"]["unit"]
    assert stage["2"]["conv"]["rates"] == [1, 2]


def test_a_network_with_holes_does_not_reach_and_none_is_advised(
    only: Callable[..., None],
) -> None:
    only("depth", "kernel", "separable kernel", "dilation", "coarsest dilation")
    advice = asked([20], **GRIDDED)
    assert min(advice.base.extents_mm) >= 20
    assert advice.base.holes
    assert not advice.is_reached
    assert advice.candidates
    for candidate in advice.candidates:
        assert not candidate.holes
        assert gridding_warnings(build_network(candidate.change.description)) == []


def test_two_changes_where_one_is_not_enough(only: Callable[..., None]) -> None:
    only("stages", "encoder kernel")
    tiny = {"channels": (2, 2), "strides": (1, 1), "conv": block("conv.Standard", kernel_size=1)}
    advice = asked([60], **tiny)
    assert advice.candidates
    for candidate in advice.candidates:
        assert "more stages, " in candidate.change.text
        assert min(fields_mm(candidate.change.description, (1, 1), PATCH)) >= 60


def test_where_nothing_reaches_the_furthest_is_told(only: Callable[..., None]) -> None:
    only("depth")
    advice = asked([60], channels=(2, 2), strides=(1, 1))
    assert advice.candidates == ()
    assert advice.furthest is not None
    assert "4 more units" in advice.furthest.change.text
    assert not advice.furthest.covers(advice.wanted_mm)


def test_of_another_network_only_what_it_sees_is_told() -> None:
    advice = advise(MONAI_UNET, [60], [1], LOAD)
    assert advice.base.extents_mm == fields_mm(MONAI_UNET, (1, 1), PATCH)
    assert (advice.candidates, advice.furthest) == ((), None)


def test_an_axis_that_is_seen_whole_reaches_any_extent() -> None:
    pooled = {"name": "monai.SegResNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    advice = advise(pooled | {"init_filters": 8}, [60], [1], LOAD)
    assert all(extent >= 60 or math.isinf(extent) for extent in advice.base.extents_mm)


def test_a_patch_that_is_smaller_than_the_extent_is_refused() -> None:
    message = (
        r"patch_size=\[64, 64\] spans 64 × 32 mm, less than the 60 × 60 mm wanted.*"
        r"choose data.patch_size=\[64, 128\]"
    )
    with pytest.raises(ConfigError, match=message):
        asked([60], spacing=[1, 0.5])


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["extent", "spacing"])
def test_numbers_are_positive_and_finite(name: str, bad: float) -> None:
    numbers = {"extent": [20.0], "spacing": [1.0], name: [bad]}
    with pytest.raises(ConfigError, match=rf"{name}=.* must be positive and finite"):
        asked(numbers["extent"], numbers["spacing"])


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("name", ["extent", "spacing"])
def test_numbers_are_one_or_one_per_axis(name: str, count: int) -> None:
    numbers = {"extent": [20.0], "spacing": [1.0], name: [1.0] * count}
    with pytest.raises(ConfigError, match=rf"{name}=.* has {count} numbers.*give one number, or 2"):
        asked(numbers["extent"], numbers["spacing"])

"""Cases: chosen by rule, drawn from their files, named where a file is not what it should be."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.errors import DataError
from medseg.record import ArtifactRecord, CaseRow, Picture, RunRecord
from medseg.report.cases import CaseViews, case_views
from medseg.report.cases.choice import choose
from medseg.report.cases.opened import open_case
from medseg.report.cases.slices import choose_planes
from medseg.report.cases.values import CaseValues, Scores, artifact_scores
from medseg.volumes import to_ras
from medseg.volumes.overlay import ERROR_COLOURS, FALSE_NEGATIVE, FALSE_POSITIVE

from .records import png
from .volume_runs import AFFINE, CASES, ORGAN, SHAPE, arms_of, label, prediction, save, write_runs

BUDGET = 8 * 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_runs(tmp_path)


def views(folder: Path, budget: int = BUDGET) -> CaseViews:
    arms = arms_of(folder)
    return case_views(arms, 1, [arm.number for arm in arms], budget_bytes=budget)


def rewrite(folder: Path, arm: str, **changes: object) -> None:
    target = folder / arm
    replace(RunRecord.read(target / "record.json"), **changes).write(target)


def test_worst_median_best_disputed_and_most_artificial_case() -> None:
    reference = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.6, "e": 0.7}
    other = reference | {"d": 0.1}
    scores = Scores(name="gain κ", by_case={"e": (0.3, 2), "a": (0.1, 1)})
    chosen = choose(reference, {1: reference, 2: other}, scores)
    assert [choice.case for choice in chosen] == ["b", "d", "a", "e"]
    assert chosen[1].reasons == (
        "median of the reference, Dice 0.600",
        "arms differ most, Dice 0.100 to 0.600",
    )
    assert chosen[3].reasons == ("largest gain κ, 0.3 in arm 2",)


@given(
    st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8),
    st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8),
)
def test_every_chosen_case_is_shown_once(one: dict[str, float], two: dict[str, float]) -> None:
    chosen = choose(one, {1: one, 2: two})
    assert len({choice.case for choice in chosen}) == len(chosen) <= 4
    assert all(choice.reasons and choice.case in one for choice in chosen)
    if one:
        reasons = {reason.split(",")[0]: c.case for c in chosen for reason in c.reasons}
        assert one[reasons["worst of the reference"]] == min(one.values())
        assert one[reasons["best of the reference"]] == max(one.values())


def test_one_arm_has_no_disputed_case() -> None:
    (choice,) = choose({"a": 0.5}, {1: {"a": 0.5}})
    assert [r.split(" ")[0] for r in choice.reasons] == ["worst", "median", "best"]
    assert choose({}, {}) == ()


def test_a_case_is_the_mean_of_its_seeds_and_then_of_its_classes(folder: Path) -> None:
    values = CaseValues(arms_of(folder))
    assert values.by_case("dice", 2)["ease_1"] == pytest.approx((0.86 + 0.65) / 2)
    assert values.by_class("hd95_mm", 1) == {"organ": {c: 3.0 - i for i, c in enumerate(CASES)}}


def test_cycle_spin_goes_before_gain(folder: Path) -> None:
    cases = [
        CaseRow(case="ease_0", values={"prediction": {"gain": 0.9}}),
        CaseRow(
            case="ease_2",
            values={"prediction": {"gain": 0.1}, "cycle_spin": {"cycle_spin": 0.02}},
        ),
    ]
    rewrite(folder, "extra", artifacts=ArtifactRecord(period=[2, 2, 2], cases=cases))
    scores = artifact_scores(arms_of(folder))
    assert scores == Scores(name="cycle-spin residual", by_case={"ease_2": (0.02, 2)})
    assert "largest cycle-spin residual, 0.02 in arm 2" in [
        reason for sheet in views(folder).sheets for reason in sheet.reasons
    ]


def test_the_frame_holds_the_label_and_the_planes_show_where_arms_differ(folder: Path) -> None:
    opened = open_case("ease_0", arms_of(folder))
    whole = to_ras(label(), AFFINE)
    start = opened.start
    box = tuple(slice(a, a + n) for a, n in zip(start, opened.frame.label.shape, strict=True))
    np.testing.assert_array_equal(opened.frame.label, whole[box])
    assert np.count_nonzero(opened.frame.label) == np.count_nonzero(whole)
    assert opened.spacing == (1.5, 2.0, 1.0)
    differ = to_ras(prediction("missing"), AFFINE) != to_ras(prediction("extra"), AFFINE)
    planes = choose_planes(opened)
    for axis, index in planes.indices.items():
        counts = [np.count_nonzero(plane) for plane in np.moveaxis(differ, axis, 0)]
        assert counts[start[axis] + index] == max(counts)
    assert "where the arms differ most" in planes.caption


def test_errors_have_their_colour_and_dice_stands_below(folder: Path) -> None:
    sheet = views(folder).sheets[0]
    truth, missing, extra = (
        {tuple(c) for c in np.array(picture.convert("RGB")).reshape(-1, 3).tolist()}
        for picture in (
            Image.open(io.BytesIO(base64.b64decode(shot.drawn.png)))
            for shot in sheet.shots
            if shot.drawn
        )
    )

    def like(colours: set[tuple[int, ...]], error: int) -> bool:
        # 65 % of the colour over some grey: the channels keep their distances
        first, *rest = np.multiply(0.65, ERROR_COLOURS[error])
        return any(
            np.allclose([c - colour[0] for c in colour[1:]], [r - first for r in rest], atol=3)
            for colour in colours
        )

    assert not like(truth, FALSE_POSITIVE)
    assert not like(truth, FALSE_NEGATIVE)
    assert like(missing, FALSE_NEGATIVE)
    assert not like(missing, FALSE_POSITIVE)
    assert like(extra, FALSE_POSITIVE)
    assert not like(extra, FALSE_NEGATIVE)
    assert sheet.shots[1].caption == "Dice 0.700 (organ 0.800, tumour 0.600), seed 0"
    assert sheet.shots[1].note == ""


def test_errors_far_from_the_label_are_told(folder: Path) -> None:
    far = prediction("extra")
    far[0, 0, 0] = 1
    wrong = np.count_nonzero(far != label())
    for case in CASES:
        save(far, folder / "extra" / "validation" / f"{case}.nii.gz")
    opened = open_case("ease_0", arms_of(folder))
    assert opened.outside == {1: 0.0, 2: pytest.approx(1 / wrong)}


def test_data_that_was_moved_is_named_and_the_records_pictures_stand_in(folder: Path) -> None:
    (folder.parent / "data").rename(folder.parent / "elsewhere")
    rewrite(folder, "extra", pictures=[Picture(case="ease_2", caption="slice 7", png=png())])
    found = views(folder)
    assert [sheet.case for sheet in found.sheets] == ["ease_2"]
    (sheet,) = found.sheets
    assert str(folder.parent / "data" / "ease_2.nii.gz") in sheet.note
    assert "does not exist" in sheet.note
    assert [bool(shot.drawn) for shot in sheet.shots] == [False, True]
    assert {sheet.case for sheet in found.missing} == {"ease_0", "ease_1"}
    assert found.viewer.data == ""
    assert found.scripts == ()


def test_a_record_of_an_older_version_says_so(folder: Path) -> None:
    for arm in ("missing", "extra"):
        cases = [
            replace(case, image="", label="", prediction="")
            for case in RunRecord.read(folder / arm / "record.json").cases
        ]
        rewrite(folder, arm, cases=cases, pictures=[Picture(case="other", caption="", png=png())])
    found = views(folder)
    assert "does not say where the image lies" in found.missing[0].note
    assert [sheet.case for sheet in found.sheets] == ["other"]


def test_a_damaged_prediction_is_named_and_the_other_arm_is_drawn(folder: Path) -> None:
    broken = folder / "missing" / "validation" / "ease_0.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-30])
    sheet = next(sheet for sheet in views(folder).sheets if sheet.case == "ease_0")
    label_shot, missing, extra = sheet.shots
    assert label_shot.drawn
    assert extra.drawn
    assert missing.drawn is None
    assert "ease_0.nii.gz" in missing.note
    assert "cut off" in missing.note


def test_a_prediction_on_another_grid_is_named(folder: Path) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += 10
    save(prediction("extra"), folder / "extra" / "validation" / "ease_0.nii.gz", moved)
    opened = open_case("ease_0", arms_of(folder))
    assert list(opened.frame.predictions) == [1]
    assert "its grid lies up to" in opened.faults[2]


def test_a_label_on_another_grid_is_refused(folder: Path) -> None:
    save(np.zeros((4, 4, 4), np.uint8), folder.parent / "data" / "ease_0_label.nii.gz")
    with pytest.raises(DataError, match=r"its shape \(4, 4, 4\) differs from \(30, 24, 20\)"):
        open_case("ease_0", arms_of(folder))


def test_a_label_without_foreground_shows_the_whole_volume(folder: Path) -> None:
    save(np.zeros(SHAPE, np.uint8), folder.parent / "data" / "ease_0_label.nii.gz")
    opened = open_case("ease_0", arms_of(folder))
    assert opened.frame.image.shape == to_ras(label(), AFFINE).shape


def test_the_lowest_dice_come_first(folder: Path) -> None:
    table = views(folder).worst
    lowest = [cell.value for cell in table.column("lowest")]
    assert lowest == sorted(lowest, key=float)
    assert [cell.text for cell in table.column("case")][:2] == ["ease_0", "ease_1"]
    assert table.column("dice_2")[3].text == "0.800"
    assert table.column("hd95")[3].text == "3.00"
    assert {cell.text for cell in table.column("hd95")} >= {"n/a"}


def test_figures_name_classes_and_arms(folder: Path) -> None:
    found = views(folder)
    organ, tumour = found.distributions
    assert "Dice by case of organ" in organ
    assert "Dice by case of tumour" in tumour
    (line,) = found.by_case
    assert "sorted by arm 1" in line
    assert views(folder / "missing").by_case == ()


def test_only_the_references_dataset_is_shown(folder: Path) -> None:
    rewrite(folder, "extra", dataset="other boxes")
    found = views(folder)
    assert [number for number, _ in found.arms] == [1]
    assert "Only cases of boxes are shown." in found.notes


def test_organ_is_where_the_tests_think() -> None:
    assert np.count_nonzero(label()) == np.prod([edge.stop - edge.start for edge in ORGAN])


@pytest.mark.parametrize("path", ["a\0b.nii.gz", "x" * 5000, "."])
def test_a_path_that_is_none_is_named_and_no_crash(folder: Path, path: str) -> None:
    cases = RunRecord.read(folder / "extra" / "record.json").cases
    changed = [replace(case, prediction=path) for case in cases]
    rewrite(folder, "extra", cases=changed)
    sheet = next(sheet for sheet in views(folder).sheets if sheet.case == "ease_0")
    assert sheet.shots[1].drawn
    assert sheet.shots[2].drawn is None
    assert sheet.shots[2].note
    for arm in ("missing", "extra"):
        rewrite(folder, arm, cases=[replace(case, image=path) for case in cases])
    assert not views(folder).sheets
    assert "No slices could be drawn" in views(folder).missing[0].note

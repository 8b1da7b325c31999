"""Cases: chosen by rule, drawn from their files, named where a file is not what it should be."""

import base64
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.errors import DataError
from medseg.record import ArtifactRecord, CaseRow, Picture, RunRecord
from medseg.record.frame import case_means
from medseg.report.cases.files import open_case
from medseg.report.cases.pictures import Sheet, choose_planes
from medseg.report.page import Html
from medseg.report.sections.cases import artifact_scores, choose, lowest_table
from medseg.report.sections.cases import cases as section
from medseg.report.study import collect
from medseg.volumes import to_ras
from medseg.volumes.overlay import ERROR_COLOURS, FALSE_NEGATIVE, FALSE_POSITIVE

from .records import png
from .volume_runs import (
    AFFINE,
    CASES,
    SHAPE,
    arms_of,
    drawn_cases,
    label,
    prediction,
    save,
    write_runs,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_runs(tmp_path)


def sheets_of(folder: Path) -> list[Sheet]:
    sheets, _ = drawn_cases(folder)
    return sheets


def rewrite(folder: Path, arm: str, **changes: object) -> None:
    target = folder / arm
    replace(RunRecord.read(target / "record.json"), **changes).write(target)


def dice(**arms: dict[str, float]) -> pd.DataFrame:
    rows = [(int(a[1:]), case, value) for a, cases in arms.items() for case, value in cases.items()]
    return pd.DataFrame(rows, columns=["arm", "case", "value"])


def test_worst_median_best_disputed_and_most_artificial_case() -> None:
    reference = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.6, "e": 0.7}
    scores = ("gain κ", dice(_1={"a": 0.1, "e": 0.2}, _2={"e": 0.3}))
    chosen = choose(dice(_1=reference, _2=reference | {"d": 0.1}), 1, scores)
    assert list(chosen) == ["b", "d", "a", "e"]
    assert len(chosen["d"]) == 2


cases = st.dictionaries(st.text("abcd", max_size=3), st.floats(0, 1), max_size=8)


@given(one=cases, two=cases)
def test_every_chosen_case_is_one_of_the_reference_and_has_a_reason(one, two) -> None:
    chosen = choose(dice(_1=one, _2=two), 1)
    assert len(chosen) <= 4
    assert all(reasons and case in one for case, reasons in chosen.items())
    if one:
        values = [one[case] for case in chosen]
        assert {min(one.values()), max(one.values())} <= set(values)


def test_one_arm_has_no_disputed_case() -> None:
    assert len(choose(dice(_1={"a": 0.5}), 1)["a"]) == 3
    assert choose(dice(_1={}), 1) == {}


def test_a_case_whose_class_is_undefined_in_one_run_has_the_average_of_the_tables(
    folder: Path,
) -> None:
    record = RunRecord.read(folder / "missing" / "record.json")
    for seed, values in enumerate(((0.5, None), (0.3, 0.1))):
        metrics = {
            name: {"dice": value} for name, value in zip(record.classes, values, strict=True)
        }
        case = replace(record.cases[0], metrics=metrics)
        replace(record, seed=seed, cases=[case]).write(folder / f"missing_{seed}")
    shutil.rmtree(folder / "missing")
    shutil.rmtree(folder / "extra")
    (sheet,) = sheets_of(folder)
    assert "Dice 0.350" in sheet.reasons[0]


def test_cycle_spin_goes_before_gain(folder: Path) -> None:
    cases = [
        CaseRow(case="ease_0", values={"prediction": {"gain": 0.9}}),
        CaseRow(
            case="ease_2",
            values={"prediction": {"gain": 0.1}, "cycle_spin": {"cycle_spin": 0.02}},
        ),
    ]
    rewrite(folder, "extra", artifacts=ArtifactRecord(period=[2, 2, 2], cases=cases))
    found = artifact_scores(arms_of(folder))
    assert found is not None
    name, scores = found
    assert name == "cycle-spin residual"
    assert scores.to_numpy().tolist() == [[2, "ease_2", 0.02]]


def test_the_frame_holds_the_label_and_the_planes_show_where_arms_differ(folder: Path) -> None:
    opened = open_case("ease_0", arms_of(folder))
    whole = to_ras(label(), AFFINE)
    start = opened.start
    box = tuple(slice(a, a + n) for a, n in zip(start, opened.frame.label.shape, strict=True))
    np.testing.assert_array_equal(opened.frame.label, whole[box])
    assert np.count_nonzero(opened.frame.label) == np.count_nonzero(whole)
    assert opened.spacing == (1.5, 2.0, 1.0)
    differ = to_ras(prediction("missing"), AFFINE) != to_ras(prediction("extra"), AFFINE)
    indices, caption = choose_planes(opened)
    for axis, index in indices.items():
        counts = [np.count_nonzero(plane) for plane in np.moveaxis(differ, axis, 0)]
        assert counts[start[axis] + index] == max(counts)
    assert "where the arms differ most" in caption


def test_errors_have_their_colour_and_dice_stands_below(folder: Path) -> None:
    sheet = sheets_of(folder)[0]
    truth, missing, extra = (
        {tuple(c) for c in np.array(picture.convert("RGB")).reshape(-1, 3).tolist()}
        for picture in (Image.open(io.BytesIO(base64.b64decode(shot.png))) for shot in sheet.shots)
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
    sheets = sheets_of(folder)
    (sheet,) = [found for found in sheets if found.shots]
    assert sheet.case == "ease_2"
    assert str(folder.parent / "data" / "ease_2.nii.gz") in sheet.caption
    assert "does not exist" in sheet.caption
    assert [bool(shot.png) for shot in sheet.shots] == [False, True]
    assert {found.case for found in sheets if not found.shots} == {"ease_0", "ease_1"}
    (html,) = [part for part in section(collect([folder])).parts if isinstance(part, Html)]
    assert html.scripts == ()


def test_a_record_of_an_older_version_says_so(folder: Path) -> None:
    for arm in ("missing", "extra"):
        cases = [
            replace(case, image="", label="", prediction="")
            for case in RunRecord.read(folder / arm / "record.json").cases
        ]
        rewrite(folder, arm, cases=cases, pictures=[Picture(case="other", caption="", png=png())])
    *missing, last = sheets_of(folder)
    assert "does not say where the image lies" in missing[0].caption
    assert [bool(sheet.shots) for sheet in missing] == [False] * len(missing)
    assert last.case == "other"
    assert last.shots


def test_a_damaged_prediction_is_named_and_the_other_arm_is_drawn(folder: Path) -> None:
    broken = folder / "missing" / "validation" / "ease_0.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-30])
    sheet = next(sheet for sheet in sheets_of(folder) if sheet.case == "ease_0")
    label_shot, missing, extra = sheet.shots
    assert label_shot.png
    assert extra.png
    assert not missing.png
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
    data = collect([folder])
    table = lowest_table(case_means(data.frame, "class"), data.arms, 1)
    lowest = [cell.value for cell in table.frame["Lowest Dice"]]
    assert lowest == sorted(lowest, key=float)
    assert [cell.text for cell in table.frame["Case"]][:2] == ["ease_0", "ease_1"]
    assert table.frame["Arm 2"][3].text == "0.800"
    assert table.frame["HD95"][3].text == "3.00"
    assert {cell.text for cell in table.frame["HD95"]} >= {"–"}


def test_each_class_has_a_figure(folder: Path) -> None:
    assert [bool(figure) for figure in section(collect([folder])).parts[0]] == [True] * 2


def test_only_the_references_dataset_is_shown(folder: Path) -> None:
    rewrite(folder, "extra", dataset="other boxes")
    assert len(sheets_of(folder)[0].shots) == 2
    assert any("boxes are shown" in str(part) for part in section(collect([folder])).parts)


@pytest.mark.parametrize("path", ["a\0b.nii.gz", "x" * 5000, "."])
def test_a_path_that_is_none_is_named_and_no_crash(folder: Path, path: str) -> None:
    cases = RunRecord.read(folder / "extra" / "record.json").cases
    changed = [replace(case, prediction=path) for case in cases]
    rewrite(folder, "extra", cases=changed)
    sheet = next(sheet for sheet in sheets_of(folder) if sheet.case == "ease_0")
    assert sheet.shots[1].png
    assert not sheet.shots[2].png
    assert sheet.shots[2].note
    for arm in ("missing", "extra"):
        rewrite(folder, arm, cases=[replace(case, image=path) for case in cases])
    first, *others = sheets_of(folder)
    assert not any(sheet.shots for sheet in (first, *others))
    assert "No slices could be drawn" in first.caption

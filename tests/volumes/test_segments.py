"""Labels by value, colour and name: .seg.nrrd of 3D Slicer, masks of colours, overlaps."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg.errors import DataError
from medseg.volumes import describe, label_keys, read_labels

LIVER, TUMOUR = np.zeros((2, 6, 5, 4), bool)
LIVER[1:5, 1:4], TUMOUR[2:4, 2:3] = True, True
COLOURS = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 255, 255]]], np.uint8)


def write_slicer(
    path: Path, layers: list[np.ndarray], segments: list[tuple[str, int, int]], **more: str
) -> Path:
    """As 3D Slicer writes it: segments are (name, number, layer)."""
    image = sitk.GetImageFromArray(
        layers[0].T if len(layers) == 1 else np.stack([layer.T for layer in layers], -1),
        isVector=len(layers) > 1,
    )
    image.SetSpacing((0.5, 1, 2))
    for index, (name, number, layer) in enumerate(segments):
        image.SetMetaData(f"Segment{index}_Name", name)
        image.SetMetaData(f"Segment{index}_LabelValue", str(number))
        image.SetMetaData(f"Segment{index}_Layer", str(layer))
    for key, value in more.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, path, True)
    return path


@pytest.fixture
def one_layer(tmp_path: Path) -> Path:
    numbers = np.where(TUMOUR, 3, LIVER).astype(np.uint8)
    return write_slicer(tmp_path / "a.seg.nrrd", [numbers], [("Tumour", 3, 0), ("Liver", 1, 0)])


def test_numbers_of_slicer_are_kept_and_names_map_them(one_layer: Path) -> None:
    assert label_keys(one_layer) == {"Tumour": "Tumour", "Liver": "Liver"}
    own = read_labels(one_layer, num_classes=None)
    np.testing.assert_array_equal(own.array, np.where(TUMOUR, 3, LIVER))
    assert own.geometry.spacing == (0.5, 1, 2)
    for values in ({"Liver": 1, "Tumour": 2}, {1: 1, 3: 2}, {"1": 1, "3": 2}):
        labels = read_labels(one_layer, num_classes=3, values=values)
        np.testing.assert_array_equal(labels.array, np.where(TUMOUR, 2, LIVER))
        assert not labels.notes


@pytest.mark.parametrize(
    ("values", "said"), [({"Liver": 1}, "Tumour"), ({"Liver": 1, "Tumour": 2, "Cyst": 3}, "Cyst")]
)
def test_segment_without_class_and_class_without_segment_are_noted(
    values: Mapping[str, int], said: str, one_layer: Path
) -> None:
    labels = read_labels(one_layer, num_classes=4, values=values)
    assert [said in note for note in labels.notes] == [True]
    assert (labels.array == 1).any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_overlap_in_layers_goes_to_the_smaller_whatever_the_order(
    order: tuple[int, int], tmp_path: Path
) -> None:
    masks, names = [LIVER, TUMOUR], ["Liver", "Tumour"]
    path = write_slicer(
        tmp_path / "a.seg.nrrd",
        [masks[index].astype(np.uint8) for index in order],
        [(names[index], 1, layer) for layer, index in enumerate(order)],
    )
    assert describe(path).channels == 2
    labels = read_labels(path, num_classes=3, values={"Liver": 1, "Tumour": 2})
    np.testing.assert_array_equal(labels.array, np.where(TUMOUR, 2, LIVER))
    assert any("Tumour" in note and f"{TUMOUR.sum()} voxels" in note for note in labels.notes)


def test_segments_of_one_name_are_one_class(tmp_path: Path) -> None:
    numbers = LIVER.astype(np.uint8)
    numbers[3:] *= 2
    path = write_slicer(tmp_path / "a.seg.nrrd", [numbers], [("Met", 1, 0), ("Met", 2, 0)])
    labels = read_labels(path, num_classes=2, values={"Met": 1})
    np.testing.assert_array_equal(labels.array, LIVER)


FAULTS: dict[str, tuple[list[np.ndarray], list[tuple[str, int, int]]]] = {
    "layer that is not there": ([LIVER.astype(np.uint8)], [("Liver", 1, 2)]),
    "voxels of no segment": ([LIVER.astype(np.uint8) * 7], [("Liver", 1, 0)]),
    "number beyond 16 bits": ([LIVER.astype(np.uint32) * 70000], [("Liver", 70000, 0)]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_contradictory_segmentation_is_refused(fault: str, tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "a.seg.nrrd", *FAULTS[fault])
    with pytest.raises(DataError):
        read_labels(path, num_classes=None)


def test_nrrd_without_segments_is_a_plain_label_map(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "a.seg.nrrd", [LIVER.astype(np.uint8)], [])
    assert label_keys(path) == {0: "0", 1: "1"}
    np.testing.assert_array_equal(read_labels(path, num_classes=2).array, LIVER)


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


Save = Callable[[np.ndarray, Path], Path]


def test_colours_are_classes_by_the_mapping_alone(tmp_path: Path) -> None:
    path = save(COLOURS, tmp_path / "a.png")
    assert list(label_keys(path)) == ["#000000", "#00ff00", "#ff0000", "#ffffff"]
    values = {"#FF0000": 2, "#00ff00": 1, "#ffffff": 1}
    labels = read_labels(path, num_classes=3, values=values)
    np.testing.assert_array_equal(labels.array[..., 0].T, [[0, 2], [1, 1]])
    for incomplete in (None, {"#ff0000": 1}):
        with pytest.raises(DataError, match="#00ff00"):
            read_labels(path, num_classes=3, values=incomplete)


def test_grey_mask_of_a_dataset_of_colours_has_their_classes(tmp_path: Path) -> None:
    path = save(np.array([[0, 255]], np.uint8), tmp_path / "a.png")
    labels = read_labels(path, num_classes=4, values={"#ff0000": 1, "#ffffff": 3})
    assert labels.array.ravel().tolist() == [0, 3]


def test_grey_values_are_classes_by_the_mapping_and_smoothed_borders_are_refused(
    tmp_path: Path,
) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    path = save(mask, tmp_path / "a.png")
    assert label_keys(path) == {0: "0", 255: "255"}
    labels = read_labels(path, num_classes=2, values={255: 1})
    np.testing.assert_array_equal(labels.array[..., 0].T, mask > 0)
    smooth = np.asarray(Image.fromarray(mask).resize((16, 16), Image.Resampling.BILINEAR))
    with pytest.raises(DataError, match="outside"):
        read_labels(save(smooth, path), num_classes=2, values={255: 1})


def test_image_has_no_keys(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (40, 40), np.uint16)
    with pytest.raises(DataError, match="label map"):
        label_keys(save(noise, tmp_path / "a.png"))

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.data.building import build_folder, write_case, write_description
from medseg.data.forms import read_dataset
from medseg.errors import ConfigError, DataError


def write_dataset(folder, *, cases=("a", "b"), **changes):
    """Empty files in Decathlon form; a change of None leaves the key out."""
    content = {
        "name": "Test",
        "reference": " Somewhere",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "one", "2": "two"},
        "training": [
            {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases
        ],
    } | changes
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for case in cases:
            (folder / part / f"{case}.nii.gz").touch()
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def faults(folder):
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    return str(caught.value)


def test_reads_names_by_number_and_cases_in_order(tmp_path):
    folder = write_dataset(
        tmp_path,
        cases=("b", "a"),
        labels={"2": "two", "0": "background", "1": "one"},
        modality={"1": "T2", "0": "T1"},
    )
    dataset = read_dataset(folder)
    assert dataset.classes == ("one", "two")
    assert dataset.modalities == ("T1", "T2")
    assert (dataset.num_classes, dataset.in_channels) == (3, 2)
    assert [case.case_id for case in dataset.cases] == ["b", "a"]
    assert dataset.cases[0].image == folder / "imagesTr/b.nii.gz"
    assert dataset.cases[0].label == folder / "labelsTr/b.nii.gz"
    assert (dataset.name, dataset.licence, dataset.reference) == ("Test", "CC0", "Somewhere")


def test_optional_keys_and_byte_order_mark(tmp_path):
    folder = write_dataset(tmp_path / "kidneys", name=None, licence=None, reference=None)
    description = folder / "dataset.json"
    description.write_bytes(b"\xef\xbb\xbf" + description.read_bytes())
    dataset = read_dataset(str(folder))
    assert (dataset.name, dataset.licence, dataset.reference) == ("kidneys", "", "")


def test_macos_companions_are_ignored(tmp_path):
    folder = write_dataset(tmp_path)
    description = json.loads((folder / "dataset.json").read_text())
    description["training"].insert(0, {"image": "./imagesTr/._a.nii.gz", "label": "x"})
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "imagesTr/._b.nii.gz").touch()
    dataset = read_dataset(folder)
    assert [case.case_id for case in dataset.cases] == ["a", "b"]
    assert not dataset.notes


def test_mentions_images_that_are_not_listed(tmp_path):
    folder = write_dataset(tmp_path)
    (folder / "imagesTr/c.nii.gz").touch()
    dataset = read_dataset(folder)
    assert len(dataset.cases) == 2
    assert "c.nii.gz" in "".join(dataset.notes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"labels": None}, "labels: missing"),
        ({"modality": {}}, "modality: missing"),
        ({"training": None}, "training: missing"),
        ({"training": []}, "the list is empty"),
        ({"labels": {"0": "background", "2": "two"}}, "labels: [0, 2] must be consecutive from 0"),
        ({"labels": {"1": "one", "2": "two"}}, "labels: [1, 2] must be consecutive from 0"),
        ({"labels": {"background": "zero", "one": "1"}}, "must be whole numbers"),
        ({"labels": {"0": "background"}}, "no class besides the background"),
        ({"labels": {"0": "one", "1": "Background"}}, "value 1 is called 'background'"),
        ({"labels": {"0": "background", "1": "x", "2": "x"}}, "'x' is named several times"),
        ({"training": [{"image": "imagesTr/a.nii.gz"}]}, "imagesTr/a.nii.gz has no label"),
        ({"training": ["imagesTr/a.nii.gz"]}, "imagesTr/a.nii.gz has no label"),
        ({"training": [{"label": "labelsTr/a.nii.gz"}]}, "labelsTr/a.nii.gz has no image"),
        (
            {"training": [{"image": "/no/a.nii", "label": "labelsTr/a.nii.gz"}]},
            "/no/a.nii: no such",
        ),
    ],
)
def test_each_fault_is_told(tmp_path, changes, fault):
    message = faults(write_dataset(tmp_path, **changes))
    assert fault in message
    assert ": 1 fault " in message


NNUNET_LABELS = {"background": 0, "one": 1, "two": 2}


class TestNnunetForm:
    def write(self, folder, channels=("CT",), **changes):
        content = {
            "channel_names": {str(n): name for n, name in enumerate(channels)},
            "labels": NNUNET_LABELS,
            "numTraining": 2,
            "file_ending": ".nii.gz",
        } | changes
        for case in ("b", "a"):
            for part, names in (
                ("labelsTr", [case]),
                ("imagesTr", [f"{case}_{n:04d}" for n in range(len(channels))]),
            ):
                (folder / part).mkdir(parents=True, exist_ok=True)
                for name in names:
                    (folder / part / f"{name}{content['file_ending']}").touch()
        (folder / "dataset.json").write_text(json.dumps(content))
        return folder

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_cases_are_found_by_their_labels(self, ending, tmp_path):
        folder = self.write(tmp_path, file_ending=ending)
        (folder / "labelsTr/._a.nii.gz").touch()
        dataset = read_dataset(folder)
        assert [case.case_id for case in dataset.cases] == ["a", "b"]
        assert dataset.cases[0].image == folder / f"imagesTr/a_0000{ending}"
        assert (dataset.modalities, dataset.classes) == (("CT",), ("one", "two"))
        assert dataset.label_values is None

    @pytest.mark.parametrize("value", [3, 255])
    def test_an_ignore_label_is_no_class(self, value, tmp_path):
        dataset = read_dataset(self.write(tmp_path, labels=NNUNET_LABELS | {"ignore": value}))
        assert dataset.classes == ("one", "two")
        assert dataset.label_values == {value: "ignore"}

    def test_regions_without_their_order_are_refused(self, tmp_path):
        labels = {"background": 0, "whole": [1, 2], "core": 2}
        assert "regions_class_order" in faults(self.write(tmp_path, labels=labels))

    def test_regions_are_what_they_are_called_and_overlap(self, tmp_path):
        labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3, "ignore": 4}
        order = [2, 1, 3]
        dataset = read_dataset(self.write(tmp_path, labels=labels, regions_class_order=order))
        assert dataset.classes == ("whole", "core", "enhancing")
        assert dataset.regions == ((1, 2, 3), (1, 3), (3,))
        assert dataset.regions_class_order == (2, 1, 3)
        assert dataset.label_values == {4: "ignore"}
        assert dataset.num_classes == 3

    def test_values_of_regions_are_mapped(self, tmp_path):
        labels = {
            "background": 0,
            "whole": [1, 2, 4],
            "core": [1, 4],
            "enhancing": [4],
            "ignore": 9,
        }
        root = self.write(tmp_path, labels=labels, regions_class_order=[2, 1, 4])
        assert "data.labels" in faults(root)
        dataset = read_dataset(root, {4: 3})
        assert (dataset.regions, dataset.regions_class_order) == (
            ((1, 2, 3), (1, 3), (3,)),
            (2, 1, 3),
        )
        assert dataset.label_values == {4: 3, 9: "ignore"}

    def test_lists_of_one_value_are_classes(self, tmp_path):
        labels = {"background": 0, "one": [1], "two": [2]}
        dataset = read_dataset(self.write(tmp_path, labels=labels, regions_class_order=[1, 2]))
        assert (dataset.classes, dataset.regions) == (("one", "two"), ())

    @pytest.mark.parametrize(
        ("labels", "order"),
        [
            ({"whole": [1, 2], "core": [2], "ignore": 2}, [1, 2]),
            ({"whole": [1, 2], "core": [2], "ignore": [3, 4]}, [1, 2]),
            ({"whole": [1, 2, 4], "core": [2]}, [1, 2]),
            ({"whole": [0, 1, 2], "core": [2]}, [1, 2]),
            ({"whole": [1, "2"], "core": [2]}, [1, 2]),
            ({"whole": [1, 2], "core": []}, [1, 2]),
            ({"whole": [1, 2]}, [1]),
        ],
        ids=str,
    )
    def test_regions_that_cannot_be_are_refused(self, labels, order, tmp_path):
        labels = {"background": 0} | labels
        folder = self.write(tmp_path, labels=labels, regions_class_order=order)
        assert "labels: " in faults(folder)


BRATS = {"0": "background", "1": "necrosis", "2": "edema", "4": "enhancing"}


@pytest.mark.parametrize(
    ("labels", "values", "classes"),
    [
        (BRATS, {4: 3}, ("necrosis", "edema", "enhancing")),
        (BRATS, {"4": "3"}, ("necrosis", "edema", "enhancing")),  # as JSON and a shell have it
        (BRATS, {1: 1, 2: 2, 4: 3}, ("necrosis", "edema", "enhancing")),
        (BRATS, {2: 0, 4: 2}, ("necrosis", "enhancing")),
        (BRATS, {1: 2, 2: 1, 4: 1}, ("edema+enhancing", "necrosis")),
        (BRATS, {4: "ignore"}, ("necrosis", "edema")),
        (BRATS | {"9": "Ignore"}, {4: 3, 9: "ignore"}, ("necrosis", "edema", "enhancing")),
        (BRATS, {4: 3, 77: 1}, ("necrosis", "edema", "enhancing")),  # in no dataset.json
    ],
    ids=str,
)
def test_classes_bear_the_names_of_the_label_values_that_become_them(
    labels, values, classes, tmp_path
):
    dataset = read_dataset(write_dataset(tmp_path, labels=labels), values)
    assert dataset.classes == classes
    assert dataset.label_values == {
        int(v): to if to == "ignore" else int(to) for v, to in values.items()
    }


@pytest.mark.parametrize(
    ("labels", "values", "fault"),
    [
        (BRATS, None, "data.labels={4: 3}"),
        (BRATS | {"3": "ignore"}, None, "data.labels={4: 3, 3: ignore}"),
        (BRATS, {4: 5}, "consecutive"),
        (BRATS, {4: 3, 77: 8}, "77"),
        (BRATS, {4: 0, 1: 0, 2: 0}, "no class besides the background"),
        (BRATS | {"9": "ignore"}, {4: 3}, "9: ignore"),
    ],
    ids=str,
)
def test_label_values_that_give_no_classes_are_refused_with_the_remedy(
    labels, values, fault, tmp_path
):
    with pytest.raises(DataError) as caught:
        read_dataset(write_dataset(tmp_path, labels=labels), values)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [[1, 2], "4: 3", {4: "three"}, {4: 1.5}, {-1: 1}, {70_000: 1}, {4: None}, {4: True}, {"": 1}],
    ids=str,
)
def test_what_maps_no_label_values_is_refused(values, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.labels"):
        read_dataset(write_dataset(tmp_path), values)


def test_no_dataset_json(tmp_path):
    assert "dataset.json" in faults(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1]", b""])
def test_broken_dataset_json(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    assert "JSON" in faults(tmp_path)


def test_all_faults_at_once(tmp_path):
    folder = write_dataset(tmp_path, cases=("a", "b", "a"), labels=None)
    (folder / "labelsTr/b.nii.gz").unlink()
    (folder / "imagesTr/b.nii.gz").unlink()
    (folder / "imagesTr/b.nii.gz").mkdir()
    message = faults(folder)
    for fault in (
        "4 faults",
        "labels: missing",
        "imagesTr/b.nii.gz: no such file",
        "labelsTr/b.nii.gz: no such file",
        "a: 2 cases have this id",
    ):
        assert fault in message


def test_what_is_written_can_be_read(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4))
    label = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    write_case(tmp_path, "one", image=image, label=label)
    written = {
        "name": "Made",
        "reference": "here",
        "licence": "CC0",
        "modalities": ("T1", "T2"),
        "classes": ("x", "y"),
    }
    write_description(tmp_path, description="", case_ids=["one"], **written)
    dataset = read_dataset(tmp_path)
    assert {key: getattr(dataset, key) for key in written} == written
    assert nib.load(dataset.cases[0].image).shape == (4, 4, 4, 2)


def test_a_folder_is_built_once_and_again_for_another_rule(tmp_path):
    built = []

    def build(part):
        built.append(part)
        (part / "number").write_text(str(len(built)))

    target = tmp_path / "new/target"
    for stamp, number in (("1", "1"), ("1", "1"), ("2", "2"), ("2", "2")):
        assert build_folder(target, stamp=stamp, build=build) == target
        assert (target / "number").read_text() == number
    assert len(built) == 2
    assert not built[0].exists()


def test_a_failed_build_leaves_nothing(tmp_path):
    def build(part):
        (part / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_folder(tmp_path / "target", stamp="1", build=build)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]


def test_a_strange_folder_is_never_replaced(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/mine").touch()
    with pytest.raises(DataError, match="in the way"):
        build_folder(tmp_path / "target", stamp="1", build=lambda part: None)
    assert (tmp_path / "target/mine").exists()


def test_a_killed_build_is_never_taken_for_the_folder(tmp_path):
    target, seen = tmp_path / "target", []

    def build(part):
        seen.append((part, target.exists()))
        (part / "whole").touch()

    (tmp_path / ".target.part").mkdir()
    (tmp_path / ".target.part/half").touch()  # as kill -9 leaves it
    build_folder(target, stamp="1", build=build)
    assert seen == [(tmp_path / ".target.part", False)]
    assert (target / "whole").exists()
    assert not (target / "half").exists()
    assert not (tmp_path / ".target.part").exists()


def test_a_whole_folder_needs_no_writing(tmp_path, monkeypatch):
    build_folder(tmp_path / "target", stamp="1", build=lambda part: None)

    def refuse(*_, **__):
        raise AssertionError("wrote to a folder that may be read-only")

    monkeypatch.setattr("medseg.data.building.require_writable", refuse)
    monkeypatch.setattr("medseg.data.building.FileLock", refuse)
    build_folder(tmp_path / "target", stamp="1", build=refuse)

"""DICOM folders as datasets, and collections of TCIA from a server on loopback."""

import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pydicom.dataset import Dataset
from written_dicom import ct_series, save, segmentation

from medseg.data.forms import look_at_dataset, read_dataset
from medseg.data.tcia import Tcia
from medseg.errors import ConfigError, DataError, ResourceError

COLLECTION, NAMES = "C4KC-KiTS", ("Kidney", "Renal Tumor")


def patient(name: str, seed: int, names: tuple[str, ...] = NAMES) -> tuple[list[Dataset], Dataset]:
    """A series, and the segmentation that refers to it."""
    voxels = np.random.default_rng(seed).integers(900, 1200, (4, 6, 5))
    images = ct_series(voxels)
    for image in images:
        image.PatientID = name
    masks = {each: np.zeros(voxels.shape, bool) for each in names}
    for number, mask in enumerate(masks.values()):
        mask[1 + number, 1:4] = True
    return images, segmentation(images, masks)


@pytest.fixture(scope="module")
def patients() -> dict[str, tuple[list[Dataset], Dataset]]:
    return {name: patient(name, seed) for seed, name in enumerate(("KiTS-1", "KiTS-2", "KiTS-3"))}


@pytest.fixture
def folder(patients, tmp_path: Path) -> Path:
    for name, (images, label) in patients.items():
        save(images, tmp_path / "dicom" / name / "CT")
        save([label], tmp_path / "dicom" / name / "any")
    return tmp_path / "dicom"


def test_a_case_is_a_segmentation_and_its_series(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.form == "DICOM"
    assert (dataset.modalities, dataset.classes) == (("CT",), NAMES)
    assert [case.case_id for case in dataset.cases] == ["KiTS-1", "KiTS-2", "KiTS-3"]
    assert [case.patient for case in dataset.cases] == ["KiTS-1", "KiTS-2", "KiTS-3"]
    assert {case.image.parent.name for case in dataset.cases} == {"CT"}
    assert {case.label.parent.name for case in dataset.cases} == {"any"}


def no_series(folder: Path) -> None:
    shutil.rmtree(folder / "KiTS-2/CT")


def two_labels(folder: Path) -> None:
    images, _ = patient("KiTS-4", 4)
    save(images, folder / "KiTS-4/CT")
    masks = {name: np.ones((4, 6, 5), bool) for name in NAMES}
    for number in range(2):
        save([segmentation(images, masks)], folder / f"KiTS-4/seg{number}")


def other_spelling(folder: Path) -> None:
    images, label = patient("KiTS-4", 4, ("kidney", "Renal tumor"))
    save(images, folder / "KiTS-4/CT")
    save([label], folder / "KiTS-4/any")


def no_labels(folder: Path) -> None:
    for path in folder.glob("*/any"):
        shutil.rmtree(path)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (no_series, "KiTS-2/any"),
        (two_labels, "KiTS-4/seg1"),
        (other_spelling, "data.labels"),
        (no_labels, "SEG"),
    ],
    ids=["series missing", "two labels", "another spelling", "no labels"],
)
def test_a_fault_of_a_dicom_folder_is_named(spoil, named: str, folder: Path) -> None:
    spoil(folder)
    assert named in "\n".join(look_at_dataset(folder).faults)


def test_a_series_without_label_and_one_id_for_all_are_said(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        images, label = patient("ANON", len(name))
        save(images, tmp_path / "anonymous" / name)
        save([label], tmp_path / "anonymous" / name / "seg")
    notes = "".join(read_dataset(tmp_path / "anonymous").notes)
    assert "ANON" in notes
    save(patient("KiTS-1", 9)[0], folder / "KiTS-1/thick")
    assert "KiTS-1/thick" in "".join(read_dataset(folder).notes)


class Server:
    """TCIA's interface on loopback: series of a collection, and each as a zip archive."""

    def __init__(self, patients: dict[str, tuple[list[Dataset], Dataset]]) -> None:
        self.series = {label.SeriesInstanceUID: [label] for _, label in patients.values()}
        self.listed = [
            {"SeriesInstanceUID": label.SeriesInstanceUID, "PatientID": name}
            for name, (_, label) in patients.items()
        ]
        for images, _ in patients.values():
            self.series[images[0].SeriesInstanceUID] = images
        self.gets: list[str] = []
        self.broken = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = server.answer(self.path)
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/"
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, path: str) -> bytes | None:
        self.gets.append(path)
        asked = parse_qs(urlsplit(path).query)
        if "getSeries" in path:
            is_it = asked["Collection"] == [COLLECTION] and asked["Modality"] == ["SEG"]
            return json.dumps(self.listed).encode() if is_it else b""
        return self.archive(asked["SeriesInstanceUID"][0])

    def archive(self, uid: str) -> bytes | None:
        if self.broken or uid not in self.series:
            return None
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("LICENSE", "CC BY")
            for number, dataset in enumerate(self.series[uid]):
                file = io.BytesIO()
                dataset.save_as(file, enforce_file_format=True)
                archive.writestr(f"{number:04d}.dcm", file.getvalue())
        return buffer.getvalue()


@pytest.fixture
def server(patients, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(patients)
    yield server
    server.httpd.shutdown()
    server.thread.join()
    server.httpd.server_close()


def test_a_collection_is_downloaded_once_with_the_series_of_its_labels(
    server: Server, tmp_path: Path
) -> None:
    source = Tcia(collection=COLLECTION, root=tmp_path, download=True, url=server.url)
    folder = source.prepare()
    dataset = read_dataset(folder, {name: n for n, name in enumerate(NAMES, start=1)})
    assert [case.case_id for case in dataset.cases] == ["KiTS-1", "KiTS-2", "KiTS-3"]
    assert dataset.classes == NAMES
    assert len(server.gets) == 1 + 2 * 3
    assert source.prepare() == folder
    assert len(server.gets) == 1 + 2 * 3


def test_what_was_fetched_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    source = Tcia(collection=COLLECTION, root=tmp_path, download=True, url=server.url)
    lost = server.series.popitem()
    with pytest.raises(ResourceError):
        source.prepare()
    assert not (tmp_path / COLLECTION).exists()
    server.series[lost[0]] = lost[1]
    server.gets.clear()
    source.prepare()
    assert len(server.gets) == 2  # the list, and the series that was not there


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"download": False}, DataError),
        ({"url": "http://127.0.0.1:9/"}, ResourceError),
        ({"collection": "QIN-PROSTATE-Repeatability"}, ResourceError),
        ({"collection": "../elsewhere"}, ConfigError),
        ({"modality": "CT"}, ConfigError),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused(
    changes: dict, error: type, server: Server, tmp_path: Path
) -> None:
    options = {"collection": COLLECTION, "root": tmp_path, "download": True, "url": server.url}
    with pytest.raises(error):
        Tcia(**options | changes).prepare()
    assert not (tmp_path / COLLECTION).exists()

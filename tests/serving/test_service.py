"""The service, asked by a real client through a real socket."""

import gzip
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.serve import main
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.volumes import read_image

from .conftest import HOST, Service, form, until

Serve = Callable[..., Service]


@pytest.fixture(scope="module")
def service(serve: Serve) -> Service:
    return serve()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def data(save_scan: Callable[..., Path], scan: np.ndarray) -> bytes:
    return save_scan(scan).read_bytes()


def labels_of(body: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(body))


def test_an_upload_becomes_the_label_map_of_predict(
    service: Service, model: TrainedModel, save_scan: Callable[..., Path], scan: np.ndarray,
    temporary: Path,
) -> None:  # fmt: skip
    path = save_scan(scan)
    status, headers, body = service.upload(path.read_bytes())
    assert status == 200
    got, volume = labels_of(body), read_image(path)
    np.testing.assert_array_equal(
        got.dataobj, Predictor(model, device="cpu").predict(volume).labels
    )
    np.testing.assert_allclose(got.affine, volume.geometry.affine, atol=1e-5)
    assert "access-control-allow-origin" not in headers
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../../evil.nii.gz", "/etc/evil", "", "a\\b.nii", "%0d%0aX-Injected: 1", "<b>.nii", "x" * 300],
)
def test_names_are_never_paths_headers_or_markup(
    name: str, service: Service, data: bytes, temporary: Path
) -> None:
    status, headers, _ = service.upload(data, name)
    assert status == 200
    assert "x-injected" not in headers
    assert "evil" not in headers.get("content-disposition", "")
    assert not list(temporary.parent.rglob("*evil*"))


@pytest.mark.parametrize(
    "content",
    [b"", b"no volume", gzip.compress(b"no volume", mtime=0), b"\x1f\x8b damaged", b"NRRD0004\n\n"],
    ids=["nothing", "words", "packed words", "damaged", "half a header"],
)
def test_what_is_no_volume_gets_one_sentence(
    content: bytes, service: Service, temporary: Path
) -> None:
    status, _, body = service.upload(content)
    assert status == 422
    said = json.loads(body)["detail"]
    assert str(temporary) not in said
    assert "\n" not in said
    assert not list(temporary.iterdir())


def test_a_declared_length_beyond_the_limit_is_refused_before_the_body(service: Service) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {HOST}:{service.port}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999999\r\n\r\n"
    )
    with socket.create_connection((HOST, service.port), 60) as client:
        client.sendall(head.encode())
        assert b" 413 " in client.recv(100)


def test_a_body_of_unknown_length_is_refused_when_it_grows_too_large(
    service: Service, temporary: Path
) -> None:
    body, kind = form(bytes(3 * 10**6), "a.nii")
    blocks = (body[start : start + 10**5] for start in range(0, len(body), 10**5))
    try:
        status, _, _ = service.ask("POST", "/predict", blocks, {"Content-Type": kind})
    except ConnectionError:  # it has answered and closed before all was sent
        status = 413
    assert status == 413
    assert not list(temporary.iterdir())


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    service: Service, temporary: Path
) -> None:
    bomb = gzip.compress(bytes(5 * 10**7), 9)
    status, _, body = service.upload(bomb)
    assert status == 422
    assert b"unpacks" in body
    header = nib.Nifti1Header()
    header.set_data_shape((4000, 4000, 100))
    header.set_data_dtype(np.uint8)
    status, _, _ = service.upload(gzip.compress(header.binaryblock + bytes(10**6)))
    assert status == 422
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_other_hosts_and_pages_are_refused(
    method: str, headers: dict[str, str], service: Service
) -> None:
    status, answered, _ = service.ask(method, "/", headers=headers)
    assert status in (400, 403)
    assert "access-control-allow-origin" not in answered


def test_nothing_is_loaded_from_elsewhere(service: Service) -> None:
    status, headers, page = service.ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    for link in re.findall(rb'(?:src|href)="((?!data:)[^"]+)"', page):
        assert service.ask("GET", f"/{link.decode()}")[0] == 200
    for path in ("/docs", "/redoc", "/../etc/passwd", "/%2e%2e/etc/passwd"):
        assert service.ask("GET", path)[0] == 404


def test_a_full_house_says_when_to_come_again(serve: Serve, data: bytes) -> None:
    service = serve(waiting=1)
    service.open_windows.clear()
    with service.uploading(data), service.uploading(data):
        until(lambda: service.free == 0)
        status, headers, _ = service.upload(data)
        assert status == 503
        assert int(headers["retry-after"]) > 0
        service.open_windows.set()
    until(lambda: service.upload(data)[0] == 200)


def test_a_client_that_leaves_frees_its_place_and_its_work(
    serve: Serve, data: bytes, temporary: Path
) -> None:
    service = serve(waiting=1)
    service.open_windows.clear()
    with service.uploading(data):
        until(lambda: service.windows)
    begun = service.windows
    until(service.stops[0].is_set)
    service.open_windows.set()  # the window at work ends, and no other begins
    until(lambda: service.free == 2)
    assert service.windows == begun
    assert not list(temporary.iterdir())
    assert service.upload(data)[0] == 200


def test_what_takes_too_long_is_left(serve: Serve, data: bytes) -> None:
    service = serve(seconds=1)
    service.open_windows.clear()
    status, _, _ = service.upload(data)
    assert status == 504
    service.open_windows.set()


@pytest.mark.parametrize(
    "words", ["--port 99999", "--max-upload much", "--workers 0", "--host 192.0.2.1"]
)
def test_what_cannot_be_served_is_refused(words: str, model_folder: Path) -> None:
    try:
        code = main(["-m", str(model_folder), *words.split()])
    except SystemExit as end:
        code = end.code
    assert code in (2, 4)

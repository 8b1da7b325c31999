import hashlib
import io
import json
import socket
import tarfile
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medseg.data.decathlon import Decathlon
from medseg.data.forms import read_dataset
from medseg.errors import ConfigError, DataError, ResourceError

TASK = "Task04_Hippocampus"


def task_files(prefix=f"{TASK}/"):
    """A tiny task as it lies in an archive, with what macOS adds to it."""
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior"},
        "training": [
            {"image": f"./imagesTr/h_{n}.nii.gz", "label": f"./labelsTr/h_{n}.nii.gz"}
            for n in range(3)
        ],
    }
    files = {f"{prefix}imagesTr/h_{n}.nii.gz": b"image" * 1000 for n in range(3)}
    files |= {f"{prefix}labelsTr/h_{n}.nii.gz": b"label" * 1000 for n in range(3)}
    files |= {f"{prefix}imagesTr/._h_0.nii.gz": b"macOS"}
    return files | {f"{prefix}dataset.json": json.dumps(description).encode()}


def tar(files, *, links=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server:
    """Serves one archive on loopback; `announced` bytes are promised, all of `content` is sent."""

    def __init__(self):
        self.content, self.announced, self.status, self.gets = b"", None, 200, 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(server.status)
                self.send_header("Content-Length", str(server.announced or len(server.content)))
                self.end_headers()

            def do_GET(self):
                server.gets += 1
                self.do_HEAD()
                self.wfile.write(server.content)

            def log_message(self, *args):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/archive.tar"
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.01,))
        self.thread.start()

    def serve(self, content):
        self.content = content
        return md5(content)

    def close(self):
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def source(server, root, checksum, **changes):
    return Decathlon(
        **{"root": root, "download": True, "url": server.url, "md5": checksum} | changes
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_once_and_reads_in_place_afterwards(server, tmp_path, monkeypatch):
    # the system's temporary folder may be too small for 27 GB: it must not be needed
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    settings = (tempfile.gettempdir(), socket.getdefaulttimeout())
    decathlon = source(server, tmp_path / "new", server.serve(tar(task_files())))
    folder = decathlon.prepare()
    assert folder == tmp_path / "new" / TASK
    assert len(read_dataset(folder).cases) == 3
    assert (folder / "imagesTr/h_2.nii.gz").read_bytes() == b"image" * 1000
    assert names(folder) == [".complete", "dataset.json", "imagesTr", "labelsTr"]
    assert names(tmp_path / "new") == [f".{TASK}.lock", TASK, f"{TASK}.tar"]

    assert decathlon.prepare() == folder
    assert source(server, folder, "0" * 32).prepare() == folder  # root may be the task itself
    assert server.gets == 1
    assert (tempfile.gettempdir(), socket.getdefaulttimeout()) == settings


def test_an_archive_that_is_there_is_not_fetched(server, tmp_path):
    checksum = server.serve(tar(task_files()))
    (tmp_path / f"{TASK}.tar").write_bytes(server.content)
    source(server, tmp_path, checksum.upper()).prepare()
    assert server.gets == 0


def test_several_processes_fetch_once(server, tmp_path):
    decathlon = source(server, tmp_path, server.serve(tar(task_files())))
    folders = []
    threads = [
        threading.Thread(target=lambda: folders.append(decathlon.prepare())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / TASK] * 4
    assert server.gets == 1


def test_without_permission_to_download_the_places_are_named(tmp_path):
    with pytest.raises(DataError) as caught:
        Decathlon(root=tmp_path).prepare()
    for fault in (str(tmp_path), str(tmp_path / TASK), "data.download=true", "put the extracted"):
        assert fault in str(caught.value)
    assert names(tmp_path) == []


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path):
    got = server.serve(tar(task_files()))
    with pytest.raises(DataError, match=f"md5 {got}, expected {'0' * 32}"):
        source(server, tmp_path, "0" * 32).prepare()
    assert names(tmp_path) == [f".{TASK}.lock"]


def test_a_wrong_archive_of_the_users_is_refused_and_kept(server, tmp_path):
    (tmp_path / f"{TASK}.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match=f"md5 {md5(b'mine')}, expected .*remove"):
        source(server, tmp_path, server.serve(tar(task_files()))).prepare()
    assert (tmp_path / f"{TASK}.tar").read_bytes() == b"mine"
    assert server.gets == 0


def test_a_truncated_transfer_leaves_nothing_and_can_be_repeated(server, tmp_path):
    checksum = server.serve(tar(task_files()))
    whole, server.announced = server.content, len(server.content)
    server.content = whole[: len(whole) // 2]
    with pytest.raises(ResourceError, match=r"could not be downloaded .*start again"):
        source(server, tmp_path, checksum).prepare()
    assert names(tmp_path) == [f".{TASK}.lock"]

    server.content = whole
    assert len(read_dataset(source(server, tmp_path, checksum).prepare()).cases) == 3


def test_no_connection(server, tmp_path):
    server.status = 404
    with pytest.raises(ResourceError, match=r"404.*by other means"):
        source(server, tmp_path, "0" * 32).prepare()
    with pytest.raises(ResourceError, match="could not be downloaded"):
        source(server, tmp_path, "0" * 32, url="http://127.0.0.1:1/a.tar").prepare()
    assert names(tmp_path) == [f".{TASK}.lock"]


def test_too_little_space_is_found_before_the_transfer(server, tmp_path):
    server.announced = 2**60
    with pytest.raises(ResourceError, match=r"MiB free and .* MiB are needed"):
        source(server, tmp_path, "0" * 32).prepare()
    assert server.gets == 0


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({"../evil": b"x"}, ()),
        ({f"{TASK}/../../evil": b"x"}, ()),
        ({"ROOT/evil": b"x"}, ()),
        ({}, [(f"{TASK}/evil", "/etc/passwd")]),
    ],
)
def test_an_archive_that_reaches_outside_is_refused(server, tmp_path, files, links):
    root = tmp_path / "below/root"
    files = {name.replace("ROOT", str(tmp_path)): content for name, content in files.items()}
    with pytest.raises(DataError, match="was refused"):
        source(server, root, server.serve(tar(task_files() | files, links=links))).prepare()
    assert names(root) == [f".{TASK}.lock", f"{TASK}.tar"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"no archive", "was refused"),
        (tar({"other/file": b""}), r"holds no dataset\.json"),
        (
            tar({k: v for k, v in task_files().items() if not k.endswith("labelsTr/h_1.nii.gz")}),
            r"labelsTr/h_1\.nii\.gz: no such file",
        ),
    ],
)
def test_an_archive_that_is_no_dataset_is_refused(server, tmp_path, content, fault):
    with pytest.raises(DataError, match=fault):
        source(server, tmp_path, server.serve(content)).prepare()
    assert not (tmp_path / TASK).exists()


def test_an_interrupted_extraction_is_swept_and_repeated(server, tmp_path, monkeypatch):
    part = tmp_path / f".{TASK}.part"
    (part / f".archive/{TASK}/imagesTr").mkdir(parents=True)  # as kill -9 leaves it
    checksum = server.serve(tar(task_files()))
    (tmp_path / f"{TASK}.tar").write_bytes(server.content)

    def interrupted(archive, folder, has_base):
        (folder / TASK).mkdir()
        (folder / TASK / "dataset.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("monai.apps.utils.extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source(server, tmp_path, checksum).prepare()
    assert names(tmp_path) == [f".{TASK}.lock", f"{TASK}.tar"]
    assert len(read_dataset(source(server, tmp_path, checksum).prepare()).cases) == 3


@pytest.mark.parametrize("lost", ["dataset.json", "labelsTr/h_1.nii.gz"])
def test_a_half_folder_of_another_program_is_refused(server, tmp_path, lost):
    for name, content in task_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / TASK / lost).unlink()
    with pytest.raises(DataError, match=r"(?s)interrupted.* move (it|\S+) away"):
        source(server, tmp_path, server.serve(tar(task_files()))).prepare()
    assert (tmp_path / TASK / "imagesTr/h_0.nii.gz").exists()
    assert server.gets == 0


def test_an_unknown_task_has_no_address(tmp_path):
    with pytest.raises(ConfigError, match="Task99_Toe has no known address; choose one of Task01"):
        Decathlon(task="Task99_Toe", root=tmp_path, download=True).prepare()


def test_an_archive_without_a_base_folder(server, tmp_path):
    folder = source(server, tmp_path, server.serve(tar(task_files(prefix="")))).prepare()
    assert len(read_dataset(folder).cases) == 3


def test_a_mirror_must_give_the_original_bytes(server, tmp_path):
    server.serve(tar(task_files()))
    with pytest.raises(DataError, match="expected 9d24dba78a72977dbd1d2e110310f31b"):
        source(server, tmp_path, None).prepare()

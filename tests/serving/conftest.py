"""A service on a free port of this machine, and a client made of the standard library."""

import http.client
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from medseg.inference.predictor import Predictor
from medseg.models.weights import load_model
from medseg.serving.app import make_app
from medseg.serving.limits import Limits
from medseg.serving.work import Segmenter

HOST = "127.0.0.1"
LIMITS: dict[str, Any] = {
    "upload": 10**6, "unpacked": 10**7, "seconds": 60, "workers": 1, "waiting": 2,
}  # fmt: skip


class Service:
    """A running service.

    Attributes:
        port: Where it listens.
        open_windows: While it is cleared, every window of the network waits.
        windows: How many windows were begun.
        stops: What stops the work on each upload.
    """

    def __init__(self, model: Path, **limits: Any):
        trained = load_model(model)
        found = Limits(**LIMITS | limits)
        predictor = Predictor(trained, device="cpu")
        segmenter = Segmenter(trained, predictor, found)
        self.open_windows = threading.Event()
        self.open_windows.set()
        self.windows = 0
        predictor.view.network.register_forward_pre_hook(self._wait, prepend=True)
        self.stops: list[threading.Event] = []
        segment = segmenter.segment

        def noted(upload: Any, stop: threading.Event) -> bytes:
            self.stops.append(stop)
            return segment(upload, stop)

        segmenter.segment = noted  # type: ignore[method-assign]
        self._app = app = make_app(segmenter, found, [HOST, "localhost"])
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, log_level="error", timeout_graceful_shutdown=1)
        )
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()

    def _wait(self, *_: Any) -> None:
        self.windows += 1
        self.open_windows.wait(60)

    @property
    def free(self) -> int:
        """Requests that it would still take."""
        return self._app.state.places.free

    def end(self) -> None:
        self.open_windows.set()
        self._server.should_exit = True
        self._thread.join(60)
        self._listener.close()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read()
        finally:
            connection.close()

    def upload(
        self, data: bytes, name: str = "scan.nii.gz", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        body, kind = form(data, name)
        return self.ask("POST", "/predict", body, {"Content-Type": kind} | headers)

    @contextmanager
    def uploading(self, data: bytes) -> Iterator[socket.socket]:
        """A client that has sent a volume and waits; leaves when the block ends."""
        body, kind = form(data, "scan.nii.gz")
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((HOST, self.port), 60) as client:
            client.sendall(head.encode() + body)
            yield client


def form(data: bytes, name: str) -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so; fails where it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def serve(model_folder: Path) -> Iterator[Callable[..., Service]]:
    """Starts services with other limits; all end with the module."""
    running: list[Service] = []

    def _serve(**limits: Any) -> Service:
        running.append(Service(model_folder, **limits))
        return running[-1]

    yield _serve
    for service in running:
        service.end()

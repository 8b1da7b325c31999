"""The PDF: the page's text on paper, nothing fetched, nothing run."""

import builtins
import re
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import ResourceError
from medseg.report import write_report
from medseg.report.pdf import render_pdf

from .volume_runs import write_runs

pytest.importorskip("weasyprint", reason="medseg[pdf] is not installed")


def text_of(pdf: bytes, folder: Path) -> str:
    """Words of a PDF, by poppler."""
    if not (program := shutil.which("pdftotext")):
        pytest.skip("pdftotext (poppler-utils) is not installed")
    source = folder / "page.pdf"
    source.write_bytes(pdf)
    found = subprocess.run([program, source, "-"], check=True, capture_output=True, text=True)
    return " ".join(found.stdout.split())


def streams_of(pdf: bytes) -> bytes:
    """All streams of a PDF, decompressed."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL)
    content = []
    for stream in streams:
        try:
            content.append(zlib.decompress(stream))
        except zlib.error:
            content.append(stream)
    return b"\n".join(content)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_report_is_printed_with_its_cases_and_without_the_viewer(tmp_path: Path) -> None:
    report = write_report([write_runs(tmp_path)], tmp_path / "report.html")
    pdf = render_pdf(report.html.read_text(encoding="utf-8"))
    assert pdf.startswith(b"%PDF-")
    text = text_of(pdf, tmp_path)
    assert "Segmentation report: boxes" in text
    assert "worst of the reference, Dice 0.700" in text
    assert "Show these cases in 3-D" not in text
    assert len(re.findall(rb"/Subtype\s*/Image", pdf)) >= 3


def test_colours_of_the_page_reach_the_drawings() -> None:
    page = (
        "<style>:root{--s0: #0072b2}@media (prefers-color-scheme: dark){:root{--s0: #ffffff}}"
        "@media print{:root{--rule: #bbb}}</style>"
        '<svg viewBox="0 0 9 9" width="90"><path d="M0 0h9v9z" style="fill:var(--s0)"/></svg>'
    )
    assert b"0 0.447059 0.698039" in streams_of(render_pdf(page))


def test_nothing_is_fetched_from_anywhere(asked: tuple[str, list[str]], tmp_path: Path) -> None:
    address, paths = asked
    secret = tmp_path / "secret.css"
    secret.write_text("p::after { content: 'leaked' }")
    page = (
        f'<link rel="stylesheet" href="{address}/style.css"><img src="{address}/image.png">'
        f"<style>@import url({address}/more.css); @import url({secret.as_uri()});</style>"
        "<p>printed</p>"
    )
    text = text_of(render_pdf(page), tmp_path)
    assert "printed" in text
    assert "leaked" not in text
    assert paths == []


def test_scripts_and_their_data_are_left_out(tmp_path: Path) -> None:
    page = '<p>one</p><script type="application/json">{"a": "<p>two</p>"}</SCRIPT ><p>three</p>'
    assert text_of(render_pdf(page), tmp_path) == "one three"


@pytest.mark.parametrize("error", [ImportError("no weasyprint"), OSError("no pango")])
def test_a_missing_library_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("weasyprint"):
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ResourceError, match=r"pip install 'medseg\[pdf\]'.*libpango-1.0-0"):
        render_pdf("<p>")

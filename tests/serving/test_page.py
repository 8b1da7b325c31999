"""The page of the service in a real browser: a volume in, its labels drawn over it."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..report.browser import Browser, executable
from .conftest import HOST, Service

PROGRAM = executable()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on the path")

STATE = "document.body?.dataset.state"


@pytest.fixture
def browser(tmp_path: Path, serve: Callable[..., Service]) -> Iterator[Browser]:
    """At the page of a service."""
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile") as found:
        found.resize(1000, 900)
        found.send("Page.navigate", url=f"http://{HOST}:{serve().port}/")
        found.wait(f"{STATE} === 'ready'")
        yield found


def choose(browser: Browser, path: Path) -> None:
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])
    browser.wait(f"['shown', 'failed'].includes({STATE})")


def tinted(browser: Browser) -> int:
    """How many pixels of the canvas have a colour, rather than a grey."""
    box = "document.querySelector('canvas').getBoundingClientRect()"
    browser.run("document.querySelector('canvas').scrollIntoView({block: 'center'})")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    left, top, width, height = browser.run(f"(b => [b.left, b.top, b.width, b.height])({box})")
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    pixels = np.array(picture.crop((left + 1, top + 1, left + width - 1, top + height - 1)), float)
    return int(np.count_nonzero(np.ptp(pixels, axis=-1) > 40))


def test_a_volume_is_segmented_and_both_are_drawn(
    browser: Browser, save_scan: Callable[..., Path], scan: np.ndarray
) -> None:
    choose(browser, save_scan(scan, "a <b>case</b>.nii.gz"))
    assert browser.run(STATE) == "shown"
    assert browser.run("document.querySelectorAll('#status b').length") == 0
    assert browser.run("document.querySelectorAll('#legend li').length") == 2
    assert browser.run("document.getElementById('save').href").startswith("blob:")
    with_labels = tinted(browser)
    opacity = "document.getElementById('opacity')"
    browser.run(f"{opacity}.value = 0, {opacity}.dispatchEvent(new Event('input'))")
    assert with_labels > 100
    assert tinted(browser) < with_labels / 10
    own = browser.run("location.origin")
    assert all(url.startswith((own, "data:", "blob:")) for url in browser.requests)
    assert browser.errors == []


def test_a_file_that_is_no_volume_is_told(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader")
    choose(browser, tmp_path / "letter.txt")
    assert browser.run(STATE) == "failed"
    assert "NIfTI" in browser.run("document.getElementById('status').textContent")
    choose_again = browser.run("document.getElementById('file').disabled")
    assert choose_again is False

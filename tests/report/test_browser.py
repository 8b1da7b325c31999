"""The page in a real browser: it runs, it fits, it asks nobody for anything."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.report import write_report

from .browser import Browser, executable
from .volume_runs import write_runs

PROGRAM = executable()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on the path")

STATE = "document.getElementById('viewer').dataset.state"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    return write_report([write_runs(folder)], folder / "report.html").files[0]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def browser(opened: Browser) -> Browser:
    """The one browser, which forgets what earlier tests asked for."""
    opened.errors.clear()
    opened.requests.clear()
    return opened


def show(browser: Browser) -> None:
    browser.run("document.querySelector('.viewer .open').click()")
    browser.wait(f"['shown', 'failed'].includes({STATE})")


def choose(browser: Browser, name: str, value: str) -> None:
    select = f"document.querySelector('.viewer select[name={name}]')"
    browser.run(f"{select}.value = '{value}', {select}.dispatchEvent(new Event('change'))")
    browser.wait(f"{STATE} === 'shown'")


def canvas(browser: Browser) -> np.ndarray:
    """What the canvas shows, as the window draws it."""
    box = "document.querySelector('.viewer canvas').getBoundingClientRect()"
    browser.run("document.querySelector('.viewer canvas').scrollIntoView({block: 'center'})")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    left, top, width, height = browser.run(f"(b => [b.left, b.top, b.width, b.height])({box})")
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    return np.array(picture.crop((left + 1, top + 1, left + width - 1, top + height - 1)), float)


def tinted(pixels: np.ndarray) -> int:
    """How many pixels have a colour, rather than a grey."""
    return int(np.count_nonzero(np.ptp(pixels, axis=-1) > 40))


def test_the_page_loads_without_a_complaint_and_asks_nobody(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.errors == []
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert asked == [page.as_uri()]
    assert browser.run("document.querySelectorAll('table').length") > 1


def test_a_click_sorts_a_table_and_a_second_turns_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    read = (
        "[...document.querySelectorAll('#cases table tbody tr')]"
        ".map((row) => Number(row.cells[2].dataset.value))"
    )
    click = "document.querySelectorAll('#cases thead button')[2].click()"
    before = browser.run(read)
    browser.run(click)
    assert browser.run(read) == sorted(before)
    browser.run(click)
    assert browser.run(read) == sorted(before, reverse=True)
    assert len(set(before)) > 1


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_is_never_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    show(browser)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.body.scrollWidth") <= width


def test_the_viewer_draws_a_volume_and_its_overlays(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("typeof niivue") == "undefined"  # nothing runs before it is asked for
    show(browser)
    assert browser.run(STATE) == "shown"
    choose(browser, "view", "axial")
    errors = canvas(browser)
    choose(browser, "overlay", "none")
    plain = canvas(browser)
    assert plain.std() > 10
    assert tinted(plain) == 0
    assert tinted(errors) > 100
    choose(browser, "overlay", "label")
    assert tinted(canvas(browser)) > tinted(errors)
    choose(browser, "view", "render")
    assert canvas(browser).std() > 5
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert asked == [page.as_uri()]
    assert browser.errors == []


def test_every_arm_and_case_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    show(browser)
    choose(browser, "view", "axial")
    one = canvas(browser)
    browser.run(
        "(s => { s.selectedIndex = 1; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('.viewer select[name=arm]'))"
    )
    browser.wait(f"{STATE} === 'shown'")
    assert np.abs(canvas(browser) - one).max() > 40
    names = browser.run(
        "[...document.querySelectorAll('.viewer select[name=case] option')].map((o) => o.text)"
    )
    assert sorted(names) == ["ease_0", "ease_1", "ease_2"]


def test_without_webgl_the_reader_is_told(tmp_path: Path, page: Path) -> None:
    assert PROGRAM is not None
    flags = ("--disable-gpu", "--disable-3d-apis")
    with Browser(PROGRAM, tmp_path / "profile", *flags) as browser:
        browser.open(page)
        show(browser)
        assert browser.run(STATE) == "failed"
        said = browser.run("document.querySelector('.viewer [role=status]').textContent")
        assert "this browser offers no WebGL 2" in said
        assert "pictures above" in said

"""What `medseg explain` writes: every file whole or absent, drawn before the first is replaced."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from medseg.errors import ConfigError
from medseg.explain.figures import draw_figure
from medseg.explain.lectures import load_lecture
from medseg.explain.operator import Operator
from medseg.explain.page import lecture_page, operator_page
from medseg.explain.palette import as_png, as_svg
from medseg.files import atomic_path, write_bytes, write_text

_PAGES = (".html", ".htm")
_IMAGES = {".png": as_png, ".svg": as_svg}


def write_figure(operator: Operator, name: str, target: Path) -> None:
    """Writes one figure, or `all`, as PNG or SVG.

    Raises:
        ConfigError: another ending, no such figure, or an operator too large to draw.
        ResourceError: the file cannot be written.
    """
    ending = target.suffix.lower()
    if ending not in _IMAGES:
        raise ConfigError(
            f"output={target}: a figure is an image; give a name ending in .png or .svg"
        )
    write_bytes(target, _IMAGES[ending](draw_figure(operator, name)))


def write_operator_page(operator: Operator, target: Path) -> None:
    """Writes the page of an operator.

    Raises:
        ConfigError: the name does not end in `.html`.
        ResourceError: the file cannot be written.
    """
    if target.suffix.lower() not in _PAGES:
        raise ConfigError(f"output={target}: this is a page; give a name ending in .html")
    write_text(target, operator_page(operator))


def write_lectures(numbers: Sequence[int], target: Path) -> list[Path]:
    """Writes the page of a lecture to a file, or of some into a folder as `lecture_N.html`.

    Raises:
        ConfigError: several lectures for one file, or a file of another kind.
        ResourceError: a file cannot be written.
    """
    single = target.suffix.lower() in _PAGES
    if single and len(numbers) > 1:
        raise ConfigError(
            f"output={target}: {len(numbers)} lectures are as many pages; give a folder"
        )
    if target.suffix and not single and not target.is_dir():
        raise ConfigError(
            f"output={target}: a lecture is a page; give a name ending in .html, or a folder"
        )
    pages = {
        target if single else target / f"lecture_{number}.html": lecture_page(load_lecture(number))
        for number in numbers
    }
    with ExitStack() as stack:
        parts = {path: stack.enter_context(atomic_path(path)) for path in pages}
        for path, part in parts.items():
            part.write_text(pages[path], encoding="utf-8")
    return list(pages)

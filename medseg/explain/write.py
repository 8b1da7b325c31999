"""What `medseg explain` writes: every file whole or absent, drawn before the first is replaced."""

from pathlib import Path

from medseg.errors import ConfigError
from medseg.explain.figures import draw_figure
from medseg.explain.operator import Operator
from medseg.explain.page import operator_page
from medseg.explain.palette import as_png, as_svg
from medseg.files import write_bytes, write_text

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

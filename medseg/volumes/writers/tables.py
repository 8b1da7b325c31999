"""Names and colours of the classes beside a label map: for 3D Slicer and for ITK-SNAP."""

from pathlib import Path

from medseg.files import write_text
from medseg.volumes.writers.label_map import LabelMap

_NAME = str.maketrans({'"': "'", "#": " "})
_SNAP_HEAD = '    0     0    0    0        0  0  0    "Clear Label"'


def write_colour_table(target: Path, label_map: LabelMap) -> None:
    """Writes a colour table of 3D Slicer (.ctbl): label value, name, RGB and opacity."""
    lines = ["# Color table file", "0 background 0 0 0 0"]
    for value, (name, rgb) in _classes(label_map):
        word = "_".join(name.translate(_NAME).split()) or "_"  # its names end at a blank
        lines.append(f"{value} {word} {rgb[0]} {rgb[1]} {rgb[2]} 255")
    write_text(target, "\n".join(lines) + "\n")


def write_label_descriptions(target: Path, label_map: LabelMap) -> None:
    """Writes a label file of ITK-SNAP: label value, RGB, opacity, whether shown, and name."""
    lines = [_SNAP_HEAD]
    for value, (name, rgb) in _classes(label_map):
        red, green, blue = (f"{share:5d}" for share in rgb)
        label = name.translate(_NAME)
        lines.append(f'{value:5d} {red}{green}{blue}        1  1  1    "{label}"')
    write_text(target, "\n".join(lines) + "\n")


def _classes(label_map: LabelMap) -> enumerate[tuple[str, tuple[int, int, int]]]:
    return enumerate(zip(label_map.classes, label_map.colours, strict=True), start=1)

"""Figures draw what they are given, legibly."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from medseg.report.artifacts.figures import (
    constant_response,
    crack_histogram,
    gradient_table,
    kernel_sheet,
    phase_heat_map,
    residual_overlay,
    save,
    spectrum,
    trajectory,
    two_tone,
)
from medseg.report.artifacts.figures.style import DPI, WIDTH

EPOCHS = [
    {
        "epoch": epoch,
        "dc_gain": 0.05 * (1 - math.exp(-epoch)),
        "dc_gain_mean": None,
        "constant_response": math.nan if epoch % 2 else 0.01,
        "cycle_spin": 0.3,
    }
    for epoch in range(6)
]
NAN = torch.full((2, 2), torch.nan)


def noise(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.manual_seed(0))


def disc(size: int, radius: float) -> np.ndarray:
    row, column = np.indices((size, size)) - size / 2
    return (row**2 + column**2 < radius**2).astype(int)


def heat(*period: int) -> Figure:
    return phase_heat_map(noise(*period, scale=0.02), 1 + noise(*period, scale=0.1), period)


FIGURES = {
    "heat map of one axis": lambda: heat(4),
    "heat map": lambda: heat(4, 4),
    "heat map, unequal": lambda: heat(1, 8, 4),
    "heat map of slices": lambda: heat(2, 2, 2),
    "heat map of some slices": lambda: heat(16, 16, 16),
    "heat map, hatched": lambda: phase_heat_map(
        noise(2, 2), noise(2, 2), (2, 2), [noise(2, 2) > 0, noise(2, 2) < 0]
    ),
    "heat map of nothing": lambda: phase_heat_map(NAN, NAN, (2, 2)),
    "heat map, tiny": lambda: phase_heat_map(noise(2, 2) * 1e-9, noise(2, 2) * 1e7, (2, 2)),
    "heat map, constant": lambda: phase_heat_map(torch.zeros(4), torch.ones(4), (2, 2)),
    "gradient": lambda: gradient_table(noise(2, 2), noise(2, 2) ** 2, (2, 2)),
    "gradient of slices": lambda: gradient_table(noise(4, 4, 4), noise(4, 4, 4) ** 2, (4, 4, 4)),
    "gradient of nothing": lambda: gradient_table(NAN, 0 * NAN, (2, 2)),
    "spectrum": lambda: spectrum(noise(32, 24), (4, 2)),
    "spectrum of one axis": lambda: spectrum(noise(32), (1, 4), noise(32)),
    "spectrum of strided axes": lambda: spectrum(noise(16, 8), (1, 8, 8)),
    "spectrum and reference": lambda: spectrum(noise(32, 32), (2, 2), noise(32, 32)),
    "spectrum of a volume": lambda: spectrum(noise(8, 9, 10), (1, 2, 2), noise(8, 9, 10)),
    "spectrum of zeros": lambda: spectrum(torch.full((8, 8), -torch.inf), (2, 2), NAN.tile(4, 4)),
    "kernels": lambda: kernel_sheet(
        [("decoder.0", noise(3, 4, 3, 3), (2, 2)), ("decoder.1", noise(1, 1, 7, 7), (4, 4))]
    ),
    "kernels of one axis": lambda: kernel_sheet([("up", torch.zeros(1, 1, 4), (2,))]),
    "kernels of volumes": lambda: kernel_sheet(
        [("a", noise(2, 2, 4, 4, 4), (2, 2, 2)), ("b", NAN.reshape(1, 1, 1, 2, 2), (1, 2, 2))]
    ),
    "constant": lambda: constant_response(noise(4, 4).tile(3, 4), (4, 4)),
    "constant, cropped": lambda: constant_response(noise(100, 80), (2, 2)),
    "constant, flat": lambda: constant_response(torch.full((16, 16), 0.3)),
    "constant, nothing": lambda: constant_response(NAN),
    "overlay": lambda: residual_overlay(noise(24, 24), noise(24, 24), disc(24, 8), disc(24, 6)),
    "overlay without labels": lambda: residual_overlay(noise(30, 12), torch.zeros(30, 12)),
    "overlay of nothing": lambda: residual_overlay(NAN, NAN, torch.zeros(2, 2), torch.ones(2, 2)),
    "trajectory": lambda: trajectory(EPOCHS),
    "trajectory of nothing": lambda: trajectory([]),
    "trajectory of zeros": lambda: trajectory([{"epoch": 0, "dc_gain": 0.0}]),
    "cracks": lambda: crack_histogram(
        [torch.tensor([8, 2]), None, torch.arange(16)],
        [torch.tensor([5, 5]), None, torch.zeros(16)],
        ["depth", "height", "width"],
    ),
    "waves": lambda: two_tone(
        np.linspace(0, math.pi, 9),
        {"nearest": np.linspace(0, 1, 9), "nails": np.ones(9), "nothing": np.full(9, np.nan)},
    ),
    "waves without curves": lambda: two_tone(np.array([1.0]), {}),
}


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """The texts that a drawing really writes; axes hold more of them."""
    found: dict[int, Text] = {}
    draw = Text.draw

    def noted(self: Text, *args, **kwargs) -> None:
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = self
        draw(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.draw_without_rendering()
    return list(found.values())


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_on_another_or_outside(name, monkeypatch) -> None:
    figure = FIGURES[name]()
    boxes = [(t.get_text(), t.get_window_extent()) for t in drawn_texts(figure, monkeypatch)]
    assert boxes
    whole = figure.bbox
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= whole.x1, text
        assert box.y1 <= whole.y1, text
    for (one, box), (other, rival) in combinations(boxes, 2):
        wide = min(box.x1, rival.x1) - max(box.x0, rival.x0)
        high = min(box.y1, rival.y1) - max(box.y0, rival.y0)
        assert min(wide, high) < 1, (one, other)
    panels = [axes.get_window_extent() for axes in figure.findobj(include_axes)]
    heading = boxes[[text for text, _ in boxes].index(figure.get_suptitle())][1]
    assert all(heading.y0 >= panel.y1 for panel in panels)


def include_axes(artist) -> bool:
    return hasattr(artist, "get_images") and hasattr(artist, "get_xlim")


@pytest.mark.parametrize("name", ["heat map", "constant", "waves"])
def test_a_png_is_900_pixels_wide_and_white(name, tmp_path) -> None:
    save(FIGURES[name](), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width == round(WIDTH * DPI) == 900
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: phase_heat_map(torch.zeros(3), torch.zeros(4), (2, 2)),
        lambda: gradient_table(torch.zeros(16), torch.zeros(16), (2, 2, 2, 2)),
        lambda: spectrum(torch.zeros(4, 4), (2, 2, 2)),
        lambda: spectrum(torch.zeros(4, 4), (2, 2), torch.zeros(4, 5)),
        lambda: kernel_sheet([]),
        lambda: kernel_sheet([("up", torch.zeros(1, 1, 3), (2, 2))]),
        lambda: constant_response(torch.zeros(2, 2, 2)),
        lambda: residual_overlay(torch.zeros(2, 2), torch.zeros(2, 3)),
        lambda: residual_overlay(torch.zeros(0, 2), torch.zeros(0, 2)),
        lambda: crack_histogram([None], [None], ["depth"]),
        lambda: crack_histogram([torch.ones(2)], [torch.ones(3)], ["depth"]),
        lambda: crack_histogram([torch.ones(2)], [torch.ones(2)], []),
        lambda: two_tone(np.zeros(2), {"short": np.zeros(1)}),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(draw) -> None:
    with pytest.raises(ValueError, match=r"; (give|take|cut|pass|count|measure)"):
        draw()

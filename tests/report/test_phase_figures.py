"""Heat-maps and spectra of arms: every cell, colour and line is a number of the record."""

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.record.checkerboard import AxisSpectrum, PhaseMap
from medseg.report.figures.phases import phase_maps
from medseg.report.figures.spectra import over_mean, spectra

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def pictures(svg: str) -> list[np.ndarray]:
    """Every bitmap of an SVG as `(rows, columns, red green blue opacity)`."""
    found = re.findall(r'href="data:image/png;base64,\s*([^"]+)"', svg)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGBA")) for p in found]


def cells(svg: str, rows: int, columns: int) -> list[np.ndarray]:
    """A pixel of each cell of each plane, the key left out."""
    found = []
    for picture in pictures(svg)[:-1]:
        high, wide = picture.shape[0] // rows, picture.shape[1] // columns
        assert picture.shape[:2] == (rows * high, columns * wide)
        blocks = picture.reshape(rows, high, columns, wide, 4)
        assert (blocks == blocks[:, :1, :, :1]).all()
        found.append(blocks[:, 0, :, 0])
    return found


def texts(svg: str) -> list[str]:
    return [t for e in ElementTree.fromstring(svg).iter("text") if (t := "".join(e.itertext()))]


def strokes(svg: str, place: int) -> list[str]:
    """Lines in the page's colour of a place; the shapes of dots, which have curves, are none."""
    drawn = ElementTree.fromstring(svg).iter("path")
    lines = [e.get("d", "") for e in drawn if f"stroke:var(--s{place})" in e.get("style", "")]
    return [line for line in lines if "C" not in line]


def flat(*period: int) -> PhaseMap:
    return PhaseMap(period=list(period), values=[1.0] * math.prod(period), cases=8, noise=0.001)


def axis(number: int = 0, period: int = 2, bins: int = 8, line: float = 0.0) -> AxisSpectrum:
    decibel = [-float(j) for j in range(bins // 2 + 1)]
    decibel[-1] += line
    return AxisSpectrum(axis=number, period=period, bins=bins, decibel=decibel)


def test_a_cell_is_blue_below_and_orange_above_the_mean_gain() -> None:
    svg = phase_maps([(1, "one", PhaseMap(period=[2, 2], values=[0.9, 1.2, 1.0, 0.8]))])
    [plane] = cells(svg, 2, 2)
    assert plane[0, 0].tolist() == [*BLUE, 128]
    assert plane[0, 1].tolist() == [*ORANGE, 255]
    assert plane[1, 0, 3] == 0
    assert plane[1, 1].tolist() == [*BLUE, 255]
    assert {"−10", "+20", "0", "−20", "−20 %", "+20 %"} <= set(texts(svg))


def test_all_arms_share_one_scale() -> None:
    strong = PhaseMap(period=[1, 2], values=[0.6, 1.4])
    weak = PhaseMap(period=[1, 2], values=[0.9, 1.1])
    first, second = cells(phase_maps([(1, "a", strong), (2, "b", weak)]), 1, 2)
    assert first[..., 3].tolist() == [[255, 255]]
    assert second[..., 3].tolist() == [[64, 64]]


def test_departures_below_a_percent_stay_pale() -> None:
    weak = PhaseMap(period=[1, 2], values=[0.998, 1.002])
    [plane] = cells(phase_maps([(1, "a", weak)]), 1, 2)
    assert plane[..., 3].tolist() == [[51, 51]]


@settings(max_examples=20, deadline=None)
@given(
    period=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_planes_are_those_of_the_last_two_axes(period, seed) -> None:
    values = np.random.default_rng(seed).uniform(0.5, 1.5, math.prod(period)).round(5)
    svg = phase_maps([(1, "a", PhaseMap(period=period, values=values.tolist()))])
    rows, columns = (1, *period)[-2:]
    planes = np.stack(cells(svg, rows, columns))
    departure = (values - 1).reshape(-1, rows, columns)
    span = max(0.01, np.abs(departure).max())
    opacity = 255 * np.abs(departure) / span
    np.testing.assert_allclose(planes[..., 3], opacity, atol=0.51)
    seen = planes[..., 3] > 0
    hue = np.where(departure[..., None] < 0, BLUE, ORANGE)
    assert (planes[..., :3] == hue)[seen].all()


def test_an_arm_says_its_name_its_size_and_what_chance_gives() -> None:
    found = PhaseMap(period=[2, 2], values=[0.97, 1.03, 0.97, 1.03], cases=9, noise=0.0004)
    said = texts(phase_maps([(7, "kernel <3> & co", found)]))
    assert "7 kernel <3> & co" in said
    assert "RMS 3.0 (chance 0.04) %" in said
    single = PhaseMap(period=[2, 2], values=[0.97, 1.03, 0.97, 1.03])
    assert "RMS 3.0 %" in texts(phase_maps([(7, "one case", single)]))


def test_planes_are_explained_where_there_are_any() -> None:
    words = "Planes: phase 0, 1, … of axis 0; rows: axis 1; columns: axis 2."
    assert words in texts(phase_maps([(1, "a", flat(2, 2, 2))]))
    assert words not in texts(phase_maps([(1, "a", flat(2, 2))]))
    assert words not in texts(phase_maps([(1, "a", flat(1, 2, 2))]))


def test_numbers_stand_in_large_cells_only() -> None:
    large, small = (texts(phase_maps([(1, "a", flat(*period))])) for period in ((4, 4), (8, 8)))
    assert large.count("0") == 16 + 1
    assert small.count("0") == 1


def test_the_first_twelve_arms_are_drawn_and_the_rest_is_told() -> None:
    rows = [(number, f"arm{number}", flat(2, 2)) for number in range(1, 14)]
    svg = phase_maps(rows)
    assert len(pictures(svg)) == 12 + 1
    assert "The first 12 of 13 arms." in texts(svg)
    assert "arm13" not in svg
    assert not any("first" in words for words in texts(phase_maps(rows[:12])))


def test_arms_may_have_other_periods_than_their_neighbours() -> None:
    svg = phase_maps([(1, "a", flat(2)), (2, "b", flat(4, 4)), (3, "c", flat(16, 4, 4))])
    assert len(pictures(svg)) == 1 + 1 + 16 + 1


def test_nothing_to_draw_is_nothing() -> None:
    assert (phase_maps([]), spectra([]), spectra([(1, "a", [])])) == ("", "", "")


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 values are no map of the period \(2, 2\)"):
        phase_maps([(1, "a", PhaseMap(period=[2, 2], values=[1.0] * 3))])


def test_figures_are_light_and_the_same_every_time() -> None:
    generator = np.random.default_rng(0)
    largest = [
        (i, "arm", PhaseMap(period=[8, 8, 8], values=generator.uniform(0.8, 1.2, 512).tolist()))
        for i in range(12)
    ]
    longest = [(i, "arm", [axis(a, 4, 188) for a in range(2)]) for i in range(12)]
    drawn, again = ((phase_maps(largest), spectra(longest)) for _ in range(2))
    assert drawn == again
    assert max(len(svg.encode()) for svg in drawn) < 100_000


def test_every_axis_is_a_line_and_every_harmonic_a_dot() -> None:
    svg = spectra([(1, "a", [axis(0, 4), axis(1, 2)]), (2, "b", [axis(0, 4), axis(2, 4)])])
    key = 1
    assert [len(strokes(svg, place)) for place in range(3)] == [2 + key, 1 + key, 1 + key]
    dots = [e for e in ElementTree.fromstring(svg).iter("use") if "--s" in e.get("style", "")]
    assert len(dots) == 2 + 1 + 2 + 2  # of period 4 at 1/4 and 1/2, of period 2 at 1/2
    said = texts(svg)
    assert {"axis 0", "axis 1", "axis 2", "1 a", "2 b", "harmonic of the lattice"} <= set(said)


def test_dots_lie_on_their_line_at_whole_cycles_per_period() -> None:
    found = AxisSpectrum(axis=0, period=3, bins=9, decibel=[0.0, 1.0, 2.0, 9.0, 4.0])
    svg = spectra([(1, "a", [found])])
    [dot] = [e for e in ElementTree.fromstring(svg).iter("use") if "--s0" in e.get("style", "")]
    points = re.findall(r"([\d.]+) ([\d.]+)", max(strokes(svg, 0), key=len))
    assert (dot.get("x"), dot.get("y")) == points[3]


def test_arms_share_the_scale_whatever_the_size_of_their_logits() -> None:
    quiet = axis()
    loud = AxisSpectrum(axis=0, period=2, bins=8, decibel=[d + 40 for d in quiet.decibel])
    svg = spectra([(1, "a", [quiet]), (2, "b", [loud])])
    first, second = sorted(strokes(svg, 0), key=len)[-2:]
    heights = [re.findall(r"[\d.]+ ([\d.]+)", line) for line in (first, second)]
    assert heights[0] == heights[1]


def test_arms_without_spectra_are_left_out_and_labels_are_escaped() -> None:
    svg = spectra([(1, "none", []), (2, "<b> & co", [axis()])])
    assert "none" not in " ".join(texts(svg))
    assert "2 <b> & co" in texts(svg)


def test_more_than_twelve_arms_are_told_of() -> None:
    rows = [(number, f"arm{number}", [axis()]) for number in range(1, 14)]
    assert len(strokes(spectra(rows), 0)) == 12 + 1
    assert "The first 12 of 13 arms" in texts(spectra(rows))


@settings(max_examples=40, deadline=None)
@given(
    bins=st.integers(2, 40),
    seed=st.integers(0, 2**31),
    shift=st.floats(-80, 80),
)
def test_over_the_mean_the_mean_power_is_one(bins, seed, shift) -> None:
    decibel = np.random.default_rng(seed).normal(shift, 12, bins // 2 + 1)
    found = over_mean(AxisSpectrum(axis=0, period=2, bins=bins, decibel=decibel.tolist()))
    circle = [10 ** (found[min(j, bins - j)] / 10) for j in range(bins)]
    assert np.mean(circle) == pytest.approx(1)
    np.testing.assert_allclose(np.diff(found), np.diff(decibel), atol=1e-9)

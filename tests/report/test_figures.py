"""Figures of the report: the data they draw, and what they do where there is little to draw."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from medseg.plotting import inline_svg, new_figure, styled, svg_text
from medseg.record.checkerboard import AxisSpectrum, PhaseMap
from medseg.report.figures.cases import MOST_CASES, distribution
from medseg.report.figures.checkerboard import over_mean, phase_maps, spectra
from medseg.report.figures.comparisons import forest, interaction_figure
from medseg.report.figures.curves import curve, histories
from medseg.report.figures.trade import front, pareto

FOREST = ["arm", "label", "estimate", "low", "high", "case_low", "case_high", "verdict"]
HOSTILE = '$x_1$ </svg> \x07 \ud800 双 id="a"'


def texts(figure: Figure | None) -> list[str]:
    assert figure is not None
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def lines(figure: Figure | None) -> list[list[float]]:
    assert figure is not None
    return [np.asarray(line.get_ydata(), float).tolist() for line in figure.axes[0].lines]


def rows(*estimates: float, **changes: Any) -> pd.DataFrame:
    usual = {"low": None, "high": None, "case_low": None, "case_high": None, "label": "arm"}
    found = [
        {"arm": n, "estimate": e, "verdict": "equal"} | usual | changes
        for n, e in enumerate(estimates, start=2)
    ]
    return pd.DataFrame(found, columns=FOREST)


def points(*pairs: tuple[float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["x", "y"], dtype=float)
    return frame.set_index(pd.RangeIndex(1, len(pairs) + 1, name="arm"))


def flat(*period: int, value: float = 1.0) -> PhaseMap:
    return PhaseMap(period=list(period), values=[value] * math.prod(period), cases=8, noise=0.001)


class TestEmpty:
    @pytest.mark.parametrize(
        "figure",
        [
            forest(rows(), margin=0.01, metric="Dice", reference="x"),
            forest(rows(math.nan), margin=0.01, metric="Dice", reference="x"),
            pareto(points((math.nan, 0.5)), x_label="", y_label="", places={}),
            curve(histories([], "loss"), "Loss", {}),
            interaction_figure(pd.DataFrame({"a": [math.nan]}), metric="Dice"),
            phase_maps([]),
            spectra([(1, "a", [])]),
            distribution(pd.DataFrame({"arm": [1], "value": [math.nan]}), "organ", {}),
        ],
    )  # fmt: skip
    def test_nothing_is_drawn_of_nothing(self, figure) -> None:
        assert figure is None


class TestFiles:
    @styled()
    def draw(self) -> Figure:
        figure = new_figure(2.0)
        figure.add_subplot().plot([0, 1], [0, 1])
        return figure

    def test_the_same_figure_gives_the_same_svg_without_a_size_of_its_own(self) -> None:
        svg = inline_svg(svg_text(self.draw()), 'a "title" & <more>')
        assert svg == inline_svg(svg_text(self.draw()), 'a "title" & <more>')
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == 'a "title" & <more>'
        assert root.get("width") is None
        assert "<style" not in svg

    def test_a_name_may_hold_anything(self) -> None:
        figures = (
            forest(rows(0.1, label=HOSTILE), margin=None, metric="Dice", reference=HOSTILE),
            phase_maps([(1, HOSTILE, flat(2, 2))]),
            distribution(pd.DataFrame({"arm": [1], "value": [0.5]}), HOSTILE, {}),
            interaction_figure(pd.DataFrame({"b": 0.5}, index=[HOSTILE]), metric="Dice"),
        )
        for figure in figures:
            assert figure is not None
            root = ElementTree.fromstring(inline_svg(svg_text(figure), HOSTILE))
            shown = " ".join(root.itertext())
            assert "$x_1$ </svg> 双" in shown


numbers = st.integers(-50, 50).map(lambda tenths: tenths / 10)


class TestFront:
    @given(pairs=st.lists(st.tuples(numbers, numbers), max_size=12))
    def test_it_is_what_no_other_arm_beats_and_quality_rises_along_it(self, pairs) -> None:
        found = front([x for x, _ in pairs], [y for _, y in pairs])
        for (x, y), best in zip(pairs, found, strict=True):
            as_good = {(a, b) for a, b in pairs if a <= x and b >= y}
            assert best == (not as_good - {(x, y)})
        chosen = sorted({pair for pair, best in zip(pairs, found, strict=True) if best})
        assert all(b[1] > a[1] for a, b in pairwise(chosen))

    def test_an_arm_without_a_number_is_not_on_it(self) -> None:
        assert front([math.nan, 1.0], [9.0, 1.0]) == [False, True]


class TestForest:
    def test_an_estimate_far_beyond_the_others_does_not_squash_them(self) -> None:
        near = [0.001 * arm for arm in range(2, 7)]
        figure = forest(rows(*near, -3.0), margin=0.01, metric="Dice", reference="x")
        assert figure is not None
        assert figure.axes[0].get_xlim()[1] < 0.1
        marks = {line.get_marker() for line in figure.axes[0].lines}
        assert "<" in marks
        assert any("−3.0" in text for text in texts(figure))

    def test_verdicts_differ_by_shape_and_unrepeated_runs_are_hollow(self) -> None:
        drawn = rows(0.1, 0.2, low=0.0, high=0.3)
        drawn.loc[0, "verdict"], drawn.loc[1, "low"] = "better", None
        figure = forest(drawn, margin=None, metric="Dice", reference="x")
        assert figure is not None
        marks = figure.axes[0].lines
        assert marks[0].get_marker() != marks[1].get_marker()
        assert marks[0].get_markerfacecolor() != "none"
        assert marks[1].get_markerfacecolor() == "none"


class TestScatter:
    def test_all_arms_are_drawn_and_of_many_only_the_front_and_the_coloured_have_a_number(
        self,
    ) -> None:
        pairs = [(float(k), 1.0 if k == 1 else 0.5) for k in range(1, 101)]
        figure = pareto(points(*pairs), x_label="x", y_label="y", places={2: 0})
        assert {"1", "2"} <= set(texts(figure))
        assert not {"51", "77"} & set(texts(figure))
        # the step line aside
        assert sum(map(len, lines(figure)[1:])) == len(pairs)

    def test_arms_at_one_place_share_a_label(self) -> None:
        near = points(*[(1e6 + k, 0.8) for k in range(3)])
        figure = pareto(near, x_label="", y_label="", places={})
        assert "1, 2, 3" in texts(figure)

    @pytest.mark.parametrize("pairs", [[(3.0, 0.5)], [(0.0, 0.5), (1.0, 0.6)], [(1.0, 0.5)] * 7])
    def test_one_arm_zero_cost_and_equal_arms_have_a_figure(self, pairs) -> None:
        assert pareto(points(*pairs), x_label="", y_label="", places={}) is not None


def arm(number: int, *histories: list[float | None]) -> Any:
    rows = [[{"epoch": e, "loss": v} for e, v in enumerate(h, 1)] for h in histories]
    records = [SimpleNamespace(history=row, artifact_history=row) for row in rows]
    return SimpleNamespace(number=number, runs=records)


class TestCurve:
    def test_an_arm_is_the_mean_of_its_runs_with_the_runs_beside_it(self) -> None:
        figure = curve(histories([arm(31, [1.0, 0.5], [1.0, 0.7])], "loss"), "Loss", {31: 0})
        assert lines(figure) == [[1.0, 0.5], [1.0, 0.7], [1.0, 0.6]]
        assert "arm 31" in texts(figure)

    def test_many_arms_and_long_histories_are_light(self) -> None:
        long = [math.sin(epoch) for epoch in range(1000)]
        arms = [arm(number, *[long] * 6) for number in range(14)]
        figure = curve(histories(arms, "loss"), "Loss", {n: n for n in range(12)})
        assert len(inline_svg(svg_text(figure), "Loss")) < 200_000


class TestCases:
    def frame(self, count: int) -> pd.DataFrame:
        cases = [(a, f"c{k}", k / count + 0.01 * a) for a in (1, 2) for k in range(count)]
        return pd.DataFrame(cases, columns=["arm", "case", "value"])

    def test_of_many_cases_some_are_drawn_with_both_ends(self) -> None:
        figure = distribution(self.frame(1000), "organ", {})
        assert figure is not None
        shown = np.asarray(figure.axes[0].lines[0].get_xdata())
        assert len(shown) == MOST_CASES
        assert (shown[0], shown[-1]) == pytest.approx((0.01, 1.009))


class TestPhases:
    def test_all_arms_share_one_scale_about_the_mean(self) -> None:
        strong = PhaseMap(period=[1, 2], values=[0.6, 1.4])
        weak = PhaseMap(period=[1, 2], values=[0.9, 1.1])
        figure = phase_maps([(1, "a", strong), (2, "b", weak)])
        assert figure is not None
        images = [axes.images[0] for axes in figure.axes if axes.images]
        shown = [np.asarray(image.get_array())[0].tolist() for image in images]
        assert shown == [pytest.approx([-40, 40]), pytest.approx([-10, 10])]
        assert [image.get_clim() for image in images] == [pytest.approx((-40, 40))] * 2

    def test_planes_of_the_first_axis_stand_beside_each_other(self) -> None:
        values = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 4))
        found = PhaseMap(period=[2, 3, 4], values=values.ravel().tolist())
        figure = phase_maps([(1, "a", found)])
        assert figure is not None
        shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
        assert shown[:, :4] == pytest.approx(100 * (values[0] - 1))
        assert shown[:, 5:] == pytest.approx(100 * (values[1] - 1))
        assert np.isnan(shown[:, 4]).all()

    def test_a_map_of_another_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match="3 values are no map"):
            phase_maps([(1, "a", PhaseMap(period=[2, 2], values=[1.0] * 3))])

    @given(decibel=st.lists(st.floats(-60, 60), min_size=2, max_size=9))
    def test_a_spectrum_is_over_the_mean_power_of_both_signs_of_frequency(self, decibel) -> None:
        bins = 2 * (len(decibel) - 1)
        found = over_mean(AxisSpectrum(axis=0, period=2, bins=bins, decibel=decibel))
        both = [*found, *found[-2:0:-1]]
        assert np.mean(10 ** (np.array(both) / 10)) == pytest.approx(1)

    def test_dots_mark_the_harmonics_and_all_arms_have_one_scale(self) -> None:
        def axis(line: float) -> AxisSpectrum:
            return AxisSpectrum(axis=1, period=4, bins=8, decibel=[0, 0, line, 0, 2 * line])

        figure = spectra([(1, "a", [axis(5.0)]), (2, "b", [axis(50.0)])])
        assert figure is not None
        dots = figure.axes[0].lines[1].get_xdata()
        assert list(dots) == [0.25, 0.5]
        assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_a_cell_of_two_factors_that_was_not_run_is_left_out() -> None:
    means = pd.DataFrame({"c": [0.5, math.nan], "d": [math.nan, 0.7]}, index=["a", "b"])
    figure = interaction_figure(means, metric="Dice")
    assert figure is not None
    image = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(image, means.to_numpy())
    # a dark page inverts neither the map nor its numbers
    assert svg_text(figure).count('class="as-drawn"') == 1 + 2

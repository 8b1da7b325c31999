"""Figures of the report: what they show, and what they do where there is little to show."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.report.figures import (
    ForestRow,
    ParetoPoint,
    Promise,
    curve,
    forest,
    front,
    pareto,
    promise_figure,
)
from medseg.report.figures.placing import apart
from medseg.report.figures.scales import NUMBERED

numbers = st.floats(-5, 5).map(lambda value: round(value, 1))
points = st.lists(st.tuples(numbers, numbers), max_size=12).map(
    lambda pairs: [ParetoPoint(arm=arm, x=x, y=y) for arm, (x, y) in enumerate(pairs)]
)


def words(svg: str) -> str:
    """All text of a figure that is well-formed."""
    return " ".join(ElementTree.fromstring(svg).itertext())


def row(arm: int, estimate: float, **changes) -> ForestRow:
    usual = {"label": f"arm <{arm}>", "verdict": "undecided", "case_low": None, "case_high": None}
    ends = {"low": estimate - 0.01, "high": estimate + 0.01}
    return ForestRow(arm=arm, estimate=estimate, **usual | ends | changes)


class TestFront:
    @given(points=points, higher=st.booleans())
    def test_it_is_what_no_other_arm_beats(self, points, higher) -> None:
        sign = 1 if higher else -1

        def beats(one: ParetoPoint, other: ParetoPoint) -> bool:
            as_good = one.x <= other.x and sign * one.y >= sign * other.y
            return as_good and (one.x, one.y) != (other.x, other.y)

        wanted = {p.arm for p in points if not any(beats(other, p) for other in points)}
        assert front(points, higher_y_better=higher) == wanted

    @given(points=points)
    def test_along_it_quality_rises_with_cost(self, points) -> None:
        found = front(points)
        chosen = {(p.x, p.y) for p in points if p.arm in found}
        assert all(a[1] < b[1] for a, b in pairwise(sorted(chosen)))

    def test_an_arm_without_a_number_is_not_in_it(self) -> None:
        assert front([ParetoPoint(arm=1, x=math.nan, y=9), ParetoPoint(arm=2, x=1, y=1)]) == {2}


class TestForest:
    def test_every_arm_is_named_with_its_verdict(self) -> None:
        rows = [row(2, 0.02, verdict="better"), row(3, -0.5, verdict="worse")]
        shown = words(forest(rows, margin=0.01, metric="Dice", reference="one & all"))
        for text in ("arm <2>", "arm <3>", "better", "worse", "Dice", "one & all", "0.01"):
            assert text in shown

    def test_unknown_ends_are_no_obstacle(self) -> None:
        lonely = row(2, 0.1, low=None, high=None)
        assert "arm <2>" in words(forest([lonely], margin=None, metric="HD95", reference="x"))

    @pytest.mark.parametrize("rows", [[], [row(1, math.nan, low=None, high=None)]])
    def test_nothing_is_drawn_of_nothing(self, rows) -> None:
        assert forest(rows, margin=0.01, metric="Dice", reference="x") == ""

    def test_equal_arms_have_a_figure(self) -> None:
        rows = [row(arm, 0.0, low=0.0, high=0.0) for arm in (2, 3)]
        assert "arm <3>" in words(forest(rows, margin=0.01, metric="Dice", reference="x"))

    def test_a_mark_beyond_the_axis_becomes_an_arrow_and_is_said(self) -> None:
        near = [row(arm, 0.001 * arm) for arm in range(2, 7)]
        shown = words(forest([*near, row(7, -3.0)], margin=0.01, metric="Dice", reference="x"))
        assert "Arrows" in shown
        assert "−3.000" in shown
        assert "Arrows" not in words(forest(near, margin=0.01, metric="Dice", reference="x"))

    def test_labels_are_text_whatever_they_hold(self) -> None:
        label = '$x_1$ </svg> \x07 \u53cc id="a" #0a0b0c 0.123456'
        shown = words(
            forest([row(2, 0.0, label=label)], margin=None, metric="Dice", reference=label)
        )
        for text in ("$x_1$", "</svg>", "\u53cc", 'id="a"', "#0a0b0c", "0.123456"):
            assert shown.count(text) >= 1

    def test_forty_arms_are_light(self) -> None:
        rows = [
            row(arm, 0.001 * arm, case_low=0.0, case_high=0.002 * arm, label="a" * 80)
            for arm in range(40)
        ]
        assert len(forest(rows, margin=0.01, metric="Dice", reference="x")) < 60_000


class TestPareto:
    def draw(self, *pairs: tuple[float, float]) -> str:
        points = [ParetoPoint(arm=n, x=x, y=y) for n, (x, y) in enumerate(pairs, start=1)]
        return pareto(points, x_label="Parameters", y_label="Dice", style={1: 0, 2: 1})

    def test_axes_and_arms_are_named(self) -> None:
        shown = words(self.draw((1e5, 0.8), (1e6, 0.9)))
        assert {"1", "2", "Dice", "Parameters"} <= set(shown.split())

    @pytest.mark.parametrize("pairs", [[], [(math.nan, 0.5)], [(10.0, math.nan)]])
    def test_nothing_is_drawn_of_nothing(self, pairs) -> None:
        assert self.draw(*pairs) == ""

    @pytest.mark.parametrize("pairs", [[(3.0, 0.5)], [(3.0, 0.5)] * 4, [(0.0, 0.5), (1.0, 0.6)]])
    def test_one_point_equal_points_and_zero_cost_have_a_figure(self, pairs) -> None:
        assert words(self.draw(*pairs))

    def test_it_is_light_and_always_the_same(self) -> None:
        pairs = [(10.0**k, 0.8 + 0.01 * k) for k in range(12)]
        assert self.draw(*pairs) == self.draw(*pairs)
        assert len(self.draw(*pairs)) < 60_000

    def test_numbers_of_near_arms_do_not_cover_each_other(self) -> None:
        drawn = ElementTree.fromstring(self.draw(*[(1e6 + k, 0.8) for k in range(12)]))
        places = [
            (float(t.get("x", "nan")), float(t.get("y", "nan")))
            for t in drawn.iter("text")
            if (t.text or "").isdecimal() and 1 <= int(t.text or "") <= 12
        ]
        assert len(places) >= 12
        assert all(
            abs(a[0] - b[0]) >= 5 or abs(a[1] - b[1]) >= 8
            for i, a in enumerate(places)
            for b in places[:i]
        )

    def test_of_many_arms_the_front_and_the_coloured_are_numbered_and_all_are_drawn(self) -> None:
        count = 1000
        drawn = self.draw(*[(float(k), 1.0 if k == 1 else 0.5) for k in range(1, count + 1)])
        assert {"1", "2"} <= set(words(drawn).split())
        assert not {"500", "777"} & set(words(drawn).split())
        cloud = max(ElementTree.fromstring(drawn).iter("path"), key=lambda p: len(p.get("d", "")))
        assert cloud.get("d", "").count("M") == count - 2 > NUMBERED
        assert len(drawn) < 60_000

    def test_ids_are_those_that_are_used_and_two_figures_share_none(self) -> None:
        figures = [self.draw((1.0, y), (2.0, 0.9)) for y in (0.5, 0.6)]
        ids = []
        for drawn in figures:
            elements = list(ElementTree.fromstring(drawn).iter())
            own = {found for e in elements if (found := e.get("id"))}
            used = {found[1:] for e in elements if (found := e.get("href"))}
            assert used <= own
            ids.append(own)
        assert ids[0]
        assert not ids[0] & ids[1]

    def test_colours_are_those_of_the_page(self) -> None:
        drawn = self.draw((1.0, 0.5), (2.0, 0.9))
        assert "currentColor" in drawn
        assert "var(--s1)" in drawn
        assert "#0a0" not in drawn


class TestPromises:
    def test_prefixes_follow_the_unit(self) -> None:
        found = [Promise(arm=1, promised=2.0**30, measured=2.0**31)]
        assert "GiB" in words(promise_figure(found, label="memory", unit="B", style={}))

    @pytest.mark.parametrize("promises", [[], [Promise(arm=1, promised=math.nan, measured=1.0)]])
    def test_nothing_is_drawn_of_nothing(self, promises) -> None:
        assert promise_figure(promises, label="memory", unit="B", style={}) == ""

    def test_both_axes_and_all_arms_are_named(self) -> None:
        found = [Promise(arm=arm, promised=arm, measured=2.0 * arm) for arm in (7, 8, 9)]
        shown = words(promise_figure(found, label="Step", unit="×", style={7: 0}))
        for text in ("Step, predicted", "Step, measured", "7", "8", "9", "×"):
            assert text in shown


def arm(number: int, *histories: list[dict[str, float | None]]) -> Any:
    runs = [SimpleNamespace(record=SimpleNamespace(history=history)) for history in histories]
    return SimpleNamespace(number=number, runs=runs)


def history(values: list[float | None]) -> list[dict[str, float | None]]:
    return [{"epoch": epoch, "loss": value} for epoch, value in enumerate(values)]


class TestCurve:
    def test_a_line_ends_in_the_number_of_its_arm(self) -> None:
        arms = [arm(31, history([1.0, 0.5]), history([1.0, 0.7])), arm(32, history([1.0]))]
        shown = words(curve(arms, "loss", "Loss <1>", {31: 0, 32: 1}))
        assert {"31", "32", "Epoch", "<1>"} <= set(shown.split())

    @pytest.mark.parametrize("values", [[], [None, None], [math.nan, math.inf]])
    def test_nothing_is_drawn_of_nothing(self, values) -> None:
        assert curve([arm(1, history(values))], "loss", "Loss", {1: 0}) == ""

    def test_many_arms_and_long_histories_are_light(self) -> None:
        long = history([math.sin(epoch) for epoch in range(2000)])
        arms = [arm(number, *[long] * 6) for number in range(200)]
        assert len(curve(arms, "loss", "Loss", {n: n for n in range(12)})) < 60_000


class TestApart:
    heights = st.lists(st.floats(0, 100), min_size=1, max_size=20)

    @given(heights=heights, gap=st.floats(0.5, 5))
    def test_neighbours_keep_the_gap_and_the_order_within_the_frame(self, heights, gap) -> None:
        moved = apart(heights, gap, 0.0, 100.0)
        assert all(b - a >= gap - 1e-9 for a, b in pairwise(sorted(moved)))
        assert min(moved) >= gap / 2 - 1e-9
        assert max(moved) <= 100 - gap / 2 + 1e-9
        order = sorted(range(len(heights)), key=lambda i: heights[i])
        assert [moved[i] for i in order] == sorted(moved)

    @given(heights=st.lists(st.integers(1, 9), unique=True, min_size=1).map(sorted))
    def test_what_is_apart_stays(self, heights) -> None:
        assert apart(heights, 1.0, 0.0, 10.0) == pytest.approx(heights)

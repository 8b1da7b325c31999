"""Figures of the report: what they show, and what they do where there is little to show."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.report.figures import (
    ForestRow,
    ParetoPoint,
    Promise,
    forest,
    front,
    pareto,
    promise_figure,
)

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


class TestPromises:
    def test_prefixes_follow_the_unit(self) -> None:
        found = [Promise(arm=1, promised=2.0**30, measured=2.0**31)]
        assert "GiB" in words(promise_figure(found, label="memory", unit="B", style={}))

    @pytest.mark.parametrize("promises", [[], [Promise(arm=1, promised=math.nan, measured=1.0)]])
    def test_nothing_is_drawn_of_nothing(self, promises) -> None:
        assert promise_figure(promises, label="memory", unit="B", style={}) == ""

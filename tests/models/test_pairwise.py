"""The cells of the grid hold every pair that can be, and are always the same."""

from itertools import combinations, product

import pytest

from ..pairwise import pairwise_cells, possible_pairs
from .grid import FACTORS, is_impossible

SMALL = {"a": [0, 1, 2], "b": ["x", "y"], "c": [True, False], "d": list("pqrs")}
GRIDS = [
    (SMALL, lambda cell: False),
    (SMALL, lambda cell: cell.get("a") == 1 and cell.get("d") in ("p", "q")),
    (FACTORS, is_impossible),
]


@pytest.mark.parametrize(("factors", "impossible"), GRIDS, ids=["free", "ruled", "networks"])
class TestCells:
    def test_two_values_of_two_factors_meet_if_and_only_if_they_can(
        self, factors, impossible
    ) -> None:
        cells = pairwise_cells(factors, impossible)
        for first, second in combinations(factors, 2):
            met = {(repr(cell[first]), repr(cell[second])) for cell in cells}
            possible = {
                (repr(a), repr(b))
                for a, b in product(factors[first], factors[second])
                if not impossible({first: a, second: b})
            }
            assert met == possible

    def test_they_are_always_the_same_and_fewer_than_the_pairs(self, factors, impossible) -> None:
        cells = pairwise_cells(factors, impossible)
        assert cells == pairwise_cells(factors, impossible)
        assert len({repr(cell) for cell in cells}) == len(cells)
        assert len(cells) < len(possible_pairs(factors, impossible)) / 2

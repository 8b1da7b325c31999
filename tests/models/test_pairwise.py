"""The cells of the grid hold every pair that can be, and are always the same."""

from itertools import combinations, product

import pytest

from medseg.blocks import downsample

from .grid import FACTORS, NETWORKS, is_impossible
from .pairwise import pairwise_cells, possible_pairs

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


def test_what_cannot_be_is_max_unpooling_without_max_pooling_or_over_several_stages() -> None:
    free = possible_pairs(FACTORS, lambda cell: False)
    refused = free - possible_pairs(FACTORS, is_impossible)
    pools = [d for d in FACTORS["downsample"] if not isinstance(d, downsample.MaxPool)]
    full_scale = [network for network in NETWORKS if network[0] == "full_scale"]
    assert len(refused) == len(pools) + len(full_scale) == 7

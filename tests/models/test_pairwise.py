"""The cells of a covering array hold every pair that can be, and are always the same."""

from itertools import combinations, product

import pytest

from ..pairwise import never, pairwise_cells, possible_pairs

FACTORS = {"a": [0, 1, 2], "b": ["x", "y"], "c": [True, False], "d": list("pqrs")}


@pytest.mark.parametrize(
    "impossible", [never, lambda cell: cell.get("a") == 1 and cell.get("d") in ("p", "q")]
)
def test_two_values_of_two_factors_meet_if_and_only_if_they_can(impossible) -> None:
    cells = pairwise_cells(FACTORS, impossible)
    for first, second in combinations(FACTORS, 2):
        met = {(cell[first], cell[second]) for cell in cells}
        pairs = product(FACTORS[first], FACTORS[second])
        assert met == {(a, b) for a, b in pairs if not impossible({first: a, second: b})}
    assert cells == pairwise_cells(FACTORS, impossible)
    assert len(cells) < len(possible_pairs(FACTORS, impossible)) / 2

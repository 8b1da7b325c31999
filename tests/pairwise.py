"""Few cells of a large grid in which every two values of two factors meet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import pytest

Value = tuple[str, int]  # a factor and the place of one of its values
Pair = frozenset[Value]


def never(cell: dict[str, Any]) -> bool:
    """Every cell can be."""
    return False


def possible_pairs(
    factors: Mapping[str, Sequence[Any]],
    impossible: Callable[[dict[str, Any]], bool] = never,
) -> set[Pair]:
    """All pairs of values of two factors that may stand in one cell."""
    return {
        frozenset({(first, i), (second, j)})
        for first, second in combinations(factors, 2)
        for i, a in enumerate(factors[first])
        for j, b in enumerate(factors[second])
        if not impossible({first: a, second: b})
    }


def pairwise_cells(
    factors: Mapping[str, Sequence[Any]],
    impossible: Callable[[dict[str, Any]], bool] = never,
) -> list[dict[str, Any]]:
    """Cells that cover all possible pairs, greedily and always the same ones.

    Args:
        factors: The values of every factor.
        impossible: Whether a part of a cell cannot be; only pairs are asked for.
    """
    missing = possible_pairs(factors, impossible)
    possible = frozenset(missing)
    used: Counter[Value] = Counter()
    cells = []
    for start in sorted(missing, key=sorted):
        if start not in missing:
            continue
        chosen = dict(start)
        for factor, values in factors.items():
            if factor in chosen:
                continue
            fitting = [i for i in range(len(values)) if _pairs(chosen, factor, i) <= possible]
            # of those that bring most the least used, so that no value stands in every cell
            chosen[factor] = max(
                fitting,
                key=lambda i, factor=factor: (
                    len(_pairs(chosen, factor, i) & missing),
                    -used[factor, i],
                ),
            )
        used.update(chosen.items())
        missing -= {frozenset(pair) for pair in combinations(chosen.items(), 2)}
        cells.append({factor: factors[factor][chosen[factor]] for factor in factors})
    return cells


def covering(**factors: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrises a test by cells in which every two values of two factors meet."""
    values = [tuple(cell.values()) for cell in pairwise_cells(factors)]
    return pytest.mark.parametrize(list(factors), values, ids=_name)


def _pairs(chosen: Mapping[str, int], factor: str, index: int) -> set[Pair]:
    return {frozenset({other, (factor, index)}) for other in chosen.items()}


def _name(value: Any) -> str:
    """What a value is called in a test's id; a function's text would hold its address."""
    return getattr(value, "__name__", repr(value))

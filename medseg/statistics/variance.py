"""Where values of one arm differ: cases, folds, seeds, and the rest.

Each (arm, fold) with S seeds and C cases that all of them have is a two-way table. Its mean squares
are pooled over all arms and folds; expected values, with the means as units:

    variance of run × case residuals          σ²_residual
    variance of run means                     σ²_seed + σ²_residual / C
    variance of case means over the seeds     σ²_case + σ²_residual / S
    variance of fold means within an arm      σ²_fold + σ²_seed / S + σ²_residual / (S C)
                                              + σ²_case / C if each case is in one fold only

Solved from top to bottom, negative solutions set to 0 (method of moments; Searle, Casella &
McCulloch 1992, Variance Components, ch. 4).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medseg.statistics.observations import Observations

Blocks = Mapping[int, list[NDArray[np.float64]]]


def variance_components(observations: Observations) -> dict[str, float]:
    """Splits the variance of the values of an arm, averaged over arms.

    Returns:
        `case`, `fold`, `seed` and `residual` (training × case), in squared units of the values;
        a component that cannot be estimated is missing. With one seed `case` contains the residual
        and `fold` the seeds.
    """
    blocks: dict[int, list[NDArray[np.float64]]] = {}
    for cell in observations.cells():
        if (block := observations.block(cell)).size:
            blocks.setdefault(int(observations.arm[cell[0]]), []).append(block)
    squares: dict[str, list[tuple[float, int, float]]] = {"case": [], "seed": [], "residual": []}
    for block in (block for own in blocks.values() for block in own):
        seeds, cases = block.shape
        mean = block.mean()
        runs, means = block.mean(axis=1) - mean, block.mean(axis=0) - mean
        rest = block - mean - runs[:, None] - means
        squares["residual"].append((float((rest**2).sum()), (seeds - 1) * (cases - 1), 0.0))
        squares["seed"].append((float((runs**2).sum()), seeds - 1, 1 / cases))
        squares["case"].append((float((means**2).sum()), cases - 1, 1 / seeds))
    found: dict[str, float] = {}
    for name in ("residual", "seed", "case"):
        known = [one for one in squares[name] if one[1]]
        if df := sum(one[1] for one in known):
            noise = found.get("residual", 0.0) * sum(d * inverse for _, d, inverse in known)
            found[name] = max(0.0, (sum(square for square, _, _ in known) - noise) / df)
    fold = _fold(blocks, found, observations.only_fold is not None)
    found |= {} if fold is None else {"fold": fold}
    return {name: found[name] for name in ("case", "fold", "seed", "residual") if name in found}


def _fold(blocks: Blocks, found: Mapping[str, float], nested: bool) -> float | None:
    """The component of folds; None without an arm that has two."""
    square, expected, df = 0.0, 0.0, 0
    for own in blocks.values():
        noise = [
            found.get("seed", 0.0) / block.shape[0]
            + found.get("residual", 0.0) / block.size
            + nested * found.get("case", 0.0) / block.shape[1]
            for block in own
        ]
        if freedom := len(own) - 1:
            square += float(np.var([block.mean() for block in own], ddof=1)) * freedom
            expected += float(np.mean(noise)) * freedom
            df += freedom
    return max(0.0, (square - expected) / df) if df else None

"""The sparse matrix of lecture 4: a convolution as a matrix, and what its transpose is."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course.fact import Fact, Topic, rows_of, work
from course.figures import matrix
from medseg.explain.example import Panel, draw
from medseg.explain.operator import make_operator
from medseg.report.page import Figure

_fact = partial(Fact, lecture=4)
_PRINTED_MATRIX = """
00  .  .  .
01 00  .  .
02 01 00  .
 . 02 01 00
10  . 02 01
11 10  . 02
12 11 10  .
 . 12 11 10
20  . 12 11
21 20  . 12
22 21 20  .
 . 22 21 20
 .  . 22 21
 .  .  . 22
 .  .  .  .
 .  .  .  .
"""


def why_transposed() -> Topic:
    """The printed matrix beside the right one."""
    right, column = _transposed_matrix(), torch.ones(4, 1, dtype=torch.float64)
    return Topic(
        title="Why it is called transposed",
        text=(
            "A convolution is a product with a sparse matrix C, and the transposed one a product "
            "with Cᵀ. For a 3×3 filter on a 4×4 image without padding, C is 4×16. The image is "
            "read row by row, so the second row of outputs starts four pixels further, not two: "
            "the printed matrix shifts each column by one, which is a 1-D convolution.",
        ),
        works=(work("conv", "matrix", size=4, padding=0),),
        pictures=(_matrices(right),),
        facts=(
            _fact(
                place="Why transposed?",
                printed="16x4 times 4x1 = 16x1",
                stated=((16, 4), (4, 1), (16, 1)),
                computed=tuple(tuple(a.shape) for a in (right, column, right @ column)),
                how="torch's derivative of the convolution, transposed, times a column",
            ),
            _fact(
                place="Why transposed?",
                printed="Sparse Matrix Cᵀ, all 64 entries",
                stated=_numbers(_printed_words()),
                computed=rows_of(right),
                how="w₀₀ … w₂₂ written as 1 … 9",
                erratum="the image is 4 pixels wide, so columns 3 and 4 start in rows 5 and 6 and "
                "not in 3 and 4; as printed two pixels would never be reached.",
            ),
        ),
    )


def column_starts(rows: tuple) -> tuple[int, ...]:
    """Row, counted from 1, in which each column begins."""
    return tuple(
        next(number for number, entry in enumerate(column, start=1) if entry)
        for column in zip(*rows, strict=True)
    )


def _transposed_matrix() -> Tensor:
    return matrix(make_operator("conv", size=4, padding=0)).T


def _printed_words() -> list[list[str]]:
    return [[*line.split()] for line in _PRINTED_MATRIX.strip().splitlines()]


def _numbers(words: list[list[str]]) -> tuple:
    """w₀₀ … w₂₂ as 1 … 9, like the kernel of an example."""
    return tuple(
        tuple(0 if w == "." else int(w[0]) * 3 + int(w[1]) + 1 for w in row) for row in words
    )


def _named(rows: Any) -> list[list[str]]:
    return [[f"w{(v - 1) // 3}{(v - 1) % 3}" if v else "" for v in row] for row in rows]


def _matrices(right: Tensor) -> Figure:
    printed = _numbers(_printed_words())
    panels = [
        Panel("Cᵀ as printed", np.array(printed), _named(printed)),
        Panel("Cᵀ as it is", right.numpy(), _named(rows_of(right))),
    ]
    caption = "Cᵀ as printed, each column shifted by one, and as it is, from torch."
    return Figure(draw(panels), title=caption, caption=caption, wide=True)

"""The explanation of an operator: its formulas with numbers as text, as a figure and as a page."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from medseg.checkerboard.imbalance import overlap_counts
from medseg.errors import ConfigError
from medseg.explain.example import draw_example, small, worked, written
from medseg.explain.operator import Operator, full_grid
from medseg.files import replacing, write_text
from medseg.plotting import save
from medseg.report.page import Figure, Note, Page, Section, render_html
from medseg.report.tables import Table, table

_LETTERS = (
    "n input size, k kernel, s stride, p padding, op output padding, d dilation, C and M input "
    "and output channels, g groups, N voxels of a grid, Π the product over the axes."
)
_OF_ORDINARY = ("depthwise", "depthwise_separable", "spatially_separable", "grouped")
_ENDINGS = {
    ".svg": "figure",
    ".png": "figure",
    ".pdf": "figure",
    ".html": "page",
    ".htm": "page",
}
_FETCHED = {"linear": lambda o: o.output, "deformable": lambda o: (*o.output, *o.kernel)}


class Formula(NamedTuple):
    """One quantity, its formula in letters, and the same with numbers and result."""

    name: str
    formula: str
    numbers: str


def formulas(operator: Operator) -> list[Formula]:
    """Output size, cost, receptive field and overlap, as far as the operator has them."""
    found = [_size(operator), *_cost(operator)]
    if operator.about.family == "conv":
        found.append(_receptive_field(operator))
    if operator.kind == "transposed":
        found += _overlap(operator)
    return found


def weights(operator: Operator) -> tuple[str, str, int]:
    """The number of weights in letters, with numbers, and itself; biases do not count."""
    o, taps, k = operator, math.prod(operator.kernel), _product(*operator.kernel)
    c, m, g = o.in_channels, o.out_channels, o.groups
    match o.kind:
        case "depthwise_separable":
            return "C · (Πk + M)", f"{c} · ({k} + {m})", c * (taps + m)
        case "spatially_separable":
            chain = (c, *[m] * o.dims)
            factors = [*zip(o.kernel, chain, chain[1:], strict=False)]
            terms = " + ".join(_product(*factor) for factor in factors)
            return "Σᵢ kᵢ · Cᵢ · Cᵢ₊₁", terms, sum(math.prod(factor) for factor in factors)
        case "deformable":
            numbers = f"{k} · {c} · ({m} + {o.dims}·{k})"
            return "Πk · C · (M + dims · Πk)", numbers, taps * c * (m + o.dims * taps)
        case "pixel_shuffle":
            numbers = f"{k} · {c} · {m} · {_product(*o.stride)}"
            return "Πk · C · M · Πs", numbers, taps * c * m * math.prod(o.stride)
        case "dense":
            numbers = f"{c} · {_product(*o.size)} · {m}"
            return "C · N · M", numbers, c * math.prod(o.size) * m
        case kind if kind.endswith("_pool") or o.about.family == "scale":
            return "none", "0", 0
        case _ if g > 1:
            return "Πk · C/g · M", f"{k} · {c}/{g} · {m}", taps * c // g * m
        case _:
            return "Πk · C · M", f"{k} · {c} · {m}", taps * c * m


def _size(o: Operator) -> Formula:
    def conv(a: int) -> str:
        left = f"{o.size[a]} + 2·{o.padding[a]} − {o.dilation[a]}·({o.kernel[a]} − 1) − 1"
        return f"⌊({left}) / {o.stride[a]}⌋ + 1 = {o.output[a]}"

    def transposed(a: int) -> str:
        spread = f"({o.size[a]} − 1)·{o.stride[a]} − 2·{o.padding[a]}"
        kernel = f"{o.dilation[a]}·({o.kernel[a]} − 1) + {o.output_padding[a]} + 1"
        return f"{spread} + {kernel} = {o.output[a]}"

    def scaled(a: int) -> str:
        return f"{o.size[a]}·{o.stride[a]} = {o.output[a]}"

    match o.about.family:
        case "dense":
            numbers = f"{_product(o.in_channels, *o.size)} = {o.in_channels * math.prod(o.size):,}"
            return Formula("Inputs", "C · N", numbers)
        case "conv":
            rule, numbers = "⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1", _per_axis(o, conv)
        case "transposed":
            rule, numbers = "(n − 1)s − 2p + d(k − 1) + op + 1", _per_axis(o, transposed)
        case _:
            rule, numbers = "n · s", _per_axis(o, scaled)
    return Formula("Output size", rule, numbers)


def _cost(o: Operator) -> list[Formula]:
    rule, numbers, count = weights(o)
    found = [Formula("Weights", rule, f"{numbers} = {count:,}" if count else numbers)]
    if count:
        place, grid = ("in", o.size) if o.about.upsamples else ("out", o.output)
        voxels = math.prod(grid)
        macs = f"{voxels:,} · {count:,} = {voxels * count:,}"
        found.append(Formula("Multiply-accumulates", f"N_{place} · weights", macs))
    if o.kind in _OF_ORDINARY:
        ordinary = math.prod(o.kernel) * o.in_channels * o.out_channels
        rule = "1/Πk + 1/M" if o.kind == "depthwise_separable" else "weights / (Πk · C · M)"
        numbers = f"{count:,} / {ordinary:,} = {fraction(Fraction(count, ordinary))}"
        found.append(Formula("Share of the ordinary convolution", rule, numbers))
    if o.kind in _FETCHED:
        fetched = math.prod(_FETCHED[o.kind](o)) * o.in_channels * 2**o.dims
        found.append(Formula("Interpolation", "2^dims per value fetched", f"{fetched:,}"))
    return found


def _receptive_field(o: Operator) -> Formula:
    """Reference: Araujo, Norris & Sim 2019, Distill, equation 2."""

    def field(axis: int) -> str:
        span, jumps = o.kernel[axis] - 1, [o.stride[axis] ** place for place in range(o.times)]
        terms = ["1"] + [f"{o.dilation[axis]}·({o.kernel[axis]} − 1)·{jump}" for jump in jumps]
        shown = terms if len(terms) <= 5 else [*terms[:3], "…", terms[-1]]
        return f"{' + '.join(shown)} = {1 + o.dilation[axis] * span * sum(jumps)}"

    name = "Receptive field" if o.times == 1 else f"Receptive field after {o.times}"
    rule = "1 + Σ d(k − 1) j, j the product of the strides before"
    return Formula(name, rule, _per_axis(o, field))


def _overlap(o: Operator) -> list[Formula]:
    """Reference: Odena, Dumoulin & Olah 2016, Distill."""
    counts = [overlap_counts(*axis) for axis in zip(o.kernel, o.stride, o.dilation, strict=True)]
    even = (Fraction(sum(own) ** 2, len(own) * sum(n * n for n in own)) for own in counts)
    imbalance = 1 - math.prod(even, start=Fraction(1))
    listed = _per_axis(o, lambda axis: ", ".join(map(str, counts[axis])))
    verdict = "uneven: a checkerboard is built in" if imbalance else "even"
    return [
        Formula("Overlap of each phase", "n_φ = taps t with t·d ≡ φ (mod s)", listed),
        Formula(
            "Imbalance of the overlap",
            "Σ (n_φ − n̄)² / Σ n_φ²",
            f"{fraction(imbalance)} ({verdict})",
        ),
    ]


def fraction(value: Fraction) -> str:
    """Formats a ratio as a fraction and as a decimal.

    >>> fraction(Fraction(41, 288))
    '41/288 ≈ 0.1424'
    """
    if value.denominator == 1:
        return str(value.numerator)
    exact = float(f"{float(value):.4f}") == float(value)
    return f"{value.numerator}/{value.denominator} {'=' if exact else '≈'} {float(value):.4g}"


def _per_axis(o: Operator, numbers: Callable[[int], str]) -> str:
    """Once where all axes agree, else one after the other."""
    texts = [numbers(axis) for axis in range(o.dims)]
    return texts[0] if len(set(texts)) == 1 else "; ".join(texts)


def _product(*numbers: int) -> str:
    return "·".join(map(str, numbers))


def operator_text(operator: Operator) -> str:
    """Its meaning, formulas with the numbers put in, sizes and worked example as plain text."""
    lines = [operator.title, operator.about.meaning, operator.about.source, ""]
    for formula in formulas(operator):
        lines += [formula.name, f"  {formula.formula}", f"  {formula.numbers}"]
    lines += ["", "Sizes", f"  {sizes_text(operator)}", ""]
    try:
        cut = small(operator)
        lines.append(f"Example with one channel on {full_grid(cut.size)} voxels")
        for title, values in worked(cut).items():
            lines += ["", f"  {title}", *_aligned(values.numpy())]
    except ConfigError as error:
        lines.append(f"Example not shown: {error}")
    return "\n".join(lines) + "\n"


def sizes_text(operator: Operator) -> str:
    """The grid before and after each application."""
    return " → ".join(map(full_grid, operator.sizes))


def formula_table(operator: Operator) -> Table:
    """The formulas in letters and in numbers."""
    rows = [
        {"Quantity": name, "Formula": formula, "With numbers": numbers}
        for name, formula, numbers in formulas(operator)
    ]
    return table("Formulas with the numbers put in", rows)


def operator_page(operator: Operator) -> str:
    """HTML with the operator's formulas and its example, in one file that fetches nothing."""
    about = operator.about
    try:
        example = Figure(draw_example(operator), title=f"{operator.title}, example", wide=True)
    except ConfigError as error:
        example = Note(f"Example not drawn: {error}.")
    formulas = [about.meaning, f"Sizes: {sizes_text(operator)}", formula_table(operator)]
    notes = [Note(_LETTERS), Note(about.source)]
    sections = [
        Section("Formulas", [*formulas, *notes], key="formulas"),
        Section("Example", [example], key="example"),
    ]
    return render_html(Page(operator.title), sections)


def write_explanation(
    operator: Operator, target: Path, *, form: str, overwrite: bool = False
) -> None:
    """Writes text, the figure of the example, or a page.

    Args:
        operator: What is explained.
        target: The file; its ending must fit.
        form: `text`, `figure` or `page`.
        overwrite: Whether a file that medseg did not write is replaced.

    Raises:
        ConfigError: the ending does not fit, the operator is too large to draw, or a file is there
            that medseg did not write.
        ResourceError: the file cannot be written.
    """
    if (known := _ENDINGS.get(target.suffix.lower(), "text")) != form:
        fitting = [ending for ending, of in _ENDINGS.items() if of == form] or [".txt"]
        raise ConfigError(
            f"output={target}: the name is that of a {known}, and this is a {form}; "
            f"give a name ending in {' or '.join(fitting)}"
        )
    drawn = draw_example(operator) if form == "figure" else None
    text = operator_page(operator) if form == "page" else operator_text(operator)
    with replacing([target], overwrite=overwrite):
        if drawn:
            save(drawn, target)
        else:
            write_text(target, text)


def _aligned(values: np.ndarray) -> list[str]:
    """Rows of numbers in columns of one width; slices of a volume apart."""
    if values.ndim == 3:
        return [line for plane in values for line in (*_aligned(plane), "")]
    frame = pd.DataFrame(np.atleast_2d(values)).map(written)
    return [f"  {line}" for line in frame.to_string(header=False, index=False).splitlines()]

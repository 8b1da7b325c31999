"""The formulas of an operator, with its numbers put in, and its cost."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from medseg.analysis import closed_form as costs
from medseg.analysis.closed_form import (
    jump,
    overlap_counts,
    receptive_field,
    structural_imbalance,
)
from medseg.analysis.cost import Cost
from medseg.explain.operator import Operator

LETTERS = (
    "n input size, k kernel, s stride, p padding, op output padding, d dilation, C and M input "
    "and output channels, g groups, N voxels of a grid, Π the product over the axes."
)
_OF_ORDINARY = ("depthwise", "depthwise_separable", "spatially_separable", "grouped")


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


def cost_of(operator: Operator) -> Cost:
    """Parameters without biases, and what one application to one sample computes."""
    return _weights(operator)[2]


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


def _weights(o: Operator) -> tuple[str, str, Cost]:
    """The number of weights in letters and in numbers, and the whole cost."""
    c, m, k = o.in_channels, o.out_channels, _product(*o.kernel)
    match o.kind:
        case "conv" | "pointwise" | "depthwise" | "grouped" | "dilated" | "transposed":
            grid = o.size if o.kind == "transposed" else o.output
            rule, per_group = ("Πk · C/g · M", f"{c}/{o.groups}")
            if o.groups == 1:
                rule, per_group = ("Πk · C · M", f"{c}")
            return rule, f"{k} · {per_group} · {m}", costs.conv(o.kernel, grid, c, m, o.groups)
        case "depthwise_separable":
            cost = costs.depthwise_separable(o.kernel, o.output, c, m)
            return "C · (Πk + M)", f"{c} · ({k} + {m})", cost
        case "spatially_separable":
            chain = (c, *[m] * o.dims)
            factors = zip(o.kernel, chain, chain[1:], strict=False)
            terms = " + ".join(_product(*factor) for factor in factors)
            return "Σᵢ kᵢ · Cᵢ · Cᵢ₊₁", terms, costs.spatially_separable(o.kernel, o.output, chain)
        case "deformable":
            numbers = f"{k} · {c} · ({m} + {o.dims}·{k})"
            return "Πk · C · (M + dims · Πk)", numbers, costs.deformable(o.kernel, o.output, c, m)
        case "pixel_shuffle":
            numbers = f"{k} · {c} · {m} · {_product(*o.stride)}"
            cost = costs.pixel_shuffle(o.kernel, o.size, c, m, o.stride)
            return "Πk · C · M · Πs", numbers, cost
        case "linear":
            return "none", "0", Cost(other=math.prod(o.output) * c * 2**o.dims)
        case "dense":
            cost = costs.dense(c * math.prod(o.size), m)
            return "C · N · M", f"{c} · {_product(*o.size)} · {m}", cost
        case _:
            return "none", "0", Cost()


def _cost(o: Operator) -> list[Formula]:
    rule, numbers, cost = _weights(o)
    if not cost.parameters:
        found = [Formula("Weights", rule, numbers)]
    else:
        coarse = o.kind in ("transposed", "pixel_shuffle")
        voxels = math.prod(o.size if coarse else o.output)
        found = [
            Formula("Weights", rule, f"{numbers} = {cost.parameters:,}"),
            Formula(
                "Multiply-accumulates",
                f"N_{'in' if coarse else 'out'} · weights",
                f"{voxels:,} · {cost.parameters:,} = {cost.macs:,}",
            ),
        ]
    if o.kind in _OF_ORDINARY:
        ordinary = costs.conv(o.kernel, o.output, o.in_channels, o.out_channels)
        ratio = fraction(Fraction(cost.macs, ordinary.macs))
        rule = "1/Πk + 1/M" if o.kind == "depthwise_separable" else "weights / (Πk · C · M)"
        numbers = f"{cost.parameters:,} / {ordinary.parameters:,} = {ratio}"
        found.append(Formula("Share of the ordinary convolution", rule, numbers))
    if cost.other:
        found.append(Formula("Interpolation", "2^dims per value fetched", f"{cost.other:,}"))
    return found


def _receptive_field(o: Operator) -> Formula:
    """Reference: Araujo, Norris & Sim 2019, Distill, equation 2."""

    def field(axis: int) -> str:
        layers = [o.layer(axis)] * o.times
        terms = ["1"] + [
            f"{o.dilation[axis]}·({o.kernel[axis]} − 1)·{jump(layers[:place])}"
            for place in range(o.times)
        ]
        shown = terms if len(terms) <= 5 else [*terms[:3], "…", terms[-1]]
        return f"{' + '.join(shown)} = {receptive_field(layers)}"

    name = "Receptive field" if o.times == 1 else f"Receptive field after {o.times}"
    rule = "1 + Σ d(k − 1) j, j the product of the strides before"
    return Formula(name, rule, _per_axis(o, field))


def _overlap(o: Operator) -> list[Formula]:
    """Reference: Odena, Dumoulin & Olah 2016, Distill."""

    def counts(axis: int) -> str:
        found = overlap_counts(o.kernel[axis], o.stride[axis], o.dilation[axis])
        return ", ".join(map(str, found))

    imbalance = structural_imbalance(o.kernel, o.stride, o.dilation)
    verdict = "uneven: a checkerboard is built in" if imbalance else "even"
    return [
        Formula("Overlap of each phase", "n_φ = taps t with t·d ≡ φ (mod s)", _per_axis(o, counts)),
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

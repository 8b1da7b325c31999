"""The formulas of an operator, with its numbers put in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from medseg.analysis.closed_form import (
    arithmetic_intensity,
    conv_input_sizes,
    effective_sigma,
    inverting_output_padding,
    jump,
    overlap_counts,
    receptive_field,
    structural_imbalance,
)
from medseg.explain.cost import FREE, biases_of, cost_of, ordinary, separable_channels, traffic_of
from medseg.explain.operator import Operator

_SEPARABLE = ("depthwise", "depthwise_separable", "spatially_separable", "grouped")


@dataclass(frozen=True, kw_only=True)
class Formula:
    """One quantity: its law in letters, the law with numbers and result, and what it means."""

    name: str
    law: str
    numbers: str
    meaning: str = ""
    advanced: bool = False


def formulas(operator: Operator) -> list[Formula]:
    """Sizes, cost, reach and overlap, as far as the operator has them.

    Letters: n input size, k kernel, s stride, p padding, op output padding, d dilation, C and M
    input and output channels, g groups, N voxels of a grid.
    """
    return [
        *_sizes(operator),
        *_weights(operator),
        *_work(operator),
        *_reach(operator),
        *_overlap(operator),
        *_memory(operator),
    ]


def _sizes(o: Operator) -> list[Formula]:
    family = o.about.family
    if family == "dense":
        inputs = _product(o.in_channels, *o.size)
        total = o.in_channels * math.prod(o.size)
        return [Formula(name="Inputs", law="C · N", numbers=f"{inputs} = {total:,}")]
    law = {
        "conv": "⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1",
        "transposed": "(n − 1)s − 2p + d(k − 1) + op + 1",
    }.get(family, "n · s")
    numbers = {"conv": _conv_size, "transposed": _transposed_size}.get(family, _scaled_size)
    lines = [Formula(name="Output size", law=law, numbers=_per_axis(o, numbers))]
    if family == "conv" and max(o.stride) > 1 and cost_of(o).parameters:
        lines += _inverse(o)
    return lines


def _conv_size(o: Operator, a: int) -> str:
    left = f"{o.size[a]} + 2·{o.padding[a]} − {o.dilation[a]}·({o.kernel[a]} − 1) − 1"
    return f"⌊({left}) / {o.stride[a]}⌋ + 1 = {o.output[a]}"


def _transposed_size(o: Operator, a: int) -> str:
    painted = f"({o.size[a]} − 1)·{o.stride[a]} − 2·{o.padding[a]}"
    kernel = f"{o.dilation[a]}·({o.kernel[a]} − 1) + {o.output_padding[a]} + 1"
    return f"{painted} + {kernel} = {o.output[a]}"


def _scaled_size(o: Operator, a: int) -> str:
    return f"{o.size[a]}·{o.stride[a]} = {o.output[a]}"


def _inverse(o: Operator) -> list[Formula]:
    def extra(o: Operator, a: int) -> str:
        left = f"{o.size[a]} + 2·{o.padding[a]} − {o.dilation[a]}·({o.kernel[a]} − 1) − 1"
        needed = inverting_output_padding(
            o.size[a], o.kernel[a], o.stride[a], o.padding[a], o.dilation[a]
        )
        return f"({left}) mod {o.stride[a]} = {needed}"

    def sizes(o: Operator, a: int) -> str:
        found = conv_input_sizes(o.output[a], o.kernel[a], o.stride[a], o.padding[a], o.dilation[a])
        return f"{found[0]} … {found[-1]}" if len(found) > 1 else str(found[0])

    return [
        Formula(
            name="Output padding of its inverse",
            law="(n + 2p − d(k − 1) − 1) mod s",
            numbers=_per_axis(o, extra),
            meaning="With it the transposed convolution gives the input size back.",
        ),
        Formula(
            name="Input sizes with this output",
            law="(m − 1)s + d(k − 1) + 1 − 2p, and the s − 1 sizes above",
            numbers=_per_axis(o, sizes),
        ),
    ]


def _weights(o: Operator) -> list[Formula]:
    cost = cost_of(o)
    if not cost.parameters:
        return [Formula(name="Weights", law="none", numbers="0", meaning="Nothing is learned.")]
    law, numbers = _WEIGHTS.get(o.kind, _conv_weights)(o)
    lines = [
        Formula(
            name="Weights",
            law=law,
            numbers=f"{numbers} = {cost.parameters:,}",
            meaning=f"Biases would add {biases_of(o):,}.",
        )
    ]
    if o.kind in _SEPARABLE:
        ratio = Fraction(cost.macs, ordinary(o).macs)
        law = "1/Πk + 1/M" if o.kind == "depthwise_separable" else "weights / (Πk · C · M)"
        lines.append(
            Formula(
                name="Of the ordinary convolution",
                law=law,
                numbers=f"{cost.parameters:,} / {ordinary(o).parameters:,} = {fraction(ratio)}",
            )
        )
    return lines


def _conv_weights(o: Operator) -> tuple[str, str]:
    per_group = f"{o.in_channels}/{o.groups}" if o.groups > 1 else str(o.in_channels)
    law = "Πk · C/g · M" if o.groups > 1 else "Πk · C · M"
    return law, f"{_product(*o.kernel)} · {per_group} · {o.out_channels}"


def _depthwise_separable_weights(o: Operator) -> tuple[str, str]:
    return "C · (Πk + M)", f"{o.in_channels} · ({_product(*o.kernel)} + {o.out_channels})"


def _spatially_separable_weights(o: Operator) -> tuple[str, str]:
    chain = separable_channels(o)
    terms = [
        f"{k}·{before}·{after}"
        for k, before, after in zip(o.kernel, chain, chain[1:], strict=False)
    ]
    return "Σᵢ kᵢ · Cᵢ · Cᵢ₊₁", " + ".join(terms)


def _deformable_weights(o: Operator) -> tuple[str, str]:
    taps = _product(*o.kernel)
    inner = f"{o.out_channels} + {o.dims}·{taps}"
    return "Πk · C · (M + dims · Πk)", f"{taps} · {o.in_channels} · ({inner})"


def _pixel_shuffle_weights(o: Operator) -> tuple[str, str]:
    phases = _product(*o.stride)
    return (
        "Πk · C · M · Πs",
        f"{_product(*o.kernel)} · {o.in_channels} · {o.out_channels} · {phases}",
    )


def _dense_weights(o: Operator) -> tuple[str, str]:
    return "C · N · M", f"{o.in_channels} · {_product(*o.size)} · {o.out_channels}"


_WEIGHTS: dict[str, Callable[[Operator], tuple[str, str]]] = {
    "depthwise_separable": _depthwise_separable_weights,
    "spatially_separable": _spatially_separable_weights,
    "deformable": _deformable_weights,
    "pixel_shuffle": _pixel_shuffle_weights,
    "dense": _dense_weights,
}


def _work(o: Operator) -> list[Formula]:
    cost = cost_of(o)
    lines = []
    if cost.macs:
        coarse = o.kind in ("transposed", "pixel_shuffle")
        voxels = math.prod(o.size if coarse else o.output)
        lines.append(
            Formula(
                name="Multiply-accumulates",
                law=f"N_{'in' if coarse else 'out'} · weights",
                numbers=f"{voxels:,} · {cost.parameters:,} = {cost.macs:,}",
            )
        )
    if cost.other:
        lines.append(
            Formula(
                name="Interpolation besides",
                law="2^dims per value fetched",
                numbers=f"{cost.other:,}",
                meaning="Multiply-accumulates without weights, which counters leave out.",
            )
        )
    return lines


def _reach(o: Operator) -> list[Formula]:
    if o.about.family != "conv":
        return []

    def field(o: Operator, a: int) -> str:
        terms, layers = ["1"], [o.layer(a)] * o.times
        for place in range(o.times):
            terms.append(f"{o.dilation[a]}·({o.kernel[a]} − 1)·{jump(layers[:place])}")
        shown = terms if len(terms) <= 5 else [*terms[:3], "…", terms[-1]]
        return f"{' + '.join(shown)} = {receptive_field(layers)}"

    def sigma(o: Operator, a: int) -> str:
        return f"{effective_sigma([o.layer(a)] * o.times):.3f} voxels"

    chain = "" if o.times == 1 else f" after {o.times}"
    return [
        Formula(
            name=f"Receptive field{chain}",
            law="1 + Σ d(k − 1) j, j the product of the strides before",
            numbers=_per_axis(o, field),
            meaning="Araujo, Norris & Sim 2019, Distill."
            + (" Offsets can carry the taps further." if o.kind == "deformable" else ""),
        ),
        Formula(
            name=f"Its effective σ{chain}",
            law="√(Σ j² d² (k² − 1) / 12) for equal weights",
            numbers=_per_axis(o, sigma),
            meaning="Luo et al. 2016.",
            advanced=True,
        ),
    ]


def _overlap(o: Operator) -> list[Formula]:
    if o.kind != "transposed":
        return []

    def counts(o: Operator, a: int) -> str:
        return ", ".join(str(n) for n in overlap_counts(o.kernel[a], o.stride[a], o.dilation[a]))

    imbalance = structural_imbalance(o.kernel, o.stride, o.dilation)
    verdict = "even" if imbalance == 0 else "uneven: a checkerboard is built in"
    return [
        Formula(
            name="Overlap of each phase",
            law="n_φ = taps t with t·d ≡ φ (mod s)",
            numbers=_per_axis(o, counts),
        ),
        Formula(
            name="Imbalance of the overlap",
            law="Σ (n_φ − n̄)² / Σ n_φ²",
            numbers=f"{fraction(imbalance)} ({verdict})",
            meaning="Odena, Dumoulin & Olah 2016.",
        ),
    ]


def _memory(o: Operator) -> list[Formula]:
    cost, moved = cost_of(o), traffic_of(o)
    if cost == FREE or not cost.macs:
        return []
    return [
        Formula(
            name="Arithmetic intensity",
            law="2 · MACs / bytes",
            numbers=f"2·{cost.macs:,} / {moved:,} = "
            f"{float(arithmetic_intensity(cost.macs, moved)):.2f} FLOP per byte",
            meaning="In single precision, if inputs, outputs and weights cross the bus once.",
            advanced=True,
        )
    ]


def fraction(value: Fraction) -> str:
    """A ratio as a fraction and as a decimal.

    >>> fraction(Fraction(41, 288))
    '41/288 ≈ 0.1424'
    """
    if value.denominator == 1:
        return str(value.numerator)
    exact = float(f"{float(value):.4f}") == float(value)
    return f"{value.numerator}/{value.denominator} {'=' if exact else '≈'} {float(value):.4g}"


def _per_axis(o: Operator, numbers: Callable[[Operator, int], str]) -> str:
    """Once where all axes agree, else one after the other."""
    texts = [numbers(o, axis) for axis in range(o.dims)]
    return texts[0] if len(set(texts)) == 1 else "; ".join(texts)


def _product(*numbers: int | Sequence[int]) -> str:
    return "·".join(str(number) for number in numbers)

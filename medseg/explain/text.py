"""An operator as plain text."""

from medseg.errors import ConfigError
from medseg.explain.board import Array, planes, written
from medseg.explain.example import small, uses_of, worked
from medseg.explain.formulas import formulas
from medseg.explain.operator import Operator, Sizes, size_chain

_INDENT = "  "


def operator_text(operator: Operator) -> str:
    """Its law, its formulas with the numbers put in, its sizes and its worked example."""
    about = operator.about
    lines = [heading_of(operator), about.law, about.source, ""]
    for formula in formulas(operator):
        lines += [formula.name, f"{_INDENT}{formula.law}", f"{_INDENT}{formula.numbers}"]
        lines += [f"{_INDENT}{formula.meaning}"] if formula.meaning else []
    lines += ["", "Sizes", _INDENT + chain_of(operator), ""]
    try:
        lines += _example(operator)
    except ConfigError as error:
        lines += [f"Example not shown: {error}"]
    return "\n".join(lines) + "\n"


def heading_of(operator: Operator) -> str:
    """Its name, and the options that differ from nothing.

    >>> from medseg.explain.operator import make_operator
    >>> heading_of(make_operator("max_pool", dims=3))
    'Max pooling, 3-D: kernel 2, stride 2'
    """
    parts = [
        f"{name.replace('_', ' ')} {grid_of(getattr(operator, name))}"
        for name in ("kernel", "stride", "padding", "output_padding", "dilation")
        if name in operator.about.options
        and any(v != _NEUTRAL.get(name, 1) for v in getattr(operator, name))
    ]
    parts += [f"groups {operator.groups}"] if operator.groups > 1 else []
    return f"{operator.about.title}, {operator.dims}-D" + (f": {', '.join(parts)}" if parts else "")


def chain_of(operator: Operator) -> str:
    """The grid before and after each application."""
    return " → ".join(grid_of(size, equal=False) for size in size_chain(operator))


def example_title(operator: Operator) -> str:
    """What the worked example shows, and whether its grid was cut down."""
    cut = small(operator)
    note = "" if cut.size == operator.size else f", on {grid_of(cut.size, equal=False)} voxels"
    return f"Example with one channel{note}"


def grid_of(size: Sizes, *, equal: bool = True) -> str:
    """One number if all are equal and that is wanted, else all, joined by ×."""
    return str(size[0]) if equal and len(set(size)) == 1 else "×".join(str(n) for n in size)


def _example(operator: Operator) -> list[str]:
    lines = [example_title(operator)]
    for step in (*worked(small(operator)), uses_of(operator)):
        lines += _titled(step.title, step.values.numpy())
    return lines


def _titled(title: str, values: Array) -> list[str]:
    lines = []
    for name, plane in planes(values):
        lines += ["", f"{_INDENT}{title}{name}", *aligned(plane)]
    return lines


def aligned(plane: Array) -> list[str]:
    """Rows of numbers in columns of one width."""
    words = [[written(float(value)) for value in row] for row in plane]
    width = max(len(word) for row in words for word in row)
    return [_INDENT + " ".join(word.rjust(width) for word in row) for row in words]


_NEUTRAL = {"padding": 0, "output_padding": 0}

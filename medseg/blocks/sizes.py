"""Kinds of options that a user gives: sizes for all axes or for each, counts, choices."""

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_MOST = 2**16

Size = int | Sequence[int]
"""A size for all axes, or one per axis; whole numbers of at least 1."""
OddSize = Annotated[Size, "odd"]
"""A size of odd numbers, so that the grid is kept."""
Count = Annotated[int, "count"]
"""A number of things, 1 to 65536."""


class Block:
    """A frozen dataclass that refuses options of another kind than their annotations name.

    The kinds are those above and `Literal`, each perhaps `| None`. Sizes are kept as int or tuple.

    Raises:
        ValueError: an option of another kind.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value: Any = getattr(self, name)
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            if value is None and NoneType in kinds:
                continue
            if OddSize in kinds or Sequence[int] in kinds:
                kept = checked_size(name, value, odd=OddSize in kinds)
                object.__setattr__(self, name, kept)
            elif Count in kinds and not (type(value) is int and 1 <= value <= _MOST):
                raise ValueError(
                    f"{name}={value!r} must be a whole number, 1 to {_MOST}; for instance 4"
                )
            elif get_origin(hint) is Literal:
                _check_choice(name, value, get_args(hint))


def per_axis(name: str, size: Size, spatial_dims: int) -> tuple[int, ...]:
    """`size` as one integer per axis.

    Raises:
        ValueError: a sequence whose length is not `spatial_dims`, or not whole numbers from 1.
    """
    sizes = tuple(size) if isinstance(size, Sequence) else (size,) * spatial_dims
    if len(sizes) != spatial_dims:
        raise ValueError(
            f"{name}={sizes} has {len(sizes)} axes, the network has {spatial_dims}; "
            f"give one number, or {spatial_dims}"
        )
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes):
        raise ValueError(f"{name}={size!r} must be whole numbers of at least 1; for instance 2")
    return sizes


def checked_size(name: str, size: Any, *, odd: bool = False) -> int | tuple[int, ...]:
    """A size given by a user, as int or tuple.

    Raises:
        ValueError: not whole numbers of at least 1, or even ones where `odd` is the rule.
    """
    sizes = [size] if type(size) is int else size
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise ValueError(f"{name}={size!r} must be a whole number, or one per axis; for instance 3")
    for number in sizes:
        if type(number) is not int:
            raise ValueError(f"{name}={size!r} must hold whole numbers; for instance 3")
        if number < 1:
            raise ValueError(f"{name}={size!r} must be at least 1; choose 1 or more")
        if odd and number % 2 == 0:
            raise ValueError(
                f"{name}={size!r} must be odd, so that the grid is kept; "
                f"choose {number - 1} or {number + 1}"
            )
    return size if isinstance(size, int) else tuple(sizes)


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices or type(value) is not type(choices[0]):
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name}={value!r} must be one of {listed}; choose {choices[0]}")


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` closest to `wanted`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))

"""Sizes that a user gives for all axes or for each."""

from collections.abc import Sequence

_MOST = 2**16

Size = int | Sequence[int]
"""A size for all axes, or one per axis."""


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


def freeze_size(block: object, name: str, *, at_least: int = 1, odd: bool = False) -> None:
    """Checks a size given by a user and stores it in its frozen block as int or tuple.

    Raises:
        ValueError: not whole numbers, smaller than `at_least`, or even where `odd` is the rule.
    """
    value = getattr(block, name)
    sizes = [value] if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise ValueError(
            f"{name}={value!r} must be a whole number, or one per axis; for instance 3"
        )
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool):
            raise ValueError(f"{name}={value!r} must hold whole numbers; for instance 3")
        if size < at_least:
            raise ValueError(
                f"{name}={value!r} must be at least {at_least}; choose {at_least} or more"
            )
        if odd and size % 2 == 0:
            raise ValueError(
                f"{name}={value!r} must be odd, so that the grid is kept; "
                f"choose {size - 1 or 1} or {size + 1}"
            )
    object.__setattr__(block, name, value if isinstance(value, int) else tuple(sizes))


def freeze_count(block: object, name: str) -> None:
    """Checks a number of things given by a user.

    Raises:
        ValueError: not a whole number from 1 to 65536.
    """
    value = getattr(block, name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise ValueError(f"{name}={value!r} must be a whole number, 1 to {_MOST}; for instance 4")


def freeze_choice(block: object, name: str, choices: Sequence[object]) -> None:
    """Checks a word or number given by a user.

    Raises:
        ValueError: not one of the choices.
    """
    value = getattr(block, name)
    if value not in choices or type(value) is not type(choices[0]):
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name}={value!r} must be one of {listed}; choose {choices[0]}")


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` closest to `wanted`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))

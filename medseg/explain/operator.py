"""An operator with its numbers, defaults filled in, and its sizes in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from medseg.errors import ConfigError
from medseg.explain.kinds import KINDS, Kind

Sizes = tuple[int, ...]

SIZED = ("size", "kernel", "stride", "padding", "output_padding", "dilation")
"""Options with one number per axis."""

COUNTED = ("groups", "in_channels", "out_channels")
"""Options with one number."""

_NEUTRAL = {name: int("padding" not in name) for name in (*SIZED, *COUNTED)}
_ODD = ("deformable", "pixel_shuffle", "spatially_separable")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of `dims` axes; sizes have one number per axis."""

    kind: str
    size: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    output_padding: Sizes
    dilation: Sizes
    groups: int
    in_channels: int
    out_channels: int
    times: int = 1

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.size)

    @property
    def about(self) -> Kind:
        """What is known of its kind."""
        return KINDS[self.kind]

    @property
    def output(self) -> Sizes:
        """Voxels per axis after one application."""
        return _output_size(self, self.size)

    @property
    def sizes(self) -> list[Sizes]:
        """Input size, then the size after each of `times` applications.

        Raises:
            ConfigError: the grid becomes too small on the way.
        """
        found = [self.size]
        for application in range(1, self.times + 1):
            try:
                found.append(_output_size(self, found[-1]))
            except ConfigError as error:
                if application == 1:
                    raise
                raise ConfigError(
                    f"times={self.times}: application {application} is impossible ({error}); "
                    f"choose times={application - 1} or a larger size"
                ) from error
        return found

    @property
    def title(self) -> str:
        """Its name and the options that matter.

        >>> make_operator("max_pool", dims=3).title
        'Max pooling, 3-D: kernel 2, stride 2'
        """
        options = [
            f"{name.replace('_', ' ')} {grid(getattr(self, name))}"
            for name in SIZED[1:]
            if name in self.about.options and set(getattr(self, name)) != {_NEUTRAL[name]}
        ]
        options += [f"groups {self.groups}"] if self.groups > 1 else []
        return f"{self.about.title}, {self.dims}-D" + f": {', '.join(options)}" * bool(options)


def make_operator(
    kind: str,
    *,
    dims: int | None = None,
    times: int = 1,
    **given: Sequence[int] | int | None,
) -> Operator:
    """Makes an operator from what a user gave; what is None gets the default of its kind.

    Args:
        kind: A key of `KINDS`.
        dims: 1, 2 or 3; None: as many as an option has numbers, or 2.
        times: How often it is applied in a row.
        given: Options of `SIZED` (one number, or one per axis) and `COUNTED`.

    Raises:
        ConfigError: an unknown kind, an option that it does not have, or an impossible number.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind={kind}: no such operator; choose from {', '.join(KINDS)}")
    chosen = {name: value for name, value in given.items() if value is not None}
    _require_known(kind, chosen)
    _require_at_least("times", times, 1)
    axes = _axes(dims, chosen)
    numbers = {name: _numbers(name, value, axes) for name, value in chosen.items()}
    operator = replace(_filled(kind, axes, numbers), times=times)
    _require_possible(operator)
    return operator


def grid(size: Sizes) -> str:
    """Formats one number per axis; once if all are equal.

    >>> grid((3, 3)), grid((3, 5))
    ('3', '3×5')
    """
    return str(size[0]) if len(set(size)) == 1 else full_grid(size)


def full_grid(size: Sizes) -> str:
    """Formats one number per axis.

    >>> full_grid((3, 3))
    '3×3'
    """
    return "×".join(map(str, size))


def conv_output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """`⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1`, along one axis.

    Raises:
        ConfigError: the kernel is wider than the padded input.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic", relationship 15.

    >>> conv_output_size(7, 3), conv_output_size(7, 3, stride=2, padding=1)
    (5, 4)
    """
    left = size + 2 * padding - dilation * (kernel - 1) - 1
    if left < 0:
        raise ConfigError(
            f"size={size} with padding={padding} is narrower than a kernel that spans "
            f"{dilation * (kernel - 1) + 1} voxels; choose size={size - left} or more"
        )
    return left // stride + 1


def transposed_output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """`(n − 1)s − 2p + d(k − 1) + op + 1`, along one axis.

    Raises:
        ConfigError: nothing is left, or the output padding is not below stride or dilation.

    Reference: Dumoulin & Visin 2016, relationship 14.

    >>> transposed_output_size(2, 3, stride=2), transposed_output_size(2, 3, 2, 1, 1, 1)
    (5, 4)
    """
    most = max(stride, dilation) - 1
    if not 0 <= output_padding <= most:
        raise ConfigError(
            f"output_padding={output_padding} must be below stride={stride} or "
            f"dilation={dilation}, since more would repeat a size; choose {most}"
        )
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if out < 1:
        raise ConfigError(
            f"padding={padding} trims all of the {out + 2 * padding} voxels that a size of {size} "
            f"is spread over; choose a padding below {(out + 2 * padding + 1) // 2}"
        )
    return out


def _output_size(o: Operator, size: Sizes) -> Sizes:
    axes = [*zip(size, o.kernel, o.stride, o.padding, o.dilation, o.output_padding, strict=True)]
    match o.about.family:
        case "dense":
            return (1,) * len(size)
        case "scale":
            return tuple(n * stride for n, _, stride, *_ in axes)
        case "transposed":
            return tuple(transposed_output_size(*axis) for axis in axes)
        case _:
            return tuple(conv_output_size(*axis[:-1]) for axis in axes)


def _filled(kind: str, axes: int, given: Mapping[str, Any]) -> Operator:
    """The operator with the defaults of its kind where nothing was given."""
    about = KINDS[kind]
    later = {"padding": None, "out_channels": None}
    defaults = {**_NEUTRAL, "size": about.sizes[axes - 1], **later, **about.options}
    o: dict[str, Any] = {
        name: (value,) * axes if name in SIZED and value is not None else value
        for name, value in defaults.items()
    }
    o |= given
    o["stride"] = o["stride"] or o["kernel"]
    o["out_channels"] = o["out_channels"] or o["in_channels"]
    o["groups"] = o["in_channels"] if kind == "depthwise" else o["groups"]
    o["kernel"] = o["stride"] if kind == "max_unpool" else o["kernel"]
    same = tuple(d * (k - 1) // 2 for k, d in zip(o["kernel"], o["dilation"], strict=True))
    extra = (0,) * axes
    if kind == "transposed" and o["padding"] is None:
        same, extra = _doubling(o["kernel"], o["stride"], o["dilation"])
    o["padding"] = same if o["padding"] is None else o["padding"]
    o["output_padding"] = extra if o["output_padding"] is None else o["output_padding"]
    return Operator(kind=kind, **o)


def _doubling(kernel: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Sizes, Sizes]:
    """Padding and output padding with which a transposed convolution multiplies the grid."""
    pairs = []
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        beyond = d * (k - 1) + 1 - s
        extra = beyond % 2 if beyond >= 0 else -beyond
        extra = extra if extra < max(s, d) else 0
        pairs.append((max(0, (beyond + extra) // 2), extra))
    padding, extra = zip(*pairs, strict=True)
    return padding, extra


def _axes(dims: int | None, given: Mapping[str, Any]) -> int:
    lengths = [len(v) for n, v in given.items() if n in SIZED and isinstance(v, Sequence)]
    axes = dims or max([n for n in lengths if n > 1], default=2)
    if axes not in (1, 2, 3):
        raise ConfigError(f"dims={axes} must be 1, 2 or 3; choose one of them")
    return axes


def _numbers(name: str, value: Sequence[int] | int, axes: int) -> Sizes | int:
    """A number per axis, or one number of channels or groups."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    for number in numbers:
        _require_at_least(name, number, _NEUTRAL[name])
    if name in COUNTED:
        return numbers[0]
    if len(numbers) not in (1, axes):
        raise ConfigError(
            f"{name}={' '.join(map(str, numbers))} has {len(numbers)} numbers for {axes} axes; "
            f"give one number, or {axes}"
        )
    return numbers * axes if len(numbers) == 1 else numbers


def _require_known(kind: str, given: Mapping[str, object]) -> None:
    known = ["size", *KINDS[kind].options]
    for name in given:
        if name not in known:
            listed = ", ".join(_option(option) for option in known)
            raise ConfigError(
                f"{_option(name)}: {kind} has no such option; leave it out ({kind} has {listed})"
            )


def _require_at_least(name: str, number: int, smallest: int) -> None:
    if number < smallest:
        raise ConfigError(f"{name}={number} must be at least {smallest}; choose {smallest}")


def _require_possible(operator: Operator) -> None:
    kind = operator.kind
    if kind == "depthwise" and operator.out_channels % operator.in_channels:
        raise ConfigError(
            f"out_channels={operator.out_channels} must be a multiple of "
            f"in_channels={operator.in_channels}, since every channel has the same number of "
            f"kernels; choose {operator.in_channels}"
        )
    if kind == "dense" and operator.times > 1:
        raise ConfigError(
            f"times={operator.times}: a dense layer fits the one size that it was made for; "
            "choose times=1"
        )
    channels = (operator.in_channels, operator.out_channels)
    if any(count % operator.groups for count in channels):
        raise ConfigError(
            f"groups={operator.groups} must divide in_channels={channels[0]} and "
            f"out_channels={channels[1]}; choose {gcd(*channels, operator.groups)}"
        )
    for kernel, padding in zip(operator.kernel, operator.padding, strict=True):
        if kind in _ODD and kernel % 2 == 0:
            raise ConfigError(
                f"kernel={kernel} must be odd for {kind}, so that the grid is kept; "
                f"choose {kernel + 1}"
            )
        if kind.endswith("_pool") and 2 * padding > kernel:
            raise ConfigError(
                f"padding={padding} must be at most half of kernel={kernel}, since a window "
                f"without a voxel has no value; choose {kernel // 2}"
            )
    _ = operator.sizes  # each is checked as it is worked out


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

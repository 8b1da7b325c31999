"""One operator with its numbers: options checked, defaults filled in, sizes worked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medseg.analysis.closed_form import (
    Layer,
    along_axes,
    conv_output_size,
    require_groups,
    same_padding,
    transposed_output_size,
)
from medseg.errors import ConfigError
from medseg.explain.kinds import COUNTED, KINDS, SIZED, Kind

Sizes = tuple[int, ...]
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

    def along(self, axis: int) -> "Operator":
        """The same operator of one axis."""
        return replace(self, **{name: (getattr(self, name)[axis],) for name in SIZED})

    def layer(self, axis: int) -> Layer:
        """What its receptive field along an axis depends on."""
        return Layer(
            kernel=self.kernel[axis], stride=self.stride[axis], dilation=self.dilation[axis]
        )


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


def _output_size(o: Operator, size: Sizes) -> Sizes:
    window = (size, o.kernel, o.stride, o.padding, o.dilation)
    match o.about.family:
        case "dense":
            return (1,) * len(size)
        case "scale":
            return along_axes(lambda n, s: n * s, size, o.stride)
        case "transposed":
            return along_axes(transposed_output_size, *window, o.output_padding)
        case _:
            return along_axes(conv_output_size, *window)


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
    same = along_axes(lambda k, d: same_padding(k, d)[0], o["kernel"], o["dilation"])
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
    require_groups(operator.in_channels, operator.out_channels, operator.groups)
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

"""One operator with its numbers: options checked, defaults filled in, sizes worked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
_SMALLEST = {"padding": 0, "output_padding": 0}
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
    def span(self) -> Sizes:
        """Voxels per axis from the first tap to the last."""
        return along_axes(lambda k, d: d * (k - 1) + 1, self.kernel, self.dilation)

    @property
    def output(self) -> Sizes:
        """Voxels per axis after one application."""
        return output_size(self, self.size)

    def layer(self, axis: int) -> Layer:
        """What its reach along an axis depends on."""
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
    """An operator from what a user gave; what is None gets the default of its kind.

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
    about = KINDS[kind]
    given = {name: value for name, value in given.items() if value is not None}
    _require_known(kind, given)
    axes = _axes(dims, given)
    _require_at_least("times", [times], 1)
    operator = _filled(kind, {n: _checked(n, v, axes) for n, v in given.items()}, about, axes)
    operator = replace(operator, times=times)
    _require_possible(operator)
    return operator


def output_size(operator: Operator, size: Sizes) -> Sizes:
    """Voxels per axis that the operator makes of `size`.

    Raises:
        ConfigError: it cannot be applied to so few.
    """
    family = operator.about.family
    if family == "dense":
        return (1,) * len(size)
    if family in ("scale", "unpool"):
        return along_axes(lambda n, s: n * s, size, operator.stride)
    columns = (size, operator.kernel, operator.stride, operator.padding, operator.dilation)
    if family == "transposed":
        return along_axes(transposed_output_size, *columns, operator.output_padding)
    return along_axes(conv_output_size, *columns)


def size_chain(operator: Operator) -> list[Sizes]:
    """Input size, then the size after each of `times` applications.

    Raises:
        ConfigError: the grid becomes too small on the way.
    """
    sizes = [operator.size]
    for application in range(1, operator.times + 1):
        try:
            sizes.append(output_size(operator, sizes[-1]))
        except ConfigError as error:
            if application == 1:
                raise
            raise ConfigError(
                f"times={operator.times}: application {application} is impossible ({error}); "
                f"choose times={application - 1} or a larger size"
            ) from error
    return sizes


def _filled(kind: str, given: Mapping[str, Sizes], about: Kind, axes: int) -> Operator:
    defaults = {name: value for name, value in about.options.items() if value is not None}

    def sized(name: str, otherwise: Sizes) -> Sizes:
        return given.get(name) or ((defaults[name],) * axes if name in defaults else otherwise)

    ones, zeros = (1,) * axes, (0,) * axes
    kernel = sized("kernel", ones)
    stride = sized("stride", kernel if "stride" in about.options else ones)
    dilation = sized("dilation", ones)
    if kind == "max_unpool":
        kernel = stride
    padding = given.get("padding")
    trimmed, extra = _doubling(kernel, stride, dilation) if kind == "transposed" else (zeros, zeros)
    if padding is None:
        padding = trimmed if kind == "transposed" else _centred(about, kernel, dilation)
    elif "output_padding" not in given:
        extra = zeros
    in_channels = (given.get("in_channels") or (defaults["in_channels"],))[0]
    out_channels = (given.get("out_channels") or (defaults.get("out_channels", in_channels),))[0]
    groups = (given.get("groups") or (defaults.get("groups", 1),))[0]
    return Operator(
        kind=kind,
        size=given.get("size") or (about.sizes[axes - 1],) * axes,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=given.get("output_padding", extra),
        dilation=dilation,
        groups=in_channels if kind == "depthwise" else groups,
        in_channels=in_channels,
        out_channels=out_channels,
    )


def _centred(about: Kind, kernel: Sizes, dilation: Sizes) -> Sizes:
    """The padding that keeps an odd kernel's grid at stride 1; none for pooling."""
    if about.options.get("padding") == 0:
        return (0,) * len(kernel)
    return along_axes(lambda k, d: same_padding(k, d)[0], kernel, dilation)


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


def _axes(dims: int | None, given: Mapping[str, Sequence[int] | int | None]) -> int:
    lengths = [len(v) for n, v in given.items() if n in SIZED and isinstance(v, Sequence)]
    axes = dims or max([n for n in lengths if n > 1], default=2)
    if axes not in (1, 2, 3):
        raise ConfigError(f"dims={axes} must be 1, 2 or 3; choose one of them")
    return axes


def _checked(name: str, value: Sequence[int] | int | None, axes: int) -> Sizes:
    numbers = tuple(value) if isinstance(value, Sequence) else (value or 0,)
    _require_at_least(name, numbers, _SMALLEST.get(name, 1))
    if name in COUNTED:
        return numbers
    if len(numbers) not in (1, axes):
        raise ConfigError(
            f"{name}={_spaced(numbers)} has {len(numbers)} numbers for {axes} axes; "
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


def _require_at_least(name: str, numbers: Sequence[int], smallest: int) -> None:
    for number in numbers:
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
        if "pool" in kind and operator.about.family == "conv" and 2 * padding > kernel:
            raise ConfigError(
                f"padding={padding} must be at most half of kernel={kernel}, since a window "
                f"without a voxel has no value; choose {kernel // 2}"
            )
    size_chain(operator)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _spaced(numbers: Sequence[int]) -> str:
    return " ".join(str(number) for number in numbers)

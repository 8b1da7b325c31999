"""Operators: what each is, its numbers with defaults filled in, and its sizes in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, NamedTuple

from medseg.errors import ConfigError

Sizes = tuple[int, ...]

SIZED = ("size", "kernel", "stride", "padding", "output_padding", "dilation")
"""Options with one number per axis."""

COUNTED = ("groups", "in_channels", "out_channels")
"""Options with one number."""

_NEUTRAL = {name: int("padding" not in name) for name in (*SIZED, *COUNTED)}
_ODD = ("deformable", "pixel_shuffle", "spatially_separable")


class Kind(NamedTuple):
    """One kind of operator.

    Args:
        title: Its name in a heading.
        meaning: What it computes, in one sentence.
        family: Which rule gives its output size: conv, transposed, scale or dense.
        options: The options that it has, with their defaults; None follows from the others.
        sizes: Voxels per axis of the default input, in 1-D, 2-D and 3-D.
        source: Paper and place.
    """

    title: str
    meaning: str
    family: str
    options: Mapping[str, int | None]
    sizes: tuple[int, int, int] = (8, 5, 4)
    source: str = "Dumoulin & Visin 2016, “A guide to convolution arithmetic for deep learning”"

    @property
    def upsamples(self) -> bool:
        """Whether its output grid is the finer one."""
        return self.family in ("transposed", "scale")


_CHANNELS: dict[str, int | None] = {"in_channels": 16, "out_channels": 32}
_WINDOW: dict[str, int | None] = {"kernel": 3, "stride": 1, "padding": None, "dilation": 1}
_SCALE: dict[str, int | None] = {"stride": 2, "in_channels": 16}
_POOL: dict[str, int | None] = {"kernel": 2, "stride": None, "padding": 0, "in_channels": 16}

KINDS: dict[str, Kind] = {
    "conv": Kind(
        title="Convolution",
        meaning="Every output voxel is the weighted sum of the input voxels below the kernel, "
        "over all input channels.",
        family="conv",
        options={**_WINDOW, **_CHANNELS, "groups": 1},
    ),
    "pointwise": Kind(
        title="Pointwise convolution",
        meaning="A kernel of one tap: every voxel's channels are mixed, voxels are not.",
        family="conv",
        options={"in_channels": 32, "out_channels": 16},
        source="Lin, Chen & Yan 2014, “Network in Network”, section 3.1",
    ),
    "depthwise": Kind(
        title="Depthwise convolution",
        meaning="Every channel is convolved by itself; nothing mixes the channels.",
        family="conv",
        options={**_WINDOW, "in_channels": 16, "out_channels": None},
        source="Howard et al. 2017, “MobileNets”, section 3.1",
    ),
    "depthwise_separable": Kind(
        title="Depthwise-separable convolution",
        meaning="A depthwise convolution, which looks at space, then a pointwise one, which mixes "
        "channels.",
        family="conv",
        options={**_WINDOW, **_CHANNELS},
        source="Howard et al. 2017, “MobileNets”, section 3.1",
    ),
    "spatially_separable": Kind(
        title="Spatially separable convolution",
        meaning="One axis after the other: together they are a kernel that is an outer product.",
        family="conv",
        options={"kernel": 3, "padding": None, "in_channels": 16, "out_channels": 16},
        source="Szegedy et al. 2016, “Rethinking the Inception Architecture”, section 3.2",
    ),
    "grouped": Kind(
        title="Grouped convolution",
        meaning="The channels are dealt into groups, and each group is convolved by itself.",
        family="conv",
        options={**_WINDOW, **_CHANNELS, "groups": 4},
        source="Krizhevsky, Sutskever & Hinton 2012, section 3.5; Xie et al. 2017, “ResNeXt”",
    ),
    "dilated": Kind(
        title="Dilated convolution",
        meaning="The taps stand apart: a larger receptive field for the same number of weights.",
        family="conv",
        options={**_WINDOW, "dilation": 2, **_CHANNELS, "groups": 1},
        sizes=(10, 7, 5),
        source="Yu & Koltun 2016, “Multi-Scale Context Aggregation by Dilated Convolutions”",
    ),
    "deformable": Kind(
        title="Deformable convolution",
        meaning="Every tap is displaced by an offset that a second convolution learns; values "
        "between voxels are interpolated linearly.",
        family="conv",
        options={"kernel": 3, **_CHANNELS},
        source="Dai et al. 2017, “Deformable Convolutional Networks”, equation 2",
    ),
    "transposed": Kind(
        title="Transposed convolution",
        meaning="Every input voxel adds the kernel, weighted by its value, to the finer grid.",
        family="transposed",
        options={
            "kernel": 3,
            "stride": 2,
            "padding": None,
            "output_padding": None,
            "dilation": 1,
            **_CHANNELS,
            "groups": 1,
        },
        sizes=(4, 2, 2),
        source="Dumoulin & Visin 2016, chapter 4; Odena, Dumoulin & Olah 2016, Distill",
    ),
    "nearest": Kind(
        title="Nearest-neighbour upsampling",
        meaning="Every voxel is repeated over its cell of the finer grid.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
    ),
    "linear": Kind(
        title="Linear upsampling",
        meaning="Values between voxel centres are interpolated linearly along every axis (bilinear "
        "in 2-D, trilinear in 3-D).",
        family="scale",
        options=_SCALE,
        sizes=(4, 3, 2),
    ),
    "bed_of_nails": Kind(
        title="Bed of nails",
        meaning="Every voxel goes to the first corner of its cell; the rest of the cell is zero.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
    ),
    "pixel_shuffle": Kind(
        title="Pixel shuffle",
        meaning="A convolution makes a channel for every place of a cell, and the channels become "
        "the voxels of the cell.",
        family="scale",
        options={"kernel": 3, "stride": 2, "in_channels": 16, "out_channels": 16},
        sizes=(4, 3, 2),
        source="Shi et al. 2016, “Real-Time Single Image … Sub-Pixel Convolutional Neural Network”",
    ),
    "max_pool": Kind(
        title="Max pooling",
        meaning="Every output voxel is the largest input voxel below its window.",
        family="conv",
        options=_POOL,
        sizes=(8, 4, 4),
    ),
    "average_pool": Kind(
        title="Average pooling",
        meaning="Every output voxel is the mean of the input voxels below its window.",
        family="conv",
        options=_POOL,
        sizes=(8, 4, 4),
    ),
    "max_unpool": Kind(
        title="Max unpooling",
        meaning="Every value goes to the place where max pooling found the maximum of its cell; "
        "the rest is zero.",
        family="scale",
        options=_SCALE,
        sizes=(4, 2, 2),
        source="Zeiler & Fergus 2014, “Visualizing and Understanding Convolutional Networks”, 2.1",
    ),
    "dense": Kind(
        title="Dense (fully connected) layer",
        meaning="Every output is a weighted sum of all voxels of all channels.",
        family="dense",
        options={"in_channels": 16, "out_channels": 10},
        sizes=(6, 3, 2),
    ),
}


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

"""What the outputs of a network and the values of a label map mean: classes, or regions.

Classes exclude each other: output c, 0 being the background, is class c, probabilities are a
softmax, and a voxel is of the strongest.

Regions may overlap, as in BraTS enhancing ⊂ core ⊂ whole tumour: output r is region r, each
probability is a sigmoid, and region r has the voxels above one half. Label maps hold one value a
voxel all the same, as nnU-Net has them: a region consists of label values, and a predicted map has
at each voxel the value that `regions_class_order` gives the last region that contains it. Such an
order must lose nothing: the value that is written for a voxel lies in the same regions.

Reference: Isensee et al. 2018, "No New-Net", arXiv:1809.10483, section 2.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Self

import numpy as np

THRESHOLD = 0.5
"""Above which a probability makes a voxel part of a region."""

_MOST = 255


@dataclass(frozen=True)
class Labelling:
    """Classes that exclude each other, or regions that may overlap.

    Args:
        names: Of the foreground classes or of the regions, in the order of the outputs.
        regions: The label values of each region; empty for classes, of which value n is the n-th.
        order: The label value that is written for each region, later over earlier.

    Raises:
        ValueError: regions that are not made of the label values 1, 2, …, or an order that would
            lose some of them.
    """

    names: tuple[str, ...]
    regions: tuple[tuple[int, ...], ...] = ()
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.regions or self.order:
            self._check()

    @classmethod
    def of_regions(cls, regions: Mapping[str, Any], order: Any) -> Self:
        """Regions as dataset.json and `data.regions` have them: name → one or more label values.

        Raises:
            ValueError: as of the class; or values that are no whole numbers.
        """
        found = {
            name: tuple(values) if isinstance(values, list | tuple) else (values,)
            for name, values in regions.items()
        }
        for name, values in found.items():
            if not values or not all(type(value) is int and value > 0 for value in values):
                raise ValueError(
                    f"region {name!r} has {list(values)}, and must have label values above 0"
                )
        if not isinstance(order, list | tuple) or len(order) != len(found):
            raise ValueError(
                f"regions_class_order: {'missing' if order is None else order}; the {len(found)} "
                f"regions {', '.join(found)} need one label value each, that of their voxels in no "
                "later region"
            )
        return cls(tuple(map(str, found)), tuple(found.values()), tuple(order))

    @classmethod
    def of_plain(
        cls, names: Iterable[str], regions: Iterable[Iterable[int]], order: Iterable[int]
    ) -> Self:
        """As cards and records have it."""
        return cls(tuple(names), tuple(map(tuple, regions)), tuple(order))

    @property
    def overlap(self) -> bool:
        """Whether outputs are regions."""
        return bool(self.regions)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each output of a network is the score of."""
        return self.names if self.overlap else ("background", *self.names)

    @property
    def outputs(self) -> int:
        """How many outputs a network has."""
        return len(self.output_names)

    @property
    def ignored(self) -> int:
        """The label value of ignored voxels: the first beyond those that mean something."""
        return 1 + (max(map(max, self.regions)) if self.overlap else len(self.names))

    @property
    def value_names(self) -> tuple[str, ...]:
        """What each label value from 1 stands for, without what lies in it, as `core without …`."""
        if not self.overlap:
            return self.names
        return tuple(self._value_name(value) for value in range(1, self.ignored))

    def members(self, index: int) -> tuple[int, ...]:
        """The label values of the class or region with a place in `names`."""
        return self.regions[index] if self.overlap else (index + 1,)

    def mask(self, labels: Any, index: int) -> Any:
        """Where an array or tensor of label values is of the class or region `index` of `names`."""
        return reduce(or_, (labels == value for value in self.members(index)))

    def probabilities(self, logits: Any, dim: int = 0) -> Any:
        """Logits, a tensor with the outputs along `dim` → the probability of each."""
        return logits.sigmoid() if self.overlap else logits.softmax(dim)

    def contrasts(self, logits: Any, dim: int = 0) -> Any:
        """Logits → those of each class over the background's, or of each region."""
        if self.overlap:
            return logits
        return logits.narrow(dim, 1, logits.shape[dim] - 1) - logits.narrow(dim, 0, 1)

    def strongest(self, probabilities: Any, dim: int = 0, *, share: float = 1.0) -> Any:
        """Of each voxel its class, or the number from 1 of its last region, else 0.

        Args:
            probabilities: A tensor, or logits of classes; outputs along `dim`.
            dim: Is left out of the result.
            share: What a probability of 1 is here.
        """
        if not self.overlap:
            return probabilities.argmax(dim)
        return _last(probabilities.unbind(dim), range(1, 1 + self.outputs), THRESHOLD * share)

    def written_as(self, strongest: np.ndarray) -> np.ndarray:
        """What `strongest` gives → label values, in the same type."""
        if not self.overlap:
            return strongest
        return np.array((0, *self.order), strongest.dtype)[strongest]

    def label_map(self, logits: Any, dim: int = 0) -> Any:
        """Label values that logits, a tensor with the outputs along `dim`, stand for."""
        if not self.overlap:
            return logits.argmax(dim)
        return _last(self.probabilities(logits).unbind(dim), self.order)

    def composed(self, masks: Iterable[Any]) -> Any:
        """The label map of regions, given the voxels of each, in their order."""
        return _last(masks, self.order)

    def plain(self) -> dict[str, Any]:
        """Its regions and their order as plain data, under the names that cards and records use."""
        return {
            "regions": [list(values) for values in self.regions],
            "regions_class_order": list(self.order),
        }

    def __str__(self) -> str:
        if not self.overlap:
            return ", ".join(self.names)
        pairs = zip(self.names, self.regions, strict=True)
        return ", ".join(f"{name} {list(values)}" for name, values in pairs)

    def _check(self) -> None:
        if not 2 <= len(self.regions) <= _MOST:
            raise ValueError(
                f"regions: {len(self.regions)} of them ({str(self)[:80]}) must be 2 to {_MOST}; "
                "values that are one class alone are merged with data.labels={2: 1} for instance"
            )
        known = sorted({value for values in self.regions for value in values})
        if known != list(range(1, len(known) + 1)):
            raise ValueError(
                f"regions: their label values are {known} and must be 1 to {len(known)}; number "
                "them so, with data.labels={4: 3} for instance"
            )
        pairs = [*zip(self.names, self.regions, self.order, strict=True)]
        if wrong := [(name, value) for name, values, value in pairs if value not in values]:
            name, value = wrong[0]
            raise ValueError(
                f"regions_class_order={list(self.order)}: {value!r} is written for {name!r}, which "
                "does not have it; give each region one of its own values"
            )
        for value in known:
            inside = [index for index, values in enumerate(self.regions) if value in values]
            new = self.order[inside[-1]]
            if inside != [index for index, values in enumerate(self.regions) if new in values]:
                raise ValueError(
                    f"regions_class_order={list(self.order)}: voxels of value {value}, which lie "
                    f"in {' and '.join(self.names[i] for i in inside)}, would be written as {new}, "
                    "which does not lie in the same regions; correct the order, outer regions "
                    f"first, or make value {value} a region of its own after them"
                )

    def _value_name(self, value: int) -> str:
        """The innermost region of a label value, without those that cut a part out of it."""
        inside = [index for index, values in enumerate(self.regions) if value in values]
        own = {*self.regions[inside[-1]]}
        cuts = {
            name: (len(own & {*values}), -len(values), own & {*values})
            for name, values in zip(self.names, self.regions, strict=True)
            if value not in values and own & {*values}
        }
        outermost = [
            name
            for name, cut in cuts.items()
            if not any(cut[2] <= other[2] and cut[:2] < other[:2] for other in cuts.values())
        ]
        name = self.names[inside[-1]]
        name = f"{name} without {' and '.join(outermost)}" if outermost else name
        return name if value in self.order else f"{name} ({value})"


def _last(maps: Iterable[Any], marks: Sequence[int], threshold: float = THRESHOLD) -> Any:
    """The mark of the last mask or map of scores that has a voxel, 0 where none has."""
    found: Any = None
    for each, mark in zip(maps, marks, strict=True):
        inside = each > threshold
        found = inside * mark if found is None else found * ~inside + inside * mark
    return found

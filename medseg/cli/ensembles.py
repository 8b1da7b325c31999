"""The networks, views and outputs that the options of `medseg predict` ask for."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace

from medseg.analysis.input_sizes import check_patch
from medseg.analysis.memory import window_bytes
from medseg.cli.command import patch_of
from medseg.errors import ConfigError
from medseg.formatting import first_of
from medseg.inference.ensemble import Ensemble, Member
from medseg.inference.mirroring import mirrored, mirrored_axes
from medseg.inference.outputs import Wanted
from medseg.inference.postprocess import Postprocessing, kept_classes
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.suggestion import suggestion

log = logging.getLogger(__name__)

_LEARNED = "learned"


def ensemble_of(models: Sequence[TrainedModel], arguments: argparse.Namespace) -> Ensemble:
    """The networks with the views that are averaged.

    Raises:
        ConfigError: a network may not be mirrored so, or has fewer phases than shifts.
        ResourceError: a GPU is asked for and there is none.
    """
    return Ensemble([_member(model, arguments) for model in models])


def _member(model: TrainedModel, arguments: argparse.Namespace) -> Member:
    axes = [] if arguments.mirror is None else mirrored_axes(model, arguments.mirror)
    card, window = model.card, patch_of(arguments.window, model.card.patch_size, key="window")
    if arguments.window:
        check_patch(model.network, card.in_channels, window, deep_supervision=False)
    predictor = Predictor(
        mirrored(model, axes) if axes else model,
        device=arguments.device,
        overlap=arguments.overlap,
        precision=arguments.precision,
        window=window,
        engine=arguments.engine,
        window_bytes=window_bytes(replace(card, patch_size=list(window))),
    )
    if arguments.shifts is None:
        return Member(predictor=predictor, mirrored=axes)
    shifts = _shifts(model, arguments.shifts)
    return Member(predictor=predictor, mirrored=axes, shifts=shifts)


def _shifts(model: TrainedModel, count: int) -> list[tuple[int, ...]]:
    from medseg.checkerboard.decision import phase_shifts
    from medseg.checkerboard.layers import stride_grid_of

    shifts = phase_shifts(stride_grid_of(model.network, len(model.card.patch_size))[-1], count)
    if not 1 < count == len(shifts):
        most = f"to {len(shifts)}, as many phases as {model.source} has" if count > 1 else "on"
        raise ConfigError(f"--shifts={count} must lie in 2 {most}")
    return shifts


def wanted_of(models: Sequence[TrainedModel], arguments: argparse.Namespace) -> Wanted:
    """The outputs that are asked for, by the classes of the first of the networks.

    Raises:
        ConfigError: a class that there is not, a volume that is none, or a network whose training
            has not learned what is asked for.
    """
    labelling, classes = models[0].card.labelling, models[0].card.classes
    names = arguments.probabilities
    every = range(labelling.outputs)
    chosen = {_value(name, labelling.output_names, "--probabilities") for name in names or ()}
    return Wanted(
        probabilities=tuple(sorted(chosen) or every) if names is not None else (),
        uncertainty=arguments.uncertainty,
        overlay=arguments.overlay,
        label_names=arguments.label_names,
        split_classes=arguments.split_classes,
        postprocessing=Postprocessing(
            min_volume=_volumes(arguments.min_volume, classes),
            keep_largest=_values(
                _largest(arguments.keep_largest, models), classes, "--keep-largest"
            ),
            fill_holes=_values(arguments.fill_holes, classes, "--fill-holes"),
        ),
        prefer=arguments.prefer,
    )


def _largest(names: Sequence[str], models: Sequence[TrainedModel]) -> list[str]:
    """Classes of `--keep-largest`, those that all networks have learned in place of `learned`."""
    classes = models[0].card.classes
    if _LEARNED not in names or _LEARNED in classes:
        return list(names)
    for model in models:
        if not model.card.largest_component:
            raise ConfigError(
                f"--keep-largest {_LEARNED}: {model.source} was not tried on validation cases; "
                "name classes"
            )
    learned = [n for n in classes if all(n in kept_classes(model.card) for model in models)]
    log.warning(
        "of the validation cases, keeping the largest component raised the Dice of %s",
        first_of(learned) or "no class; nothing is removed",
    )
    return [*(name for name in names if name != _LEARNED), *learned]


def _values(names: Sequence[str], classes: Sequence[str], option: str) -> list[int]:
    return sorted({1 + _value(name, classes, option) for name in names})


def _volumes(words: Sequence[str], classes: Sequence[str]) -> dict[int, float]:
    found = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            mm3 = float(text)
        except ValueError:
            mm3 = 0.0
        if not name or not 0 < mm3 < float("inf"):
            raise ConfigError(
                f"--min-volume={word} must be a class and a volume in mm³ above 0, as in "
                f"{classes[0]}=50"
            )
        found[1 + _value(name, classes, "--min-volume")] = mm3
    return found


def _value(name: str, names: Sequence[str], option: str) -> int:
    """The place of a name."""
    if name in names:
        return list(names).index(name)
    meant = suggestion(name, list(names)) or f"it has {first_of(list(names))}"
    raise ConfigError(f"{option}={name} is no class of the model; {meant}")

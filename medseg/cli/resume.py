"""`medseg train resume=FOLDER`: a run that goes on where it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.cli.compose import job_config, own_error, task_of
from medseg.cli.planned import register_again
from medseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from medseg.experiment.plan import Plan
    from medseg.record import RunRecord


def continued(
    hydra: "Hydra", given: Sequence[Override]
) -> tuple["DictConfig", "Plan", dict[str, Any]]:
    """Checks that a run can be continued, before anything of it is changed.

    Returns:
        Hydra's configuration of the job, the plan, and what the record says was asked for.

    Raises:
        MedsegError: the run cannot be continued, or not like this.
    """
    from medseg.experiment.folder import former_record
    from medseg.experiment.resume import continued_config, plan_of_continuation, stored_config

    own = ["hydra.output_subdir=null"]  # what the run was first composed of stays there
    words: dict[str, Override] = {}
    for override in given:
        key, line = override.get_key_element().lstrip("+~"), str(override.input_line)
        if override.is_hydra_override():
            own.append(line)
        elif key == "resume":
            own.append(f"hydra.run.dir={line.partition('=')[2]}")
        else:
            words[key] = override
    config = job_config(hydra, own)
    folder = Path(config.hydra.run.dir)
    stored, former = stored_config(folder), former_record(folder)
    asked: dict[str, Any] = {"overrides": [str(word.input_line) for word in words.values()]}
    changes = _changes(hydra, folder, former, stored, words) if words else {}
    if former is not None:
        asked["overrides"] = [*former.overrides, *asked["overrides"]]
        asked |= {key: getattr(former, key) for key in ("choices", "levels", "matched")}
    plan = plan_of_continuation(
        continued_config(stored, changes, cache=config.data.cache),
        folder,
        changes=changes,
        builds_data=not changes.keys().isdisjoint(("data.root", "data.download")),
    )
    return config, plan, asked


def _changes(
    hydra: "Hydra",
    folder: Path,
    former: "RunRecord | None",
    stored: Mapping[str, Any],
    words: Mapping[str, Override],
) -> dict[str, Any]:
    """Dotted key → value of what overrides change: composed again, so that others follow."""
    from medseg.experiment.resume import changed_values, require_may_change

    if former is None:
        raise ConfigError(
            f"{folder}: no record can be read there, so that nothing can be changed; "
            "give resume= alone"
        )
    fixed = {"data.root": stored["data"].get("root"), "init": None}
    fixed |= {key: word.value() for key, word in words.items() if key in fixed}
    asked = {key: str(word.input_line) for key, word in words.items()}
    register_again(stored)
    own = [text for text in former.overrides if not text.lstrip("+~").startswith("hydra")]
    try:
        before = _composed(hydra, own, fixed)
    except (HydraException, OmegaConfBaseException) as error:
        if own_error(error) is not None:  # what a dataset's own description lacks
            raise
        raise ConfigError(
            f"{folder}: the overrides in its record do not compose here "
            f"({' '.join(str(error).split())}); give the --config-dir that it was trained with"
        ) from error
    try:
        after = _composed(hydra, [*own, *asked.values()], fixed)
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(own_error(error), DataError):  # of a dataset that is read in another way
            require_may_change({k: line for k, line in asked.items() if line not in own})
        raise
    return changed_values(stored, before, after, asked)


def _composed(hydra: "Hydra", overrides: Sequence[str], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a run, with some values as they are on this machine."""
    config = task_of(job_config(hydra, overrides))
    for key, value in fixed.items():
        OmegaConf.update(config, key, value)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]

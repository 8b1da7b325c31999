"""`medseg train resume=FOLDER`: a run that goes on where it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override

from medseg.cli.compose import job_config

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from medseg.experiment.plan import Plan


def continued(
    hydra: "Hydra", given: Sequence[Override]
) -> tuple["DictConfig", "Plan", dict[str, Any]]:
    """Checks that a run can be continued, before anything of it is changed.

    Args:
        hydra: Composes Hydra's own part of the configuration.
        given: Overrides: `resume`, Hydra's own, and those of the run's configuration, of which
            numbers and words can be changed.

    Returns:
        Hydra's configuration of the job, the plan, and what the record says was asked for.

    Raises:
        MedsegError: the run cannot be continued, or not like this.
    """
    from medseg.experiment.folder import continued_config, former_record, require_continuable
    from medseg.experiment.plan import make_plan

    own: list[str] = []
    changes: dict[str, Any] = {}
    for override in given:
        key, line = override.get_key_element(), str(override.input_line)
        if override.is_hydra_override():
            own.append(line)
        elif key == "resume":
            own.append(f"hydra.run.dir={line.partition('=')[2]}")
        else:
            changes[key] = override.value()
    config = job_config(hydra, own)
    folder = Path(config.hydra.run.dir)
    former = former_record(folder)
    asked: dict[str, Any] = {"overrides": [f"{key}={value}" for key, value in changes.items()]}
    if former is not None:
        asked["overrides"] = [*former.overrides, *asked["overrides"]]
        asked |= {key: getattr(former, key) for key in ("choices", "levels", "matched")}
    plan = make_plan(continued_config(folder, changes, cache=config.data.cache))
    builds_data = not changes.keys().isdisjoint(("data.root", "data.download"))
    require_continuable(folder, plan, builds_data=builds_data)
    return config, plan, asked

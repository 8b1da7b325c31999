"""Plans in the configuration: `plan=FILE`, and one that is made where `data=folder` has none."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from medseg.cli.compose import groups, hydra_session, job_config, parsed, plain_task, task_of
from medseg.cli.overrides import readable, values_of
from medseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medseg.data.dataset import Dataset
    from medseg.planning.make import Limits

log = logging.getLogger(__name__)

_GROUP = "plan"
_WORD = f"{_GROUP}="
_OF_NETWORK = ("channels", "strides", "depths", "kernel_sizes", "width")
_SIZE = "size@"
_NONE = ("none", "null", "")  # a folder is trained on as the configuration's files say
_SAMPLING = ("spatial_dims", "slice_axis", "crop", "spacing")
_CHOSEN = (*_SAMPLING, "patch_size", "batch_size", "intensity")
_ADDED = ("crop",)  # to what plans depend on, since they are kept: null is as it was
_DEPENDS_ON = {  # what of the configuration a plan depends on, with all of its model
    "data": (*_CHOSEN, "in_channels", "num_classes", "labels", "form", "files"),
    "trainer": ("precision",),
}


def with_plans(words: Sequence[str]) -> list[str]:
    """Overrides in which a plan's file stands as an option that Hydra knows.

    Args:
        words: As they are typed.

    Raises:
        ConfigError: a file that cannot be read, or is no plan.
    """
    is_plan = [word.lstrip("+").startswith(_WORD) for word in words]
    return [
        f"{_WORD}{_known(word.partition('=')[2])}" if own else word
        for word, own in zip(words, is_plan, strict=True)
    ]


def _known(value: str) -> str:
    """The option, or options, of a file, or of several with commas between."""
    from medseg.planning.document import read_plan

    if value in _NONE:
        ConfigStore.instance().store(_NONE[0], {"planned": None}, group=_GROUP, package="_global_")
        return _NONE[0]
    value = value.strip("'\"") if value[:1] in "'\"" else value
    files = [value] if Path(value).expanduser().exists() else value.split(",")
    return ",".join(register(read_plan(Path(file)), file) for file in files)


def register(text: str, name: str) -> str:
    """Makes a plan an option of Hydra's; returns the option's name.

    Args:
        text: Of the plan's file.
        name: Of the file.

    Raises:
        ConfigError: it is no plan.
    """
    from medseg.planning.document import content_of

    content = content_of(text, dict(groups()), name=name)
    option = f"plan_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    ConfigStore.instance().store(option, content, group=_GROUP, package="_global_")
    return option


def register_again(config: Mapping[str, Any]) -> None:
    """Makes the plan that a stored configuration was composed with known once more."""
    if text := (config.get("planned") or {}).get("text"):
        register(text, str(config["planned"].get("file")))


def planned_words(config: DictConfig, words: Sequence[str], given: Sequence[Override]) -> list[str]:
    """Overrides with a plan besides, where a folder is trained on without one.

    The plan is kept in the cache, so that the same command, another seed or an arm of an ablation
    has the same.

    Args:
        config: Composed without a plan.
        words: Overrides.
        given: The same, taken apart.

    Raises:
        MedsegError: a dataset that cannot be planned for.
    """
    if not _lacks_plan(config, given):
        return list(words)
    from medseg.files import own_text, replacing, write_text
    from medseg.planning.make import Limits

    dataset, kept = _kept(config, given)
    if (text := own_text(kept)) is None:
        left_out = ["data.root", *sorted(_fixed(config, given))]
        text = _text(config, given, Limits(), dataset, left_out=left_out)
        with replacing([kept], overwrite=True):
            write_text(kept, text)
        log.info("no plan= was given; one was made for %s: %s", dataset.folder, kept)
    else:
        log.info("no plan= was given; the one made before for %s is used: %s", dataset.folder, kept)
    return [*words, f"{_WORD}{register(text, str(kept))}"]


def words_to_price(words: Sequence[str]) -> list[str]:
    """Overrides with the plan that a training with them would have, if it was made already.

    Raises:
        MedsegError: a dataset or a configuration that cannot be used.
    """
    from medseg.files import own_text

    if not _chooses_data(words):
        return list(words)
    asked = readable(with_plans(words))
    with hydra_session() as hydra:
        given = parsed(asked)
        config = job_config(hydra, asked)
        if not _lacks_plan(config, given):
            return list(words)
        dataset, kept = _kept(config, given)
        if own_text(kept) is not None:
            log.warning("a training would have the plan %s, which counts here", kept)
            return [*words, f"{_WORD}{kept}"]
    log.warning(
        "a training would make a plan first; there is none yet, and what counts here is the "
        "configuration as it stands, patch included: medseg plan %s -o plan.yaml makes one, then "
        "give plan=plan.yaml; plan=none says that none is wanted",
        dataset.folder,
    )
    return list(words)


def _lacks_plan(config: DictConfig, given: Sequence[Override]) -> bool:
    is_folder = config.hydra.runtime.choices.get("data") == "folder"
    return is_folder and all(o.key_or_group != _GROUP for o in given)


def _kept(config: DictConfig, given: Sequence[Override]) -> tuple["Dataset", Path]:
    """A configuration's dataset, and where in the cache its plan is, or will be."""
    from medseg.hardware import choose_device
    from medseg.planning.fingerprint import KEPT, files_key

    task = plain_task(config)
    device = choose_device(task["trainer"]["device"], key="trainer.device").type
    dataset = _dataset(task)
    parts = [
        {k: task[name].get(k) for k in keys if k not in _ADDED or task[name].get(k) is not None}
        for name, keys in _DEPENDS_ON.items()
    ]
    # of regions, files_key tells
    meant = [files_key(dataset), sorted(_fixed(config, given)), parts, task["model"], device]
    key = hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:16]
    return dataset, Path(task["data"]["cache"]).expanduser() / KEPT / f"plan-{key}.yaml"


def plan_of(words: Sequence[str], limits: "Limits") -> str:
    """The text of a plan.

    Args:
        words: Overrides; `data.root` among them.
        limits: What a training may take.

    Raises:
        MedsegError: a dataset or a configuration that cannot be planned for.
    """
    asked = readable([*(["data=folder"] if not _chooses_data(words) else []), *words])
    with hydra_session() as hydra:
        given = parsed(asked)
        if any(o.key_or_group in (_GROUP, "resume", "init") for o in given):
            raise ConfigError("plan=, resume= and init= have no place here; leave them out")
        config = job_config(hydra, asked)
        return _text(config, given, limits, _dataset(plain_task(config)))


def _chooses_data(words: Sequence[str]) -> bool:
    return any(word.startswith("data=") for word in words)


def require_same_dataset(config: Mapping[str, Any]) -> None:
    """Refuses a plan that was made for another dataset; other cases are warned of.

    Raises:
        ConfigError: its channels or classes are others.
    """
    from medseg.planning.document import differences

    planned = config.get("planned")
    if not planned or "_target_" not in config["data"]["source"]:
        return
    try:
        dataset = _dataset(config)
    except DataError:
        return  # whoever reads it says so
    if difference := differences(planned, dataset):
        log.warning("%s", difference)


def _text(
    config: DictConfig,
    given: Sequence[Override],
    limits: "Limits",
    dataset: "Dataset",
    *,
    left_out: Sequence[str] = (),
) -> str:
    from medseg.planning.fingerprint import fingerprint
    from medseg.planning.make import make_text
    from medseg.planning.planner import dimensions

    task, fixed = plain_task(config), _fixed(config, given)
    facts = fingerprint(dataset, cache=Path(task["data"]["cache"]))
    dims = dimensions(facts)
    if "data.spatial_dims" not in fixed and dims != task["data"]["spatial_dims"]:
        config = config.copy()
        OmegaConf.update(config, "data.spatial_dims", dims)
        if "data.patch_size" not in fixed:  # the plan chooses it
            OmegaConf.update(config, "data.patch_size", task["data"]["patch_size"][:1] * dims)
        task = plain_task(config)
    known = dict(groups())
    chosen = {o.key_or_group: o for o in given if o.key_or_group in known}
    options = {"data": "folder", "model": str(config.hydra.runtime.choices["model"])}
    options |= {str(o.get_key_element()).lstrip("+"): str(o.value()) for o in chosen.values()}
    values = {
        key: value
        for key, value in values_of(given).items()
        if "." in key
        and key.partition(".")[0] in ("data", "model", "trainer", "augmentation")
        and key not in ("data.root", "data.source.root", "data.cache", "data.download")
    }
    return make_text(
        facts,
        dataset,
        task,
        limits=limits,
        fixed=fixed,
        left_out=left_out,
        options=options,
        values={} if left_out else values,
    )


def _dataset(config: Mapping[str, Any]) -> "Dataset":
    from medseg.build import build
    from medseg.data.forms import read_dataset

    data = config["data"]
    folder = build(data["source"], "data.source").prepare(may_write=False)
    return read_dataset(
        folder,
        data["labels"],
        regions=data.get("regions"),
        order=data.get("regions_class_order"),
        form=data.get("form"),
        files=data.get("files"),
    )


def _fixed(config: DictConfig, given: Sequence[Override]) -> set[str]:
    """Keys that the user gave; `model` where stages or widths are among them."""
    keys = {str(o.get_key_element()).lstrip("+~") for o in given}
    asked = " ".join([*keys, str(OmegaConf.select(task_of(config), "ablation.factors") or "")])
    fixed = {f"data.{name}" for name in _CHOSEN for key in keys if _is_of(key, f"data.{name}")}
    if _SIZE in asked or any(f"coder.{name}" in asked for name in _OF_NETWORK):
        fixed.add("model")
    return fixed


def _is_of(key: str, parent: str) -> bool:
    return key == parent or key.startswith((f"{parent}.", f"{parent}@"))

"""Single values of a configuration replaced by anything: refused in words, or trained with."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from tests_support import OVERRIDES, QUICK

from medseg.cli.compose import composed
from medseg.data.patches import PatchDataset, as_lists, varied
from medseg.data.sides import resolve_flips
from medseg.errors import MedsegError
from medseg.experiment.plan import Plan, make_plan
from medseg.experiment.run import run

HOME = TemporaryDirectory(prefix="fuzz")
PLACES = [f"data.root={HOME.name}/data", f"data.cache={HOME.name}/cache"]
COMMON = [*OVERRIDES, *QUICK, *PLACES, "data.source.cases=4"]
VARIANTS = (
    (),
    ("optimizer=sgd", "scheduler=cosine", "loss=dice_focal"),
    ("scheduler=constant", "augmentation=none", "conv@model.encoder.conv=dilated"),
    ("unit@model.encoder.unit=bottleneck", "upsample@model.decoder.upsample=pixel_shuffle"),
    ("conv@model.decoder.conv=grouped", "skip@model.decoder.skip=attention"),
    ("unit@model.decoder.unit=dense", "conv@model.encoder.conv=dilated_schedule"),
    ("norm@model.encoder.unit.norm=group", "model.encoder.unit.norm.groups=2"),
    ("data.spatial_dims=2", "data.patch_size=[16,16]", "data.folds=2", "data.fold=1"),
)
WORDS = "abc 12 ü/数据 auto fp16 cuda none linear icnr [1 null ${seed} os.system ~ 1e3 -"
ODD: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 40),
        st.sampled_from([-1, 0, 2**16, 2**31, 2**40, 10**30]),
        st.floats(-2, 2),
        st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e-30, 1e30, -1e30]),
        st.sampled_from(["", " ", "a\nb", "\x1b[2J", *WORDS.split()]),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)


@pytest.fixture(autouse=True, scope="module")
def own_folder() -> Iterator[None]:
    """Keeps what a mutated data.root or data.cache names out of the checkout."""
    with chdir(HOME.name):
        yield


@cache
def base(variant: tuple[str, ...]) -> dict[str, Any]:
    common = [
        o for o in COMMON if o.partition("=")[0] not in {v.partition("=")[0] for v in variant}
    ]
    return composed("train", *common, *variant)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries: Any = ()
    if isinstance(node, dict):
        entries = node.items()
    elif isinstance(node, list):
        entries = enumerate(node)
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[tuple[Any, ...], Any, dict[str, Any]]:
    config = copy.deepcopy(base(draw(st.sampled_from(VARIANTS))))
    place = draw(st.sampled_from(list(places(config))))
    node: Any = config
    for key in place[:-1]:
        node = node[key]
    value = draw(ODD)
    node[place[-1]] = value
    return place, value, config


def near(value: Any) -> list[Any]:
    """Values that differ little, as a slip of a hand leaves them."""
    match value:
        case bool():
            return [not value, int(value)]
        case int():
            return [
                0,
                -value,
                value // 2,
                2 * value,
                value + 1,
                value - 1,
                float(value),
                value + 0.5,
            ]
        case float():
            return [0, -value, value / 2, 10 * value, value / 1e6, 1, 1 - value]
        case str():
            return [f"{value}x", value.upper(), "", "0", "auto", "bf16", "none"]
        case list() if value:
            return [[], value[:-1], [*value, value[-1]], value[0], [near(v)[0] for v in value]]
        case dict() if value:
            return [dict(list(value.items())[1:]), value | {"more": 1}]
        case _:
            return [0, 1, 0.5, "x", [1], [2.0, 2.0, 2.0], {}]


@st.composite
def slipped(draw: st.DrawFn) -> tuple[tuple[Any, ...], Any, dict[str, Any]]:
    config = copy.deepcopy(base(draw(st.sampled_from(VARIANTS))))
    place = draw(st.sampled_from([p for p in places(config) if p[-1] != "name"]))
    node: Any = config
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = draw(st.sampled_from(near(node[place[-1]])))
    return place, node[place[-1]], config


def refused(act: Callable[[], Any]) -> tuple[Any, MedsegError | None]:
    try:
        return act(), None
    except MedsegError as error:
        return None, error


def planned(config: dict[str, Any]) -> Plan | None:
    """The plan of a configuration; None where it is refused, each fault on a line."""
    plan, error = refused(lambda: make_plan(config))
    if error is not None:
        text = str(error)
        # what init names and is not there is data
        assert error.exit_code in ((2, 3, 4) if config.get("init") else (2, 4))
        assert text.strip()
        assert all(line.strip() for line in text.splitlines())
        assert not [
            w for w in ("object is not", "NoneType", "unhashable", "Traceback") if w in text
        ]
    return plan


class Scan:
    """A prepared case in memory."""

    def __init__(self, channels: int) -> None:
        rng, size = np.random.default_rng(0), (20, 22, 18)
        self.shape = (channels, *size)
        self.image = torch.from_numpy(rng.normal(size=self.shape).astype(np.float32))
        self.spacing = (1.0, 1.0, 1.0)
        self.label = torch.from_numpy(rng.integers(0, 3, (1, *size)).astype(np.uint8))
        self.centres = [np.flatnonzero(self.label[0].numpy() == value) for value in range(3)]
        self.counts = tuple(map(len, self.centres))

    def centre(self, label: int, number: int) -> int:
        return int(self.centres[label][number])

    def region(self, region: Sequence[slice]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.image[:, *region], self.label[:, *region]


def step(plan: Plan) -> None:
    """Draws patches as training does, and makes one step."""
    config = plan.data.config
    varied_by = plan.data.augmentation
    if varied_by is not None:
        varied_by, error = refused(
            lambda: resolve_flips(plan.data.augmentation, config.labelling, config.patch_axes)  # type: ignore[arg-type]
        )
        if error is not None:
            return
    patches = PatchDataset(
        [Scan(config.in_channels)],  # type: ignore[list-item]
        patch_size=config.patch_size,
        foreground_fraction=config.foreground_fraction,
        augmentation=varied_by,
        per_epoch=config.batches_per_epoch * config.batch_size,
        seed=plan.config["seed"],
    )
    batch = varied(as_lists([patches[0, 0], patches[0, 1]]), config.patch_size)
    image, label = batch["image"], batch["label"]
    optimizer = plan.optimizer(plan.network.parameters())
    plan.scheduler(optimizer)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = plan.loss(plan.network(image).float(), label)
        loss.backward()
        return loss

    value = optimizer.step(closure)
    assert torch.isfinite(torch.as_tensor(value))


def check(mutation: tuple[tuple[Any, ...], Any, dict[str, Any]]) -> None:
    place, _, config = mutation
    plan = planned(config)
    event(f"{place[0]}: {'refused' if plan is None else 'accepted'}")
    if plan is not None:
        assume(np.prod(plan.data.config.patch_size) < 10**6)
        step(plan)


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_a_value_is_refused_in_words_or_makes_a_step(mutation) -> None:
    check(mutation)


@pytest.mark.slow
@settings(max_examples=2500, derandomize=False, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_each_of_many_values_is_refused_in_words_or_makes_a_step(mutation) -> None:
    check(mutation)


@pytest.mark.slow
@settings(max_examples=150, derandomize=False, suppress_health_check=list(HealthCheck))
@given(slipped())
def test_a_slip_of_a_hand_is_refused_in_words_or_trained_with_to_the_end(
    tmp_path_factory: pytest.TempPathFactory, mutation
) -> None:
    place, _, config = mutation
    plan = planned(config)
    event(f"{place[0]}: {'refused' if plan is None else 'trained'}")
    if plan is None:
        return
    data = plan.data.config
    assume(data.batch_size * np.prod(data.patch_size) < 50_000 and data.batches_per_epoch < 9)
    assume(plan.training.epochs < 5 and plan.data.config.source.cases < 9)  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("slip")
    record, error = refused(lambda: run(config, folder / "run", plan=plan))
    if error is None:
        assert record.status == "completed"
    else:  # what only the data tells is said before the first step
        assert error.exit_code in (2, 3)
        assert not (folder / "run" / "checkpoints").exists()

"""One run as plain data, and plain data as strict JSON: all that a report knows of a training.

In `record.json` a number that is not finite is null; why a metric has no value stands in the
metric's rule (`medseg.metrics`). Whatever is read is checked here and nowhere else.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from medseg.errors import DataError
from medseg.files import write_text
from medseg.formatting import printable
from medseg.labelling import Labelling
from medseg.record.checkerboard import ArtifactRecord

SCHEMA = 4
FILE_NAME = "record.json"

_WHOLE = 2.0**63  # from here on arrays hold no whole number

Status = Literal["running", "completed", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Plain data with a file of its own; classes of it have a field `schema`.

    Attributes:
        FILE: Its name.
        REMEDY: What to do with one that cannot be read.
        path: The file that it was read from; not part of the file.
    """

    FILE: ClassVar[str]
    REMEDY: ClassVar[str]
    path: Path = field(default=Path(), compare=False)

    @property
    def source(self) -> str:
        """The path as text that any encoding can print."""
        return printable(str(self.path))

    def write(self, folder: Path) -> Path:
        """Writes the file into `folder`, wholly or not at all."""
        content = dataclasses.asdict(self)
        del content["path"]
        target = Path(folder) / self.FILE
        write_text(target, json.dumps(finite(content), indent=1) + "\n")
        return target

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file of any schema up to today's; every field has its type afterwards.

        Raises:
            DataError: not JSON, not of this kind, or of a schema that this version does not know.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error}); {cls.REMEDY}") from error
        newest = vars(cls)["schema"]
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        if found not in range(1, newest + 1):
            raise DataError(
                f"{path}: schema={found!r}, this version reads schemas 1 to {newest}; read it with "
                f"the version that wrote it, or {cls.REMEDY}"
            )
        try:
            return dataclasses.replace(from_plain(cls, content), path=Path(path))
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}: not whole ({error}); {cls.REMEDY}") from error


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """Metrics of one validation case on its own grid.

    Args:
        case: The case's id.
        metrics: `{class name: {metric name: value}}`; metric names are `dice`, `surface_dice`,
            `hd95_mm`; None where the metric is undefined (the class is absent from both
            the label and the prediction).
        image: The image's file when it was predicted; empty if not known.
        label: The true label map's file.
        prediction: The predicted label map's file, from the record's folder.
    """

    case: str
    metrics: dict[str, dict[str, float | None]]
    image: str = ""
    label: str = ""
    prediction: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The same slice of a case in every arm, as a PNG.

    Args:
        case: The case's id.
        caption: What is drawn, for instance "axial slice 71, label and prediction".
        png: The file's bytes in base64.
    """

    case: str
    caption: str
    png: str


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What the widths of an arm were scaled for.

    Args:
        quantity: `parameters`, `macs`, `memory`, `inference_memory` or `latency`.
        value: What the arm has of it: bytes of memory, milliseconds of latency.
        wanted: What the reference arm has.
    """

    quantity: str
    value: float
    wanted: float


@dataclass(frozen=True, kw_only=True)
class RunRecord(Stored):
    """Everything that is known of one run.

    Args:
        name: The run's name, equal for the seeds of one arm.
        status: How it ended; `running` in a file that is read means killed or still going.
        error: The message of a failed run, else None.
        exit_code: What the process said of it (see `medseg.errors`); None while it runs.
        restarts: How often the run was continued after it had stopped.
        command: The command line.
        choices: Slot → option as chosen by name, e.g. `{"encoder.conv": "dilated"}`.
        blocks: Slot → the block with its parameters, as `{"encoder.conv": "Dilated(dilation=2)"}`.
        overrides: The Hydra overrides that were given.
        digest: Equal for runs that do the same (`medseg.record.digest`).
        levels: For a cell of an ablation: factor → level; else empty.
        matched: What its widths were scaled for, if they were.
        config: The resolved configuration.
        versions: Package → version.
        machine: `device`, `cpu`, `threads`, `precision`, `host`.
        seed: The seed.
        fold: Which fold was held out, from 0; None for a single split.
        folds: Digest of the cases that each of the folds holds out; empty if not known.
        dataset: Name of the dataset.
        classes: Names of the foreground classes, by label value from 1; or of the regions.
        regions: The label values of each region; empty where classes exclude each other.
        regions_class_order: The label value that is written for each region.
        label_values: Value, colour or name in the label files → class, or "ignore"; None: values
            are classes, or it is not known.
        split: `{"train": [case ids], "validation": [case ids]}`.
        cases_sha256: Case id → SHA-256 of the content of its image and label; empty if not known.
        init: Of a run that began with trained weights: `source`, its `sha256`, and `new`, the
            tensors that were made anew; else empty.
        weights: Of the network that was kept: `kept`, `last` or `best`; its `epoch`; `ema`, the
            decay of its average or None; `chosen_by`, None or what of the validation cases decided
            on the epoch. Empty before there is one, and in records from before it was told.
        parameters: Trainable parameters.
        macs: Multiply-accumulates of one forward pass on one patch.
        predicted_memory_bytes: Peak of a training step by its arithmetic, weights not included.
        memory_before_bytes: What the process held before training: resident or allocated.
        patch_size: That patch, in voxels.
        seconds: `setup`, `train`, `validation`, `total` wall-clock seconds, and `step`, the median
            step. Of a run that was continued, `former` are those of epochs before its last start;
            `train` and `total` include them.
        peak_memory_bytes: Peak resident memory of the process (CPU) or allocated memory (GPU).
        history: One dict per epoch: `epoch` from 1, `train_loss`, `val_dice`, `val_dice_<class>`,
            `lr`, `seconds`.
        cases: Final metrics per validation case.
        artifacts: Patterns of the strides on the validation cases; None where none can be.
        artifact_history: One dict per measured epoch: `epoch`, 0 before training, and the largest
            `dc_gain` and `dc_gain_mean` of the layers, `constant_response`, `cycle_spin`.
        pictures: Validation cases as segmented by this run.
        started: ISO time with zone.
        finished: ISO time with zone, or None.
    """

    FILE = FILE_NAME
    REMEDY = "run it again"
    name: str
    status: Status
    started: str
    schema: int = SCHEMA
    error: str | None = None
    exit_code: int | None = None
    restarts: int = 0
    command: list[str] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    digest: str = ""
    levels: dict[str, str] = field(default_factory=dict)
    matched: Matched | None = None
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    fold: int | None = None
    folds: str = ""
    dataset: str = ""
    classes: list[str] = field(default_factory=list)
    regions: list[list[int]] = field(default_factory=list)
    regions_class_order: list[int] = field(default_factory=list)
    label_values: dict[str, int | str] | None = None
    split: dict[str, list[str]] = field(default_factory=dict)
    cases_sha256: dict[str, str] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    predicted_memory_bytes: int | None = None
    memory_before_bytes: int | None = None
    patch_size: list[int] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    history: list[dict[str, float | None]] = field(default_factory=list)
    cases: list[CaseRecord] = field(default_factory=list)
    artifacts: ArtifactRecord | None = None
    artifact_history: list[dict[str, float | None]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    finished: str | None = None

    def __post_init__(self) -> None:
        _ = self.labelling  # refuses regions that cannot be

    @classmethod
    def upgraded(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Schema 1 had the grid of its ablation in every record; `ablation.json` has it now.

        Up to schema 2 a record repeated two of its artifacts, which is all that a record without
        artifacts had. Those older than schema 3 are converted by `ArtifactRecord`. Up to schema 3
        epochs of `history` counted from 0.
        """
        if content["schema"] == SCHEMA:
            return content
        old: dict[str, Any] = {k: v for k, v in content.items() if k != "sweep"}
        old["schema"] = SCHEMA
        old["history"] = [
            row | {"epoch": row["epoch"] + 1} if row.get("epoch") is not None else row
            for row in old.get("history", [])
        ]
        if content["schema"] == 3:
            return old
        gains, response = old.pop("upsampling", []), old.pop("constant_response", None)
        if old.get("artifacts") is None and (gains or response is not None):
            rows = [{**gain, "values": {"dc_gain": gain.get("imbalance")}} for gain in gains]
            layers = [{k: v for k, v in row.items() if k != "imbalance"} for row in rows]
            values = {"constant_response": response}
            old["artifacts"] = {"period": [], "layers": layers, "values": values}
        return old

    @property
    def labelling(self) -> Labelling:
        """What its label values mean."""
        return Labelling.of_plain(self.classes, self.regions, self.regions_class_order)

    @property
    def is_chosen(self) -> bool:
        """Whether its epoch was chosen by the cases that it is scored on."""
        # records from before it was told are of runs that kept the best epoch
        return bool(self.cases) and self.weights.get("chosen_by", "validation Dice") is not None

    @property
    def constant_response(self) -> float | None:
        """Periodic part of the response to a constant, over the logits' spread; None if unknown."""
        return self.artifacts.constant_response if self.artifacts else None


def finite(value: Any) -> Any:
    """Plain data fit for strict JSON: a number that is not finite becomes None."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """Converts plain data to what an annotation asks for, most often a dataclass.

    A field that is absent takes its default. A number that is not finite becomes None. A class
    with a method `upgraded(content) -> content` reads its own older forms.

    Args:
        kind: A dataclass, or any annotation of its fields.
        value: Plain data.
        where: Its name in messages.

    Raises:
        TypeError: unknown fields, a field without a value, or a value of another type.
    """
    if kind is Any or (kind is float and type(value) is float and math.isfinite(value)):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        content, fields = getattr(kind, "upgraded", dict)(value), _fields(kind)
        if unknown := [name for name in content if name not in fields]:
            raise TypeError(f"{where} has no field {unknown[0]!r:.60}".lstrip())
        return kind(**{name: from_plain(fields[name], v, name) for name, v in content.items()})
    if kind is str and isinstance(value, str | int | float):
        return printable(str(value))
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and (whole := _number(value)) == whole // 1 and abs(whole) < _WHOLE:
        return int(value)
    if kind is float and (value is None or type(value) in (int, float)):
        return None if math.isnan(number := _number(value)) else number
    origin, args = _parts(kind)
    if origin is Literal and value in args:
        return value
    if origin is UnionType and value is None and NoneType in args:
        return None
    if origin is UnionType:
        kinds = [arg for arg in args if arg is not NoneType]
        return from_plain(type(value) if type(value) in kinds else kinds[0], value, where)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(from_plain(args[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        # A group that was switched off has no option: its choice is null.
        known = value if args[1] is not str else {k: v for k, v in value.items() if v is not None}
        return {printable(k): from_plain(args[1], v, f"{where}[{k!r}]") for k, v in known.items()}
    raise TypeError(f"{where}={value!r:.60} must be {getattr(kind, '__name__', kind)}".lstrip("="))


def _number(value: object) -> float:
    """A finite number; anything else is NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}

"""One run as plain data: all that a report knows of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.formatting import printable
from medseg.record.checkerboard import ArtifactRecord
from medseg.record.plain import read_plain, write_plain

SCHEMA = 4
FILE_NAME = "record.json"

Status = Literal["running", "completed", "failed", "interrupted"]


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
class RunRecord:
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
        dataset: Name of the dataset.
        classes: Names of the foreground classes, by label value from 1.
        label_values: Value, colour or name in the label files → class, or "ignore"; None: values
            are classes, or it is not known.
        split: `{"train": [case ids], "validation": [case ids]}`.
        cases_sha256: Case id → SHA-256 of the content of its image and label; empty if not known.
        init: Of a run that began with trained weights: `source`, its `sha256`, and `new`, the
            tensors that were made anew; else empty.
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
        path: The file that it was read from; not part of the file.
    """

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
    dataset: str = ""
    classes: list[str] = field(default_factory=list)
    label_values: dict[str, int | str] | None = None
    split: dict[str, list[str]] = field(default_factory=dict)
    cases_sha256: dict[str, str] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
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
    path: Path = field(default=Path(), compare=False)

    @property
    def source(self) -> str:
        """The path as text that any encoding can print."""
        return printable(str(self.path))

    def write(self, folder: Path) -> Path:
        """Writes `record.json` into `folder`, wholly or not at all."""
        return write_plain(self, Path(folder) / FILE_NAME)

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
    def constant_response(self) -> float | None:
        """Periodic part of the response to a constant, over the logits' spread; None if unknown."""
        return self.artifacts.constant_response if self.artifacts else None

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Reads one `record.json`; every field has its type afterwards.

        Raises:
            DataError: as `read_plain`.
        """
        return read_plain(cls, path, "run it again")

"""What a person sees of a training: bar, curves, validation cases, a word when it stalls."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from medseg.data.cache import PreparedCase
from medseg.inference.sliding_window import VALIDATION_OVERLAP, slide
from medseg.progress import bar
from medseg.training.callbacks import History
from medseg.training.module import SegmentationModule
from medseg.volumes import picture_of_case

log = logging.getLogger(__name__)

PROGRESS_FILE = "progress.png"
_WORTH_SAYING = 0.1  # share of the time
_READ = 0.5  # seconds that a person takes to read a line
_SECONDS = 60.0  # between two drawings of the curves, each of which takes some tenths of one
_EPOCHS = 20  # without a lower loss, and a third of the run, until it is said
_VALIDATIONS = 5  # that find nothing until it is said
_MEAN = "val_dice"
_LEGEND = 8  # lines that a legend has room for


class TrainingBar(pl.Callback):
    """Shows steps done and the time left, those of a resumed run's earlier starts included.

    Args:
        history: Knows the time of each step.
        max_seconds: Of training steps, if time ends the run; None: the trainer's epochs do.
    """

    def __init__(self, history: History, *, max_seconds: float | None):
        self.history = history
        self.max_seconds = max_seconds
        self._stack = ExitStack()
        self._step: Any = None
        self._note, self._noted = "", 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Begins where the run is."""
        if self.max_seconds is None:
            total, done = float(trainer.estimated_stepping_batches), trainer.global_step
            own = bar(total, "training", unit="step", done=done)
        else:
            done = sum(self.history.step_seconds)
            own = bar(round(self.max_seconds), "training", unit="s", done=done)
        self._step = self._stack.enter_context(own)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Has the epoch's first step tell what the validation found."""
        self._noted = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, _module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Goes on by a step."""
        last = trainer.max_epochs if self.max_seconds is None else None
        epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last else "")
        if time.monotonic() - self._noted > _READ:
            self._note, self._noted = self._told(trainer, outputs["loss"]), time.monotonic()
        amount = 1 if self.max_seconds is None else self.history.step_seconds[-1]
        self._step(amount, what=epoch, note=self._note)

    def _told(self, trainer: pl.Trainer, loss: Any) -> str:
        note = f"loss {float(loss):.4g}"  # a GPU waits for it
        if dice := self.history.dice:
            best = f" (best {max(dice):.3f})" if max(dice) > dice[-1] else ""
            note += f", Dice {dice[-1]:.3f}{best}"
        if (waiting := self.history.waiting(trainer)) > _WORTH_SAYING:
            note += f", {waiting:.0%} waiting for patches"
        return note

    def teardown(self, *_: Any, **__: Any) -> None:
        """Removes the bar, however training ends."""
        self._stack.close()


class Curves(pl.Callback):
    """Draws loss, Dice, rate and waiting by epoch into one PNG.

    It is drawn after a validation, once a minute at most, and when training ends.

    Args:
        history: Knows the epochs.
        path: The file.
    """

    def __init__(self, history: History, path: Path):
        self.history = history
        self.path = path
        self._drawn = time.monotonic()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Draws, if it is time."""
        if _MEAN in self.history.rows[-1] and time.monotonic() - self._drawn > _SECONDS:
            self._draw()

    def on_train_end(self, *_: Any) -> None:
        """Draws what the run has become."""
        if self.history.rows:
            self._draw()

    def _draw(self) -> None:
        draw_curves(self.history.rows, self.path)
        self._drawn = time.monotonic()


def draw_curves(rows: Sequence[dict[str, float | None]], path: Path) -> None:
    """Draws the rows of a `History` as curves by epoch, wholly or not at all.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    from matplotlib.ticker import MaxNLocator  # heavy, as all of matplotlib

    from medseg.plotting import line_style, new_figure, plain_ticks, save, shortened, styled

    classes = dict.fromkeys(key for row in rows for key in row if key.startswith(f"{_MEAN}_"))
    names = {_MEAN: "mean"} | {key: key.removeprefix(f"{_MEAN}_") for key in classes}
    panels = {
        "Training loss": {"train_loss": ""},
        "Validation Dice": names,
        "Learning rate": {"lr": ""},
        "Share of the time waiting for patches": {"waiting": ""},
    }
    with styled():
        figure = new_figure(4.6, 7.0)
        for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
            for place, (key, name) in enumerate(lines.items()):
                known = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
                look = line_style(place) | {"lw": 0.8 if place else 1.6, "ms": 4}
                look |= {"marker": "o" if len(known) == 1 else "", "label": shortened(name, 24)}
                if known:
                    axes.plot(*zip(*known, strict=True), **look)
            axes.set(title=title, xlabel="Epoch")
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_formatter(plain_ticks())
            if 1 < len(axes.lines) <= _LEGEND:
                axes.legend(loc="lower right")
        save(figure, path)


class StallNotice(pl.Callback):
    """Says once that the loss no longer falls, and once that validation finds nothing.

    Args:
        history: Knows the epochs.
    """

    def __init__(self, history: History):
        self.history = history
        self._said: set[str] = set()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Looks at the epochs so far."""
        rows, dice = self.history.rows, self.history.dice
        losses = [loss for row in rows if (loss := row.get("train_loss")) is not None]
        since = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        if since >= max(_EPOCHS, len(losses) // 3):
            self._say(
                "loss",
                f"no lower training loss for {since} epochs (the lowest is {min(losses):.4g}): "
                "more epochs may be in vain; another optimizer.lr may do",
            )
        if len(dice) >= _VALIDATIONS and not any(dice[-_VALIDATIONS:]):
            self._say(
                "Dice",
                f"Dice is 0 in every class in the last {_VALIDATIONS} validations: look at the "
                "labels (medseg check) and at pictures/; a rare class may need a larger "
                "data.foreground_fraction",
            )

    def _say(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", line)


class ValidationPictures(pl.Callback):
    """Draws a few validation cases every `every` epochs, into a folder and TensorBoard.

    Args:
        module: What is being trained.
        cases: The cases.
        folder: Where PNG files go.
        every: Epochs between pictures; the last epoch is always drawn.
    """

    def __init__(
        self,
        module: SegmentationModule,
        cases: Sequence[PreparedCase],
        folder: Path,
        *,
        every: int,
    ):
        self.module = module
        self.cases = list(cases)
        self.folder = folder
        self.every = every

    def on_validation_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Draws, if it is this epoch's turn."""
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs
        if trainer.sanity_checking or not (last or epoch % self.every == 0):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for case in self.cases:
            image = case.image[None].to(self.module.device)
            module, overlap = self.module, VALIDATION_OVERLAP
            logits = slide(module.network, image, module.patch_size, overlap=overlap)
            labels = module.labelling.label_map(logits, 1)[0].cpu().numpy()
            picture = picture_of_case(
                case.image[0].numpy(), case.label[0].numpy(), labels, case.spacing
            )
            picture.save(self.folder / f"{case.case_id}_epoch_{epoch:04d}.png")
            _to_tensorboard(trainer.loggers, case.case_id, np.asarray(picture), epoch)


def _to_tensorboard(loggers: Sequence[Any], case_id: str, picture: np.ndarray, epoch: int) -> None:
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(case_id, picture, epoch, dataformats="HWC")

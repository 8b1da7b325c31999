"""The work of a service: one upload → its label map, in a folder that is gone afterwards."""

import tempfile
import threading
from pathlib import Path
from typing import IO

from medseg.errors import DataError, MedsegError, one_volume
from medseg.formatting import memory
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.serving.limits import Limits, unpack
from medseg.volumes import describe, read_image, write_labels
from medseg.volumes.container import FLOAT32_BYTES


class StoppedError(Exception):
    """Nobody waits for the label map any more."""


class Segmenter:
    """A network that segments uploads, in several threads, each of which can be stopped.

    Args:
        model: The network.
        predictor: Of that network.
        limits: Of the service.
    """

    def __init__(self, model: TrainedModel, predictor: Predictor, limits: Limits):
        self.card = model.card
        self._predictor = predictor
        self._limits = limits
        self._thread = threading.local()
        # before every window: the one place at which a prediction can be left
        predictor.view.network.register_forward_pre_hook(lambda *_: self._going())

    def segment(self, upload: IO[bytes], stop: threading.Event) -> bytes:
        """The label map of an upload, as .nii.gz.

        Args:
            upload: The file, in any format that `medseg predict` reads from one file.
            stop: Ends the work where it is set.

        Raises:
            StoppedError: it was set.
            MedsegError: the volume cannot be used; the message names no path.
        """
        self._thread.stop = stop
        with tempfile.TemporaryDirectory(prefix="medseg-serve-") as folder:
            path = Path(folder, "volume")
            try:
                with one_volume(path):
                    return self._segmented(upload, path)
            except MedsegError as error:
                if isinstance(error.__cause__, StoppedError):
                    raise error.__cause__ from None
                raise DataError(_without(folder, str(error))) from error

    def _segmented(self, upload: IO[bytes], path: Path) -> bytes:
        unpack(upload, path, self._limits, self._going)
        described = describe(path)
        needed = FLOAT32_BYTES * described.channels
        for length in described.shape:
            needed *= length
        if needed > self._limits.unpacked:
            raise DataError(
                f"its voxels take {memory(needed)}, more than {memory(self._limits.unpacked)}, "
                "the limit of this service; crop it, or start it with a larger --max-unpacked"
            )
        volume = read_image(path, channels=self.card.in_channels, nonfinite="replace")
        path.unlink()
        self._going()
        labels = self._predictor.predict(volume).labels
        self._going()
        target = path.with_name("labels.nii.gz")
        write_labels(target, labels, volume)
        return target.read_bytes()

    def _going(self) -> None:
        stop = getattr(self._thread, "stop", None)
        if stop is not None and stop.is_set():
            raise StoppedError


def _without(folder: str, text: str) -> str:
    """A message in which the volume is called the upload, and no path is left."""
    return text.replace(f"{folder}/volume", "the upload").replace(folder, "the upload")

"""Checkpoints that are whole or absent, and hold no code."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from medseg.files import atomic_path
from medseg.models.weights import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; loads tensors and plain data only.

    Lightning's own moves from the temporary folder, which is a copy across file systems: a full
    disk leaves half a checkpoint under the final name, and a refused permission goes unnoticed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes one checkpoint.

        Raises:
            ResourceError: the folder cannot be written or the disk is full.
        """
        with atomic_path(Path(path)) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch's word for a write that fell short
                raise OSError(f"the checkpoint was not written in full ({error})") from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads one checkpoint, as if `weights_only` were always true.

        Raises:
            DataError: there is none, it is not whole, or it would run code.
        """
        return read_checkpoint(Path(path), map_location)

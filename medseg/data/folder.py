"""A dataset of the user's own, read where it lies."""

from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Any dataset of a form that `medseg.data.forms` knows.

    Attributes:
        root: holds it.
    """

    root: Path | str

    def prepare(self, *, may_write: bool = True) -> Path:
        """The folder itself; nothing is written to it.

        Raises:
            DataError: it is not there.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(f"data.root={root} is no folder; name the one that holds the dataset")
        return root

"""From datasets to batches: sources, splits, preprocessing, cached cases, patches."""

from medseg.data.decathlon import Decathlon
from medseg.data.folder import Folder
from medseg.data.mni152 import Mni152
from medseg.data.phantom import Phantom
from medseg.data.preprocess import MinMax, PerChannel, Unchanged, Window, ZScore
from medseg.data.tcia import Tcia

__all__ = [
    "Decathlon",
    "Folder",
    "MinMax",
    "Mni152",
    "PerChannel",
    "Phantom",
    "Tcia",
    "Unchanged",
    "Window",
    "ZScore",
]

"""Swap, train, measure and compare the blocks of a U-Net for medical image segmentation.

Rooms, each importing only from those above it:

=============  ==================================================================================
errors, files  what went wrong and which exit code it has; files that are whole or absent
build          Hydra's objects from an allow-list
record         one run as plain data: the contract between training and the report
blocks         the parts a network is made of: convolutions, units, resamplings (torch only)
volumes        NIfTI in and out, geometry decided once, pictures of slices
metrics        overlap and surface distances in mm, checkerboard artifacts
models         networks made of blocks, their description as data, their cost
data           datasets, splits, preprocessing, batches
training       Lightning module, callbacks, checkpoints
inference      a trained network applied to volumes
runs           one run from configuration to record: plan, train, evaluate
report         records in, HTML, Markdown and CSV out (no torch)
cli            the door: `medseg train`, `medseg predict`, `medseg report`
=============  ==================================================================================
"""

__version__ = "0.1.0"

"""Swap, train, measure and compare the blocks of a U-Net for medical image segmentation.

Rooms, each importing only from those above it:

=============  ==================================================================================
errors, files  what went wrong and which exit code it has; files that are whole or absent
allocator      memory that the process keeps
machine        what a figure depends on besides the code: processor, versions, time
build          Hydra's objects from an allow-list
record         one run as plain data: the contract between training and the report
layers         modules that torch lacks or has slow: depthwise, deformable, pixel shuffle
blocks         the parts a network is made of: convolutions, units, resamplings, skips
volumes        NIfTI in and out, geometry decided once, pictures of slices
metrics        overlap and surface distances in mm, checkerboard artifacts
models         networks made of blocks, their description as data, their cost
data           datasets, splits, preprocessing, batches
training       Lightning module, callbacks, checkpoints
inference      a trained network applied to volumes
runs           one run from configuration to record: plan, train, evaluate
report         records in, HTML, Markdown and CSV out (no torch)
bench          every operator and network timed beside its reference
cli            the door: `medseg train`, `predict`, `report`, `operators`, `bench`
=============  ==================================================================================
"""

__version__ = "0.1.0"

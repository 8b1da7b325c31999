"""Swap, train, measure and compare the blocks of a U-Net for medical image segmentation.

Rooms, each importing only from those above it:

=============  ==================================================================================
errors, files  what went wrong and which exit code it has; files that are whole or absent
hardware       devices, number formats, threads, memory and versions
build          Hydra's objects from an allow-list
statistics     arms compared on the same cases, with trainings as a source of chance (no torch)
record         runs and ablations as plain data: the contract between training and the report
layers         modules that torch lacks or has slow: depthwise, deformable, pixel shuffle
arithmetic     what an operator or a network costs, needs and sees, without running it
algebra        operators as matrices, and operators that are others in disguise
blocks         the parts a network is made of: convolutions, units, resamplings, skips
volumes        NIfTI in and out, geometry decided once, pictures of slices
metrics        overlap and surface distances in mm, checkerboard artifacts
models         networks made of blocks, their description as data, their equivalents
data           datasets, splits, preprocessing, batches
training       Lightning module, callbacks, checkpoints
inference      a trained network applied to volumes
audit          a network's audit, layer by layer: know what you train
artifacts      what a trained network prints on cases: study, figures, claims
runs           one run from configuration to record: plan, train, evaluate
report         records in, a page, tables and verdicts out (no torch)
bench          every operator and network timed beside its reference
explain        operators and lectures worked through: formulas, figures, pages
budget         networks of equal cost, networks of a wanted reach
ablation       a grid of runs: planned, made equal, carried out, followed
cli            the door: `medseg --help` lists its commands
=============  ==================================================================================
"""

__version__ = "0.1.0"

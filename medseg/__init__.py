"""Swap, train, measure and compare the blocks of a U-Net for medical image segmentation.

Packages, each importing only from those above it (`docs/architecture.md` has the diagram):

==================  =============================================================================
errors              what went wrong, and the exit code of each kind
files, formatting   files that are whole or absent; numbers as text
hardware            devices, precision and versions
resources           cores and memory that the process may take
build               objects from a configuration, by an explicit list of classes
statistics          arms compared on the same cases, with trainings as a source of chance
plotting            one style for all figures
record              runs, ablations and the results of all measures as plain data
layers              modules that torch lacks or has slow
blocks              what stands in a network's slots
volumes             medical image files and their geometry
metrics             Dice, surface Dice and HD95 of a case
models              encoders, decoders, U-Nets, and networks as plain data
data                datasets, splits, preprocessing, batches
inference           a trained network applied to volumes
conversion          a trained network rewritten with other operators
export              a trained network as ONNX, torch.export or a MONAI bundle
checkerboard        measures of checkerboard patterns, in one registry
analysis            cost, memory and receptive field of a network, untrained
training            Lightning module, callbacks, checkpoints
experiment          runs and grids of runs: plan, train, evaluate
report              records to a page and tables
explain             one operator worked through
serving             a trained network behind HTTP
cli                 the commands; `medseg --help` lists them
==================  =============================================================================
"""

__version__ = "0.1.0"

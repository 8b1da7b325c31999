"""What of a run is measured for artifacts, as `artifacts` in the configuration says."""

import logging
from typing import Any

from torch import Tensor

from medseg.checkerboard.lattice import lattice_of
from medseg.checkerboard.study.study import Study
from medseg.data.patches import central_patch
from medseg.errors import ConfigError
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.training.artifact_trajectory import ArtifactTrajectory
from medseg.training.module import SegmentationModule

log = logging.getLogger(__name__)


def study_of(model: TrainedModel, predictor: Predictor, options: dict[str, Any]) -> Study | None:
    """Of the trained network; None if it does not upsample, so that there is nothing to measure."""
    try:
        return Study(
            predictor.network,
            model.card,
            overlap=predictor.overlap,
            shifts=options["shifts"],
            spun=options["cases"],
        )
    except ConfigError as error:
        log.info("%s", error)
        return None


def trajectory_of(
    module: SegmentationModule, image: Tensor, options: dict[str, Any]
) -> ArtifactTrajectory | None:
    """Of the network in training, on the middle of an image; None if there is none to follow."""
    if not options["follow"]:
        return None
    try:
        lattice = lattice_of(module.network, len(module.patch_size))
    except ConfigError:
        return None
    window = central_patch(image, module.patch_size)[None]
    return ArtifactTrajectory(module, window, lattice, options["shifts"])

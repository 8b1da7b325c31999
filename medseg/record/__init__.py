"""A run as plain data: the only thing that training tells the report."""

from medseg.record.artifacts import (
    ArtifactRecord,
    CaseArtifacts,
    DilatedArtifacts,
    Estimate,
    GradientArtifacts,
    LayerArtifacts,
    PhaseLocked,
)
from medseg.record.run import (
    FILE_NAME,
    SCHEMA,
    CaseRecord,
    Picture,
    RunRecord,
    Status,
    UpsamplingGain,
    finite,
)

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "ArtifactRecord",
    "CaseArtifacts",
    "CaseRecord",
    "DilatedArtifacts",
    "Estimate",
    "GradientArtifacts",
    "LayerArtifacts",
    "PhaseLocked",
    "Picture",
    "RunRecord",
    "Status",
    "UpsamplingGain",
    "finite",
]

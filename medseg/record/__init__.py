"""A run as plain data: the only thing that training tells the report."""

from medseg.record.ablation import PLAN_FILE, AblationPlan, Cell
from medseg.record.checkerboard import (
    ArtifactRecord,
    AxisSpectrum,
    CaseRow,
    Estimate,
    LayerRow,
    Measure,
    PhaseLocked,
    PhaseMap,
)
from medseg.record.identity import added_keys, content, data_digest, digest, is_place, leaves
from medseg.record.image_range import ImageRange
from medseg.record.metric import METRICS, Metric
from medseg.record.run import (
    FILE_NAME,
    SCHEMA,
    CaseRecord,
    Matched,
    Picture,
    RunRecord,
    Status,
    finite,
    from_plain,
)
from medseg.record.status import STATUS_FILE, RunStatus

__all__ = [
    "FILE_NAME",
    "METRICS",
    "PLAN_FILE",
    "SCHEMA",
    "STATUS_FILE",
    "AblationPlan",
    "ArtifactRecord",
    "AxisSpectrum",
    "CaseRecord",
    "CaseRow",
    "Cell",
    "Estimate",
    "ImageRange",
    "LayerRow",
    "Matched",
    "Measure",
    "Metric",
    "PhaseLocked",
    "PhaseMap",
    "Picture",
    "RunRecord",
    "RunStatus",
    "Status",
    "added_keys",
    "content",
    "data_digest",
    "digest",
    "finite",
    "from_plain",
    "is_place",
    "leaves",
]

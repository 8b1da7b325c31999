"""Single cases: which are shown and why, the same slices in every arm, a viewer in 3-D."""

from medseg.report.cases.section import CaseViews, case_views

__all__ = ["CaseViews", "case_views"]

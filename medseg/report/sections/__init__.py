"""The sections of the report, in their order; one function and one line here make another.

A section is a function `(ReportData) -> Section`, whose parts are text, tables and figures.
"""

from collections.abc import Callable, Sequence

from medseg.report.page import Section
from medseg.report.sections.arms import arms
from medseg.report.sections.cases import cases
from medseg.report.sections.checkerboard import checkerboard
from medseg.report.sections.costs import quality_and_cost
from medseg.report.sections.curves import curves
from medseg.report.sections.factors import factors
from medseg.report.sections.problems import problems
from medseg.report.sections.provenance import provenance
from medseg.report.sections.rules import rules
from medseg.report.sections.summary import summary
from medseg.report.sections.verdicts import verdicts
from medseg.report.study import ReportData

SECTIONS: Sequence[Callable[[ReportData], Section]] = (
    summary,
    verdicts,
    factors,
    arms,
    quality_and_cost,
    cases,
    curves,
    checkerboard,
    problems,
    provenance,
    rules,
)

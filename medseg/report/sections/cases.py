"""Single cases: how they spread, the same slices in every arm, and the 3-D viewer."""

from markupsafe import Markup

from medseg.report.cases import case_views
from medseg.report.page import Html, Section, environment
from medseg.report.study import ReportData

_BYTES = 8 * 2**20


def cases(data: ReportData) -> Section:
    """The cases of the first dataset that has a result."""
    first = data.studies[0].reference if data.studies else data.arms[0]
    views = case_views(data.arms, first.number, sorted(data.style), budget_bytes=_BYTES)
    page = environment().get_template("cases.html.j2").render(cases=views)
    return Section("Cases", [Html(Markup(page), views.scripts), views.worst], key="cases")

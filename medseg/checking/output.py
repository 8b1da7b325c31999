"""A checked dataset as tables, as CSV and as one page with slices of every case."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

import pandas as pd
from markupsafe import Markup

from medseg.checking.case import Seen
from medseg.checking.findings import SEVERITIES, Checked, Finding
from medseg.data.dataset import Dataset
from medseg.errors import ConfigError
from medseg.files import replacing, write_text
from medseg.formatting import TO, counted, first_of, one_line, percent, sizes
from medseg.planning.fingerprint import CaseFacts
from medseg.report.page import Html, Page, Section, environment, render_html
from medseg.report.tables import Cell, Table, number, table, to_csv, words

PAGE, FINDINGS, CASES = "check.html", "findings.csv", "cases.csv"
_ABOUT = (
    "Axial, coronal and sagittal, each where the label is largest, with the outlines of its "
    "classes; L, R, P and A are the patient’s left, right, back and front."
)


def write_check(checked: Checked, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Writes page and CSV; nothing of the dataset's is touched.

    Args:
        checked: With the pictures of its cases.
        folder: Outside the dataset.
        overwrite: Replace files whoever wrote them.

    Raises:
        ConfigError: the folder lies in the dataset, or a file there is not medseg's.
        ResourceError: it cannot be written.
    """
    require_outside(folder, checked.dataset.folder)
    texts = {
        folder / PAGE: _page(checked),
        folder / FINDINGS: to_csv(_finding_rows(checked.findings)),
        folder / CASES: to_csv(_case_rows(checked)),
    }
    with replacing(texts, overwrite=overwrite):
        for path, text in texts.items():
            write_text(path, text)
    return tuple(texts)


def require_outside(folder: Path, dataset: Path) -> None:
    """Refuses a folder of results in the dataset.

    Raises:
        ConfigError: it lies there.
    """
    if folder.resolve().is_relative_to(dataset.expanduser().resolve()):
        raise ConfigError(f"-o {folder} lies in the dataset, which stays as it is; name another")


def headline(dataset: Dataset) -> str:
    """Form, cases, channels and classes in a line."""
    patients = {case.patient for case in dataset.cases if case.patient}
    parts = [
        dataset.form,
        counted(len(dataset.cases), "case")
        + (f" of {counted(len(patients), 'patient')}" if patients else ""),
        f"{counted(dataset.in_channels, 'channel')} ({first_of(dataset.modalities)})",
        f"{len(dataset.classes)} classes ({first_of(dataset.classes)})"
        if len(dataset.classes) != 1
        else f"1 class ({dataset.classes[0]})",
    ]
    if dataset.folds:
        parts.append(f"{counted(len(dataset.folds), 'fold')} of {dataset.folds_from}")
    return one_line(", ".join(parts))


def classes_table(checked: Checked) -> Table:
    """How often each class is there, and how large it is."""
    facts = [each.facts for each in checked.seen if each.facts]
    rows = [_class_row(name, facts) for name in checked.dataset.classes]
    return table("Classes over the cases that could be read; medians with their range.", rows)


def _class_row(name: str, facts: list[CaseFacts]) -> Mapping[str, Cell | str]:
    having = [own for own in facts if own.voxels[name]]
    everywhere = sum(math.prod(own.size) for own in facts)
    voxels = sum(own.voxels[name] for own in having)
    volumes = [own.voxels[name] * math.prod(own.spacing) / 1000 for own in having]
    extents = list(zip(*(own.extents[name] for own in having), strict=True))
    return {
        "Class": words(name),
        "Cases": number(len(having), str),
        "Share of voxels": number(voxels / everywhere if everywhere else None, _share),
        "Volume, ml": number(
            median(volumes) if volumes else None, _short, _range(volumes) if volumes else ""
        ),
        "Extent, mm": number(
            max(map(median, extents)) if extents else None,
            lambda _: sizes(map(median, extents)),
            TO.join(sizes(map(end, extents)) for end in (min, max)) if len(having) > 1 else "",
        ),
    }


def _share(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.1 else percent(value)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _range(values: Iterable[float]) -> str:
    low, high = min(values := list(values)), max(values)
    return _short(low) if low == high else f"{_short(low)} … {_short(high)}"


def _finding_rows(findings: Iterable[Finding]) -> pd.DataFrame:
    rows = [(f.severity, " ".join(f.cases), f.text) for f in findings]
    return pd.DataFrame(rows, columns=["severity", "cases", "finding"])


def _case_rows(checked: Checked) -> pd.DataFrame:
    """One row per case × class; a case that could not be read has one."""
    rows = []
    for each in checked.seen:
        own, case = each.facts, each.case
        head = {"case": case.case_id, "patient": case.patient or "", "problem": each.problem}
        if own is None:
            rows.append(head)
            continue
        for axis, name in enumerate(("x", "y", "z")):
            head |= {f"size_{name}": own.size[axis], f"mm_{name}": own.spacing[axis]}
        head |= {"lowest": min(own.lowest), "highest": max(each.highest)}
        for name, voxels in own.voxels.items():
            extent = own.extents.get(name, ())
            extents = {f"extent_mm_{a}": mm for a, mm in zip("xyz", extent, strict=False)}
            rows.append(head | {"class": name, "voxels": voxels} | extents)
    return pd.DataFrame(rows)


def _page(checked: Checked) -> str:
    dataset = checked.dataset
    counts = [f"{n} {severity}" for severity, n in count_by_severity(checked.findings).items()]
    verdict = "It cannot be trained as it is." if checked.is_refused() else "It can be trained."
    findings = [
        {
            "Severity": words(finding.severity),
            "Cases": words(first_of(list(map(one_line, finding.cases)), 8)),
            "Finding and remedy": Cell(one_line(finding.text), finding.text, look="what"),
        }
        for finding in checked.findings
    ]
    about = "refuse: it cannot be trained; warn: look at it; repairable: read as it is meant"
    sections = [
        Section(
            "Findings",
            [verdict, table(about, findings) if findings else "Nothing was found."],
            key="findings",
        ),
        Section("Classes", [classes_table(checked)], key="classes"),
        Section("Cases", [_contact_sheet(checked)], key="contact"),
    ]
    title = f"Check of {one_line(dataset.name)}"
    return render_html(Page(title, " · ".join([headline(dataset), *counts])), sections)


def count_by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """Severity → how many findings have it, worst first."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    return counts


def _contact_sheet(checked: Checked) -> Html:
    found_in: dict[str, list[str]] = {}
    for finding in checked.findings:
        for case_id in finding.cases:
            found_in.setdefault(case_id, []).append(finding.severity)
    marks = [(each, found_in.get(each.case.case_id, [])) for each in checked.seen]
    marks.sort(key=lambda pair: min(map(SEVERITIES.index, pair[1]), default=len(SEVERITIES)))
    shots = [_shot(each, severities) for each, severities in marks]
    text = environment().get_template("contact.html.j2").render(shots=shots, about=_ABOUT)
    return Html(Markup(text))


def _shot(seen: Seen, severities: list[str]) -> dict[str, str]:
    own = seen.facts
    caption = f"{sizes(own.size)}, {sizes(own.spacing, 'mm')}" if own else one_line(seen.problem)
    return {
        "case": one_line(seen.case.case_id),
        "marks": ", ".join(dict.fromkeys(severities)),
        "caption": caption,
        "png": seen.picture,
    }

"""The files of a report: all made before the first is replaced."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from medseg.errors import ConfigError
from medseg.files import atomic_path, replacing
from medseg.formatting import counted
from medseg.record import METRICS
from medseg.report.arms import cell_name
from medseg.report.page import Page, render_html, render_markdown, vector_files
from medseg.report.sections import SECTIONS
from medseg.report.sections.arms import arms_table
from medseg.report.sections.verdicts import comparisons, verdict_table
from medseg.report.study import ReportData, collect
from medseg.report.tables import Table, to_csv, to_latex

_METRICS = [metric.title for metric in METRICS.values()]
_ARMS = ("Arm", "Runs", "Verdict", *_METRICS, "Parameters", "Training step")
_VERDICTS = ("Arm", "Verdict", *(f"Δ {title}" for title in _METRICS))
_VERDICTS += ("p", "p equal", "d", "Seeds", "Cases")
_LATEX_HEAD = """\
% Tables of a comparison of segmentation arms; \\input them into a document with
% \\usepackage{booktabs,longtable}"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what is worth saying on a terminal.

    Args:
        files: Everything that was written, the page first, the folder of figures last.
        headline: How many runs, arms and seeds.
        arms: The table of arms.
        unreadable: Each file that is neither record nor plan, with the reason.
    """

    files: tuple[Path, ...]
    headline: str
    arms: Table
    unreadable: Mapping[str, str]


def write_report(
    sources: Sequence[Path],
    target: Path,
    *,
    reference: str | None = None,
    margin: float | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes the page and, beside it, Markdown, CSV, LaTeX and its figures, of the same stem.

    Figures are SVG files in a folder `{stem}_figures`.

    All are made before the first is replaced, so that an error leaves an older report whole.

    Args:
        sources: Folders with runs and plans of ablations, or records.
        target: The page, ending in `.html`.
        reference: Label or number of the arm to compare with; by default the plan's, or the first.
        margin: Differences of Dice that do not matter; by default the plan's, or 0.01.
        overwrite: Whether files that medseg did not write are replaced.

    Raises:
        ConfigError: the target's name does not end in `.html`, a file is in the way, no arm
            is called like the reference, or a margin below 0.
        DataError: a source does not exist or holds no readable record.
        ResourceError: the folder cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"output={target}: the report is a page; give a name ending in .html")
    data = collect(sources, reference=reference, margin=margin)
    shown = arms_table(data)
    page, sections = _page(data), [section(data) for section in SECTIONS]
    texts = {
        target: render_html(page, sections),
        target.with_suffix(".md"): render_markdown(page, sections),
        target.with_suffix(".csv"): to_csv(values(data)),
        target.with_name(f"{target.stem}_comparisons.csv"): to_csv(comparisons(data)),
        target.with_suffix(".tex"): _latex(data, shown),
    }
    folder = target.with_name(f"{target.stem}_figures")
    texts |= {folder / name: text for name, text in vector_files(sections).items()}
    with replacing(texts, overwrite=overwrite), ExitStack() as stack:
        parts = {path: stack.enter_context(atomic_path(path)) for path in texts}
        for path, part in parts.items():
            part.write_bytes(texts[path].encode("utf-8", "replace"))
    return Report(
        files=tuple(dict.fromkeys(folder if p.parent == folder else p for p in texts)),
        headline=_headline(data),
        arms=shown,
        unreadable=data.unreadable,
    )


def values(data: ReportData) -> pd.DataFrame:
    """All runs in tidy form: one row per run × case × class × metric, with arm, seed, status.

    A run without metrics, and a missing cell of an ablation, keeps one row of its own, so that
    what is counted in this table is what was asked for.
    """
    columns = ["arm", "run", "status", "seed", "fold", "dataset", "digest", "record"]
    runs = [(arm.label, run) for arm in data.arms for run in arm.runs]
    heads = [
        (label, r.name, r.status, str(r.seed), _fold(r.fold), r.dataset, r.digest, r.source)
        for label, r in runs
    ]
    gaps = [
        (cell_name(c), plan.name, "missing", str(c.seed), _fold(c.fold), "", c.digest, "")
        for plan, c in data.missing
    ]
    lines = data.values.set_index("run")[["case", "class", "metric", "value"]]
    found = pd.DataFrame([*heads, *gaps], columns=columns).join(lines, on="record")
    return found.fillna({"case": "", "class": "", "metric": ""})


def _fold(fold: int | None) -> str:
    return "" if fold is None else str(fold)


def _page(data: ReportData) -> Page:
    datasets = dict.fromkeys(arm.dataset for arm in data.arms if arm.dataset)
    plans = dict.fromkeys(plan.name for plan in data.plans)
    kind = f"Ablation {', '.join(plans)}" if plans else "Segmentation report"
    about = [f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}", _headline(data)]
    about += [f"{len(data.unreadable)} unreadable"] if data.unreadable else []
    return Page(
        title=": ".join(filter(None, [kind, ", ".join(datasets)])),
        about=" · ".join(about),
        arms=[(arm.number, arm.label, data.style.get(arm.number)) for arm in data.arms],
    )


def _headline(data: ReportData) -> str:
    seeds = len({run.seed for run in data.runs})
    states = {"completed": data.states["completed"]} | data.without_result
    return (
        f"{counted(sum(states.values()), 'run')} "
        f"({', '.join(f'{n} {state}' for state, n in states.items())}) in "
        f"{counted(len(data.arms), 'arm')} with {counted(seeds, 'seed')}"
    )


def _latex(data: ReportData, shown: Table) -> str:
    """One table of the arms, and one of the comparisons by each metric and dataset."""
    tables = [to_latex(shown, _ARMS, "arms")]
    for place, study in enumerate(data.studies):
        for metric in study.observations:
            shown = verdict_table(study, metric)
            label = f"comparisons-{place}-{metric.removesuffix('_mm').replace('_', '-')}"
            tables.append(to_latex(shown, _VERDICTS, label, f"{shown.caption} ({study.dataset})"))
    return "\n\n".join([_LATEX_HEAD, *tables]) + "\n"

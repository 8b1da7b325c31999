"""The files of a report: all made before the first is replaced."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medseg.errors import ConfigError
from medseg.files import atomic_path, replacing
from medseg.report.cells import Table
from medseg.report.collect import collect
from medseg.report.latex import render_latex
from medseg.report.measures import Values
from medseg.report.page import contents
from medseg.report.pdf import render_pdf
from medseg.report.reference import Wish
from medseg.report.render import render_html, render_markdown
from medseg.report.sources import Unreadable
from medseg.report.studies import studies_of
from medseg.report.tidy import render_comparisons, render_values

AS_FOUND = Wish()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what is worth saying on a terminal."""

    html: Path
    markdown: Path
    csv: Path
    comparisons: Path
    latex: Path
    pdf: Path | None
    headline: str
    arms: Table
    problems: Table
    cautions: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that was written, the page first."""
        always = (self.html, self.markdown, self.csv, self.comparisons, self.latex)
        return (*always, self.pdf) if self.pdf else always


def write_report(
    sources: Sequence[Path],
    target: Path,
    *,
    wish: Wish = AS_FOUND,
    pdf: bool = False,
    overwrite: bool = False,
) -> Report:
    """Writes the page and, beside it, Markdown, two CSV files and LaTeX of the same stem.

    All are made before the first is replaced, so that an error leaves an older report whole.

    Args:
        sources: Folders with runs and plans of ablations, or records.
        target: The page, ending in `.html`.
        wish: Reference and margin, where the reader has one.
        pdf: Whether the page is also printed.
        overwrite: Whether files that medseg did not write are replaced.

    Raises:
        ConfigError: the target's name does not end in `.html`, a file is in the way, or a wish
            that cannot be met.
        DataError: a source does not exist or holds no readable record.
        ResourceError: the folder cannot be written, or nothing is there to print with.
    """
    target = Path(target)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"output={target}: the report is a page; give a name ending in .html")
    collection = collect(sources)
    values = Values(collection.arms)
    studies = studies_of(collection, values, wish)
    content = contents(collection, values, studies, date=datetime.now().astimezone())
    page = render_html(content)
    texts = {
        target: page,
        target.with_suffix(".md"): render_markdown(content),
        target.with_suffix(".csv"): render_values(collection),
        target.with_name(f"{target.stem}_comparisons.csv"): render_comparisons(studies),
        target.with_suffix(".tex"): render_latex(content),
    }
    made = {path: text.encode("utf-8", "replace") for path, text in texts.items()}
    html, markdown, csv, comparisons, latex = made
    printed = target.with_suffix(".pdf") if pdf else None
    if printed:
        made[printed] = render_pdf(page)
    with replacing(made, overwrite=overwrite), ExitStack() as stack:
        parts = {path: stack.enter_context(atomic_path(path)) for path in made}
        for path, part in parts.items():
            part.write_bytes(made[path])
    return Report(
        html=html,
        markdown=markdown,
        csv=csv,
        comparisons=comparisons,
        latex=latex,
        pdf=printed,
        headline=content["headline"],
        arms=content["arms"],
        problems=content["problems"],
        cautions=tuple(content["cautions"]),
        unreadable=collection.unreadable,
    )

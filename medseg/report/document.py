"""The report as HTML (self-contained), Markdown and CSV."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medseg.errors import ConfigError
from medseg.files import atomic_path
from medseg.record import RunRecord
from medseg.report import figures, measures, prose, tables
from medseg.report.artifact_table import artifact_table
from medseg.report.cells import Table, counted
from medseg.report.collect import Arm, Collection, collect
from medseg.report.sources import Unreadable
from medseg.report.summary import summarise

# Keeps the page below 20 MB however many cases were drawn.
_PICTURE_BYTES = 14 * 2**20
_PNG = b"\x89PNG\r\n\x1a\n"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what is worth saying on a terminal."""

    html: Path
    markdown: Path
    csv: Path
    headline: str
    arms: Table
    problems: Table
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture; width and height in pixels, as its header says."""

    png: str
    caption: str
    width: int
    height: int


def write_report(sources: Sequence[Path], target: Path) -> Report:
    """Writes `target` and, beside it, the same stem with `.md` and `.csv`.

    All three are made before the first is replaced, so that an error leaves an older report whole.

    Raises:
        ConfigError: the target's name does not end in `.html`.
        DataError: a source does not exist or holds no readable record.
        ResourceError: the folder cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"output={target}: the report is a page; give a name ending in .html")
    collection = collect(sources)
    content = contents(collection, date=datetime.now().astimezone())
    texts = {
        target: render_html(content),
        target.with_suffix(".md"): render_markdown(content),
        target.with_suffix(".csv"): render_csv(collection),
    }
    with ExitStack() as stack:
        parts = {path: stack.enter_context(atomic_path(path)) for path in texts}
        for path, part in parts.items():
            part.write_bytes(texts[path].encode("utf-8", "replace"))
    html, markdown, csv = texts
    return Report(
        html=html,
        markdown=markdown,
        csv=csv,
        headline=content["headline"],
        arms=content["arms"],
        problems=content["problems"],
        unreadable=collection.unreadable,
    )


def contents(collection: Collection, *, date: datetime) -> dict[str, Any]:
    """Everything that the templates show, as plain data."""
    arms, runs = collection.arms, collection.runs
    values = measures.Values(arms)
    dice = {arm.number: summary for arm in arms if (summary := values.summary(arm.number, "dice"))}
    means = {number: summary.mean for number, summary in dice.items() if summary.cases}
    style = figures.styles(arms, means)
    cost, costs = figures.cost_of(arms)
    points = [
        figures.Point(
            arm=number, cost=costs[number], dice=summary.mean, deviation=summary.deviation
        )
        for number, summary in dice.items()
    ]
    gallery, left_out = _gallery(arms)
    datasets = list(dict.fromkeys(arm.dataset for arm in arms if arm.dataset))
    finished = sum(run.record.status == "completed" for run in runs)
    seeds = len({run.record.seed for run in runs})
    return {
        "title": ": ".join(filter(None, ["Segmentation report", ", ".join(datasets)])),
        "date": f"{date:%d %B %Y, %H:%M %Z}",
        "headline": f"{counted(len(runs), 'run')} ({finished} completed) in "
        f"{counted(len(arms), 'arm')} with {counted(seeds, 'seed')}",
        "datasets": datasets,
        "missing_count": collection.missing_count,
        "unreadable_count": len(collection.unreadable),
        "summary": summarise(collection, values),
        "key": [(arm.number, arm.label, style.get(arm.number)) for arm in arms],
        "style": style,
        "arms": tables.arms_table(arms, values),
        "classes": tables.classes_table(arms, values),
        "problems": tables.problems_table(collection),
        "upsampling": tables.upsampling_table(arms),
        "artifacts": artifact_table(arms),
        "trajectories": [
            Markup(svg)
            for key, label in (
                ("dc_gain_mean", "DC-gain imbalance of mean features"),
                ("constant_response", "Constant response"),
                ("cycle_spin", "Cycle-spin residual"),
            )
            if (svg := figures.curve(arms, key, label, style, history=_artifact_history))
        ],
        "curves": [
            Markup(svg)
            for svg in (
                figures.curve(arms, "val_dice", "Validation Dice", style),
                figures.curve(arms, "train_loss", "Training loss", style),
            )
            if svg
        ],
        "scatter": Markup(figures.scatter(points, cost, style)),
        "highlights": figures.HIGHLIGHTS,
        "gallery": gallery,
        "pictures_left_out": left_out,
        "runs": [(arm, run) for arm in arms for run in arm.runs],
        "prose": prose,
    }


def render_html(content: dict[str, Any]) -> str:
    """The page; the policy in its head forbids everything that is not inside the file."""
    page = Environment(
        loader=PackageLoader("medseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.get_template("report.html.j2").render(
        **content, css=Markup(_asset("report.css")), script=Markup(script), script_hash=digest
    )


def render_markdown(content: dict[str, Any]) -> str:
    """The same tables and sections without pictures; every value is escaped."""
    page = Environment(
        loader=PackageLoader("medseg.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else _escaped(str(value)),
    )
    page.filters["table"] = _markdown_table
    return page.get_template("report.md.j2").render(**content)


def render_csv(collection: Collection) -> str:
    """All runs in tidy form.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    runs = [(arm.label, run) for arm in collection.arms for run in arm.runs]
    frame = measures.long_form(runs, collection.missing)
    for column in frame.columns.drop(["value", "seed"]):
        frame[column] = [
            f"'{text}" if text.startswith(_FORMULA) else text for text in frame[column]
        ]
    return frame.to_csv(index=False, lineterminator="\n")


def _gallery(arms: Sequence[Arm]) -> tuple[list[tuple[str, list[tuple[Arm, Shot | None]]]], int]:
    """Per case one row with a shot of every arm of its dataset, and how many rows do not fit."""
    rows: dict[tuple[str, int], dict[int, Shot]] = {}
    for arm in arms:
        run = next((run for run in arm.counted if run.record.pictures), None)
        seen: dict[str, int] = {}
        for picture in run.record.pictures if run else []:
            place = seen[picture.case] = seen.get(picture.case, -1) + 1
            if shot := _shot(picture.png, picture.caption):
                rows.setdefault((picture.case, place), {})[arm.number] = shot
    gallery, size = [], 0
    for (case, _), shots in rows.items():
        size += sum(len(shot.png) for shot in shots.values())
        if size > _PICTURE_BYTES:
            break
        known = {arm.dataset for arm in arms if arm.number in shots}
        kin = [arm for arm in arms if arm.counted and arm.dataset in known]
        gallery.append((case, [(arm, shots.get(arm.number)) for arm in kin]))
    return gallery, len(rows) - len(gallery)


def _artifact_history(record: RunRecord) -> list[dict[str, float | None]]:
    return record.artifact_history


def _shot(png: str, caption: str) -> Shot | None:
    try:
        header = base64.b64decode(png, validate=True)[:24]
    except (binascii.Error, ValueError):
        return None
    if len(header) < 24 or not header.startswith(_PNG):
        return None
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    return Shot(png=png, caption=caption, width=width, height=height)


def _asset(name: str) -> str:
    folder = resources.files("medseg.report") / "templates"
    return (folder / name).read_text(encoding="utf-8").strip()


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))


def _markdown_table(table: Table) -> Markup:
    heads = [f"{c.title} ({c.unit})" if c.unit else c.title for c in table.columns]
    marks = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [
        [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row.cells]
        for row in table.rows
    ]
    lines = [map(_escaped, heads), marks, *(map(_escaped, row) for row in rows)]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))

"""A written report, read back."""

import csv
from html.parser import HTMLParser
from pathlib import Path

from medseg.report import Report
from medseg.report.tables import Cell, Table


def file(report: Report, end: str) -> Path:
    (found,) = [path for path in report.files if path.name.endswith(end)]
    return found


def text(report: Report) -> str:
    return file(report, ".md").read_text(encoding="utf-8")


def rows(report: Report, end: str = "report.csv") -> list[dict[str, str]]:
    with file(report, end).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def line(report: Report, start: str) -> str:
    (found,) = [found for found in text(report).splitlines() if found.startswith(start)]
    return found


def column(table: Table, title: str) -> list[Cell]:
    return list(table.frame[title])


class Page(HTMLParser):
    def __init__(self, report: Report):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = report.files[0].read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

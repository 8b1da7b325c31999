"""A written report, read back."""

import csv
from html.parser import HTMLParser

from medseg.report import Report


def text(report: Report) -> str:
    return report.markdown.read_text(encoding="utf-8")


def rows(report: Report) -> list[dict[str, str]]:
    with report.csv.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def line(report: Report, start: str) -> str:
    (found,) = [found for found in text(report).splitlines() if found.startswith(start)]
    return found


class Page(HTMLParser):
    def __init__(self, report: Report):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = report.html.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

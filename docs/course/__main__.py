"""Builds the pages of the course: `cd docs && python -m course [FOLDER]`."""

import sys
from pathlib import Path

from course import LECTURES, load_lecture
from course.page import lecture_page
from medseg.files import write_text

BUILD = Path(__file__).parent / "build"


def main(arguments: list[str]) -> None:
    """Writes `lecture_N.html` for every lecture into a folder (default: docs/course/build)."""
    folder = Path(arguments[0]) if arguments else BUILD
    for number in LECTURES:
        page = folder / f"lecture_{number}.html"
        write_text(page, lecture_page(load_lecture(number)))
        print(page)


if __name__ == "__main__":
    main(sys.argv[1:])

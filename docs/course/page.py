"""The page of a lecture: one file that fetches nothing."""

from importlib import resources
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined
from jinja2.loaders import ChoiceLoader
from markupsafe import Markup

from course.fact import Lecture
from medseg.explain.formulas import formulas
from medseg.explain.page import _prefixes, _shown, _worked


def lecture_page(lecture: Lecture) -> str:
    """HTML with every topic of the lecture: text, worked operators, figures and facts."""
    prefixes = _prefixes()
    topics = [
        {
            "topic": topic,
            "works": [
                _worked(work, [f for f in formulas(work.operator) if not f.advanced], prefixes)
                for work in topic.works
            ],
            "pictures": [_shown(picture, prefixes) for picture in topic.pictures],
        }
        for topic in lecture.topics
    ]
    page = Environment(
        loader=ChoiceLoader(
            [FileSystemLoader(Path(__file__).parent), PackageLoader("medseg.explain")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("medseg.explain").joinpath("templates", "page.css")
    return page.get_template("lecture.html.j2").render(
        lecture=lecture, topics=topics, css=Markup(css.read_text(encoding="utf-8"))
    )

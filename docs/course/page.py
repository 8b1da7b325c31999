"""The page of a lecture: one file that fetches nothing."""

from course.fact import Fact, Lecture, Topic
from course.figures import draw_operator
from medseg.explain.operator import Operator
from medseg.explain.page import formula_table, sizes_text
from medseg.formatting import counted
from medseg.report.page import Figure, Page, Section, render_html
from medseg.report.tables import Cell, Table, table


def lecture_page(lecture: Lecture) -> str:
    """HTML with every topic of the lecture: text, worked operators, figures and facts."""
    agree = len(lecture.facts) - len(lecture.errata)
    summary = f"Every formula and number of the notes is computed again: {agree} of "
    summary += f"{counted(len(lecture.facts), 'value')} agree, {len(lecture.errata)} do not."
    sections = [Section(f"Lecture {lecture.number}", [summary], key="summary")]
    if lecture.errata:
        found = table(
            "Printed values that are wrong, or hold by a convention that is not said",
            [_erratum(fact) for fact in lecture.errata],
        )
        sections.append(Section("Errata", [found], key="errata"))
    topics = enumerate(lecture.topics, start=1)
    sections += [_topic(topic, f"topic-{number}") for number, topic in topics]
    return render_html(Page(lecture.title, about=lecture.author), sections)


def _topic(topic: Topic, key: str) -> Section:
    works = [_work(operator, figures) for operator, figures in topic.works]
    return Section(topic.title, [*topic.text, *works, *topic.pictures, _facts(topic)], key=key)


def _work(operator: Operator, figures: tuple[str, ...]) -> Section:
    about = f"{operator.about.meaning} Sizes: {sizes_text(operator)}."
    drawn = [
        Figure(draw_operator(operator, name), title=f"{operator.title}, {name}", wide=True)
        for name in figures
    ]
    return Section(operator.title, [about, formula_table(operator), *drawn])


def _facts(topic: Topic) -> Table:
    rows = [
        {
            "Printed": Cell(fact.printed, fact.printed, fact.place, "what"),
            "Computed": Cell(fact.shown, fact.shown, fact.how, "what"),
            "Verdict": Cell("erratum" if fact.erratum else "agrees"),
        }
        for fact in topic.facts
    ]
    return table("What the notes print, and what is computed", rows)


def _erratum(fact: Fact) -> dict[str, Cell | str]:
    reason = fact.erratum[:1].upper() + fact.erratum[1:]
    return {
        "Printed": Cell(fact.printed, fact.printed, fact.place, "what"),
        "Why it is wrong": Cell(reason, reason, look="what"),
    }

"""Pages of the course stand alone: nothing from outside, every topic and fact, own ids."""

import re

import pytest
from course import LECTURES, load_lecture
from course.page import lecture_page
from markupsafe import escape


@pytest.mark.parametrize("number", LECTURES)
def test_the_page_of_a_lecture_holds_all_of_it_and_needs_nothing_else(number: int) -> None:
    lecture = load_lecture(number)
    page = lecture_page(lecture)
    assert all(link.startswith("#") for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
    assert "https://" not in page
    assert "http://" not in page
    for topic in lecture.topics:
        assert str(escape(topic.title)) in page
    for fact in lecture.facts:
        assert str(escape(fact.printed)) in page

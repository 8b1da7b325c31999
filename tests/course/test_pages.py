"""Pages of the course stand alone: nothing from outside, every topic and fact, own ids."""

import re

import pytest
from course import LECTURES, load_lecture
from course.page import lecture_page


@pytest.mark.parametrize("number", LECTURES)
def test_the_page_of_a_lecture_holds_all_of_it_and_needs_nothing_else(number: int) -> None:
    lecture = load_lecture(number)
    page = lecture_page(lecture)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert all(link.startswith("#") for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
    assert not re.search(r"https?://|<script", page)
    assert page.count("<section") == len(lecture.topics) + bool(lecture.slips)
    assert page.count("agrees</td>") == len(lecture.facts) - len(lecture.slips)

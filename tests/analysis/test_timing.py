"""Calls take turns; the slow and the broken do not stop the others."""

from collections.abc import Callable

from medseg.analysis.timing import SLOW_MILLISECONDS, SLOW_ROUNDS, cpu_milliseconds, interleave


class FakeClock:
    """Every call takes as long as it returns."""

    def __init__(self, milliseconds: dict[str, float]):
        self.durations, self.order = milliseconds, []

    def __call__(self, call: Callable[[], None]) -> float:
        call()
        return self.durations[self.order[-1]]

    def calls(self) -> dict[str, Callable[[], None]]:
        return {name: lambda name=name: self.order.append(name) for name in self.durations}


def test_candidates_take_turns_after_one_round_that_does_not_count() -> None:
    clock = FakeClock({"a": 1.0, "b": 2.0, "c": 3.0})
    outcomes = interleave(clock.calls(), rounds=4, clock=clock)
    assert clock.order == ["a", "b", "c"] * 5
    assert {key: o.samples_milliseconds for key, o in outcomes.items()} == {
        "a": (1.0,) * 4,
        "b": (2.0,) * 4,
        "c": (3.0,) * 4,
    }


def test_a_slow_call_leaves_after_three_rounds() -> None:
    clock = FakeClock({"slow": SLOW_MILLISECONDS + 1, "fast": 1.0})
    outcomes = interleave(clock.calls(), rounds=7, clock=clock)
    assert len(outcomes["slow"].samples_milliseconds) == SLOW_ROUNDS
    assert len(outcomes["fast"].samples_milliseconds) == 7


def test_a_broken_call_says_why_and_the_others_are_measured() -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel\nand a stack")

    outcomes = interleave(
        {"broken": broken, "good": lambda: None}, rounds=2, clock=cpu_milliseconds
    )
    assert outcomes["broken"].failure == "no such kernel"
    assert outcomes["broken"].samples_milliseconds == ()
    assert len(outcomes["good"].samples_milliseconds) == 2
    assert min(outcomes["good"].samples_milliseconds) >= 0

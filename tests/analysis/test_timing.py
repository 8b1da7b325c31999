"""Calls take turns; the slow and the broken do not stop the others."""

from collections.abc import Callable

import pytest

from medseg.analysis.timing import SLOW_MILLISECONDS, SLOW_ROUNDS, CpuClock, interleave
from medseg.analysis.timing_results import STEP, Case, Row, Series, figures


class FakeClock:
    """Every call takes as long as it returns."""

    def __init__(self, milliseconds: dict[str, float]):
        self.durations, self.order = milliseconds, []

    def milliseconds(self, call: Callable[[], None]) -> float:
        call()
        return self.durations[self.order[-1]]

    def calls(self) -> dict[str, Callable[[], None]]:
        return {name: lambda name=name: self.order.append(name) for name in self.durations}


def series(*samples: float, work: str = STEP, layout: str = "contiguous") -> Series:
    return Series(work, "fp32", layout, samples)


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

    outcomes = interleave({"broken": broken, "good": lambda: None}, rounds=2, clock=CpuClock())
    assert outcomes["broken"].failure == "no such kernel"
    assert outcomes["broken"].samples_milliseconds == ()
    assert len(outcomes["good"].samples_milliseconds) == 2
    assert min(outcomes["good"].samples_milliseconds) >= 0


def test_median_and_spread_are_those_of_the_samples() -> None:
    own = series(4.0, 1.0, 3.0, 2.0, 5.0)
    assert own.median_milliseconds == 3
    assert own.spread == pytest.approx((4 - 2) / 3)
    assert series(7.0).spread == 0


def test_the_faster_layout_by_the_whole_step_is_shown() -> None:
    row = Row(
        name="native",
        batch=1,
        series=(
            series(5.0),
            series(4.0, layout="channels last"),
            series(1.0, work="forward"),
            series(2.0, work="forward", layout="channels last"),
        ),
    )
    assert row.best_layout("fp32") == "channels last"
    best = row.best("forward", "fp32")
    assert best is not None
    assert best.samples_milliseconds == (2.0,)
    assert row.best_layout("bf16") is None


def test_figures_follow_their_definitions() -> None:
    reference = Row(name="standard", batch=2, series=(series(12.0),), macs=6_000_000_000)
    row = Row(name="cheap", batch=2, series=(series(4.0),), macs=1_000_000_000)
    case = Case("size", "standard", (reference, row))
    own = figures(row, case, ["fp32", "bf16"])
    assert own.speed_up == {"fp32": 3.0}
    assert own.mac_ratio == 6
    assert own.realised_saving == {"fp32": 0.5}
    assert own.milliseconds_per_gmac == {"fp32": 2.0}
    assert figures(reference, case, ["fp32"]).speed_up == {"fp32": 1.0}

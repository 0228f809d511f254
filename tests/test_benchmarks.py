"""What `python bench` makes of what it measures: pairs, medians, bars, exponents."""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from ratios import Row, Taken, exponent, told, turns  # noqa: E402


def test_ways_take_turns_and_each_round_is_a_pair() -> None:
    order: list[str] = []
    slow, fast = iter([99.0, 2.0, 9.0, 8.0]), iter([1.0, 1.0, 2.0, 4.0])

    def way(name: str, seconds: float) -> Taken:
        order.append(name)
        return Taken(seconds, 3 * seconds if name == "slow" else seconds)

    found = turns({"slow": lambda: way("slow", next(slow)), "fast": lambda: way("fast", next(fast))}, rounds=3)
    assert order == ["slow", "fast"] * 4
    row = found.row("slow / fast", "slow", "fast", "at least 2 times", least=2)
    assert row.rounds == [2, 4.5, 2]  # the first round is not counted
    assert row.processor == [6, 13.5, 6]
    assert row.cells("wall")[2:] == ["2.00 times (2.00 to 4.50)", "6.00", "yes"]
    assert found.row("", "slow", "fast", "", scale=10).rounds == [20, 45, 20]
    assert found.seconds("slow") == 8


def test_what_does_not_time_itself_is_timed() -> None:
    found = turns({"sum": lambda: sum(range(100_000))}, rounds=2, warm=False)
    assert found.given == {"sum": 4999950000}
    assert all(taken.processor > 0 and taken.wall > 0 for taken in found.taken["sum"])


@pytest.mark.parametrize(
    ("bar", "clock", "held"),
    [
        ({"most": 1.1}, "wall", False),
        ({"most": 1.1}, "processor", True),
        ({"least": 1.1}, "wall", True),
        ({"least": 1.1}, "processor", False),
        ({}, "wall", None),
    ],
)
def test_a_bar_is_held_by_the_median_of_one_clock(bar: dict[str, float], clock: str, held: bool | None) -> None:
    assert Row("", "", [1.0, 1.2, 9.0], [1.0, 1.05, 9.0], **bar).held(clock) is held


def test_what_has_one_clock_goes_by_it() -> None:
    assert Row("", "", [48], most=200, unit="MB").cells("processor") == ["", "", "48 MB", "", "yes"]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.2])
def test_exponents_of_planted_costs_are_found(power: float) -> None:
    sizes = [1_000, 10_000, 100_000]
    assert exponent(sizes, [0.003 * size**power for size in sizes]) == pytest.approx(power)


def test_numbers_are_told_in_three_digits() -> None:
    assert [told(v) for v in (0, 12_345, 0.0, 1.0, 2.789, 50.37, 2563.9, 0.0123, 6e-7)] == [
        *("0", "12,345", "0.00", "1.00", "2.79", "50.4", "2,564", "0.0123", "6e-07")
    ]


def test_the_table_has_a_line_for_each_row_and_for_what_is_not_installed() -> None:
    command = runpy.run_path(str(BENCH / "__main__.py"), run_name="command")
    assert all((BENCH / f"{name}.py").is_file() for name in command["PARTS"])
    how = {"quick": "False", "photos": "/some/folder", "weights": "None"}
    found = {"how": how, "machine": "2 cores", "date": "2026-01-01T00:00:00+00:00", "load": 0.5}
    rows = [asdict(Row("ours / theirs", "at most 1.1 times", [1.2], [1.0], most=1.1))]
    page = command["table"]({"a": {**found, "rows": rows}, "b": {"rows": [], "skipped": "x is not installed"}}, "wall")
    assert "On 2 cores.\n" in page
    assert "random weights: photos." in page
    assert "| a | ours / theirs | at most 1.1 times | 1.20 times | 1.00 | **no** |\n" in page
    assert page.endswith("| b | not measured: x is not installed | | | | |")

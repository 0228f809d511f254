"""Estimates: what known costs come to, what fits into so many minutes, and progress that never falls."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.api.audit import perform
from cuescope.core.errors import CueError
from cuescope.core.findings import Conclusion
from cuescope.core.progress import Whole
from cuescope.core.verdicts import Headline, Verdict
from cuescope.instruments.base import Instrument, Misfit, Observer
from cuescope.runs import cost, minutes
from cuescope.runs.estimate import Cost, Estimate, Forecast, Meter, Work
from cuescope.runs.options import AuditOptions
from cuescope.runs.plan import Plan
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from toys import Images, MeanColor, colored, toy


class Clock:
    """Time that goes on only where a toy says that it took some."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@dataclass(frozen=True)
class Slow(Instrument):
    """Takes a known time for each part of its work."""

    images: int = 40
    start_s: float = 3.0
    each_s: float = 0.5
    conclude_s: float = 0.25
    question: ClassVar[str] = "How slow?"
    reference: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"id": pl.String}

    def start(self, classifier):
        CLOCK.now += self.start_s
        return Observer(self.rows)

    def rows(self, batch):
        CLOCK.now += self.each_s * len(batch)
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        return self.table({"id": batch.ids})

    def conclude(self, rows, about):
        CLOCK.now += self.conclude_s * rows.height
        return Conclusion(verdict=Verdict("yes", "Seen."))


@dataclass(frozen=True)
class Line(Slow):
    """One that answers a headline question."""

    headline: ClassVar[Headline | None] = Headline("Is it slow?", "n")


@dataclass(frozen=True)
class Fails(Slow):
    def rows(self, batch):
        raise ValueError("never")


@dataclass(frozen=True)
class Unfit(Slow):
    def start(self, classifier):
        raise Misfit("it does not fit")


def tasks(*tools: Instrument, count: int = 400) -> list[Task]:
    classifier, images = toy(MeanColor()), Images(colored(count))
    return [Task(classifier, images, tool, (0, 1, 2)) for tool in tools]


def test_known_costs_are_found() -> None:
    (task,) = tasks(Slow())
    estimate = cost.measure([task], clock=CLOCK)
    found = estimate.cost("toy", "test_cost")
    assert (found.start, found.each) == pytest.approx((3.0, 0.5))
    assert found.end(40) == pytest.approx(0.25 * 40)
    assert estimate.took < 60


def test_what_fails_or_does_not_fit_costs_nothing_and_stops_nothing() -> None:
    for tool in (Fails(), Unfit()):
        found = cost.measure(tasks(tool), clock=CLOCK).cost("toy", "test_cost")
        assert found.each == 0.0


def test_a_trial_leaves_no_trace(tmp_path: Path) -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    (task,) = tasks(Slow())
    before = [p.clone() for p in task.classifier.module.parameters()]
    cost.measure([task], clock=CLOCK)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(torch.equal(a, b) for a, b in zip(before, task.classifier.module.parameters(), strict=True))


def test_a_run_that_goes_on_is_estimated_for_what_is_left_only(tmp_path: Path) -> None:
    (task,) = tasks(Slow(images=400))
    estimate, out = cost.measure([task], clock=CLOCK), Run(tmp_path)
    whole = cost.forecast(estimate, [task], [out.cell(task.identity)])
    out.cell(task.identity).chunks.write(0, task.instrument.empty)
    rest = cost.forecast(estimate, [task], [out.cell(task.identity)])
    assert whole.total - rest.total == pytest.approx(256 * 0.5, rel=0.01)
    run([task], out)
    done = cost.forecast(estimate, [task], [out.cell(task.identity)])
    assert done.instruments == {}
    assert done.shared == 0.0


def test_the_dearest_are_named_first_and_of_short_work_only_the_whole_is_said() -> None:
    many = {f"tool{i}": 10.0 * i for i in range(1, 9)}
    first, second = Forecast(many, 5.0, 1.0).lines()
    assert "6 min" in first
    assert second.index("tool8") < second.index("tool7")
    assert "tool1 " not in second
    assert "5 more 66 s" in second
    assert len(Forecast({"tool": 3.0}).lines()) == 1


def planned(estimate: Estimate, *tools: Instrument, count: int = 400) -> Plan:
    made = tasks(*tools, count=count)
    return Plan(made, [], [], [made[0].classifier], [("images", made[0].images)], {})


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instruments of one file have one name: here each has its class's."""
    for module in (cost, minutes):
        monkeypatch.setattr(module, "name_of", lambda tool: type(tool).__name__.lower())


def test_the_images_fit_into_the_minutes_and_headlines_are_cut_last(named: None) -> None:
    estimate = Estimate({("toy", "slow"): Cost(each=1.0), ("toy", "line"): Cost(each=1.0)})
    plan = planned(estimate, Slow(images=100), Line(images=100))
    assert minutes.choose(estimate, plan, 4).images == {}
    some = minutes.choose(estimate, plan, 2.5)
    assert some.images == {"slow": 50}
    assert (some.limits, some.seconds) == ({}, 150.0)
    assert any("slow 100 -> 50 images: intervals about 1.4 times as wide" in text for text in some.said)
    few = minutes.choose(estimate, plan, 0.5)
    assert few.images["slow"] == 5
    assert 20 <= few.images["line"] <= 25
    assert few.limits["images"] <= 104  # the same share of them
    assert few.seconds <= 30


def test_under_the_fewest_images_it_says_what_that_takes(named: None) -> None:
    estimate = Estimate({("toy", "slow"): Cost(each=60.0)})
    found = minutes.choose(estimate, planned(estimate, Slow(images=100)), 1)
    assert found.images == {"slow": 5}
    assert found.limits == {"images": 5}
    assert "5 min" in found.said[0]


def options(out: Path, **more: Any) -> AuditOptions:
    return AuditOptions.of(images=Images(colored(60)), only=["accuracy", "ablation"], out=out, **more)


def test_the_choice_is_recorded_and_a_second_run_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, limits = toy(MeanColor()), {"images": 12}

    def chosen(estimate: Estimate, plan: Plan, asked: float) -> minutes.Chosen:
        return minutes.Chosen(minutes.key_of(plan, asked), asked, 1.0, {}, limits, ["toys 60 -> 12 images"])

    monkeypatch.setattr(minutes, "choose", chosen)
    first = perform([model], options(tmp_path / "run", minutes=1.0))
    assert first.run.finding("accuracy")["top1"].n == 12
    assert first.run.manifest["chosen"]["limits"] == {"images": 12}
    assert "toys 60 -&gt; 12 images" in (tmp_path / "run" / "report.html").read_text()
    monkeypatch.setattr(cost, "measure", lambda *_: pytest.fail("timed again"))
    monkeypatch.setattr(minutes, "choose", lambda *_: pytest.fail("chosen again"))
    assert not perform([model], options(tmp_path / "run", minutes=1.0)).fresh


def test_other_minutes_are_chosen_anew() -> None:
    plan = planned(Estimate(), Slow())
    keys = {minutes.key_of(plan, 1.0), minutes.key_of(plan, 2.0), minutes.key_of(planned(Estimate(), Line()), 1.0)}
    assert len(keys) == 2 + (type(Slow()).__module__ != type(Line()).__module__)
    recorded = minutes.choose(Estimate(), plan, 1.0).recorded()
    assert minutes.earlier(recorded, minutes.key_of(plan, 1.0)) is not None
    assert minutes.earlier(recorded, minutes.key_of(plan, 2.0)) is None


@pytest.mark.parametrize("asked", [0, -1.0, float("nan"), float("inf")])
def test_minutes_that_are_none_are_refused(asked: float) -> None:
    with pytest.raises(CueError, match="minutes"):
        options(Path("out"), minutes=asked).check([toy(MeanColor())])


def test_progress_never_falls_ends_at_all_and_names_what_is_at_work(tmp_path: Path) -> None:
    events: list[tuple[int, int, str, Whole | None]] = []

    def show(done: int, total: int, what: str, whole: Whole | None = None, /) -> None:
        events.append((done, total, what, whole))

    said: list[str] = []
    perform([toy(MeanColor())], options(tmp_path / "run"), progress=show, say=said.append)
    wholes = [whole for *_, whole in events if whole]
    shares = [whole.share for whole in wholes]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5
    assert shares[-1] == 1.0
    assert all(w.share <= w.until <= 1.0 and w.left_s >= 0 for w in wholes)
    assert wholes[-1].left_s == pytest.approx(0.0, abs=1e-6)
    text = " ".join(what for _, _, what, _ in events)
    for at_work in ("reading toys", "accuracy of toy", "concluding accuracy", "drawing accuracy", "report"):
        assert at_work in text
    assert any("will take about" in line for line in said)
    assert any("report.html" in line for line in said)


def test_the_time_left_follows_what_has_come() -> None:
    clock, shown = Clock(), []
    meter = Meter(lambda *event: shown.append(event[3]), Estimate(), 100.0, clock)
    meter.begin("first", 50.0)
    clock.now = 100.0  # twice as long as estimated
    meter.begin("second", 50.0)
    assert shown[0].left_s == pytest.approx(100.0)
    assert 90 < shown[1].left_s <= 100
    assert (shown[1].share, shown[1].until) == (0.5, 1.0)


def test_an_instrument_that_failed_is_not_waited_for() -> None:
    meter = Meter(lambda *_: None, Estimate(), 100.0, Clock())
    meter.begin("first", 20.0)
    meter.drop(60.0)
    meter.begin("last", 20.0)
    assert (meter.shown, meter.total) == (0.5, 40.0)


def test_work_that_is_a_part_of_the_whole_moves_it() -> None:
    shown: list[Whole] = []
    meter = Meter(lambda *event: shown.append(event[3]), Estimate(), 100.0, Clock())
    part = meter.part(40.0)
    for done in (0, 5, 10):
        part(done, 10, "texturizing")
    meter.begin("after", 60.0)
    assert [whole.share for whole in shown] == pytest.approx([0.0, 0.2, 0.4, 0.4])


def test_work_counts_what_is_left_and_concludes_from_all() -> None:
    assert Work(("a", "b"), Cost(1.0, 2.0, 3.0, 0.5, 4.0), 10, 4).seconds == 1 + 8 + 3 + 5 + 4
    assert replace(Cost(), each=1.0).end(5) == 0.0

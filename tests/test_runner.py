"""The runner: resume, failure, sharing, and what makes a cell its own."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.core import stats
from cuescope.core.errors import CueError
from cuescope.core.findings import Conclusion, Panel
from cuescope.core.verdicts import Verdict
from cuescope.data.derived import DerivedSet
from cuescope.instruments.accuracy import Accuracy
from cuescope.instruments.base import Instrument, Misfit, Observer, gallery
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.runs import task as sizes
from cuescope.runs.estimate import Meter
from cuescope.runs.pictures import Pictures
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from toys import Broken, Images, MeanColor, colored, toy, tried_on


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "CHUNK", 8)
    monkeypatch.setattr(sizes, "BATCH", 4)


@dataclass(frozen=True)
class Failing(Instrument):
    """Raises at one image."""

    at: str = "0010.png"
    question: ClassVar[str] = "Does it fail?"
    reference: ClassVar[str] = "none"
    needs: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"id": pl.String}

    def observe(self, classifier, batch):
        if self.at in batch.ids:
            raise ValueError("cannot observe this one")
        return self.table({"id": batch.ids})

    def conclude(self, rows, about):
        return Conclusion((stats.share("n", rows.height, 1000),), verdict=Verdict("yes", "Seen."))


@dataclass(frozen=True)
class Few(Instrument):
    """Looks at a few images, shows them, and remembers the sizes of its batches and its clean logits."""

    images: int = 6
    seed: int = 0
    question: ClassVar[str] = "What do a few images say?"
    reference: ClassVar[str] = "none"
    needs: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"id": pl.String, "label": pl.Int32, "logit": pl.Float32, "batch": pl.Int32}

    def start(self, classifier):
        if self.seed == 13:
            raise Misfit(f"{classifier.name} is afraid of 13")
        return Observer(self.rows, facts={"classes": len(classifier.classes)})

    def rows(self, batch):
        size = [len(batch)] * len(batch)
        return self.table(
            {"id": batch.ids, "label": batch.labels.numpy(), "logit": batch.logits[:, 0].numpy(), "batch": size}
        )

    def conclude(self, rows, about):
        return Conclusion(
            (stats.share("n", rows.height, 1000),), verdict=Verdict("yes", f"{about.facts['classes']} classes.")
        )

    def examples(self, rows):
        return rows["id"].head(3).to_list()

    def illustrate(self, classifier, batch, rows):
        assert torch.equal(torch.tensor(rows["logit"].to_list()), batch.logits[:, 0]), "the same bits as in the rows"
        yield Panel("few", "images", "A few", figures=gallery(batch, batch.ids, str))


class Named(DerivedSet):
    """Every other image of a set, by another class order."""

    def __init__(self, images: Images) -> None:
        super().__init__(images, range(0, len(images), 2))
        self.name = "named"

    def changed(self, sample):
        return replace(sample, label=2 - sample.label)

    def hashed(self):
        return "named", ()


class Counting(MeanColor):
    """Counts the images that pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, pixels):
        self.seen.append(len(pixels))
        return super().forward(pixels)


def tasks(images: Images, *instruments: object, module=None, name: str = "toy") -> list[Task]:
    classifier = toy(module or MeanColor(), name=name)
    return [Task(classifier, images, instrument, (0, 1, 2)) for instrument in instruments]


def findings(path: Path) -> dict[str, str]:
    return {p.parent.name: p.read_text() for p in sorted(path.glob("cells/*/finding.json"))}


def test_all_images_are_seen_once_and_in_order(tmp_path: Path) -> None:
    images = Images(colored(21))
    cells = run(tasks(images, Accuracy(), ShiftStability()), Run.create(tmp_path))
    assert [cell.status for cell in cells] == ["done", "done"]
    for cell in cells:
        assert cell.rows()["id"].to_list() == [s.id for s in images.samples]
    # Two instruments share one decoding; those that illustrate read a few again.
    assert 21 <= images.reads <= 21 + 8 + 4


def test_killed_and_started_again_gives_the_same_bytes(tmp_path: Path) -> None:
    images = Images(colored(40))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(tasks(images, Accuracy(), ShiftStability()), Run.create(whole))

    def stop(done: int, total: int, what: str) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tasks(images, Accuracy(), ShiftStability()), Run.create(cut), meter=Meter(stop))
    kept = {p: p.stat().st_mtime_ns for p in cut.glob("cells/*/rows/*.parquet")}
    assert len(kept) == 4, "the first two chunks of both were finished"
    before = images.reads
    run(tasks(images, Accuracy(), ShiftStability()), Run.create(cut))
    assert images.reads - before <= 24 + 12, "the finished chunks were not read again"
    assert findings(cut) == findings(whole)
    assert len(findings(cut)) == 2
    assert all(p.stat().st_mtime_ns == written for p, written in kept.items())


def test_ctrl_c_within_a_chunk_keeps_the_full_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "CHUNK", 40)
    images, asked = Images(colored(40), bad=[6]), (Accuracy(), Few(images=14))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(tasks(images, *asked), Run.create(whole))
    for stopped_at in (12, 8, 16):

        def stop(done: int, total: int, what: str, *_: object, at: int = stopped_at) -> None:
            if what == "reading toys" and done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tasks(images, *asked), Run.create(cut), meter=Meter(stop))
    kept = {p.parent.parent.name.split(".")[2]: p.name for p in cut.glob("cells/*/begun/*.parquet")}
    assert kept == {"accuracy": "000000-000028.parquet", "test_runner": "000000-000008.parquet"}
    before = images.reads
    observed: list[str] = []
    monkeypatch.setattr(Accuracy, "observe", watched(Accuracy.observe, observed))
    run(tasks(images, *asked), Run.create(cut))
    assert observed == [s.id for s in images.samples[28:]]
    assert images.reads - before < 40 + 3 + 12
    assert findings(cut) == findings(whole)
    for one in whole.glob("cells/*/rows/*.parquet"):
        assert pl.read_parquet(one).equals(pl.read_parquet(cut / one.relative_to(whole)))
    assert not list(cut.rglob("begun")), "what was kept of finished chunks is removed"
    out = Run.create(cut)
    assert out.write_skipped({"toys": (images.digest, ())}) == {"toys": 1}


def interrupted(at: int) -> Any:
    """A tracer that raises once, at this line of those that take images and write them."""
    lines = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith(("runs/reader.py", "runs/chunks.py")):
            return None
        lines += event == "line"
        if lines == at:
            lines += 1
            raise KeyboardInterrupt
        return trace

    return trace


def test_ctrl_c_at_any_line_changes_nothing(tmp_path: Path) -> None:
    images, before = Images(colored(10)), sys.gettrace()
    run(tasks(images, Accuracy()), Run.create(tmp_path / "whole"))
    for at in range(1, 10_000, 3):
        cut = tmp_path / str(at)
        sys.settrace(interrupted(at))
        try:
            run(tasks(images, Accuracy()), Run.create(cut))
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        finally:
            sys.settrace(before)
        run(tasks(images, Accuracy()), Run.create(cut))
        assert findings(cut) == findings(tmp_path / "whole"), at
        for one in (tmp_path / "whole").glob("cells/*/rows/*.parquet"):
            assert one.read_bytes() == (cut / one.relative_to(tmp_path / "whole")).read_bytes(), at
        assert not list(cut.rglob("begun")), at
        if not stopped:
            break
    assert at > 100


def test_a_chunk_that_was_kept_to_its_end_is_seen_again(tmp_path: Path) -> None:
    """No image of it would come by to finish it."""
    images = Images(colored(10))
    (cell,) = run(tasks(images, Accuracy()), Run.create(tmp_path))
    whole = findings(tmp_path)
    last = next((tmp_path / "cells").glob("*/rows/000001.parquet"))
    cell.chunks.keep(1, 2, pl.read_parquet(last))
    last.unlink()
    (cell.folder / "finding.json").unlink()
    (again,) = run(tasks(images, Accuracy()), Run.create(tmp_path))
    assert again.rows().height == 10
    assert findings(tmp_path) == whole


def watched(observe: Any, ids: list[str]) -> Any:
    def noting(self: Any, classifier: Any, batch: Any) -> Any:
        ids.extend(batch.ids)
        return observe(self, classifier, batch)

    return noting


def test_what_was_kept_and_is_damaged_is_seen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(colored(16))
    (task,) = tasks(images, Accuracy())
    cell = Run.create(tmp_path).cell(task.identity)
    cell.chunks.keep(0, 4, task.instrument.empty)
    path = next(tmp_path.glob("cells/*/begun/*.parquet"))
    path.write_bytes(path.read_bytes()[:20])
    (cell,) = run([task], Run.create(tmp_path))
    assert cell.rows()["id"].to_list() == [s.id for s in images.samples]


def test_batches_are_kept_after_a_while_without_being_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuescope.runs.reader.KEEP_S", 0.0)
    kept = []

    def show(done: int, total: int, what: str, *_: object) -> None:
        kept.append(len(list(tmp_path.glob("cells/*/begun/*.parquet"))))

    run(tasks(Images(colored(16)), Accuracy()), Run.create(tmp_path), meter=Meter(show))
    assert max(kept) == 1
    assert not list(tmp_path.rglob("begun"))


def test_progress_moves_with_each_instrument(tmp_path: Path) -> None:
    said = []
    meter = Meter(lambda done, total, what, *_: said.append((done, total, what)))
    run(tasks(Images(colored(8)), Accuracy(), Few(images=6)), Run.create(tmp_path), meter=meter)
    assert [event for event in said if event[2] == "accuracy of toy"] == [
        (0, 8, "accuracy of toy"),
        (4, 8, "accuracy of toy"),
    ]
    assert (4, 6, "test_runner of toy") in said


def test_a_chunk_that_one_cell_lost_is_done_again_for_that_cell_alone(tmp_path: Path) -> None:
    images = Images(colored(16))
    cells = run(tasks(images, Accuracy(), ShiftStability()), Run.create(tmp_path))
    first, second = (cell.folder / "rows" / "000001.parquet" for cell in cells)
    told = findings(tmp_path)
    stamp = second.stat().st_mtime_ns
    first.unlink()
    (cells[0].folder / "finding.json").unlink()
    run(tasks(images, Accuracy(), ShiftStability()), Run.create(tmp_path))
    assert first.is_file()
    assert second.stat().st_mtime_ns == stamp
    assert findings(tmp_path) == told


def test_a_finished_run_reads_nothing(tmp_path: Path) -> None:
    images = Images(colored(9))
    run(tasks(images, Accuracy()), Run.create(tmp_path))
    reads = images.reads
    cells = run(tasks(images, Accuracy()), Run.create(tmp_path))
    assert images.reads == reads
    assert cells[0].status == "done"


def test_a_failing_instrument_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    images = Images(colored(16))
    failing, accuracy = run(tasks(images, Failing(), Accuracy()), Run.create(tmp_path))
    assert failing.status == "failed"
    assert "cannot observe this one" in failing.error
    assert failing.why == "ValueError: cannot observe this one"
    assert accuracy.status == "done"
    assert failing.rows().height == 8, "the chunk before the failure is kept"


def test_a_failing_model_fails_its_own_cells_only(tmp_path: Path) -> None:
    images = Images(colored(8))
    both = tasks(images, Accuracy(), module=Broken(), name="broken") + tasks(images, Accuracy())
    broken, good = run(both, Run.create(tmp_path))
    assert broken.status == "failed"
    assert "this model is broken" in broken.why
    assert good.status == "done"


def test_logits_that_are_no_numbers_fail_with_the_image_named(tmp_path: Path) -> None:
    class Nan(MeanColor):
        def forward(self, pixels):
            return super().forward(pixels) * (1.0 if tried_on(pixels) else float("nan"))

    (cell,) = run(tasks(Images(colored(4)), Accuracy(), module=Nan()), Run.create(tmp_path))
    assert cell.status == "failed"
    assert cell.why == "ValueError: toy gives logits that are NaN or infinite, as for '0000.png'"


def test_unreadable_images_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    images = Images(colored(20), bad=[3, 17])
    out = Run.create(tmp_path)
    (cell,) = run(tasks(images, Accuracy()), out)
    assert cell.rows().height == 18
    assert out.write_skipped({"toys": (images.digest, ())}) == {"toys": 2}
    assert [(s["id"], s["why"]) for s in out.skipped()] == [
        ("0003.png", "the file is truncated"),
        ("0017.png", "the file is truncated"),
    ]


class KilledError(BaseException):
    """No handler of errors catches a kill."""


@pytest.mark.parametrize("bad", [3, 6])
def test_what_was_skipped_is_not_lost_by_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """In the moment in which it is noted, before a chunk is full and when it is."""

    def killed(*_: object) -> None:
        raise KilledError

    images = Images(colored(20), bad=[bad])
    with monkeypatch.context() as patch:
        patch.setattr(Run, "note_skipped", killed)
        with pytest.raises(KilledError):
            run(tasks(images, Accuracy()), Run.create(tmp_path))
    out = Run.create(tmp_path)
    (cell,) = run(tasks(images, Accuracy()), out)
    assert cell.rows().height == 19
    assert out.write_skipped({"toys": (images.digest, ())}) == {"toys": 1}


def test_no_readable_image_is_one_clear_error(tmp_path: Path) -> None:
    images = Images(colored(4), bad=range(4))
    with pytest.raises(CueError, match="none of the 4 images of 'toys' can be read"):
        run(tasks(images, Accuracy()), Run.create(tmp_path))


def test_parameters_weights_and_images_make_their_own_cells(tmp_path: Path) -> None:
    images, out = Images(colored(8)), Run.create(tmp_path)
    (task,) = tasks(images, Accuracy())
    same = out.cell(task.identity).folder
    assert out.cell(tasks(images, Accuracy())[0].identity).folder == same
    others = [
        replace(task, instrument=Accuracy(bins=4)),
        replace(task, images=Images(colored(9))),
        tasks(images, Accuracy(), module=Broken())[0],
    ]
    assert len({same, *(out.cell(t.identity).folder for t in others)}) == 4


def test_a_bounded_instrument_sees_evenly_spread_images(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Bounded(Failing):
        images: int = 4

    images = Images(colored(40))
    (cell,) = run(tasks(images, Bounded(at="")), Run.create(tmp_path))
    seen = [int(name[:4]) for name in cell.rows()["id"]]
    assert [i // 10 for i in seen] == [0, 1, 2, 3], "one of each quarter"
    assert len({i % 10 for i in seen}) > 1, "not at equal steps, which could meet one class only"


def test_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(colored(17))
    (a,) = run(tasks(images, ShiftStability()), Run.create(tmp_path / "a"))
    monkeypatch.setattr(sizes, "BATCH", 1)
    (b,) = run(tasks(images, ShiftStability()), Run.create(tmp_path / "b"))
    numbers = [name for name, kind in a.rows().schema.items() if kind.is_float()]
    assert a.rows().drop(numbers).equals(b.rows().drop(numbers))
    for name in numbers:
        assert a.rows()[name].to_list() == pytest.approx(b.rows()[name].to_list(), abs=1e-6)


def test_a_finding_survives_the_disk(tmp_path: Path) -> None:
    images = Images(colored(12))
    (cell,) = run(tasks(images, Accuracy()), Run.create(tmp_path))
    assert cell.finding
    stored = json.loads((cell.folder / "finding.json").read_text())
    assert stored == cell.finding.to_json() | {key: stored[key] for key in ("cell", "chunks", "checksum")}
    for panel in cell.finding.panels:
        for figure in panel.figures:
            assert (cell.folder / figure.file).is_file()


def test_each_file_is_decoded_once_and_each_clean_pass_run_once(tmp_path: Path) -> None:
    images = Images(colored(40))
    for number, which in enumerate([["unbound"], ["few"], ["few", "derived", "unbound", "other few"]]):
        images.reads = 0
        net = Counting()
        classifier = toy(net)
        seen = classifier.network.seen
        del seen[:]
        asked = {
            "unbound": Task(classifier, images, Accuracy(), (0, 1, 2)),
            "few": Task(classifier, images, Few(), (0, 1, 2)),
            "other few": Task(classifier, images, Few(images=10), (0, 1, 2)),
            "derived": Task(classifier, Named(images), Few(images=7), (0, 1, 2)),
        }
        cells = run([asked[name] for name in which], Run.create(tmp_path / str(number)))
        assert [cell.status for cell in cells] == ["done"] * len(which)
        union = 6 if which == ["few"] else 40
        assert (images.reads, sum(seen)) == (union, union)


def test_bounded_instruments_get_full_batches(tmp_path: Path) -> None:
    images = Images(colored(40))
    few, accuracy = run(tasks(images, Few(images=6), Accuracy()), Run.create(tmp_path))
    assert few.rows()["batch"].to_list() == [4, 4, 4, 4, 2, 2]
    assert accuracy.rows().height == 40


def test_a_derived_set_has_its_own_labels(tmp_path: Path) -> None:
    images = Images(colored(12))
    classifier = toy(MeanColor())
    task = Task(classifier, Named(images), Few(images=100), (0, 1, 2))
    derived, plain = run([task, Task(classifier, images, Few(images=100), (0, 1, 2))], Run.create(tmp_path))
    label = dict(plain.rows().select("id", "label").iter_rows())
    assert dict(derived.rows().select("id", "label").iter_rows()) == {
        images.id(i): 2 - label[images.id(i)] for i in range(0, 12, 2)
    }


def test_killed_bounded_instruments_go_on_to_the_same_bytes(tmp_path: Path) -> None:
    images = Images(colored(60), bad=[5, 33])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(tasks(images, Few(images=20), Accuracy(), Few(images=9)), Run.create(whole))
    for stopped_at in (12, 28, 44):

        def stop(done: int, total: int, what: str, at: int = stopped_at) -> None:
            if done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tasks(images, Few(images=20), Accuracy(), Few(images=9)), Run.create(cut), meter=Meter(stop))
    run(tasks(images, Few(images=20), Accuracy(), Few(images=9)), Run.create(cut))
    assert findings(cut) == findings(whole)
    for one in whole.glob("cells/*/rows/*.parquet"):
        assert pl.read_parquet(one).equals(pl.read_parquet(cut / one.relative_to(whole)))


def test_of_a_large_set_the_shown_images_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pictures, "SMALL", 5)
    images = Images(colored(12))
    run(tasks(images, Few(images=6)), Run.create(tmp_path))
    assert images.reads == 6 + 3


def test_no_more_images_are_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, classifier = Images(colored(12)), toy(MeanColor())
    (samples, _), *_ = images.stream([range(12)])
    seen = classifier.see([sample for _, sample in samples])
    each = samples[0][1].pixels.nbytes + seen.pixels[0].numel()
    monkeypatch.setattr(Pictures, "BYTES", 3 * each)
    pictures = Pictures(images, [np.arange(12)], small=True)
    pictures.keep(classifier, dict(samples), seen)
    assert list(pictures.samples) == [0, 1, 2]
    found = pictures.of(classifier, images, [1, 7])
    assert found is not None
    assert [sample.id for sample in found[1]] == [images.id(1), images.id(7)]
    assert list(pictures.samples) == [0, 1, 2, 7], "of the batch that is seen again, only what is shown"
    assert torch.equal(found[0].logits, seen.logits[[1, 7]])


def test_without_room_the_shown_images_are_seen_in_their_batch_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Pictures, "BYTES", 0)
    images = Images(colored(12))
    (cell,) = run(tasks(images, Accuracy()), Run.create(tmp_path / "a"))
    assert cell.status == "done"
    (cell,) = run(tasks(images, Few(images=6)), Run.create(tmp_path / "b"))
    assert cell.status == "done", cell.error


def test_a_misfit_does_not_apply_and_says_why(tmp_path: Path) -> None:
    images = Images(colored(12))
    odd, good = run(tasks(images, Few(seed=13), Few(images=2)), Run.create(tmp_path))
    assert (odd.status, odd.why) == ("not applicable", "toy is afraid of 13")
    assert odd.finding.why == "toy is afraid of 13"
    assert good.status == "done"
    odd, good = run(tasks(images, Few(seed=13), Few(images=2)), Run.create(tmp_path))
    assert (odd.status, good.status) == ("not applicable", "done")


def test_where_nothing_fits_it_is_an_error_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(CueError, match="toy is afraid of 13"):
            run(tasks(Images(colored(4)), Few(seed=13)), Run.create(tmp_path))

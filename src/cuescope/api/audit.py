"""The main job: classifiers and a folder of images in, a run folder with every finding and a report out."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from cuescope import report
from cuescope.classifier.describe import describe
from cuescope.core.errors import StoppedError
from cuescope.core.files import write_json
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.core.provenance import now, versions
from cuescope.core.wording import counted
from cuescope.data.images import ImageSet
from cuescope.instruments import presets
from cuescope.instruments.base import name_of
from cuescope.instruments.registry import questions
from cuescope.report import notebook  # noqa: F401  what an audit returns shows itself
from cuescope.runs import cost, engines, minutes
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons import pairs, stored
from cuescope.runs.comparisons.paired import verdicts
from cuescope.runs.estimate import Estimate, Forecast, Meter
from cuescope.runs.inputs import open_inputs
from cuescope.runs.options import AuditOptions, with_options
from cuescope.runs.plan import Plan, find_classifiers, find_instruments, plan_of, with_series
from cuescope.runs.reach import reopen
from cuescope.runs.runner import run, spread
from cuescope.runs.store import SCHEMA, Run
from cuescope.runs.task import Task

MADE = ("classes.json", "comparisons.json", "pairs.json", "report.html", "skipped.csv")
"""What is made of the cells. The manifest, written last, holds a hash of each."""


class Audit(NamedTuple):
    """An audit that came to its end: its run folder, and whether anything was left to do."""

    run: Run
    fresh: bool
    failed: list[Cell]
    concluded: bool = True
    """False of a shard: there is nothing to read yet."""


@with_options(lambda name, kind, meaning: Any)
def audit(*models: Any, command: str = "", progress: Progress | None = None, **options: Any) -> Run:
    """What cues do these classifiers use? Every instrument on every classifier, into the run folder `out`.

    `models` are names ("timm/resnet50.a1_in1k"), nn.Modules or Classifiers; the options are those of `cuescope audit`,
    which its --help describes, dashes written as underscores. `images` must be given; it and the other inputs that are
    images may be image sets too. `only` (names) and `also` (files) are sequences of instruments; `settings` sets
    parameters by "instrument.parameter". A run that was stopped goes on where it was; one that is finished is only
    read. Writes `report.html` beside the findings.

    Raises CueError for anything the user can mend, before the first batch where that is possible.

    >>> run = audit(my_module, images="photos/")      # doctest: +SKIP
    >>> run.finding("accuracy")["top1"].interval      # doctest: +SKIP
    """
    chosen = AuditOptions.of(**options)
    chosen.check(models)
    return perform(models, chosen, command, progress).run


def perform(
    models: Sequence[Any],
    options: AuditOptions,
    command: str = "",
    progress: Progress | None = None,
    say: Say | None = None,
    meter: Meter | None = None,
) -> Audit:
    """`audit` with options that were checked; the result also has what failed and whether anything was to be done.

    `say` is told, line by line, what is loaded, what is assumed and how long it will take; `meter` is of the work that
    the audit is a part of, where that was estimated and said already.
    """
    tell = say or silent
    asked = find_instruments(options)
    sets = open_inputs(options.inputs, options.most_images, progress=progress or quiet)
    folder, models, part = Run.create(options.out), with_series(models, asked), options.part
    with folder.locked(part), engines.threads(options):
        previous = folder.manifest
        tell(f"loading {counted(len(models), 'classifier')}")
        classifiers = find_classifiers(models, options)
        plan, estimate, chosen = plan_of(asked, classifiers, sets, options), meter.estimate if meter else None, None
        if options.minutes is not None:
            chosen = minutes.earlier(previous.get("chosen"), minutes.key_of(plan, options.minutes))
            if chosen is None:
                estimate = estimate or cost.measure(plan.tasks, options.workers)
                chosen = minutes.choose(estimate, plan, options.minutes)
            sets = open_inputs(options.inputs, options.most_images, chosen.limits)
            plan = plan_of(chosen.instruments(asked), classifiers, sets, options)
        with folder.alone(part):
            cells = [folder.cell(task.identity, task.answers) for task in plan.all_tasks]
            for (task, why), cell in zip(plan.unmet, cells[len(plan.tasks) :], strict=True):
                if not (cell.concluded and cell.why == why):
                    cell.write_finding(task.inapplicable(why))
            reopen(folder, plan.tasks, cells[: len(plan.tasks)])
            if _committed(previous, cells, folder):
                return Audit(folder, False, [])
            started = time.perf_counter()
            folder.manifest = _manifest(plan, options, command, previous)
            if chosen:
                folder.manifest["chosen"] = chosen.recorded()
            seconds = {cell["folder"]: cell["seconds"] for cell in previous.get("cells", ())}
            for cell in cells:
                cell.seconds = seconds.get(f"cells/{cell.folder.name}", 0.0)
            # From now on the run is not finished, whatever an earlier one has left: the last manifest is what commits.
            folder.write_manifest()
        for line in _opening(plan, options, folder.place):
            tell(line)
        there = {path.parent.name for path in folder.path.glob("cells/*/finding.json")}
        if others := len(there - {cell.folder.name for cell in cells}):
            kept = f"{counted(others, 'answer')} of another audit {'is' if others == 1 else 'are'} kept"
            tell(
                f"  {kept} in {folder.place}, not in this report: the command that asked makes its page again, at once"
            )
        for line in chosen.said if chosen else ():
            tell(f"  {line}")
        try:
            if meter is None:
                meter = _measured(plan, cells, options, progress, say, estimate) if progress or say else Meter()
            asked_of = cells[: len(plan.tasks)]
            if options.engine == "inline" and not part:
                run(plan.tasks, folder, asked_of, workers=options.workers, meter=meter)
            else:
                engine = engines.here(plan.tasks, folder, options.workers)
                if options.engine != "inline":
                    names = [cell.folder.name for cell in asked_of]
                    engine = engines.elsewhere(models, replace(options, out=folder.path), sets, chosen, names)
                spread(plan.tasks, folder, asked_of, engine, meter, part)
        except KeyboardInterrupt:
            do = "run the same command again: it goes on where it stopped, every full batch is kept"
            raise StoppedError("interrupted", do=do) from None
        finally:
            # Finished or not, so that a report can be made of what there is.
            with folder.alone(part):
                _gather(folder, plan, cells, started)
        failed = [cell for cell in cells if cell.status == "failed"]
        if part:
            meter.end()
            return Audit(folder, True, failed, concluded=False)
        _finish(folder, plan, meter)
        if away := sum(len(folder.out_of_reach(images.digest)) for _, images in plan.sets):
            tell(f"{counted(away, 'image')} out of reach: the same command sees them when they are there again")
        return Audit(folder, True, failed)


def forecast(models: Sequence[Any], options: AuditOptions) -> tuple[Estimate, Forecast]:
    """What does the rest of this audit cost? Of options that were checked; nothing is written."""
    asked, sets = find_instruments(options), open_inputs(options.inputs, options.most_images)
    classifiers = find_classifiers(with_series(models, asked), options)
    tasks, folder = plan_of(asked, classifiers, sets, options).tasks, Run.create(options.out)
    cells = [folder.cell(task.identity) for task in tasks]
    estimate = cost.measure(_left(tasks, cells), options.workers)
    return estimate, cost.forecast(estimate, tasks, cells)


def _left(tasks: Sequence[Task], cells: Sequence[Cell]) -> list[Task]:
    return [task for task, cell in zip(tasks, cells, strict=True) if not cell.concluded]


def _measured(
    plan: Plan,
    cells: Sequence[Cell],
    options: AuditOptions,
    progress: Progress | None,
    say: Say | None,
    estimate: Estimate | None,
) -> Meter:
    """Say how long what is left will take, from an estimate or a trial; the meter of it."""
    show, cells = progress or quiet, cells[: len(plan.tasks)]
    if estimate is None:
        show(0, 0, "timing a few images")
        estimate = cost.measure(_left(plan.tasks, cells), options.workers)
    shard = options.part[1] if options.part else 0
    found = cost.forecast(estimate, plan.tasks, cells, engines.processes(options), shard)
    if say:
        for line in found.lines():
            say(line)
    return Meter(show, estimate, found.total)


def _opening(plan: Plan, options: AuditOptions, place: str) -> list[str]:
    """What is looked at, what is assumed of it, what is asked, and where the answer will be."""
    said = []
    for classifier in plan.classifiers:
        height, width = classifier.preprocessing.size
        named = " that were not named" if classifier.classes.name == "numbered" else ""
        said.append(f"{classifier.name}: {len(classifier.classes):,} classes{named}, {height} x {width} px")
        said += [f"  {assumed}" for assumed in classifier.assumed]
    for role, images in plan.sets:
        of = "" if role == "images" else f" ({role})"
        said.append("; ".join([f"{images.name}{of}: {counted(len(images), 'image')}", *images.notes]))
        said += [f"  {assumed}" for assumed in plan.matched[role]]
    asked = dict.fromkeys(name_of(task.instrument) for task in plan.tasks)
    of_preset = "" if options.only else f", those of --preset {options.preset}"
    said.append(f"asks {counted(len(asked), 'instrument')}{of_preset}; the report will be {place}/report.html")
    return said


def _committed(manifest: Mapping[str, Any], cells: Sequence[Cell], folder: Run) -> bool:
    """Whether the run is finished with exactly these cells, and what was made of them is still what was written."""
    concluded = {cell["folder"] for cell in manifest.get("cells", ()) if cell["status"] in ("done", "not applicable")}
    made: Mapping[str, str] = manifest.get("made", {})
    return (
        bool(manifest.get("finished"))
        and concluded == {f"cells/{cell.folder.name}" for cell in cells}
        and all(cell.concluded for cell in cells)
        and all(folder.digest(name) == digest for name, digest in made.items())
    )


def _manifest(plan: Plan, options: AuditOptions, command: str, previous: Mapping[str, Any]) -> dict[str, Any]:
    asked = [task.instrument for task in plan.all_tasks]
    left_out = () if options.only else presets.left_out(options.preset)
    return {
        "schema": SCHEMA,
        **versions("cuescope"),
        "command": command or "cuescope.audit(" + ", ".join(repr(c.name) for c in plan.classifiers) + ", ...)",
        "created": previous.get("created", now()),
        "finished": None,
        "seconds": float(previous.get("seconds", 0.0)),
        "environment": {
            "python": platform.python_version(),
            **versions("torch", "torchvision", "timm"),
            "device": str(plan.classifiers[0].device),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "image_sets": [_describe_set(role, images, plan.matched[role]) for role, images in plan.sets],
        "classifiers": [describe(classifier) for classifier in plan.classifiers],
        "cells": [],
        "unasked": plan.unasked,
        "preset": {"name": "" if options.only else options.preset, "left_out": questions(left_out)},
        "questions": {name_of(instrument): instrument.question for instrument in asked},
        "order": {name_of(instrument): instrument.order for instrument in asked},
        "headlines": {name_of(i): asdict(i.headline) for i in asked if i.headline},
    }


def _gather(folder: Run, plan: Plan, cells: Sequence[Cell], started: float) -> None:
    """Write what was found of the images and the classifiers, and the manifest, not finished yet."""
    manifest = folder.manifest
    manifest["cells"] = [cell.summary() for cell in cells]
    manifest["seconds"] = round(manifest["seconds"] + time.perf_counter() - started, 2)
    lost = folder.write_skipped({images.name: (images.digest, images.skipped) for _, images in plan.sets})
    for described in manifest["image_sets"]:
        described["skipped"] = lost[described["name"]]
    # The names of the classes of each class space, so that rows can be read without any model.
    spaces = {classifier.classes.name: classifier.classes for classifier in plan.classifiers}
    own = (task for task in plan.all_tasks if task.instrument.own_classes)
    spaces |= {f"images {task.images.name}": task.classes for task in own}
    write_json(folder.path / "classes.json", {name: list(space.names) for name, space in spaces.items()})
    folder.write_manifest()


def _finish(folder: Run, plan: Plan, meter: Meter) -> None:
    """Compare, write the report, and commit."""
    half = meter.estimate.finish / 2
    meter.begin("comparing", half)
    write_json(folder.path / "comparisons.json", {"comparisons": verdicts([folder])})
    asked = [task.instrument for task in plan.tasks]
    found = pairs.findings([folder], asked=asked, progress=lambda done, total, what, *_: meter.begin(what))
    stored.write(folder, found, [name_of(tool) for tool in asked if tool.compares])
    folder.manifest["finished"] = now()
    meter.begin("writing the report", half)
    report.write([folder], folder.path / "report.html")
    folder.manifest["made"] = {name: folder.digest(name) for name in MADE}
    folder.write_manifest()
    meter.end()


def _describe_set(role: str, images: ImageSet, matched: Sequence[str]) -> dict[str, Any]:
    return {
        "name": images.name,
        "role": role,
        "source": images.source or images.name,
        "count": len(images),
        "skipped": 0,
        "knows": sorted(images.knows),
        "notes": [*images.notes, *matched],
        "digest": images.digest,
    }

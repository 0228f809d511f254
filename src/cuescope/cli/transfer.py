"""`cuescope transfer`: whose features serve a folder of images best, read out or fine-tuned to a detector?"""

from __future__ import annotations

import inspect
import json as json_module
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from cuescope.cli.audit import TYPED, settings
from cuescope.cli.models import numbers
from cuescope.cli.terminal import command_line, console, progress, say
from cuescope.runs.options import described, keywords

if TYPE_CHECKING:
    from cuescope.api.detect import Detection
    from cuescope.api.transfer import Transferred
    from cuescope.core.findings import Measure
    from cuescope.runs.comparisons.ranking import Ranked

transfer = App(
    name="transfer",
    help="Whose features serve your own classes, or objects, best? Several models ranked on a folder.",
    help_format="markdown",
)

TAKEN = (
    *("images", "labels", "training_images", "out", "limit", "settings"),
    *("preprocessing", "mean", "std", "size", "resize"),
    *("device", "precision", "batch_size", "workers"),
)
"""Of the options of an audit those that a transfer takes too."""
_COMMANDS = {
    "probe": "Learn linear read-outs of each layer from four fifths of the images, and tell the others.",
    "few-shot": "Learn from a few images of each class: 1, 2, 5 and so on, as far as there are.",
}


def _command(kind: Any, what: str) -> None:
    def run(*models: str, json: bool = False, **given: Any) -> int:
        given["settings"] = settings(given.get("settings") or ())
        given = {key: value for key, value in numbers(given).items() if value is not None}
        from cuescope.api.transfer import transfer as perform

        with progress() as show:
            found = perform(kind, *models, command=command_line(sys.argv[1:]), progress=show, say=say, **given)
        if json:
            print(json_module.dumps([_plain(one, found.cues) for one in found.ranking], indent=1))
        else:
            _print(found)
        for cell in found.audit.failed:
            say(
                f"failed: {cell.instrument} of {cell.classifier}: {cell.why} (traceback in {cell.folder / 'error.txt'})"
            )
        say(f"report: {found.run.place}/report.html")
        return 1 if found.audit.failed else 0

    options = {name: about for name, about in described().items() if name in TAKEN}
    options["out"] = (Path, Path("transfer"), options["out"][2])
    audited = Annotated[Path | None, Parameter(help="Run folder of an audit of these models: its cues stand beside.")]
    names = Annotated[str, Parameter(help="As for `cuescope audit`; they may have different classes.")]
    published = Annotated[str | None, Parameter(help="caltech101, caltech256: the published protocol and its values.")]
    as_json = Annotated[bool, Parameter(help="Print the ranking as JSON instead of a table.")]
    preset = inspect.Parameter("preset", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=published)
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("models", inspect.Parameter.VAR_POSITIONAL, annotation=names),
            *keywords(options, lambda name, kind, meaning: Annotated[TYPED.get(name, kind), Parameter(help=meaning)]),
            inspect.Parameter("audited", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=audited),
            *([preset] if kind == "few-shot" else []),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=as_json),
        ]
    )
    run.__doc__ = f"{what} The classes are the images' own."
    transfer.command(run, name=kind)


def _print(found: Transferred) -> None:
    """The models, the best first: their headline measures, the cues of an audit, and what each surely beats."""
    from rich.table import Column, Table

    from cuescope.report.draw import words

    every = [{m.name: m for m in one.measures.values() if m.headline} for one in found.ranking]
    every = [{**own, **found.cues.get(one.classifier, {})} for own, one in zip(every, found.ranking, strict=True)]
    labels = {m.name: m.label for own in every for m in own.values()}
    columns = [Column(label, overflow="fold", justify="right", min_width=11) for label in labels.values()]
    last = Column("surely more than", overflow="fold")
    table = Table("", Column(no_wrap=True), *columns, last, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for one, own in zip(found.ranking, every, strict=True):
        cells = []
        for m in (own.get(name) for name in labels):
            span = words.interval(m.interval, m.unit) if m else ""
            cells.append("" if m is None else words.value(m.value, m.unit) + (f"\n{span}" if span else ""))
        table.add_row(str(one.place), one.title, *cells, words.listed(one.beats) if one.beats else "")
    shown = console()
    shown.print(table)
    for one, own in zip(found.ranking, every, strict=True):
        for m in own.values():
            if m.value is None and m.why:
                shown.print(f"{one.title}: {m.label}: {m.why}")
    for m in found.along:
        told = f"{words.value(m.value, m.unit)} ({words.interval(m.interval, m.unit) or m.why})" if m.value else m.why
        shown.print(f"with {m.label}, over {m.n or len(found.ranking)} models: {told}")


def _plain(one: Ranked, cues: Mapping[str, Mapping[str, Measure]]) -> dict[str, Any]:
    every = {"measures": one.measures, "cues": cues.get(one.classifier, {})}
    told = {
        key: {name: {"value": m.value, "interval": m.interval, "n": m.n, "title": m.label} for name, m in own.items()}
        for key, own in every.items()
    }
    return {"place": one.place, "classifier": one.classifier, "title": one.title, "beats": one.beats, **told}


for _kind, _what in _COMMANDS.items():
    _command(_kind, _what)


def _detection(kind: str, masks: bool) -> None:
    def run(
        *models: str,
        images: Path,
        out: Path = Path(kind),
        preset: Literal["voc07", "voc12", "coco"] | None = None,
        random: bool = False,
        small: bool = False,
        set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
        seed: int = 0,
        limit: int | None = None,
        json: bool = False,
    ) -> None:
        """FIRST

        Args:
            models: As for `cuescope audit`; any network with maps over the image.
            images: Folder in COCO's layout (annotations/instances_*.json) or VOC's (JPEGImages, Annotations).
            out: Folder, where it goes on when stopped.
            preset: The published folds, sizes, schedule and metric of VOC07, VOC12 or COCO.
            random: The same networks with new weights beside them.
            small: Minutes on two cores, for some hundred small images such as the world's.
            set_: A setting, as in --set epochs=12. Can be repeated.
            seed: Of all that is drawn at random.
            limit: Learn from this many images, spread evenly.
            json: Print what was found as JSON instead of a table.
        """
        from cuescope.api.detect import FILE, detect

        how: dict[str, Any] = {"preset": preset, "random": random, "small": small, "seed": seed, "limit": limit}
        with progress() as show:
            given = {**how, "settings": settings(set_ or ())}
            found = detect(*models, images=images, out=out, masks=masks, progress=show, say=say, **given)
        if json:
            print((found.out / FILE).read_text(), end="")
        else:
            _print_detected(found)
        say(f"report: {found.out / 'report.html'}")

    what = "an instance segmenter, Mask R-CNN," if masks else "a detector, Faster R-CNN,"
    run.__doc__ = str(run.__doc__).replace("FIRST", f"Fine-tune {what} on each model, and rank them by mAP.")
    transfer.command(run, name=kind)


def _print_detected(found: Detection) -> None:
    """The models, the best first: their headline measures, and what each surely beats."""
    from rich.table import Column, Table

    from cuescope.core.called import apart
    from cuescope.report.draw import words

    called = dict(zip(every := [one.classifier for one in found.findings], apart(every), strict=True))
    shown = [m.label for m in found.findings[0].measures if m.headline]
    columns = [Column(label, overflow="fold", justify="right", min_width=11) for label in shown]
    last = Column("surely more than", overflow="fold")
    table = Table("", Column(no_wrap=True), *columns, last, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for place, one in enumerate(found.findings, 1):
        cells = [
            f"{words.value(m.value, m.unit)}\n{words.interval(m.interval, m.unit)}" for m in one.measures if m.headline
        ]
        beats = words.listed([called[name] for name in found.beats(one.classifier)])
        table.add_row(str(place), called[one.classifier], *cells, beats)
    console().print(table)


for _kind, _masks in (("detect", False), ("segment", True)):
    _detection(_kind, _masks)

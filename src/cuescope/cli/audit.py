"""`cuescope audit`: the main job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cuescope.api.audit import Audit, command_line, perform
from cuescope.cli.terminal import progress, say
from cuescope.core.errors import CueError


def audit(
    *models: str,
    images: str,
    cue_conflict: str | None = None,
    human_data: Path | None = None,
    cues: str | None = None,
    texturized: Path | None = None,
    distortions: Path | None = None,
    parts: Path | None = None,
    label_maps: Path | None = None,
    boxes: Path | None = None,
    only: str | None = None,
    out: Path = Path("run"),
    labels: Path | None = None,
    real: Path | None = None,
    classes: Path | None = None,
    limit: int | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    instrument: list[Path] | None = None,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 32,
    compile: bool = False,
    workers: int = 2,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Which cues do these classifiers use? Every instrument on every classifier, a run folder and a report.

    Parameters
    ----------
    models
        timm/NAME, torchvision/NAME, cuescope/NAME, each with @WEIGHTS (a file) or @random if wanted;
        package.module:factory, file.py:factory, or model.onnx.
    images
        Folder of images, at any depth; labels from folder names or a labels.csv. Or world:VARIANT[:COUNT].
    cue_conflict
        Folder of cue-conflict images (shape1-texture2.png), or world:conflict[:COUNT].
    human_data
        Folder of raw trials of people on these cue-conflict images; `cuescope get human-data DIR` fetches them.
    cues
        Folder of folders original, greyscale, silhouettes, edges, textures (some of them), or world[:COUNT].
    texturized
        Folder that `cuescope make texturized` made of the images.
    distortions
        Folder of distorted images, DISTORTION/LEVEL/...: of `cuescope make distorted`, ImageNet-C or model-vs-human.
    parts
        CSV of boxes of named parts: file,part,x0,y0,x1,y1, in pixels of the files.
    label_maps
        Folder that `cuescope make label-maps` made of the images.
    boxes
        Folder of XML files with the boxes of their objects, as ILSVRC's Annotations; a folder with VOC's JPEGImages and
        Annotations needs none.
    only
        Instruments to ask, separated by commas; all by default. See `cuescope list instruments`.
    out
        Run folder. A run that was stopped goes on; one that is finished is left alone.
    labels
        CSV with the columns file,index.
    real
        real.json of ReaL, for the ImageNet validation images.
    classes
        Names of the classifier's classes: a text file, one a line, or a JSON list.
    limit
        Look at this many images, spread evenly over the folder.
    set_
        A parameter, as in --set occlusion.images=4. Can be repeated.
    instrument
        A Python file with an instrument of your own. Can be repeated.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        Of the forward passes.
    batch_size
        Images in one forward pass; halved by itself where memory is short.
    compile
        Compile the network first: pays on long runs only.
    workers
        Threads that decode images.
    json
        Print the findings as JSON instead of a table.

    """
    with progress() as show:
        result = perform(
            models=models,
            images=images,
            cue_conflict=cue_conflict,
            human_data=human_data,
            cues=cues,
            texturized=texturized,
            distortions=distortions,
            parts=parts,
            label_maps=label_maps,
            boxes=boxes,
            only=[name.strip() for name in only.split(",") if name.strip()] if only else (),
            out=out,
            labels=labels,
            real=real,
            classes=classes,
            limit=limit,
            settings=settings(set_ or ()),
            also=[str(path) for path in instrument or ()],
            device=device,
            precision=precision,
            batch_size=batch_size,
            compile=compile,
            workers=workers,
            command=command_line(sys.argv[1:]),
            progress=show,
        )
    tell(result, as_json=json)
    return 1 if result.failed else 0


def settings(pairs: list[str] | tuple[()]) -> dict[str, str]:
    """`["occlusion.images=4"]` as a mapping. Raises CueError where one has no value.

    >>> settings(["occlusion.images=4"])
    {'occlusion.images': '4'}
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CueError(f"--set {pair}", wanted="instrument.parameter=value", do="as in --set occlusion.images=4")
        found[key.strip()] = value.strip()
    return found


def tell(result: Audit, *, as_json: bool) -> None:
    """Print what was found, where the report is, and what failed."""
    run = result.run
    if as_json:
        found = [cell.finding for cell in run.cells]
        print(json.dumps([finding.to_json() for finding in found if finding], indent=1))
    else:
        print(run)
    if not result.fresh:
        say("nothing to do: this run is finished")
    for cell in result.failed:
        say(f"failed: {cell.instrument} of {cell.classifier}: {cell.why} (traceback in {cell.folder / 'error.txt'})")
    say(f"report: {run.path / 'report.html'}")

"""One instrument, one classifier, one image: one PNG, or a GIF that shows the image as it changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import load
from cuescope.core.classes import class_index
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import UnreadableError
from cuescope.instruments import registry
from cuescope.instruments.base import Misfit
from cuescope.report.draw import look_png, words, write_gif
from cuescope.runs.inputs import find_image, wanted
from cuescope.runs.options import check_look


def look(
    instrument: str,
    model: Any,
    image: str | Path,
    *,
    out: str | Path | None = None,
    label: str | int | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Any = None,
    device: str = "auto",
) -> tuple[Path, str]:
    """What does this instrument see in this image? The file that was written, and a plain sentence.

    A PNG; with `out` that ends in .gif an animation, from an instrument that shows an image as it changes.
    Raises CueError where the instrument does not apply, with the reason, and for a GIF of one that has no frames.

    >>> look("occlusion", "timm/resnet50.a1_in1k", "cat.jpg")    # doctest: +SKIP
    """
    settings = {key.rpartition(".")[2]: value for key, value in (settings or {}).items()}
    path = check_look(instrument, model, image, out, settings)
    tool = registry.build(instrument, settings)
    moving = path.suffix.lower() == ".gif"
    if moving and not tool.animates:
        options = [name for name in registry.names() if registry.find(name).animates]
        do = f"give --out NAME.png, or choose {words.listed(options)}"
        raise CueError(f"{instrument} has no frames for '{path.name}'", wanted="an image that changes", do=do)
    images = find_image(image)
    classifier = load(model, classes=classes, device=device)
    known = {"label"} if label is not None else frozenset()
    missing = tool.needs - classifier.capabilities - images.knows - known
    if missing:
        usage = wanted(missing)[1]
        do = f"ask it in an audit, with {usage}" if usage else "choose another instrument: cuescope list instruments"
        do = "give --label NAME" if "label" in missing else do
        do = "ask it in an audit of several images" if "another" in missing else do
        why = registry.unmet(tool, classifier, images)
        raise CueError(f"{instrument} does not apply: {why}", wanted="an instrument that does", do=do)
    try:
        observer = tool.start(classifier)
    except Misfit as why:
        do = "choose another"
        raise CueError(f"{instrument} does not apply: {why}", wanted="an instrument that does", do=do) from None
    index = -1 if label is None else class_index(classifier.classes, label)
    try:
        sample = images.read(0)
    except UnreadableError as error:
        raise CueError(f"cannot read '{image}': {error}", wanted="an image file", do="choose another") from None
    batch = classifier.see([sample], [index])
    rows = observer.observe(batch)
    space = classifier.classes
    about = About(classifier.name, images.name, space.names, space.name, observer.facts)
    panels = tuple(tool.illustrate(classifier, batch, rows))
    finding = tool.finding(tool.conclude(rows, about), about).with_panels(panels)
    frames = tool.frames(classifier, batch, rows)
    if moving:
        write_gif(frames, path)
    else:
        look_png(finding, None, path, frames)
    top = batch.logits[0].double().softmax(0).topk(min(3, len(space)))
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    answer = ", ".join(f"{space.names[k]} ({p:.1%})" for p, k in pairs)
    return path, f"It says {answer}.\n{finding.sentence}"

"""One instrument, one classifier, one image: one PNG, or a GIF that shows the image as it changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import load
from cuescope.core.classes import class_index
from cuescope.core.errors import CueError
from cuescope.core.naming import short_name, title
from cuescope.core.wording import listed
from cuescope.data.images import UnreadableError
from cuescope.instruments import registry
from cuescope.instruments.base import Misfit, looks, name_of
from cuescope.instruments.names import shows_nothing
from cuescope.report.draw import look_png, write_gif
from cuescope.runs.one_image import find_image
from cuescope.runs.options import check_look


def look(
    instrument: str,
    model: Any,
    image: str | Path,
    *,
    out: str | Path | None = None,
    label: str | int | None = None,
    settings: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[Path, str]:
    """What does this instrument see in this image? The file that was written, and a sentence about this image.

    `how` are arguments of `load`: classes, preprocessing, device and so on. A PNG; with `out` that ends in .gif an
    animation, from an instrument that shows an image as it changes. Raises CueError for an instrument that has nothing
    to show of one image, with what to do instead; where it does not apply to the model, with the reason; and for a GIF
    of one that has no frames.

    >>> look("occlusion", "timm/resnet50.a1_in1k", "cat.jpg")    # doctest: +SKIP
    """
    settings = {key.rpartition(".")[2]: value for key, value in (settings or {}).items()}
    path = check_look(instrument, model, image, out, settings, how)
    tool = registry.build(instrument, settings)
    if not looks(type(tool)):
        raise shows_nothing(instrument)
    moving = path.suffix.lower() == ".gif"
    if moving and not tool.animates:
        options = [name for name in registry.names() if registry.find(name).animates]
        do = f"give --out NAME.png, or choose {listed(options)}"
        raise CueError(f"{instrument} has no frames for '{path.name}'", wanted="an image that changes", do=do)
    images = find_image(image)
    classifier = load(model, **how)
    # A picture of one image needs no label: there is nothing to count.
    if why := registry.unmet(tool, classifier, images, frozenset({"label"})):
        raise _misfit(instrument, why)
    try:
        observer = tool.start(classifier)
    except Misfit as why:
        raise _misfit(instrument, why) from None
    index = -1 if label is None else class_index(classifier.classes, label)
    try:
        sample = images.read(0)
    except UnreadableError as error:
        raise CueError(f"cannot read '{image}': {error}", wanted="an image file", do="choose another") from None
    batch = classifier.see([sample], [index])
    seen = tool.look(classifier, batch, observer.observe(batch))
    if moving:
        write_gif(seen.frames, path)
    else:
        look_png(seen, f"{title(name_of(tool))}: {short_name(classifier.name)}, {images.name}", path)
    return path, seen.sentence


def _misfit(instrument: str, why: object) -> CueError:
    do = "choose another: cuescope list instruments"
    return CueError(f"{instrument} does not apply: {why}", wanted="an instrument that does", do=do)

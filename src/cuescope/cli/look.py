"""`cuescope look`: one instrument, one classifier, one image, one PNG or GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def look(
    instrument: str,
    model: str,
    image: Path,
    *,
    out: Path | None = None,
    label: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    classes: Path | None = None,
    device: str = "auto",
) -> None:
    """What does this instrument see in this image? Writes one PNG, or a GIF, and prints the sentence.

    Parameters
    ----------
    instrument
        Its name, or a Python file with one of your own.
    model
        As for `cuescope audit`.
    image
        An image file.
    out
        The PNG; INSTRUMENT-IMAGE.png in the current folder by default. NAME.gif for an animation (shift_map).
    label
        Name, WordNet id or index of the right class, where it is known.
    set_
        A parameter, as in --set size_px=32. Can be repeated.
    classes
        Names of the classifier's classes: a text file or a JSON list.
    device
        auto, cpu, cuda, cuda:1, mps.

    """
    from cuescope.api.look import look as do_look
    from cuescope.cli.audit import settings

    path, sentence = do_look(
        instrument, model, image, out=out, label=label, settings=settings(set_ or ()), classes=classes, device=device
    )
    print(sentence)
    print(path)

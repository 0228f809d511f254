"""`cuescope look`: one instrument, one classifier, one image, one PNG or GIF."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cuescope.cli.audit import settings
from cuescope.cli.models import USUAL, ModelOptions
from cuescope.cli.terminal import tell
from cuescope.runs.options import check_look


def look(
    instrument: str,
    model: str,
    image: Path,
    *,
    out: Path | None = None,
    label: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    how: ModelOptions = USUAL,
) -> None:
    """What does this instrument see in this image? Writes one PNG, or a GIF, and prints the sentence.

    Args:
        instrument: Its name, or a Python file with one of your own.
        model: As for `cuescope audit`.
        image: An image file.
        out: The PNG; INSTRUMENT-IMAGE.png in the current folder by default. NAME.gif for an animation of what
            changes (shift_map, cue_suppression ...).
        label: Name, WordNet id or index of the right class, where it is known.
        set_: A parameter, as in --set size_px=32. Can be repeated.
        how: Of the model.
    """
    values = settings(set_ or ())
    # Before torch is imported, which takes seconds.
    short = {key.rpartition(".")[2]: value for key, value in values.items()}
    check_look(instrument, model, image, out, short, vars(how))
    from cuescope.api.look import look as do_look

    path, sentence = do_look(instrument, model, image, out=out, label=label, settings=values, **how.given())
    tell(sentence)
    tell(path)

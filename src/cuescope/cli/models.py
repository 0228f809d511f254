"""The options of a model on the command line, for the commands that load one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from cuescope.core.errors import CueError

NUMBERS = {"mean": float, "std": float, "size": int, "resize": int}
"""Options that are numbers, separated by commas."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded."""

    classes: Path | None = None
    """Names of the classifier's classes: a text file, one a line, or a JSON list; or imagenet-1k."""
    templates: Path | None = None
    """Prompts of a zero-shot classifier, open_clip/ARCH:TAG: a text file, one a line with {} for the class."""
    preprocessing: str | None = None
    """In place of the model's own: a JSON file of its fields, or whose to take: timm/NAME, hf/FOLDER."""
    mean: str | None = None
    """Of red, green and blue in [0, 1], which the model's input is less: 0.485,0.456,0.406."""
    std: str | None = None
    """Of red, green and blue in [0, 1], which it is divided by."""
    size: str | None = None
    """Side of the model's input in px, or its height and width: 224,224."""
    resize: str | None = None
    """Length in px that the short side is resized to before the middle is cut out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    def given(self) -> dict[str, Any]:
        """Those that were given, as `load` takes them."""
        return numbers({key: value for key, value in vars(self).items() if value is not None})


USUAL = ModelOptions()
"""None of them given."""


def numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the lists of numbers among them as such. Raises CueError for what is no number.

    >>> numbers({"mean": "0.5,.5,.5", "size": "224", "device": "cpu"})
    {'mean': (0.5, 0.5, 0.5), 'size': (224,), 'device': 'cpu'}
    """
    found = dict(options)
    for key in NUMBERS.keys() & options.keys():
        if isinstance(text := options[key], str):
            found[key] = _parsed(NUMBERS[key], text)
            if found[key] is None:
                # As people write sizes and lists: 224x224, 0.5 0.5 0.5, [0.5, 0.5, 0.5].
                other = re.sub(r"[\sx\u00d7*;/,]+", ",", re.sub(r"px|[\[\]()]", "", text.strip().lower())).strip(",")
                example = other if _parsed(NUMBERS[key], other) else "0.5,0.5,0.5" if NUMBERS[key] is float else "224"
                wanted = f"{'whole ' * (NUMBERS[key] is int)}numbers with commas between them, as in {example}"
                raise CueError(f"--{key} {text}", wanted=wanted, do=f"write --{key} {example}")
    return found


def _parsed(kind: Callable[[str], Any], text: str) -> tuple[Any, ...] | None:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        return None

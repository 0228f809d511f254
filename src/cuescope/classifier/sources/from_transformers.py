"""What a network of transformers says of its classes."""

import re
from typing import Any

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError


def classes_of(module: Any) -> ClassSpace | None:
    """The classes in its config's id2label, ordered by their numbers; None where there are none or they are unnamed.

    Raises CueError where a number is missing between others.
    """
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(labels, dict) or not labels:
        return None
    names = {int(index): str(name) for index, name in labels.items()}
    if sorted(names) != list(range(len(names))):
        gap = next(i for i in range(len(names)) if i not in names)
        found = f"id2label of {type(module).__name__} names {len(names)} classes, and none has the number {gap}"
        raise CueError(found, wanted="the numbers from 0 on without a gap", do="correct the config, or give classes=")
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names.values()):
        return None
    return ClassSpace("config", tuple(names[i] for i in range(len(names))))

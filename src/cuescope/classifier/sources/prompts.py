"""What a zero-shot classifier is asked: its templates and the names of its classes. Nothing heavy is imported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.core.class_files import IMAGENET
from cuescope.core.errors import CueError, nearest
from cuescope.core.files import read_text

if TYPE_CHECKING:
    from cuescope.core.classes import ClassSpace

DEFAULT = "a photo of a {}."
PUBLISHED = {"openai": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""Templates that open_clip holds: the 80 of Radford et al. 2021, and 7 of them."""
WANTED = f"a text file, one template a line with {{}} for the class, or {' or '.join(PUBLISHED)}"
LIBRARY = "open_clip"


def reads_text(spec: Any) -> bool:
    """Whether a model's name is that of a zero-shot classifier."""
    return isinstance(spec, str | Path) and str(spec).startswith(f"{LIBRARY}/")


def check(specs: Sequence[Any], classes: Any, templates: Any) -> None:
    """Raise CueError where a zero-shot classifier is given no classes, or templates that are none. Without torch."""
    if not any(map(reads_text, specs)):
        return
    if classes is None:
        spec = next(spec for spec in specs if reads_text(spec))
        do = f"give the names of the classes: --classes FILE, or --classes {IMAGENET}"
        raise CueError(f"{spec} is a zero-shot classifier without classes", wanted="names of classes", do=do)
    if str(templates) not in PUBLISHED:
        read_templates(templates)


def read_templates(given: Any) -> tuple[str, tuple[str, ...]]:
    """Where the templates are from, and they themselves, each with one {}; the DEFAULT where none are given.

    Raises CueError for a file that is not there, and for a line that has no {} or several, with the line.

    >>> read_templates(["a {}", "the {}"])
    ('given', ('a {}', 'the {}'))
    """
    if given is None:
        return "", (DEFAULT,)
    if isinstance(given, str | Path) and str(given) in PUBLISHED:
        import open_clip

        return str(given), tuple(template("{}") for template in getattr(open_clip, PUBLISHED[str(given)]))
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        source, what = path.name, f"line {{}} of '{path}'"
        lines = list(enumerate(_text(path).splitlines(), 1))
    else:
        source, what = "given", "template {}"
        lines = list(enumerate(map(str, given), 1))
    found = {number: line.strip() for number, line in lines if line.strip()}
    for number, line in found.items():
        if (count := line.count("{}")) != 1:
            much = f"holds {{}} {count} times" if count else "holds no {}"
            example = f"one {{}} for the class, as in '{DEFAULT}'"
            raise CueError(f"{what.replace('{}', str(number))} {much}: {line}", wanted=example, do="correct it")
    if not found:
        raise CueError(f"no templates in '{given}'", wanted=WANTED, do="write at least one")
    return source, tuple(found.values())


def named_classes(given: Any) -> tuple[ClassSpace, tuple[str, ...], tuple[str, ...]]:
    """The classes, the names that go into the prompts, and what was assumed for that.

    ImageNet's names are open_clip's, which tell its two cranes apart. Raises CueError for names that stand there twice,
    whose prompts would be the same, and for WordNet ids without names.
    """
    from cuescope.core.classes import read_classes

    space = read_classes(given)
    names = space.names
    if space.name == IMAGENET:
        import open_clip

        return (
            space,
            tuple(open_clip.IMAGENET_CLASSNAMES),
            ("the prompts have open_clip's names of ImageNet's classes",),
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        found = f"{twice[0]!r} is the name of {Counter(names)[twice[0]]} classes, whose prompts are the same"
        raise CueError(found, wanted="a name for each class", do="say which is which, as in 'crane (bird)'")
    if ids := [name for name in names if re.fullmatch(r"n\d{8}", name)]:
        found = f"the class {ids[0]} is named by its WordNet id alone"
        raise CueError(found, wanted="a name that can stand in a prompt", do=f"write '{ids[0]} name' in its line")
    odd = [name for name in names if "_" in name]
    return space, names, ((f"underscores stay in the prompts, as in '{odd[0]}'",) if odd else ())


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        close = nearest(str(path), PUBLISHED)
        do = f"did you mean {close[0]}?" if close else "check the path"
        why = (error.strerror or str(error)).lower()
        raise CueError(f"cannot read templates from '{path}': {why}", wanted=WANTED, do=do) from None
    except ValueError as error:
        raise CueError(f"'{path}' holds no templates: {error}", wanted=WANTED, do="correct it") from None

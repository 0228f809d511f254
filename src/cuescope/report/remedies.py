"""What to do about findings that are weak: a remedy with its command, filled with what the run was given."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cuescope.report.gather import Content, Group, Section, Subject

WORLD = "world-"
"""How names of the built-in world's image sets start."""
REPEATED = {
    "audit": ("--classes", "--templates"),
    "cure": ("--labels", "--cue-conflict"),
}
"""Options of the run that a command repeats: without them a model is none, or the images have no labels."""


class Remedy(NamedTuple):
    """What to do about a finding, for which classifiers, and the command that does it."""

    instrument: str
    title: str
    subjects: tuple[Subject, ...]
    text: str
    command: str = ""


def remedies(content: Content, asked: Iterable[tuple[Section, Group]]) -> list[Remedy]:
    """Each remedy once, with all whom it is for: of clear answers first, what a command does before what none does."""
    about: dict[tuple[str, str, str, str], list[Subject]] = {}
    unclear: set[tuple[str, str, str, str]] = set()

    def order(key: tuple[str, str, str, str]) -> tuple[bool, bool]:
        return key in unclear, not key[3]

    for section, group in asked:
        for entry, finding in group.answers:
            verdict = finding.verdict
            if verdict.remedy:
                key = section.instrument, section.title, verdict.remedy, verdict.command
                if entry.subject not in about.setdefault(key, []):
                    about[key].append(entry.subject)
                if verdict.said == "cannot tell":
                    unclear.add(key)
    return [
        Remedy(instrument, title, tuple(who), text, filled(command, content, who))
        for (instrument, title, text, command), who in sorted(about.items(), key=lambda one: order(one[0]))
    ]


def filled(command: str, content: Content, subjects: Sequence[Subject]) -> str:
    """A command with the images and the models of the runs, as they were given on the command line.

    A run that was not made on the command line names no paths, so that words in capitals stand for them.
    """
    given = [_words(run.manifest["command"]) for run in content.runs]
    by_command = all(words[:1] == ["cuescope"] for words in given)
    audits = [words for words in given if words[1:2] in (["audit"], ["cure"])]
    images = next((path for words in audits if by_command and (path := _option(words, "--images"))), "")
    images = images or _of_the_world(content.image_sets) or "IMAGES"
    names = [subject.name for subject in subjects] if by_command else ["MODEL"]
    fields = {
        "images": shlex.quote(images),
        "styles": "world:texture-only" if images.startswith("world:") else "STYLES",
        "model": shlex.quote(names[0]),
        "models": shlex.join(names),
    }
    again = next((flags for name, flags in REPEATED.items() if command.startswith(f"cuescope {name} ")), ())
    asked = [(flag, value) for flag in again if by_command and (value := _option(given[0], flag))]
    # The world's cues in conflict are at hand: those of its own that no model has seen.
    asked = [words for words in asked if words[0] != "--cue-conflict" or not words[1].startswith("world:")]
    return " ".join([_with(command, fields), *map(shlex.join, asked)])


def unfilled(command: str) -> str:
    """A command with words in capitals for what it is given.

    >>> unfilled("cuescope cure {model} --images {images}")
    'cuescope cure MODEL --images IMAGES'
    """
    return _with(command, {"images": "IMAGES", "styles": "STYLES", "model": "MODEL", "models": "MODELS"})


def _with(command: str, fields: Mapping[str, str]) -> str:
    """The command may be a stranger's, who could ask a format for more than its fields."""
    return re.sub(r"\{(\w+)\}", lambda found: fields.get(found[1], found[0]), command)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # It was not given on a command line.
        return []


def _option(words: Sequence[str], flag: str) -> str:
    """What stands behind a flag.

    >>> _option(["cuescope", "--images", "photos"], "--images"), _option(["--images=photos"], "--images")
    ('photos', 'photos')
    """
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _of_the_world(image_sets: Iterable[Mapping[str, Any]]) -> str:
    """The built-in images of the role "images", as an option names them; "" where they are none."""
    for images in image_sets:
        if images["role"] == "images" and str(images["name"]).startswith(WORLD):
            return f"world:{images['name'].removeprefix(WORLD)}:{images['count']}"
    return ""

"""The names of the instruments and of their parameters, from files alone: nothing is imported for them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError, unknown
from cuescope.core.parameters import defines, fields_in

GROUP = "cuescope.instruments"
FOLDER = Path(__file__).parent
NO_INSTRUMENTS = {"__init__", "base", "featured", "names", "presets", "registry", "severity_curves", "severity_pairs"}
"""What lies in the folder beside the instruments."""
BASES = ("featured",)
"""What instruments of ours may come from instead of Instrument."""


@cache
def others() -> EntryPoints:
    """The instruments of other packages. All packages are searched, so once."""
    return entry_points(group=GROUP)


def names() -> list[str]:
    """The names of all instruments that are installed, ours and other packages'."""
    own = {path.stem for path in FOLDER.glob("*.py")} - NO_INSTRUMENTS
    return sorted({*own, *others().names})


def class_name(module: str) -> str:
    """The instrument's class by its module's name.

    >>> class_name("shape_bias")
    'ShapeBias'
    """
    return "".join(part.capitalize() for part in module.split("_"))


def asked(only: Sequence[str], also: Sequence[str], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The instruments asked for, by name or file, each with the parameters set for it.

    Raises CueError for an instrument that there is not and for a setting of none of these.
    """
    files = {Path(name).stem: name for name in also}
    chosen = list(dict.fromkeys([*(files.get(name, name) for name in only), *also]))
    for name in chosen:
        if name.endswith(".py") and not Path(name).is_file():
            raise CueError(f"no file '{name}'", wanted="a Python file with an instrument", do="check the path")
        if not name.endswith(".py") and name not in names():
            raise unknown("instrument", name, names())
    stems = {name: Path(name).stem if name.endswith(".py") else name for name in chosen}
    grouped: dict[str, dict[str, Any]] = {stem: {} for stem in stems.values()}
    for key, value in settings.items():
        name, _, parameter = key.partition(".")
        if not parameter:
            raise CueError(f"setting '{key}'", wanted="instrument.parameter=value", do="as in occlusion.images=4")
        if name not in grouped and name in names():
            do = f"leave {key} out, or ask {name} too: --only {name},... or --preset full"
            raise CueError(f"{key} is set and {name} is not asked", wanted="settings of what is asked", do=do)
        if name not in grouped:
            raise unknown("instrument", name, grouped)
        grouped[name][parameter] = value
    return {name: grouped[stem] for name, stem in stems.items()}


def check(chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise CueError for a parameter that an instrument has not, as far as its source shows without running it."""
    for name, settings in chosen.items():
        path = Path(name) if name.endswith(".py") else FOLDER / f"{name}.py"
        if settings and path.is_file():
            try:
                known = fields_in(class_name(path.stem), *_sources(path))
            except (SyntaxError, ValueError):
                continue  # running it tells where
            for key in settings:
                if known is not None and key not in known:
                    raise unknown(f"{name} parameter", key, known)


def check_looks(name: str) -> None:
    """Raise CueError for an instrument that has nothing to show of one image, as far as its source shows."""
    if _looks(name) is False:
        raise shows_nothing(name)


def shows_nothing(name: str) -> CueError:
    """The error for an instrument that is to look at one image and needs a set of them."""
    do = f"ask it of a set of images: cuescope audit MODEL --images DIR --only {name}"
    wanted = "one that has: " + ", ".join(other for other in names() if _looks(other))
    return CueError(f"{name} has nothing to show of one image", wanted=wanted, do=do)


def _looks(name: str) -> bool | None:
    """Whether an instrument has a `look` of its own; None where its source is elsewhere or does not show it."""
    path = Path(name) if name.endswith(".py") else FOLDER / f"{name}.py"
    try:
        return defines("look", class_name(path.stem), *_sources(path)) if path.is_file() else None
    except (SyntaxError, ValueError):
        return None  # running it tells where


def _sources(path: Path) -> Iterator[str]:
    """The text of an instrument's file, after that of what it may come from."""
    for file in [*(FOLDER / f"{name}.py" for name in BASES), path]:
        yield file.read_text(encoding="utf-8")

"""The names of open_clip's models and weights, from its files alone: importing it would import torch."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from pathlib import Path

from cuescope.core.errors import CueError, nearest, unknown

HUB, FOLDER = "hf-hub:", "local-dir:"
CONFIG = "open_clip_config.json"


def parts(name: str) -> tuple[str, str]:
    """An architecture and a tag of its weights, "" where none is named; a place, HUB or FOLDER, is the first alone.

    >>> parts("ViT-B/32:openai"), parts("local-dir:a/b")
    (('ViT-B-32', 'openai'), ('local-dir:a/b', ''))
    """
    if name.startswith((HUB, FOLDER)):
        return name, ""
    architecture, _, tag = name.replace("/", "-").partition(":")
    return architecture, tag


def check(name: str, weights: str) -> None:
    """Raise CueError for an architecture or a tag that open_clip does not have, and a folder that is no model's.

    What a running program has added to open_clip is not in its files: then only the folder is checked.
    """
    architecture, tag = parts(name)
    if architecture.startswith(FOLDER):
        folder = Path(architecture.removeprefix(FOLDER)).expanduser()
        if not (folder / CONFIG).is_file():
            what = f"'{folder}' holds no {CONFIG}" if folder.is_dir() else f"no folder '{folder}'"
            raise CueError(what, wanted="a folder that open_clip saved a model in", do="check the path")
        return
    if architecture.startswith(HUB):
        return
    known = models()
    if known and "open_clip" not in sys.modules:
        refuse(architecture, tag, weights, known)


def refuse(architecture: str, tag: str, weights: str, known: dict[str, list[str]]) -> None:
    """Raise CueError for an architecture or a tag that is not among the `known`, and where weights are missing."""
    if architecture not in known:
        raise unknown("model", f"open_clip/{architecture}", [f"open_clip/{name}" for name in known])
    tags = known[architecture]
    if tag and tag.lower().replace("-", "_") not in tags:
        close = nearest(tag, tags) or tags[:3]
        do = f"did you mean {' or '.join(f'open_clip/{architecture}:{option}' for option in close[:3])}?"
        do = do if close else f"give a file, as in open_clip/{architecture}@weights.safetensors"
        raise CueError(f"open_clip/{architecture} has no weights '{tag}'", wanted="one of its tags", do=do)
    if not tag and not weights:
        shown = ", ".join(f":{option}" for option in tags[:4]) + (", ..." if len(tags) > 4 else "")
        do = f"write one of its tags ({shown}), @weights.safetensors or @random behind it"
        do = do if tags else "give a file, as in @weights.safetensors, or @random, behind it"
        raise CueError(f"open_clip/{architecture} names no weights", wanted="which of its weights are meant", do=do)


@functools.cache
def models() -> dict[str, list[str]]:
    """The tags of the published weights of each architecture; nothing where open_clip is not installed."""
    spec = importlib.util.find_spec("open_clip")
    folder = Path(next(iter(spec.submodule_search_locations or []), "")) if spec else Path()
    if not (folder / "pretrained.py").is_file():
        return {}
    tags = _tags(ast.parse((folder / "pretrained.py").read_text(encoding="utf-8")))
    return {file.stem: tags.get(file.stem, []) for file in sorted((folder / "model_configs").glob("*.json"))}


def _tags(module: ast.Module) -> dict[str, list[str]]:
    """The keys of each `NAME = dict(TAG=...)` in the table of all models, which also has those of QuickGELU by name."""
    values = {ast.unparse(node.targets[0]): node.value for node in module.body if isinstance(node, ast.Assign)}
    table = values.get("_PRETRAINED")
    found: dict[str, list[str]] = {}
    for key, value in zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ():
        call = values.get(value.id) if isinstance(value, ast.Name) else value
        if not isinstance(call, ast.Call) or not isinstance(key, ast.Constant):
            continue
        found[str(key.value)] = [str(word.arg) for word in call.keywords]
        quick = [str(word.arg) for word in call.keywords if "quick_gelu=True" in ast.unparse(word.value)]
        if quick:
            found[f"{key.value}-quickgelu"] = quick
    return found

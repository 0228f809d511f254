"""`cuescope list`: what there is to choose from."""

import json as json_module
from dataclasses import MISSING
from typing import Any, Literal, cast

from cuescope.cli.models import USUAL, ModelOptions
from cuescope.cli.terminal import only_json, tell
from cuescope.core.errors import CueError, unknown


def list_(
    what: Literal["instruments", "models", "model", "makers", "recipes", "images"],
    search: str = "",
    /,
    *,
    json: bool = False,
    how: ModelOptions = USUAL,
) -> None:
    """The instruments with their parameters, the models, the makers, the recipes, the built-in images; or one model.

    Args:
        what: instruments, models, makers, recipes or images; or model, for what is known and assumed of one.
        search: Only names that contain this, and of recipes all that is known of them; after model, the model, as for
            `cuescope audit`.
        json: Print JSON instead of text.
        how: Of the model.
    """
    if what == "model":
        _model(search, how, json)
        return
    tables = {"instruments": _instruments, "models": _models, "makers": _makers, "recipes": _recipes, "images": _images}
    found = {name: entry for name, entry in tables[what]().items() if search.lower() in name.lower()}
    if search and not found:
        raise unknown(what.removesuffix("s"), search, tables[what]())
    if json:
        print(json_module.dumps(found, indent=1, default=str))
        return
    from rich.console import Console

    console = Console(highlight=False)
    # Many recipes have the same two dozen settings: those of all would hide what there is to choose from.
    brief = what == "recipes" and not search
    for name, entry in found.items():
        console.print(f"[bold]{name}[/bold]  {entry.get('question', entry.get('what', ''))}", soft_wrap=True)
        for text in () if brief else entry.get("about", ()):
            console.print(f"    {text}", soft_wrap=True, markup=False)
        for key, value in {} if brief else entry.get("parameters", {}).items():
            option = f"{value['option']} " if "option" in value else f"--set {name}.{key}="
            console.print(f"    {option}{value['default']}  [dim]{value['meaning']}[/dim]", soft_wrap=True)
        for key in ("needs", "reference"):
            if entry.get(key):
                text = ", ".join(entry[key]) if isinstance(entry[key], list) else entry[key]
                console.print(f"    [dim]{key}: {text}[/dim]", soft_wrap=True)
        if (small := entry.get("small")) and not brief:
            console.print(f"    --small  {', '.join(f'{k}={v}' for k, v in small.items())}", soft_wrap=True)
    if brief:
        console.print(
            "[dim]cuescope list recipes NAME: its paper, published results and settings[/dim]", soft_wrap=True
        )
    if what == "models" and found:
        text = "NAME+blur4 is a convolutional network that blurs before it subsamples (+blur2 to +blur7), "
        text += "NAME+aps one that no cyclic shift changes"
        console.print(f"[dim]{text}; @WEIGHTS-FILE or @random may follow.[/dim]", soft_wrap=True)


def _model(spec: str, how: ModelOptions, as_json: bool) -> None:
    """What is known of a model, what was assumed of it and what was done to run it."""
    from cuescope.runs.options import check_models

    if not spec:
        raise CueError("no model was named", wanted="a model", do="as in: cuescope list model timm/resnet50.a1_in1k")
    check_models([spec], how.classes, how.templates, how.preprocessing)
    from cuescope.classifier import describe
    from cuescope.classifier.sources import load

    with only_json(as_json):
        classifier = load(spec, **how.given())
        known_of_it = describe.describe(classifier)
    if as_json:
        print(json_module.dumps(known_of_it, indent=1))
        return
    tell(classifier.name)
    for heading, text in describe.lines(classifier):
        tell(f"  {heading:<14}{text}")


def _settings(known: dict[str, tuple[Any, Any, str]]) -> dict[str, dict[str, Any]]:
    return {key: {"default": default, "meaning": meaning} for key, (_, default, meaning) in known.items()}


def _instruments() -> dict[str, dict[str, Any]]:
    from cuescope.core.parameters import parameters
    from cuescope.instruments import registry

    return {
        name: {
            "question": kind.question,
            "parameters": _settings(parameters(kind)),
            "needs": sorted(kind.needs),
            "reference": kind.reference,
        }
        for name, kind in ((name, registry.find(name)) for name in registry.names())
    }


def _models() -> dict[str, dict[str, Any]]:
    from cuescope.classifier.sources import names

    return {name: {"what": ""} for name in names()}


def _makers() -> dict[str, dict[str, Any]]:
    from cuescope.core.parameters import parameters
    from cuescope.makers import registry as makers

    found: dict[str, dict[str, Any]] = {}
    for name in makers.names():
        kind = makers.find(name)
        settings = {
            key: {
                "option": f"--{key.replace('_', '-')}",
                **about,
                "default": "" if about["default"] in (None, MISSING) else about["default"],
            }
            for key, about in _settings(parameters(cast(Any, kind))).items()
        }
        found[name] = {"what": kind.what, "parameters": settings, "reference": kind.reference}
    return found


def _recipes() -> dict[str, dict[str, Any]]:
    from cuescope.training.recipes import recipes

    return {
        name: {
            "what": one.what,
            "about": one.more,
            "parameters": _settings(one.options),
            "small": {key: value for key, value in one.smaller.items() if value != getattr(one.settings, key)},
        }
        for name, one in recipes().items()
    }


def _images() -> dict[str, dict[str, Any]]:
    from typing import get_args

    from cuescope.world.images import WorldImages
    from cuescope.world.scenes import Variant

    sets = [WorldImages(variant) for variant in get_args(Variant)]
    return {f"world:{images.variant}": {"what": f"knows {', '.join(sorted(images.knows))}"} for images in sets}

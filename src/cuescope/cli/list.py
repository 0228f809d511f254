"""`cuescope list`: what there is to choose from."""

from __future__ import annotations

import json as json_module
from typing import Any, Literal, cast

from rich.console import Console


def list_(
    what: Literal["instruments", "models", "makers", "recipes", "images"], search: str = "", /, *, json: bool = False
) -> None:
    """The instruments with their parameters, the models, the makers, the recipes, or the built-in images.

    Parameters
    ----------
    what
        instruments, models, makers, recipes or images.
    search
        Only names that contain this.
    json
        Print JSON instead of text.

    """
    tell = {"instruments": _instruments, "models": _models, "makers": _makers, "recipes": _recipes, "images": _images}
    found = tell[what]()
    found = {name: told for name, told in found.items() if search.lower() in name.lower()}
    if json:
        print(json_module.dumps(found, indent=1, default=str))
        return
    console = Console(highlight=False)
    for name, told in found.items():
        console.print(f"[bold]{name}[/bold]  {told.get('question', told.get('what', ''))}", soft_wrap=True)
        for key, value in told.get("parameters", {}).items():
            default = (
                f"{value['option']} {value['default']}"
                if "option" in value
                else f"--set {name}.{key}={value['default']}"
            )
            console.print(f"    {default}  [dim]{value['meaning']}[/dim]", soft_wrap=True)
        for key in ("needs", "reference"):
            if told.get(key):
                text = ", ".join(told[key]) if isinstance(told[key], list) else told[key]
                console.print(f"    [dim]{key}: {text}[/dim]", soft_wrap=True)
    if what == "models" and found:
        text = "NAME+blur4 is a convolutional network made to blur before it subsamples (+blur2 to +blur7)"
        console.print(f"[dim]{text}; @WEIGHTS-FILE or @random may follow.[/dim]", soft_wrap=True)


def _instruments() -> dict[str, dict[str, Any]]:
    from cuescope.core.parameters import parameters
    from cuescope.instruments import registry

    found: dict[str, dict[str, Any]] = {}
    for name in registry.names():
        kind = registry.find(name)
        found[name] = {
            "question": kind.question,
            "parameters": {
                key: {"default": default, "meaning": meaning} for key, (_, default, meaning) in parameters(kind).items()
            },
            "needs": sorted(kind.needs),
            "reference": kind.reference,
        }
    return found


def _models() -> dict[str, dict[str, Any]]:
    from cuescope.classifier.sources import names

    return {name: {"what": ""} for name in names()}


def _makers() -> dict[str, dict[str, Any]]:
    from cuescope.core.parameters import parameters
    from cuescope.makers import registry as makers

    found: dict[str, dict[str, Any]] = {}
    for name in makers.names():
        kind = makers.find(name)
        found[name] = {
            "what": kind.what,
            "parameters": {
                key: {
                    "option": f"--{key.replace('_', '-')}",
                    "default": "" if default is None else default,
                    "meaning": meaning,
                }
                for key, (_, default, meaning) in parameters(cast(Any, kind)).items()
            },
            "reference": kind.reference,
        }
    return found


def _recipes() -> dict[str, dict[str, Any]]:
    from cuescope.training.recipes import recipes

    return {
        name: {
            "what": recipe.what,
            "parameters": {
                key: {"default": default, "meaning": meaning} for key, (_, default, meaning) in recipe.options.items()
            },
        }
        for name, recipe in recipes().items()
    }


def _images() -> dict[str, dict[str, Any]]:
    from typing import get_args

    from cuescope.world.images import WorldImages
    from cuescope.world.scenes import Variant

    sets = [WorldImages(variant) for variant in get_args(Variant)]
    return {f"world:{images.variant}": {"what": f"knows {', '.join(sorted(images.knows))}"} for images in sets}

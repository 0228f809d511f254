"""What is trained on what: may a training go on in a folder, or is it another one than that which was begun there?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cuescope.core.classes import ClassSpace, to_stored
from cuescope.data.images import ImageSet
from cuescope.training.settings import EpochSettings

FREE = ("device", "compile", "track")
"""Settings that may differ where a training goes on."""


def about(
    recipe: str, settings: EpochSettings, code: str, classes: ClassSpace, learned: ImageSet, held_out: ImageSet
) -> dict[str, Any]:
    """What two runs of one training have in common, as JSON gives it back.

    `code` is a hash of the user's file that makes the network, "" for none.
    """
    chosen = {key: _stored(value) for key, value in asdict(settings).items() if key not in FREE}
    sets = {"images": learned, "held_out": held_out}
    found = {"recipe": recipe, "settings": chosen, "code": code, "classes": to_stored(classes)}
    found |= {key: {"name": images.name, "count": len(images), "digest": images.digest} for key, images in sets.items()}
    return json.loads(json.dumps(found))


def unlike(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How a training differs from another, by the first difference, in words; "" where it does not.

    Raises KeyError and TypeError where `was` is nothing that `about` made.

    >>> unlike({"recipe": "zfnet"}, {"recipe": "bagnet"})
    'the recipe zfnet, not bagnet'
    >>> one, two = ({"settings": {"batch": batch, "seed": 0}} for batch in (16, 8))
    >>> unlike(one, two)
    'batch=16, not batch=8'
    """
    for key in now:
        if was[key] != now[key]:
            return _IN_WORDS[key](was[key], now[key])
    return ""


def _settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
    return f"{key}={was.get(key)}, not {key}={now.get(key)}"


def _classes(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before, after = was["classes"], now["classes"]
    if len(before) != len(after):
        return f"{len(before):,} classes, not {len(after):,}"
    pairs = zip(before, after, strict=True)
    return next((f"a class '{one}', not '{two}'" for one, two in pairs if one != two), "classes of other ids")


def _images(what: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if was["name"] != now["name"]:
        return f"the {what} {was['name']}, not {now['name']}"
    return f"other {what} than {now['name']} holds now: files, labels or their number have changed"


_IN_WORDS = {
    "recipe": lambda was, now: f"the recipe {was or 'without a name'}, not {now or 'one without a name'}",
    "settings": _settings,
    "code": lambda was, now: "another network: the file that makes it has changed",
    "classes": _classes,
    "images": lambda was, now: _images("images", was, now),
    "held_out": lambda was, now: _images("held-out images", was, now),
}


def _stored(value: Any) -> Any:
    """As JSON can hold it, which knows no infinity."""
    return str(value) if value == float("inf") else value

"""A preprocessing from what a user gives: a file, a model whose it is, transforms of torchvision, or single values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import known
from cuescope.classifier.sources.found import PREPROCESSINGS
from cuescope.core.errors import CueError
from cuescope.core.files import read_object
from cuescope.data.preprocessing import Preprocessing
from cuescope.network.wrappers import ASSUMED

FIELDS = tuple(field.name for field in dataclasses.fields(Preprocessing) if field.name != "source")
SETTINGS = ("mean", "std", "size", "resize")
"""Fields that can be given one by one."""


def read(given: Any) -> Preprocessing | None:
    """The preprocessing that was given in one of the forms of `PREPROCESSINGS`; None for None.

    A file holds our own fields, or is a preprocessor_config.json of transformers, timm's config.json or an
    open_clip_config.json. Of a model's name no weights are fetched. An image processor of transformers and a chain of
    torchvision's or timm's transforms may be given as objects.

    Raises CueError for a file that holds none, an unknown name, and transforms that no Preprocessing can do.
    """
    if given is None or isinstance(given, Preprocessing):
        return _without_black(given) if given is not None and given.source == "given" else given
    if isinstance(given, str | Path):
        known.check_preprocessing(given)
        return _of_file(Path(given).expanduser()) if str(given).endswith(".json") else _of_model(str(given))
    from cuescope.classifier.sources import image_processors, transforms

    if hasattr(given, "image_mean") and hasattr(given, "to_dict"):
        return image_processors.from_config(given.to_dict(), "what was given")
    if transforms.is_transform(given):
        return transforms.read(given)
    raise CueError(f"preprocessing {given!r}", wanted=PREPROCESSINGS, do="correct it")


def overruled(
    base: Preprocessing,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | Sequence[int] | None = None,
    resize: int | Sequence[int] | None = None,
) -> Preprocessing:
    """`base` with the values that are given, and a source that says which.

    A `size` without a `resize` keeps the share of the image that is cut out. Raises CueError for values that cannot be.

    >>> overruled(Preprocessing(), size=448).resize, overruled(Preprocessing(), mean=(0.5, 0.5, 0.5)).source
    (512, 'given, but mean as given')
    >>> overruled(Preprocessing(source="assumed: ImageNet's usual"), mean=(0.5, 0.5, 0.5), size=64).source
    "assumed: ImageNet's usual std, resize and interpolation; mean, size as given"
    """
    given = dict(zip(SETTINGS, (mean, std, size, resize), strict=True))
    named = [name for name, value in given.items() if value is not None]
    if not named:
        return base
    changes: dict[str, Any] = {"source": _source(base.source, named)}
    for name, values in (("mean", mean), ("std", std)):
        if values is not None:
            changes[name] = tuple(map(float, values if len(values) > 1 else [*values] * 3))
    if size is not None:
        changes["size"] = _pair(size, "size")
        ratio = changes["size"][0] / base.size[0]
        old = base.resize
        changes["resize"] = round(old * ratio) if isinstance(old, int) else tuple(round(side * ratio) for side in old)
    if resize is not None:
        pair = _pair(resize, "resize")
        changes["resize"] = pair[0] if isinstance(resize, int | float) or len(resize) == 1 else pair
    return _without_black(dataclasses.replace(base, **changes))


def _without_black(how: Preprocessing) -> Preprocessing:
    """The same. Raises CueError where images would get black borders: only a library's own preprocessing may do so."""
    if not how.black:
        return how
    found = f"a resize to {how.resize} px, and a size of {how.size[0]} x {how.size[1]} px, which is larger"
    least: Any = tuple(map(max, how.sides, how.size))
    least = max(least) if isinstance(how.resize, int) else least
    raise CueError(found, wanted="images that cover the input", do=f"give resize={least} or more")


def _source(base: str, named: Sequence[str]) -> str:
    """Where the values come from: of those that were assumed, only the ones that are not given still are."""
    if base != ASSUMED:
        return f"{base}, but {', '.join(named)} as given"
    rest = [name for name in SETTINGS if name not in named]
    left = f"{', '.join(rest)} and interpolation" if rest else "interpolation"
    return f"{ASSUMED} {left}; {', '.join(named)} as given"


def _pair(sides: Any, name: str) -> tuple[int, int]:
    sides = [sides] if isinstance(sides, int | float) else list(sides)
    if len(sides) not in (1, 2):
        raise CueError(f"{name} of {len(sides)} numbers", wanted="one side in px, or height and width", do="correct it")
    if any(side != int(side) for side in sides):
        found = f"{name} {', '.join(map(str, sides))}"
        raise CueError(found, wanted="whole px", do=f"give {', '.join(str(round(side)) for side in sides)}")
    return int(sides[0]), int(sides[-1])


def _of_model(name: str) -> Preprocessing:
    """That of a model of a library by name, or of a folder of one; no weights are fetched."""
    library, _, name = name.partition("/")
    if library == "timm":
        from cuescope.classifier.sources import from_timm

        return from_timm.preprocessing_named(name)
    if library == "torchvision":
        from cuescope.classifier.sources import from_torchvision

        return from_torchvision.preprocessing_named(name)
    from cuescope.classifier.sources import from_transformers

    return from_transformers.preprocessing_named(name)


def _of_file(path: Path) -> Preprocessing:
    """That of a JSON file: our own fields, or what another library wrote."""
    do = f"write an object with some of {', '.join(FIELDS)}"
    values = read_object(path, wanted=PREPROCESSINGS, do=do)
    try:
        return _of_values(values, path, do)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CueError(f"'{path}' holds no preprocessing: {error}", wanted=PREPROCESSINGS, do=do) from None


def _of_values(values: Mapping[str, Any], path: Path, do: str) -> Preprocessing:
    from cuescope.classifier.sources import image_processors

    if isinstance(inner := values.get("image_processor"), Mapping):
        values = inner
    if image_processors.kind_of(values):
        return image_processors.from_config(values, str(path))
    if "pretrained_cfg" in values or ("architecture" in values and "model_type" not in values):
        from cuescope.classifier.sources import from_timm

        return from_timm.of_file(path)
    if isinstance(values.get("preprocess_cfg"), Mapping):
        return _of_open_clip(values, path)
    if not values or not values.keys() <= set(FIELDS):
        found = f"'{path}' holds no preprocessing"
        if strange := sorted(values.keys() - set(FIELDS)):
            found += f": nothing here is called {', '.join(strange[:3])}"
        raise CueError(found, wanted=PREPROCESSINGS, do=do)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if "size" in fields:
        fields["size"] = _pair(fields["size"], "size")
        # As for a size alone on the command line: the share that is cut out stays.
        whole = fields["size"] if not fields.get("keep_aspect", True) else None
        fields.setdefault("resize", whole or overruled(Preprocessing(), size=fields["size"]).resize)
    return _without_black(Preprocessing(**fields, source=str(path)))


def _of_open_clip(values: Mapping[str, Any], path: Path) -> Preprocessing:
    """That of an open_clip_config.json: open_clip's evaluation. Raises CueError where it pads images."""
    from cuescope.classifier.sources.image_processors import CLIP_MEAN, CLIP_STD

    how, model = values["preprocess_cfg"], values.get("model_cfg")
    mode = how.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        do = "give mean, std, size and resize by themselves"
        raise CueError(f"'{path}' asks for resize_mode {mode}, which pads images", wanted="shortest or squash", do=do)
    vision = model.get("vision_cfg") if isinstance(model, Mapping) else None
    size = how.get("size") or (vision.get("image_size") if isinstance(vision, Mapping) else None) or 224
    height, width = _pair(size, "size")
    keep = mode == "shortest"
    interpolation = how.get("interpolation")
    return Preprocessing(
        (height, width),
        height if keep and height == width else (height, width),
        "bilinear" if interpolation == "bilinear" else "bicubic",
        tuple(map(float, how.get("mean") or CLIP_MEAN)),
        tuple(map(float, how.get("std") or CLIP_STD)),
        f"open_clip's, in {path}",
        keep,
    )

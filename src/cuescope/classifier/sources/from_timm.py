"""Networks of timm by name, and from folders and repositories that its push_to_hf_hub and save_for_hf wrote."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cuescope.classifier.sources import hub
from cuescope.classifier.sources.found import RANDOM, SEED, Asked, Found
from cuescope.classifier.sources.known import model_folder
from cuescope.classifier.sources.weights import State, fit, read
from cuescope.core.classes import ClassSpace, imagenet_1k
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import read_object
from cuescope.data.preprocessing import FILTERS, Preprocessing
from cuescope.models.seeding import seeded

HUB, FOLDER = "hf-hub:", "local-dir:"
WANTED = "a folder that timm wrote: config.json and model.safetensors"
NOT_READ = ("checkpoint_path", "pretrained", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay")
"""Arguments that a config may not give: they would fetch or open other files."""


def names() -> tuple[str, ...]:
    """All of timm's models that have weights, with their tags."""
    import timm

    return tuple(f"timm/{name}" for name in timm.list_models(pretrained=True))


def find(name: str, asked: Asked) -> Found:
    """A network of timm, trained, with weights from a file, or random. Raises CueError."""
    weights = asked.weights
    import timm

    if name.startswith((HUB, FOLDER)):
        return in_folder(folder_of(name, config_only=bool(weights)), f"timm/{name}", asked)
    _check(name)
    notes: tuple[str, ...] = ("untrained: random weights",) if weights == RANDOM else ()
    if not weights:
        if not timm.models.is_model_pretrained(name):
            do = f"give a file, as in timm/{name}@weights.safetensors, or timm/{name}@random"
            raise CueError(f"timm has no weights for {name}", wanted="weights", do=do)
        source: Any = timm.get_pretrained_cfg(name)
        with hub.fetching(f"timm/{name}"):
            file = hub.from_hugging_face(source.hf_hub_id) if source.hf_hub_id else hub.checkpoint(source.url)
        overlay = {"file": str(file)}
        network = seeded(SEED, lambda: timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay))
    elif weights == RANDOM:
        network = seeded(asked.seed, lambda: timm.create_model(name))
    else:
        network, notes = _fitted(name, {}, weights)
    return Found(network, preprocessing=preprocessing_of(network), notes=notes)


def in_folder(folder: Path, name: str, asked: Asked) -> Found:
    """The network of a folder with timm's config.json: its architecture, arguments, classes and preprocessing."""
    config = _config(folder / "config.json")
    own = config["pretrained_cfg"]
    architecture = str(config["architecture"])
    _check(architecture.partition(".")[0])
    given = {**config.get("model_args", {}), "num_classes": own.get("num_classes", 1000)}
    if strange := sorted(given.keys() & set(NOT_READ)):
        found = f"config.json of {name} gives {', '.join(strange)} as an argument of the network"
        raise CueError(found, wanted="arguments of its architecture", do="remove it there")
    settings = {**given, "pretrained_cfg": own}
    notes: tuple[str, ...] = ("untrained: random weights",)
    if asked.weights == RANDOM:
        network = seeded(asked.seed, lambda: _created(architecture, settings, name))
    else:
        file = asked.weights or next((folder / file for file in hub.FILES if (folder / file).is_file()), None)
        if file is None:
            raise CueError(f"{name} has no {' and no '.join(hub.FILES)}", wanted=WANTED, do="add its weights")
        network, notes = _fitted(architecture, settings, str(file), name)
    classes = _classes(own) if asked.classes is None else None
    if classes is not None and len(classes) != getattr(network, "num_classes", None):
        classes, notes = None, (*notes, "its config names other classes than it has outputs: they are numbered")
    return Found(network, classes, preprocessing_of(network), notes)


def folder_of(name: str, config_only: bool) -> Path:
    """The folder of hf-hub:ORG/REPO, in the hub's cache, or of local-dir:FOLDER. Raises CueError."""
    if (folder := model_folder("timm", name)) is not None:
        return folder
    repository = name.removeprefix(HUB)
    with hub.fetching(f"timm/{name}", "give a folder with config.json and model.safetensors: timm/local-dir:FOLDER"):
        file = hub.from_hugging_face(repository, ("config.json",))
        return file.parent if config_only else hub.from_hugging_face(repository).parent


def preprocessing_of(module: Any) -> Preprocessing | None:
    """What timm's own evaluation does for this network; None where it is none of timm's."""
    return of_config(module.pretrained_cfg) if hasattr(module, "pretrained_cfg") else None


def preprocessing_named(name: str) -> Preprocessing:
    """What timm's own evaluation does for a network of this name; no weights are fetched. Raises CueError."""
    import timm

    if name.startswith((HUB, FOLDER)):
        return of_file(folder_of(name, config_only=True) / "config.json")
    _check(name)
    config: Any = timm.get_pretrained_cfg(name)
    return of_config(config.to_dict())


def of_file(path: Path) -> Preprocessing:
    """What a config.json of timm says of its network's preprocessing. Raises CueError."""
    config = _config(path)
    try:
        return of_config({"architecture": config["architecture"], **config["pretrained_cfg"]})
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        found = f"'{path}' holds a preprocessing that cannot be: {error}"
        raise CueError(found, wanted="what timm wrote", do="save it again") from None


def of_config(config: Mapping[str, Any]) -> Preprocessing:
    """What timm's own evaluation does under a network's pretrained_cfg."""
    from timm.data.config import resolve_data_config

    how = resolve_data_config(pretrained_cfg=config)
    height, width = how["input_size"][1:]
    tag = config.get("tag") or ""
    source = f"timm's data config of {config.get('architecture', '')}{'.' if tag else ''}{tag}"
    squash = how["crop_mode"] == "squash"
    covered = (int(height / how["crop_pct"]), int(width / how["crop_pct"]))
    if how["crop_mode"] == "border":
        source += ", with a center crop in place of its border"
    return Preprocessing(
        size=(height, width),
        resize=covered if squash or height != width else covered[0],
        interpolation=how["interpolation"] if how["interpolation"] in FILTERS else "bilinear",
        mean=tuple(how["mean"]),
        std=tuple(how["std"]),
        source=source,
        keep_aspect=not squash,
    )


def _config(path: Path) -> dict[str, Any]:
    """A config.json of timm, in the form in which the preprocessing and the classes stand in `pretrained_cfg`."""
    config = read_object(path, wanted=WANTED, do="check the path, or get it again")
    if "pretrained_cfg" not in config:
        config = {"architecture": config.get("architecture"), "pretrained_cfg": config}
    own, arguments = config["pretrained_cfg"], config.get("model_args", {})
    if not config.get("architecture") or not isinstance(own, dict) or not isinstance(arguments, dict):
        raise CueError(f"'{path}' names no architecture of timm", wanted=WANTED, do="get it again")
    over = {key: config[key] for key in ("num_classes", "label_names", "label_descriptions") if key in config}
    own = {"architecture": config["architecture"], **own, **over}
    if "label_names" not in own and "labels" in own:
        own["label_names"] = own["labels"]
    if (side := arguments.get("img_size")) is not None and own.get("fixed_input_size"):
        own["input_size"] = (3, side, side) if isinstance(side, int) else (3, *side)
    return {**config, "pretrained_cfg": own}


def _classes(own: Mapping[str, Any]) -> ClassSpace | None:
    """The classes that a config names, with their descriptions where they are given: those of WordNet ids."""
    keys, described = own.get("label_names"), own.get("label_descriptions")
    if not isinstance(keys, list) or not keys:
        return None
    keys = tuple(map(str, keys))
    if keys == imagenet_1k().keys:
        return imagenet_1k()
    described = described if isinstance(described, dict) else {}
    names = tuple(str(described.get(key, key)) for key in keys)
    return ClassSpace("config", names, keys if described and len(set(keys)) == len(keys) else ())


def _created(architecture: str, settings: Mapping[str, Any], name: str) -> nn.Module:
    import timm

    try:
        return timm.create_model(architecture, **settings)
    except Exception as error:  # each architecture checks its arguments in ways of its own
        found = f"{name} cannot be built as its config says: {type(error).__name__}: {error}"
        raise CueError(found, wanted=WANTED, do="correct model_args in its config.json") from None


def _fitted(
    architecture: str, settings: Mapping[str, Any], file: str, name: str = ""
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with the weights of a file, and notes of what was taken of them."""

    def build(classes: int | None) -> nn.Module:
        more = {} if classes is None else {"num_classes": classes}
        return seeded(SEED, lambda: _created(architecture, {**settings, **more}, name or f"timm/{architecture}"))

    return fit(build, _converted(read(file), build), file)


def _check(name: str) -> None:
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        options = timm.list_models(pretrained=True) if tag else timm.list_models()
        raise unknown("model", f"timm/{name}", [f"timm/{option}" for option in options])
    options = timm.list_models(f"{architecture}.*", pretrained=True)
    tags = [option for option in options if option.partition(".")[0] == architecture]
    if tag and name not in tags:
        raise unknown("model", f"timm/{name}", [f"timm/{option}" for option in tags])


def _converted(state: State, build: Any) -> State:
    """Keys of other projects' checkpoints in timm's names, as timm itself renames them."""
    network = build(None)
    if state.keys() <= network.state_dict().keys():
        return state
    rename = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if rename is None:
        return state
    try:
        return State(rename(dict(state), network), state.notes)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return state

"""Image classifiers of transformers: from a folder that save_pretrained wrote, or from Hugging Face's hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import hub, image_processors, weights
from cuescope.classifier.sources.found import RANDOM, Asked, Found
from cuescope.classifier.sources.known import model_folder, need
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import read_object
from cuescope.data.preprocessing import Preprocessing, usual
from cuescope.models.seeding import seeded

PROCESSOR = "preprocessor_config.json"
WANTED = "a folder that save_pretrained wrote: config.json and model.safetensors"
FETCH = "give a folder with config.json and model.safetensors, as in hf/FOLDER"
SAFE = "save it again where you trust it: model.save_pretrained(FOLDER)"
OTHERS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
"""Weights that transformers writes in other formats."""
NOT_READ = re.compile(r"^_?(attn|experts)_implementation|^auto_map$|^custom_pipelines$")
"""What a config may say of the code to run: it would be fetched and run."""


def find(name: str, asked: Asked) -> Found:
    """The classifier in a folder or a repository; its code is transformers' own, never the repository's.

    Raises CueError for a folder that holds none, weights in a format that can run code, a hub that does not answer.
    """
    need("hf")
    folder = folder_of(name, ("*.json",) if asked.weights else ("*.json", "model*.safetensors"))
    config = config_of(folder, name)
    if "model_type" not in config and ("architecture" in config or "pretrained_cfg" in config):
        from cuescope.classifier.sources import from_timm

        return from_timm.in_folder(folder, f"hf/{name}", asked)
    kind, settings, notes = _architecture(config, name)
    classes = None if asked.classes is not None else _named(settings.id2label, f"hf/{name}")
    if asked.weights == RANDOM:
        network = seeded(asked.seed, lambda: kind(settings))
        notes.append("untrained: random weights")
    else:
        file = asked.weights or _weights_in(folder, name)
        network, more = _loaded(kind, settings, file, name)
        notes += more
        if len(classes or ()) != settings.num_labels:
            classes = None
    how, more = _preprocessing(folder, settings)
    return Found(network, classes, how, (*notes, *more))


def folder_of(name: str, patterns: tuple[str, ...]) -> Path:
    """The folder of this name, or that of the repository ORG/REPO in the hub's cache. Raises CueError."""
    if (folder := model_folder("hf", name)) is not None:
        return folder
    with hub.fetching(f"hf/{name}", FETCH):
        return hub.folder(name, patterns)


def config_of(folder: Path, name: str) -> dict[str, Any]:
    """What its config.json holds. Raises CueError where there is none and where it is broken."""
    if not (folder / "config.json").is_file():
        raise CueError(f"no config.json in '{name}'", wanted=WANTED, do="check the path")
    return _json(folder / "config.json")


def processor_of(folder: Path) -> Preprocessing | None:
    """What the image processor of a folder does; None where it names none. Raises CueError where it does more."""
    file, kind, inner = folder / PROCESSOR, "", None
    if not file.is_file():
        # Where a model has a tokenizer too, newer versions write all in one file.
        file = folder / "processor_config.json"
        inner = _json(file).get("image_processor") if file.is_file() else None
        if not isinstance(inner, dict):
            return None
    values = _json(file) if inner is None else inner
    if not image_processors.kind_of(values) and (folder / "config.json").is_file():
        kind = _usual_processor(str(_json(folder / "config.json").get("model_type")))
    return image_processors.from_config(values, f"{folder.name}/{file.name}", kind)


def preprocessing_named(name: str) -> Preprocessing:
    """What the image processor of hf/FOLDER or hf/ORG/REPO does; no weights are fetched. Raises CueError."""
    if (how := processor_of(folder_of(name, ("*.json",)))) is not None:
        return how
    raise CueError(f"hf/{name} has no {PROCESSOR}", wanted="what an image processor wrote", do="give another one's")


def preprocessing_of(module: Any) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """What the folder that a network was loaded from says of its preprocessing, and a note that it was taken."""
    if hasattr(module, "timm_model"):
        from cuescope.classifier.sources import from_timm

        return from_timm.preprocessing_of(module.timm_model), ()
    path = getattr(getattr(module, "config", None), "_name_or_path", None)
    if not isinstance(path, str) or not path or not Path(path).is_dir():
        return None, ()
    if (how := processor_of(Path(path))) is None:
        return None, ()
    return how, (f"preprocessing from '{path}', where the network was loaded from",)


def classes_of(module: Any) -> ClassSpace | None:
    """The classes in its config's id2label, ordered by their numbers; None where there are none or they are unnamed.

    Raises CueError where a number is missing between others.
    """
    return _named(getattr(getattr(module, "config", None), "id2label", None), type(module).__name__)


def _named(labels: Any, owner: str) -> ClassSpace | None:
    if not isinstance(labels, dict) or not labels:
        return None
    names = {int(index): str(name) for index, name in labels.items()}
    if sorted(names) != list(range(len(names))):
        gap = next(i for i in range(len(names)) if i not in names)
        found = f"id2label of {owner} names {len(names)} classes, and none has the number {gap}"
        raise CueError(found, wanted="the numbers from 0 on without a gap", do="correct the config, or give classes=")
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names.values()):
        return None
    return ClassSpace("config", tuple(names[i] for i in range(len(names))))


def _architecture(config: dict[str, Any], name: str) -> tuple[Any, Any, list[str]]:
    """The class of the network, its config, and notes."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    kind, own = config.get("model_type"), config.get("auto_map")
    if kind not in CLASSES:
        found = f"hf/{name} is a model of type '{kind}', which is no image classifier of transformers"
        do = "give it as file.py:factory, which makes the network" if own else "choose an image classifier"
        if own:
            found = f"hf/{name} of type '{kind}' needs code of its own (auto_map), which is not run"
        raise CueError(found, wanted="a type such as vit, convnext, resnet, swin", do=do)
    if "quantization_config" in config:
        do = "give the weights as they were before"
        raise CueError(f"hf/{name} is quantized", wanted="weights in float32, float16 or bfloat16", do=do)
    named, said = CLASSES[kind], config.get("architectures") or ()
    options = (named,) if isinstance(named, str) else named
    network = next((option for option in options if option in said), options[0])
    try:
        with _quiet():
            settings = transformers.CONFIG_MAPPING[kind].from_dict(_without_code(config))
    except Exception as error:  # each config checks its values in ways of its own
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise CueError(f"config.json of hf/{name} cannot be used: {why}", wanted=WANTED, do="correct it") from None
    notes = [f"code of its own (auto_map) is not run: transformers' {network} is"] if own else []
    if config.get("problem_type") == "multi_label_classification":
        notes.append("its config says that several classes may be right at once: its logits are each for itself")
    return getattr(transformers, network), settings, notes


def _without_code(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _without_code(value) for key, value in config.items() if not NOT_READ.search(str(key))}
    return [_without_code(value) for value in config] if isinstance(config, list) else config


def _weights_in(folder: Path, name: str) -> Path:
    """The file of weights of a folder, or the index of several."""
    for file in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / file).is_file():
            return folder / file
    other = next((file for file in OTHERS if (folder / file).is_file()), "")
    found = f"hf/{name} has {other} alone" if other else f"hf/{name} has no model.safetensors"
    do = f"{SAFE}, or give it as hf/{name}@{folder / other}" if other.endswith(".bin") else SAFE
    raise CueError(found, wanted="weights as model.safetensors", do=do)


def _loaded(kind: Any, settings: Any, file: str | Path, name: str) -> tuple[Any, list[str]]:
    """The network with the weights of a file, and notes. Keys of older versions are renamed by transformers itself."""
    state, notes = _state(Path(file))
    network, report = _fitted(kind, settings, state)
    shapes = {tuple(sizes) for _, *sizes in report["mismatched_keys"]}
    counts = {a[0] for a, b in shapes if a[1:] == b[1:] and b[0] == settings.num_labels}
    if len(shapes) and len(counts) == 1 and all(b[0] == settings.num_labels for _, b in shapes):
        settings.num_labels = counts.pop()
        network, report = _fitted(kind, settings, state)
    other = [f"{key} {tuple(a)} in place of {tuple(b)}" for key, a, b in report["mismatched_keys"]]
    faults = [weights.listed("missing", sorted(report["missing_keys"])), weights.listed("of another shape", other)]
    if any(faults):
        found = f"the weights in '{file}' do not fit {kind.__name__}: " + "; ".join(filter(None, faults))
        raise CueError(found, wanted="a classifier with its head", do=f"check that hf/{name} is what they belong to")
    if left := sorted(report["unexpected_keys"]):
        notes.append(weights.listed("of the file's tensors left out", left))
    return network, notes


def _fitted(kind: Any, settings: Any, state: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    import torch

    how = {"config": settings, "state_dict": dict(state), "dtype": torch.float32}
    with _quiet():
        return kind.from_pretrained(None, ignore_mismatched_sizes=True, output_loading_info=True, **how)


def _state(file: Path) -> tuple[dict[str, Any], list[str]]:
    if file.suffix != ".json":
        state = weights.read(file)
        return state, list(state.notes)
    parts = _json(file).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise CueError(f"'{file}' names no files", wanted="an index that save_pretrained wrote", do="get it again")
    state = {}
    for part in sorted(set(parts.values())):
        state |= weights.read(file.with_name(Path(part).name))
    return state, []


def _preprocessing(folder: Path, settings: Any) -> tuple[Preprocessing, tuple[str, ...]]:
    """What its image processor does; where there is none, or it does more, what is assumed instead."""
    try:
        if (how := processor_of(folder)) is not None:
            return how, ()
        why = f"there is no {PROCESSOR}"
    except CueError as error:
        why = error.found
    side = getattr(settings, "image_size", None)
    base = usual(side if isinstance(side, int) else 224)
    return Preprocessing(base.size, base.resize, source=f"assumed: ImageNet's usual, since {why}"), ()


def _usual_processor(kind: str) -> str:
    """The image processor that transformers takes for a type of model."""
    need("hf")
    from transformers.models.auto import image_processing_auto

    names = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    return str((names.get(kind) or {}).get("torchvision") or "")


def _json(file: Path) -> dict[str, Any]:
    return read_object(file, wanted=WANTED, do="get it again")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own lines: what they say is told as notes and errors."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)  # critical
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Networks of timm by name."""

import sys
from typing import Any

from torch import nn

from cuescope.classifier.sources import hub
from cuescope.classifier.sources.found import RANDOM, SEED, Asked, Found
from cuescope.classifier.sources.weights import State, fit, read
from cuescope.core.errors import CueError, unknown
from cuescope.data.preprocessing import FILTERS, Preprocessing
from cuescope.models.seeding import seeded


def names() -> tuple[str, ...]:
    """All of timm's models that have weights, with their tags."""
    import timm

    return tuple(f"timm/{name}" for name in timm.list_models(pretrained=True))


def find(name: str, asked: Asked) -> Found:
    """A network of timm, trained, with weights from a file, or random. Raises CueError."""
    weights = asked.weights
    import timm

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
        state = read(weights)

        def build(classes: int | None) -> nn.Module:
            settings: dict[str, Any] = {} if classes is None else {"num_classes": classes}
            return seeded(SEED, lambda: timm.create_model(name, **settings))

        network, notes = fit(build, _converted(state, build), weights)
    return Found(network, preprocessing=preprocessing_of(network), notes=notes)


def preprocessing_of(module: Any) -> Preprocessing | None:
    """What timm's own evaluation does for this network; None where it is none of timm's."""
    if not hasattr(module, "pretrained_cfg"):
        return None
    from timm.data.config import resolve_model_data_config

    how = resolve_model_data_config(module)
    height, width = how["input_size"][1:]
    tag = module.pretrained_cfg.get("tag") or ""
    source = f"timm's data config of {module.pretrained_cfg.get('architecture', '')}{'.' if tag else ''}{tag}"
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

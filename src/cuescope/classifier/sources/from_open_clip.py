"""Models of open_clip as zero-shot classifiers: their prompts are encoded once, into a fixed linear head."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cuescope.classifier.sources import hub, open_clip_names, prompts
from cuescope.classifier.sources.found import RANDOM, SEED, Asked, Found
from cuescope.classifier.sources.known import need
from cuescope.classifier.sources.open_clip_names import CONFIG, FOLDER, HUB
from cuescope.classifier.sources.weights import State, fit, read
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.seeding import seeded
from cuescope.models.zero_shot import ZeroShot, head_of_prompts
from cuescope.network import hooks
from cuescope.network.executor import find_device

WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
"""Names of weights, in the order in which open_clip looks for them."""
TOKENIZING = frozenset({"clean", "strip_sep_token", "language"})
"""What a model's config may set of its tokenizer."""
FRAMING = ("mean", "std", "interpolation", "resize_mode")


class _Source(NamedTuple):
    """Where a model is from."""

    name: str
    """As open_clip has it: an architecture, or FOLDER and a folder with its config."""
    config: Mapping[str, Any]
    framing: Mapping[str, Any]
    """What is known of the preprocessing beside open_clip's own defaults."""
    known_from: str
    weights: str
    notes: tuple[str, ...] = ()
    quick_gelu: bool = False
    of_hub: bool = False


def names() -> tuple[str, ...]:
    """All published weights of open_clip's models; none where it is not installed."""
    return tuple(f"open_clip/{model}:{tag}" for model, tags in open_clip_names.models().items() for tag in tags)


def find(name: str, asked: Asked) -> Found:
    """A model of open_clip with the classes and templates that are asked for. Raises CueError."""
    need("open_clip")
    spec = f"open_clip/{name}"
    prompts.check([spec], asked.classes, asked.templates)
    chosen, templates = prompts.read_templates(asked.templates)
    classes, words, notes = prompts.named_classes(asked.classes)
    source = _source(name, asked.weights)
    tokenizer, called = _tokenizer(source, spec)
    model = _model(source, spec)
    if source.weights != RANDOM:
        notes += fit(lambda _: model, _converted(model, read(source.weights)), source.weights)[1]
    device = find_device(asked.device)
    model.eval().to(device)
    padding = getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", 0)
    full: list[str] = []

    def encode(texts: list[str]) -> Any:
        tokens = tokenizer(texts)
        full.extend(text for text, row in zip(texts, tokens, strict=True) if row[-1] != padding)
        return _encoded(model, tokens.to(device)).cpu()

    scale = float(model.logit_scale.detach().exp())
    bias = None if model.logit_bias is None else float(model.logit_bias.detach())
    with hooks.evaluating(model):
        head = head_of_prompts(encode, words, templates, scale=scale, bias=bias, progress=_progress(len(words)))
    model.to("cpu")
    image = model.visual
    if hasattr(image, "output_tokens"):
        image.output_tokens = False
    shown = f"the template '{templates[0]}'" if len(templates) == 1 else f"{len(templates)} templates"
    shown += (f" of {chosen}" if chosen else "") + (f" ('{templates[0]}', ...)" if len(templates) > 1 else "")
    about = [f"zero-shot: {len(words):,} classes of {classes.name} in {shown}"]
    about += [] if chosen else ["no templates were given: this plain one is taken; published results are of several"]
    about += [f"prompts are encoded once, by {called}; logits are cosines times {scale:.4g}"]
    if bias is not None:
        about.append(
            f"trained with a sigmoid for each pair (SigLIP), bias {bias:.4g}: the logits are compared among the classes"
        )
    if full:
        about.append(f"{len(full)} prompts fill all tokens, so that their end may be cut off, as '{full[0][:60]}'")
    untrained = ("untrained: random weights",) if source.weights == RANDOM else ()
    how = _preprocessing(image, source)
    return Found(ZeroShot(image, head), classes, how, (*untrained, *about, *notes, *source.notes), classes_asked=True)


def _source(name: str, weights: str) -> _Source:
    """Where the config and the weights are; what is fetched is fetched here."""
    open_clip_names.check(name, weights)
    import open_clip

    architecture, tag = open_clip_names.parts(name)
    if architecture.startswith(HUB):
        repository = architecture.removeprefix(HUB)
        with hub.fetching(f"open_clip/{name}"):
            folder = hub.from_hugging_face(repository, (CONFIG,)).parent
            weights = weights or str(hub.from_hugging_face(repository, WEIGHTS))
        return _of_folder(folder, weights)._replace(of_hub=True)
    if architecture.startswith(FOLDER):
        return _of_folder(Path(architecture.removeprefix(FOLDER)).expanduser(), weights)
    config: Any = open_clip.get_model_config(architecture)
    tags = {model: open_clip.list_pretrained_tags_by_model(model) for model in open_clip.list_models()}
    open_clip_names.refuse(architecture, tag, weights, tags)
    published: Any = [open_clip.get_pretrained_cfg(architecture, one) for one in ([tag] if tag else tags[architecture])]
    framings = [{key: one[key] for key in FRAMING if key in one} for one in published]
    # Weights of one's own: preprocessed as all published ones of the architecture are, where these agree.
    agreed = framings[0] if framings and all(one == framings[0] for one in framings) else {}
    of = f"of {architecture}:{tag}" if tag else f"of all weights of {architecture}" if agreed else "assumed: CLIP's"
    quick = bool(tag and published[0].get("quick_gelu")) and not config.get("quick_gelu")
    notes = ("QuickGELU, as these weights were trained",) if quick else ()
    if not weights:
        with hub.fetching(f"open_clip/{name}"):
            weights = _fetched(published[0])
    return _Source(architecture, config, agreed, of, weights, notes, quick)


def _fetched(published: Mapping[str, Any]) -> str:
    place, _, file = published.get("hf_hub", "").rpartition("/")
    if not place:
        return str(hub.checkpoint(published["url"]))
    safe = [f"{file.rpartition('.')[0]}.safetensors", file] if file else WEIGHTS
    return str(hub.from_hugging_face(place, safe))


def _of_folder(folder: Path, weights: str) -> _Source:
    path = folder / CONFIG
    try:
        found = parsed(path.read_text(encoding="utf-8"))
        config, framing = found["model_cfg"], found.get("preprocess_cfg") or {}
        kwargs = (config["text_cfg"].get("tokenizer_kwargs") or {}).keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CueError(f"'{path}' is no config of open_clip: {why}", wanted="model_cfg", do="save it again") from None
    if strange := sorted(kwargs - TOKENIZING):
        # These would go to transformers, which runs code of a repository where it is told to.
        found = f"'{path}' sets {', '.join(strange)} of the tokenizer"
        raise CueError(
            found, wanted=f"nothing but {', '.join(sorted(TOKENIZING))}", do="take it out of tokenizer_kwargs"
        )
    there = [str(folder / file) for file in WEIGHTS if (folder / file).is_file()]
    if not weights and not there:
        do = f"put them there as {WEIGHTS[0]}, or write @FILE or @{RANDOM} behind the folder"
        raise CueError(f"'{folder}' holds no weights", wanted=f"one of {', '.join(WEIGHTS[:3])}", do=do)
    return _Source(f"{FOLDER}{folder}", config, framing, f"in {CONFIG}", weights or there[0])


def _tokenizer(source: _Source, spec: str) -> tuple[Any, str]:
    """open_clip's own tokenizer for the model, which also cleans and pads, and what it is."""
    import open_clip

    text = source.config["text_cfg"]
    length = text.get("context_length", 77)
    named, folder = text.get("hf_tokenizer_name"), source.name.startswith(FOLDER)
    if not named:
        return open_clip.get_tokenizer(source.name), f"open_clip's BPE tokenizer, {length} tokens"
    need("hf")
    from open_clip.tokenizer import HFTokenizer

    in_folder = folder and not source.of_hub
    where = source.name.removeprefix(FOLDER) if in_folder else named
    do = "" if not in_folder else "put its tokenizer's files into the folder"
    with hub.fetching(spec, "tokenizer", do or f"fetch {named} into the hub's cache first"):
        tokenizer = HFTokenizer(
            where,
            context_length=length,
            tokenizer_mode=text.get("tokenizer_mode"),
            trust_remote_code=False,
            local_files_only=in_folder or not hub.answers(),
            **text.get("tokenizer_kwargs") or {},
        )
    clean = (text.get("tokenizer_kwargs") or {}).get("clean", "whitespace")
    return tokenizer, f"the tokenizer {named}, padded to {length} tokens, text cleaned by '{clean}'"


def _model(source: _Source, spec: str) -> Any:
    """The whole model with random weights. Raises CueError where its config cannot be built."""
    import open_clip

    if named := source.config["text_cfg"].get("hf_model_name"):
        need("hf")
        from transformers import AutoConfig

        with hub.fetching(spec, f"text tower {named}", f"fetch {named} into the hub's cache first"):
            AutoConfig.from_pretrained(named, trust_remote_code=False, local_files_only=not hub.answers())
    how: dict[str, Any] = {"load_weights": False, "pretrained_text": False, "force_quick_gelu": source.quick_gelu}
    framing = dict(source.framing)
    framing.pop("size", None)
    try:
        with _quiet():
            make = lambda: open_clip.create_model(source.name, force_preprocess_cfg=framing, **how)  # noqa: E731
            return seeded(SEED, make)
    except (RuntimeError, TypeError, ValueError, KeyError, AssertionError, AttributeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CueError(
            f"open_clip cannot build {spec}: {reason}", wanted="a config of open_clip", do="correct it"
        ) from error


def _converted(model: Any, state: State) -> State:
    """Tensors of other layouts in the model's names and shapes, as open_clip's load_checkpoint does it."""
    import torch
    from open_clip import convert, factory
    from open_clip import model as models

    tensors: Any = convert.convert_state_dict(model, dict(state))
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = models.convert_to_custom_text_state_dict(tensors)
    for key in ("logit_scale", "logit_bias"):
        if key in tensors and getattr(model, key) is not None and tensors[key].numel() == 1:
            tensors[key] = tensors[key].reshape(getattr(model, key).shape)
    if model.logit_bias is not None and "logit_bias" not in tensors and "logit_scale" in tensors:
        tensors["logit_bias"] = torch.zeros_like(tensors["logit_scale"])
    tensors.pop("text.transformer.embeddings.position_ids", None)
    factory.resize_pos_embed(tensors, model)
    factory.resize_text_pos_embed(tensors, model)
    return State(tensors, state.notes)


def _preprocessing(image: Any, source: _Source) -> Preprocessing:
    """What open_clip's own evaluation does."""
    how = image.preprocess_cfg
    size = how["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode, square = how.get("resize_mode") or "shortest", height == width
    if mode == "longest" and how.get("fill_color", 0):
        found = f"images on a ground of color {how['fill_color']}"
        raise CueError(found, wanted="black beyond the image", do="give preprocessing=Preprocessing(...)")
    filters = {"bilinear": "bilinear"} if square or mode != "shortest" else {}
    mean, std = ((v,) * 3 if isinstance(v, int | float) else tuple(v) for v in (how["mean"], how["std"]))
    return Preprocessing(
        size=(height, width),
        resize=height if square and mode == "shortest" else (height, width),
        # For a shape that is not square open_clip resizes bicubically, whatever the config says.
        interpolation=filters.get(how["interpolation"], "bicubic"),
        mean=mean,
        std=std,
        source=f"open_clip's, {source.known_from}",
        keep_aspect=mode != "squash",
        whole=mode == "longest",
    )


def _encoded(model: Any, tokens: Any) -> Any:
    """Embeddings of length 1. What stands behind the end of a text, and cannot be seen from there, is left out."""
    from torch import nn

    places, mask = getattr(model, "positional_embedding", None), getattr(model, "attn_mask", None)
    if places is None or mask is None or getattr(model, "text_pool_type", "") != "argmax":
        return model.encode_text(tokens, normalize=True)
    # A prompt has some 10 of 77 tokens: the rest is padding, six times the work.
    length = int(tokens.argmax(1).max()) + 1
    model.positional_embedding, model.attn_mask = nn.Parameter(places[:length]), mask[:length, :length]
    try:
        return model.encode_text(tokens[:, :length], normalize=True)
    finally:
        model.positional_embedding, model.attn_mask = places, mask


def _progress(total: int) -> Any:
    def show(done: int) -> None:
        if sys.stderr.isatty() and total > 100:
            print(f"\rprompts of {done} of {total} classes", end="\n" if done >= total else "", file=sys.stderr)

    return show


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's log, which says on each model without weights that it has none."""
    root, handler = logging.getLogger(), logging.NullHandler()
    before = root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)

"""Published weights, fetched once: checked before they are opened, kept as a file of nothing but tensors."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from cuescope.core.download import download
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import parsed, why_not, write
from cuescope.core.progress import Progress
from cuescope.core.published.weights import WEIGHTS, Weights

LARGEST = 2 << 30
"""Bytes that are downloaded at most: several times what there is."""
KEY = "published"
"""What the file's metadata say of where it comes from."""


class GotWeights(NamedTuple):
    """The file, how many of the 64 digits of its SHA-256 were known, what it is given as, and whether it is new."""

    path: Path
    digits: int
    spec: str
    """A model, as in "cuescope/bagnet33@FILE"; for a part of the stylizer the folder that it is in."""
    fresh: bool


def get_weights(
    name: str, folder: str | Path, *, url: str | None = None, progress: Progress | None = None
) -> GotWeights:
    """Which weights were published? A BagNet, a ResNet-50 of Stylized-ImageNet, a part of the stylizer AdaIN.

    The file at `url`, by default where its authors have it, is checked by its SHA-256, read without running anything
    in it, and tried in its network before FOLDER/NAME.safetensors is written. A download that was stopped goes on where
    the server can; a file that is there is left alone. Raises CueError for an unknown name, where there is no network,
    for other bytes than those published, for weights that do not fit, and where the folder cannot be written.

    >>> get_weights("bagnet33", "weights/").spec     # doctest: +SKIP
    'cuescope/bagnet33@weights/bagnet33.safetensors'
    """
    if name not in WEIGHTS:
        raise unknown("file of weights", name, WEIGHTS)
    known, path = WEIGHTS[name], Path(folder).expanduser() / f"{name}.safetensors"
    url = url or known.url
    spec = f"{known.model}@{path}" if known.model else str(path.parent)
    if _is_there(path, known):
        return GotWeights(path, len(known.sha256), spec, fresh=False)
    if not url.startswith(("https://", "http://")):
        raise CueError(f"the address '{url}'", wanted="one that begins with https:// or http://", do="correct --url")
    part = path.with_name(f".{name}.download")
    show = (lambda text: progress(0, 0, f"{name}: {text}")) if progress else (lambda _: None)
    use = f"{known.model}@FILE" if known.model else "the stylizer"
    do = f"run it again where there is a network, or fetch {url} elsewhere and give it to {use}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download(url, part, do=do, largest=LARGEST, progress=show)
        try:
            data = _converted(name, known, part, url)
        finally:
            part.unlink(missing_ok=True)
            part.with_suffix(".tag").unlink(missing_ok=True)
    except OSError as error:
        found = f"'{path.parent}' cannot be written: {why_not(error)}"
        raise CueError(found, wanted="a folder with room for the weights", do="check it, then run it again") from None
    write(path, data)
    return GotWeights(path, len(known.sha256), spec, fresh=True)


def _converted(name: str, known: Weights, part: Path, url: str) -> bytes:
    """A safetensors file of what was downloaded. Raises CueError for other bytes, before they are read as anything."""
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(known.sha256):
        found = f"what {url} gives has the SHA-256 {digest[:16]}..., not {known.sha256[:16]}"
        do = "do not use it; check the address, or run it again"
        raise CueError(found, wanted="the file as published", do=do)
    facts = {"url": url, "sha256": digest, "source": known.source}
    return _network(known.model, part, facts) if known.model else _stylizer_part(name, part, facts)


def _network(model: str, part: Path, facts: dict[str, str]) -> bytes:
    """The network, loaded as an audit loads it; beside its weights what its source does not know of it by itself."""
    from cuescope.classifier.sources import find
    from cuescope.core.classes import imagenet_1k
    from cuescope.models import saved

    found = find(f"{model}@{part}")[1]
    library, _, name = model.partition("/")
    if library != "cuescope":
        return saved.described(found.module, KEY, facts)
    assert found.preprocessing is not None
    return saved.to_bytes(found.module, saved.Saved(name, imagenet_1k(), found.preprocessing), facts)


def _stylizer_part(name: str, part: Path, facts: dict[str, str]) -> bytes:
    import safetensors.torch

    from cuescope.classifier.sources import weights
    from cuescope.models.adain import AdaIN, encoder_state

    state, network = weights.read(part), AdaIN()
    if name == "decoder":
        weights.fit(lambda _: network.decoder, state, part)
    else:
        weights.fit(lambda _: network.encoder, weights.State(encoder_state(state)), part)
    return safetensors.torch.save({k: v.contiguous() for k, v in state.items()}, {KEY: json.dumps(facts)})


def _is_there(path: Path, known: Weights) -> bool:
    """Whether the file is one that was written here of the bytes that are known."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        return any(str(parsed(text)["sha256"]).startswith(known.sha256) for text in told.values())
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return False

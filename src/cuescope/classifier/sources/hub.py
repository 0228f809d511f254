"""Weights from a model hub: an error soon, and one that helps, where it cannot be reached."""

import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuescope.core.download import download
from cuescope.core.errors import CueError

PATIENCE_S = 8.0
"""How long a connection may take to answer."""
FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights on Hugging Face's hub, in the order in which timm looks for them."""


@contextlib.contextmanager
def fetching(name: str, what: str = "weights", do: str = "") -> Iterator[None]:
    """Turn the failure of a download into a CueError that says how to give a local file."""
    try:
        yield
    except Exception as error:
        # Each client has its own exceptions: urllib's, httpx's, huggingface_hub's.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = f"the {what} of {name} could not be fetched: {reason}"
        do = do or f"give a local file, as in {name}@weights.safetensors, or {name}@random for an untrained network"
        raise CueError(found, wanted=f"a connection to the model hub, or the {what} in a file", do=do) from error


def checkpoint(url: str) -> Path:
    """The file at an address, in torch.hub's folder of checkpoints; its name may end with the start of its SHA-256."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    show = sys.stderr.isatty()

    def progress(done: str) -> None:
        if show:
            print(f"{path.name}: {done}", file=sys.stderr)

    download(url, part, do="give a local file", timeout_s=PATIENCE_S, progress=progress)
    part.with_suffix(".tag").unlink(missing_ok=True)
    start = re.search(r"-([a-f0-9]{8,})\.", path.name)
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if start and not digest.startswith(start[1]):
        part.unlink()
        raise CueError(f"{url} has another SHA-256 than its name says: {digest}")
    return part.replace(path)


def from_hugging_face(repository: str, files: Sequence[str] = FILES) -> Path:
    """The first of these files that a repository on Hugging Face's hub has, from its cache where the hub is silent."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    cached = not answers()
    name, _, revision = repository.partition("@")
    for file in files:
        with contextlib.suppress(EntryNotFoundError):
            how = {"revision": revision or None, "etag_timeout": PATIENCE_S, "local_files_only": cached}
            return Path(hf_hub_download(name, file, **how))
    raise FileNotFoundError(f"neither {' nor '.join(files)} of {name} is " + ("cached" if cached else "there"))


def folder(repository: str, patterns: Sequence[str]) -> Path:
    """A folder with the files of a repository on Hugging Face's hub, from its cache where the hub is silent."""
    from huggingface_hub import snapshot_download

    how = {"etag_timeout": PATIENCE_S, "local_files_only": not answers()}
    return Path(snapshot_download(repository, allow_patterns=list(patterns), **how))


def answers() -> bool:
    """Whether Hugging Face's hub answers. Asked once, since its client would retry for 47 s."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE_S)
    except Exception:  # the client's exceptions changed with its HTTP library; any of them means no answer
        return False
    return True

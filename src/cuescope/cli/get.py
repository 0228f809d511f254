"""`cuescope get`: other people's data and weights, which may be fetched but not shipped."""

import shlex
from pathlib import Path

from cyclopts import App

from cuescope.cli.terminal import progress, say

get = App(
    name="get",
    help="Other people's data and weights, fetched and checked.",
    help_format="markdown",
)


@get.command(name="human-data")
def human_data(folder: Path, /, *, url: str | None = None) -> None:
    """What people answered: the raw trials of Geirhos et al. 2019, for `cuescope audit --human-data`.

    Trials of people and networks as CSVs. The authors state no license for them.

    Args:
        folder: Where to put them. A download that was stopped goes on; a complete one is left alone.
        url: Another address of the same ZIP archive.
    """
    from cuescope.api.get import URL, get_human_data

    with progress() as show:
        got = get_human_data(folder, url=url or URL, progress=show)
    text = f"{got.files:,} files, {got.checked:,} of them checked against known digests: {got.path}"
    say(f"got {text}" if got.fresh else f"nothing to do, there are {text}")


@get.command(name="weights")
def weights(name: str, folder: Path, /, *, url: str | None = None) -> None:
    """Published weights: checked, read without running anything in them, kept as .safetensors.

    Args:
        name: bagnet9, bagnet17, bagnet33 (Brendel and Bethge 2019), resnet50-sin, resnet50-sin-in,
            resnet50-sin-in-finetuned-in (Geirhos et al. 2019), vgg_normalised, decoder (of the AdaIN stylizer).
        folder: Where to put NAME.safetensors. A download that was stopped goes on; a file that is there is left alone.
        url: Another address of the same file.
    """
    from cuescope.api.get_weights import get_weights

    with progress() as show:
        got = get_weights(name, folder, url=url, progress=show)
    text = f"{got.path}, of which {got.digits} of 64 digits of the SHA-256 are known and checked"
    say(f"got {text}" if got.fresh else f"nothing to do, there is {text}")
    spec = shlex.quote(got.spec)
    say(f"cuescope audit {spec} --images FOLDER" if "@" in got.spec else f"with both parts: --stylizer {spec}")

"""`cuescope export`: a classifier in, an ONNX file out."""

import shlex
from pathlib import Path

from cuescope.cli.models import USUAL, ModelOptions
from cuescope.cli.terminal import say, tell


def export(model: str, out: Path, /, *, how: ModelOptions = USUAL) -> None:
    """A classifier as an ONNX file, with its classes and preprocessing in the file's metadata.

    The file takes normalized images (B, 3, H, W) and gives logits; it is tried beside the network before it is
    written. Needs the extra onnx.

    Args:
        model: A training's folder, such as runs/mine, or any model as for `cuescope audit`.
        out: File to write, such as mine.onnx.
        how: Of the model.
    """
    from cuescope.api.export import export as do_export

    done = do_export(model, out, **how.given())
    say(f"its logits are those of the network within {done.gap:.0e} of the largest")
    tell(f"wrote {done.path} ({done.path.stat().st_size / 1e6:.1f} MB)")
    tell("next: " + shlex.join(["cuescope", "audit", str(done.path), "--images", "IMAGES"]))

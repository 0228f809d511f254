"""What a cure is given, and what is wrong with it: found out before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import known
from cuescope.core.errors import CueError
from cuescope.core.files import check_run_folder
from cuescope.runs.inputs import sources
from cuescope.training.cure import Cure

ABOUT = "cure.json"
"""What a folder is a cure of: without it the folder holds something else."""


@dataclass(frozen=True, kw_only=True)
class CureOptions:
    """What a cure is given. The docstring of a field is its help."""

    images: Any
    """Folder of labeled images, a folder for each class or with a labels.csv. Or world:VARIANT[:COUNT]."""
    out: str | Path = "cure"
    """Folder for the data, the trainings, the audit and the report. A cure that was stopped goes on."""
    labels: str | Path | None = None
    """CSV with the columns file,index."""
    limit: int | None = None
    """Take this many images, spread evenly over the folder."""
    styles: str | Path | None = None
    """Of shape_bias: folder of images whose textures to take, such as paintings; by default the images' own."""
    cue_conflict: str | Path | None = None
    """Folder of cue-conflict images to judge by; by default those of shape_bias are made of the images held out."""
    annotator: str | None = None
    """Of labels: the model that says what each part of an image shows; by default the model itself."""
    settings: Mapping[str, Any] | None = None
    """A setting of a stage, as in mixed.epochs=12. Can be repeated."""
    seed: int = 0
    """Of the images held out, and of all that is drawn while it is trained."""
    control: bool = True
    """Train another one as long on the same images without the remedy, to tell what the remedy itself did."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    def check(self, model: Any, cure: Cure) -> None:
        """Raise CueError for a mistaken path, name or setting. Takes part of a second and imports no torch."""
        known.check(model)
        cure.with_settings(self.settings or {})
        for name in ("images", "cue_conflict"):
            sources()[name.replace("_", "-")].check(getattr(self, name))
        if self.styles is not None:
            sources()["images"].check(self.styles)
        if self.annotator is not None:
            known.check(self.annotator)
        of = {"styles": "shape_bias", "annotator": "labels"}
        for name, only in of.items():
            if getattr(self, name) is not None and cure.name != only:
                raise CueError(f"--{name} with --for {cure.name}", wanted=f"it with {only}", do="leave it out")
        if self.limit is not None and self.limit < 1:
            raise CueError(f"limit is {self.limit}", wanted="at least 1 image", do="correct --limit")
        _check_folder(Path(self.out).expanduser(), self.images)


def _check_folder(path: Path, images: Any) -> None:
    """Raise CueError where no cure can be written to this folder. Creates nothing."""
    if not (path / ABOUT).is_file():
        check_run_folder(path)
        if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            found = f"'{path}' holds files that are no cure"
            raise CueError(found, wanted="a new folder, or that of a cure", do="choose another --out")
    folder = Path(images).expanduser() if isinstance(images, str | Path) else None
    if folder and folder.is_dir() and path.resolve().is_relative_to(folder.resolve()):
        found = f"--out {path} lies in --images {images}"
        raise CueError(found, wanted="a folder outside of the images", do="choose another --out")

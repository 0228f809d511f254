"""The options of an audit: those of the command line, the arguments in Python, and what the plan is built from."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from cuescope.classifier.sources import known as models
from cuescope.classifier.sources import prompts
from cuescope.core.class_files import IMAGENET
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import check_run_folder
from cuescope.core.parameters import parameters
from cuescope.core.processes import Shard, shard_of
from cuescope.core.remote import address
from cuescope.instruments import names as instruments
from cuescope.instruments import presets
from cuescope.instruments.presets import PresetName
from cuescope.runs.inputs import sources
from cuescope.runs.mirror import Mirror
from cuescope.runs.one_image import check_image

EngineName = Literal["inline", "local", "ray"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What an audit is asked to do, the models aside. The docstring of a field is its help.

    >>> AuditOptions.of(images="photos/", limit=10).inputs
    {'images': 'photos/'}
    """

    inputs: Mapping[str, Any]
    """What was given for each input (runs/inputs.py), by its role: a path, a name or an ImageSet."""
    preset: PresetName = "standard"
    """quick: the lines of the cue profile, from few images; standard: those from enough images for their verdicts, and
    what the inputs are given for; full: every instrument."""
    only: Sequence[str] = ()
    """Instruments to ask instead, separated by commas. See `cuescope list instruments`."""
    out: str | Path = "run"
    """Run folder, here or at an address, as s3://bucket/run. A run that was stopped goes on; one that is finished is
    left alone."""
    classes: Any = None
    """Names of the classifier's classes: a text file, one a line, or a JSON list; or imagenet-1k."""
    templates: Any = None
    """Prompts of a zero-shot classifier, open_clip/ARCH:TAG: a text file, one a line with {} for the class."""
    preprocessing: Any = None
    """In place of the model's own: a JSON file of its fields, or whose to take: timm/NAME, hf/FOLDER."""
    mean: Sequence[float] | None = None
    """Of red, green and blue in [0, 1], which the model's input is less: 0.485,0.456,0.406."""
    std: Sequence[float] | None = None
    """Of red, green and blue in [0, 1], which it is divided by."""
    size: int | Sequence[int] | None = None
    """Side of the model's input in px, or its height and width: 224,224."""
    resize: int | Sequence[int] | None = None
    """Length in px that the short side is resized to before the middle is cut out."""
    limit: int | None = None
    """Look at this many images, spread evenly over the folder."""
    minutes: float | None = None
    """Choose the numbers of images so that it takes about this long."""
    settings: Mapping[str, Any] | None = None
    """A parameter, as in --set occlusion.images=4. Can be repeated."""
    also: Sequence[str] = ()
    """A Python file with an instrument of your own. Can be repeated."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward passes."""
    batch_size: int = 32
    """Images in one forward pass; halved by itself where memory is short."""
    compile: bool = False
    """Compile the network first: pays on long runs only."""
    workers: int | None = None
    """Threads that decode images, of each process: as many as cores, at most 8, by default."""
    engine: EngineName = "inline"
    """What reads the images: inline, this process; local, several (--processes) on this machine; ray, on a Ray cluster.
    """
    processes: int | None = None
    """Of --engine local or ray: one for each GPU, else 2, by default."""
    shard: str | None = None
    """i/n: do only the i-th of n parts, as a job of an array; when all are done, the command without it concludes."""

    @classmethod
    def of(cls, **options: Any) -> AuditOptions:
        """The options by their Python names, inputs among them; None is one that was not given.

        Raises CueError for an unknown option and where no images are given.
        """
        known = described()
        if strange := sorted(options.keys() - known.keys()):
            raise unknown("option", strange[0], known)
        if options.get("images") is None:
            raise CueError("no images were given", wanted="a folder of images", do="give one: --images DIR")
        options = {name: value for name, value in options.items() if value is not None}
        for name in ("only", "also"):
            if isinstance(options.get(name), str | Path):
                options[name] = [options[name]]
        inputs = {s.role: options.pop(s.name) for s in sources().values() if s.name in options}
        return cls(inputs=inputs, **options)

    @property
    def asked(self) -> dict[str, dict[str, Any]]:
        """The instruments by name or file, each with its parameters: the preset's, and the user's own over them.

        Raises CueError for a preset, an instrument or a setting that there is not.
        """
        chosen = list(self.only) or presets.asked(self.preset)
        of_preset = presets.find(self.preset).settings
        settings = {key: value for key, value in of_preset.items() if key.partition(".")[0] in chosen}
        return instruments.asked(chosen, self.also, settings | dict(self.settings or {}))

    @property
    def most_images(self) -> int | None:
        """Images of each set at most; None for all."""
        return self.limit or presets.find(self.preset).limit

    def check(self, classifiers: Sequence[Any]) -> None:
        """Raise CueError for a mistaken path or name. Takes part of a second and imports no torch."""
        if not classifiers:
            raise CueError("no classifier was given", wanted="at least one model", do="see `cuescope list models`")
        for name, count in (("limit", self.limit), ("workers", self.workers), ("processes", self.processes)):
            if count is not None and (not isinstance(count, int) or count < 1):
                raise CueError(f"{name} is {count}", wanted="at least 1", do=f"correct --{name}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise CueError(f"minutes is {self.minutes:g}", wanted="more than 0", do="correct --minutes")
        self._check_engine(classifiers)
        instruments.check(self.asked)
        for source in sources().values():
            source.check(self.inputs.get(source.role))
        if url := address(self.out):
            Mirror(url).check()
        else:
            check_run_folder(Path(self.out))
        self._check_apart()
        check_models(classifiers, self.classes, self.templates, self.preprocessing)

    @property
    def part(self) -> Shard | None:
        """The shard as numbers. Raises CueError where it is none."""
        return shard_of(self.shard)

    def _check_engine(self, classifiers: Sequence[Any]) -> None:
        """Raise CueError where what is asked cannot be spread over processes."""
        if self.engine not in get_args(EngineName):
            raise unknown("engine", self.engine, get_args(EngineName))
        if self.processes is not None and self.engine == "inline":
            found, do = f"--processes {self.processes} with --engine inline", "give --engine local too"
            raise CueError(found, wanted="an engine that starts processes", do=do)
        if self.part and self.minutes is not None:
            found, do = "--minutes with --shard", "give --limit in place of --minutes"
            raise CueError(found, wanted="numbers of images that are equal for all parts", do=do)
        if (url := address(self.out)) and (self.part or self.engine == "ray"):
            found = f"--out {url} with " + (f"--shard {self.shard}" if self.part else "--engine ray")
            do = "give a folder that all machines see, or --engine local on one machine"
            raise CueError(found, wanted="one machine that writes to an address", do=do)
        live = [model for model in classifiers if not isinstance(model, str | Path)]
        if live and self.engine != "inline":
            found = f"{type(live[0]).__name__}, a live Python object, with --engine {self.engine}"
            do = "give a name, a file or file.py:factory, or --engine inline"
            raise CueError(found, wanted="models that other processes can load themselves", do=do)

    def _check_apart(self) -> None:
        """Raise CueError where the run would lie among the images, and its pictures become images of the next run."""
        for role, given in self.inputs.items():
            there, url = address(given), address(self.out)
            if there and f"{url}/".startswith(f"{there}/"):
                found = f"--out {url} lies in --{role} {there}"
                raise CueError(found, wanted="a run folder outside of the images", do="choose another --out")
            folder = Path(given).expanduser() if isinstance(given, str | Path) else None
            out = Path(os.path.realpath(self.out))
            if folder and folder.is_dir() and out.is_relative_to(os.path.realpath(folder)):
                found = f"--out {self.out} lies in --{role} {given}"
                raise CueError(found, wanted="a run folder outside of the images", do="choose another --out")


def check_look(
    instrument: str, model: Any, image: Any, out: Any, settings: Mapping[str, Any], how: Mapping[str, Any]
) -> Path:
    """The file that `look` writes. Raises CueError for a mistaken path or name, as AuditOptions.check does.

    `how` are arguments of `load`.
    """
    path = Path(out) if out else Path(f"{Path(instrument).stem}-{Path(image).stem}.png")
    if path.suffix.lower() not in (".png", ".gif"):
        raise CueError(f"--out {path}", wanted="a name that ends in .png, or in .gif", do="choose another --out")
    instruments.check({next(iter(instruments.asked([instrument], (), {}))): settings})
    check_image(image)
    instruments.check_looks(instrument)
    check_models([model], *(how.get(key) for key in ("classes", "templates", "preprocessing")))
    return path


def check_models(specs: Sequence[Any], classes: Any, templates: Any, preprocessing: Any) -> None:
    """Raise CueError for a mistaken path or name of models, and of what they are loaded with. Imports no torch."""
    if isinstance(classes, Path) and str(classes) != IMAGENET and not classes.expanduser().is_file():
        wanted = f"a file of class names, or {IMAGENET}"
        raise CueError(f"no file '{classes}'", wanted=wanted, do="check the path")
    models.check_preprocessing(preprocessing)
    for spec in specs:
        models.check(spec)
    prompts.check(specs, classes, templates)


def described() -> dict[str, tuple[Any, Any, str]]:
    """Type, default (MISSING: there is none) and help of each option by its Python name, the inputs first."""
    known = {key: about for key, about in parameters(AuditOptions).items() if key != "inputs"}
    # None where nothing is listed: what is typed is a text.
    own = {key: (kind, None if default == () else default, help) for key, (kind, default, help) in known.items()}
    kinds: dict[bool, Any] = {True: str | None, False: Path | None}
    inputs = {s.name: (kinds[s.world], None, s.help) for s in sources().values()}
    return inputs | {"images": (str, MISSING, sources()["images"].help)} | own


def keywords(
    options: Mapping[str, tuple[Any, Any, str]], annotate: Callable[[str, Any, str], Any]
) -> list[inspect.Parameter]:
    """Options by type, default (MISSING: there is none) and help as what a signature is made of."""
    found = []
    for name, (kind, default, meaning) in options.items():
        start = inspect.Parameter.empty if default is MISSING else default
        annotation = annotate(name, kind, meaning)
        found.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=start, annotation=annotation))
    return found


def with_options(annotate: Callable[[str, Any, str], Any]) -> Callable[[Function], Function]:
    """Give a function that takes **options a signature in which each has its name, default and annotation."""

    def decorate(function: Function) -> Function:
        first, *others, _ = inspect.signature(function).parameters.values()
        signature = inspect.Signature([first, *keywords(described(), annotate), *others])
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return decorate

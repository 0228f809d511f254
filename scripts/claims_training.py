"""Do the recipes do what the papers say? Train the small versions, several seeds each (docs/training_claims.md).

    python scripts/claims_training.py [--seeds 3] [--work claims-training] [--processes 2]

Trainings are kept in the work folder: a run that was stopped goes on where it was. All networks are those of the
built-in world, on images of 64 px; all are measured on the same images, which none has learned from. One thread each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cuescope
from cuescope.api.make import make
from cuescope.api.train import train
from cuescope.core.files import read_json
from cuescope.core.naming import SERIES
from cuescope.data.images import ImageSet, Sample
from cuescope.data.ops.crops import random_resized_crops
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import read_versions
from cuescope.methods.first_layers import FirstLayers
from cuescope.training.fit import fit_network
from cuescope.training.recipes import find
from cuescope.training.ten_crops import averaged
from cuescope.world.images import WorldImages
from cuescope.world.strategy import network_input

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training_claims.md"
BEGIN, END = "<!-- measured by scripts/claims_training.py -->", "<!-- end -->"
FAR = 1_000_003
"""Images are learned from far from the small seeds that they are measured on."""
TESTED, STYLIZED, VALIDATION = 960, 240, 192
"""Images of each kind that all are measured on; those that choose a schedule."""
POOL = LEARNED = 1200
"""Images to learn from: in other textures, and otherwise."""
STYLES = 256
"""Textures to take."""
WINDOW_PX, ENLARGED_PX = 64, 72
RESAMPLED = 2000

HALF_PX = 32
HALVED: dict[str, Any] = {
    **{"size_px": HALF_PX, "least": 1.0, "batch": 32, "learning_rate": 3e-3, "average": 0.99},
    "precision": "bfloat16",
}
"""What unlearns texture within minutes: whole images of half the side, at the rate of a training from new weights."""
CLEAN: dict[str, Any] = {**HALVED, "learning_rate": 2e-3, "epochs": 6}
TUNED: dict[str, Any] = {
    **{"size_px": HALF_PX, "whole": 0.5, "epochs": 4, "learning_rate": 1e-3, "precision": "bfloat16"},
}
"""A trained network trained on, as the small versions of the recipes do; half of the images are seen whole, as they are
measured: crops alone cost it 42 points of accuracy."""

Found = dict[str, NDArray[Any]]
"""By name a value for each held-out image, or for each filter."""


class Held(ImageSet):
    """Images that are decoded once."""

    def __init__(self, images: ImageSet) -> None:
        self.name, self.classes, self.knows, self.digest_of = images.name, images.classes, images.knows, images.digest
        self.samples = [images.read(i) for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.samples)

    def id(self, index: int) -> str:
        return self.samples[index].id

    def read(self, index: int) -> Sample:
        return self.samples[index]

    @property
    def digest(self) -> str:
        return self.digest_of


class Run(NamedTuple):
    """The trainings of one seed."""

    work: Path
    seed: int

    def images(self, variant: Any, count: int) -> Held:
        return Held(WorldImages(variant, count=count, seed=FAR * (1 + self.seed)))

    def train(self, name: str, recipe: str, images: ImageSet, variant: Any = "congruent", **changes: Any) -> nn.Module:
        """The network after the last step of the recipe's small version, with these settings changed."""
        settings = replace(find(recipe).small, seed=self.seed, device="cpu", **changes)
        # Tried after each epoch; neither learned from nor among the images of the table.
        validation = WorldImages(variant, count=VALIDATION, seed=FAR // 2)
        return fit_network(settings, images, out=self.work / f"{name}-{self.seed}", held_out=validation).network

    def before(self) -> nn.Module:
        """The world's congruent network, made used to images of half the side: what others are trained on from."""
        return self.train("before", "imagenet", stylized_once(self.work), model="cuescope/world-congruent", **CLEAN)

    def last(self, name: str, epochs: int) -> str:
        """The weights after the last of so many epochs of a training."""
        return str(self.work / f"{name}-{self.seed}" / SERIES / f"{epochs:04}.safetensors")


@torch.no_grad()
def said(network: nn.Module, pixels: Tensor) -> Tensor:
    """Logits (N, K) of images (N, 3, 64, 64) uint8."""
    return torch.cat([network(network_input(some)) for some in pixels.split(96)])


def right(network: nn.Module, variant: Any) -> NDArray[Any]:
    pixels, labels = WorldImages(variant, count=TESTED).render(range(TESTED))
    return (said(network, pixels).argmax(1) == labels).numpy().astype(float)


def shapes(network: nn.Module) -> NDArray[Any]:
    """Of each conflict image 1 for its shape, 0 for its texture, NaN for neither."""
    pixels, shape = WorldImages("conflict", count=TESTED).render(range(TESTED))
    texture = (shape + 1 + torch.arange(TESTED) // 16 % 15) % 16
    answer = said(network, pixels).argmax(1)
    decided = torch.where(answer == shape, 1.0, torch.where(answer == texture, 0.0, torch.nan))
    return decided.numpy()


def steady(network: nn.Module) -> NDArray[Any]:
    """Of each image whether two windows, at any two places of it enlarged, get the same answer (Zhang 2019)."""
    pixels, _ = WorldImages("congruent", count=TESTED).render(range(TESTED))
    size = (ENLARGED_PX, ENLARGED_PX)
    large = nn.functional.interpolate(pixels.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
    places = np.random.default_rng(0).integers(0, ENLARGED_PX - WINDOW_PX + 1, (2, TESTED, 2))
    answers = []
    for each in places.tolist():
        cut = [image[:, y : y + WINDOW_PX, x : x + WINDOW_PX] for image, (y, x) in zip(large, each, strict=True)]
        answers.append(said(network, torch.stack(cut)).argmax(1))
    return (answers[0] == answers[1]).numpy().astype(float)


def stylization(run: Run) -> Found:
    """Recipes stylized-a, -b and -c from the world's congruent network."""
    images, tried = stylized_once(run.work), _tried(run)
    how = {**HALVED, "stylized": str(run.work / "stylized")}
    found = tried("before", run.before())
    how["model"] = run.last("before", CLEAN["epochs"])
    found |= tried("A", run.train("a", "stylized-a", images, **how, epochs=8))
    found |= tried("B", run.train("b", "stylized-b", images, **how, epochs=4))
    # From B's weights after the last epoch: its best are the best on clean images.
    clean = {**HALVED, "model": run.last("b", 4), "learning_rate": 1e-3}
    return found | tried("C", run.train("c", "stylized-c", images, **clean, epochs=3))


def bagnet(run: Run) -> Found:
    """Recipe stylized-a from the world's BagNet, likewise."""
    images, tried = stylized_once(run.work), _tried(run)
    how = {**HALVED, "stylized": str(run.work / "stylized")}
    before = run.train("bagnet-before", "imagenet", images, model="cuescope/world-bagnet", **CLEAN)
    how["model"] = run.last("bagnet-before", CLEAN["epochs"])
    after = run.train("bagnet-a", "stylized-a", images, **how, epochs=8)
    return tried("bagnet before", before) | tried("bagnet A", after)


class Halved(nn.Module):
    """A network that sees images of half the side."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        size = (HALF_PX, HALF_PX)
        return self.network(nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True))


def _tried(run: Run) -> Callable[[str, nn.Module], Found]:
    seen, labels = stylized_apart(run.work)

    def tried(name: str, network: nn.Module) -> Found:
        network = Halved(network)
        stylized = (said(network, seen).argmax(1) == labels).numpy().astype(float)
        clean, shape = right(network, "congruent"), shapes(network)
        return {f"{name} clean": clean, f"{name} shape": shape, f"{name} stylized": stylized}

    return tried


def stylized_once(work: Path) -> ImageSet:
    """The images that all seeds learn from, each in the texture of another, made in the folder `stylized`."""
    images = Run(work, 0).images("congruent", POOL)
    styles = WorldImages("texture-only", count=STYLES, seed=FAR)
    make("stylized", images, work / "stylized", styles=styles, device="cpu", workers=1)
    return images


def stylized_apart(work: Path) -> tuple[Tensor, Tensor]:
    """Images in textures that nothing has learned from (N, 3, 64, 64) uint8, and their labels."""
    originals, styles = WorldImages("congruent", count=STYLIZED), WorldImages("texture-only", count=STYLES)
    folder = work / "stylized-held-out"
    make("stylized", originals, folder, styles=styles, device="cpu", workers=1)
    versions = read_versions(originals, "stylized", folder)
    labels = torch.tensor([versions.label(i) for i in range(len(versions))])
    return torch.stack([versions.version(i) for i in range(len(versions))]), labels


def tuning(run: Run) -> Found:
    """BlurPool fine-tuned, and the stronger crops, each beside the same training without."""
    images, weights = run.images("congruent", LEARNED), run.last("before", CLEAN["epochs"])
    crops, large = {**TUNED, "model": weights}, {**TUNED, "least": 0.75}
    found = _stood("tuned", run.train("tuned", "blurpool-fine-tuned", images, model=weights, **large))
    blurred = f"cuescope/world-congruent+blur4@{weights}"
    found |= _stood("blur tuned", run.train("blur-tuned", "blurpool-fine-tuned", images, model=blurred, **large))
    found |= _stood("usual crops", run.train("usual", "crops", images, **{**crops, "least": 0.08, "most": 1.0}))
    return found | _stood("strong crops", run.train("strong", "crops", images, **crops))


def scratch(run: Run) -> Found:
    """BlurPool from new weights, beside the same training without."""
    images, how = run.images("congruent", LEARNED), {**TUNED, "epochs": 12, "learning_rate": 4e-3}
    found = _stood("plain", run.train("plain", "imagenet", images, **how))
    return found | _stood("blur", run.train("blur", "blurpool", images, **how))


def _stood(name: str, network: nn.Module) -> Found:
    network = Halved(network)
    return {f"{name} steady": steady(network), f"{name} clean": right(network, "congruent")}


KINDS = ("label", "local-multi", "local-single", "global-multi", "global-single")


def relabeling(run: Run) -> Found:
    """ReLabel's targets, on images of several objects whose label is the largest one's."""
    images = run.images("several", LEARNED)
    maps = run.work / f"maps-{run.seed}"
    annotator = f"cuescope/world-congruent@{run.work / 'annotator.safetensors'}"
    make("label-maps", images, maps, model=annotator, device="cpu", workers=1)
    held, found = Held(WorldImages("several", count=TESTED)), dict[str, NDArray[Any]]()
    how = {**TUNED, "model": run.last("before", CLEAN["epochs"]), "label_maps": str(maps)}
    pixels = torch.stack([sample.pixels for sample in held.samples])
    random = np.random.default_rng(0)
    cuts = [random_resized_crops(64, 64, 1, random)[0].tolist() for _ in held.samples]
    parts = [image[None, :, y : y + h, x : x + w] for image, (y, x, h, w) in zip(pixels, cuts, strict=True)]
    crops = torch.cat([nn.functional.interpolate(part, (64, 64), mode="bilinear", antialias=True) for part in parts])
    for kind in KINDS:
        network = run.train(kind, "relabel", images, "several", targets=kind, **how)
        network = Halved(network)
        logits = said(network, pixels)
        found[f"{kind} label"] = np.array([float(int(s.label or 0) == int(i)) for s, i in _top(held, logits)])
        found[f"{kind} any"] = np.array([float(int(i) in s.labels) for s, i in _top(held, logits)])
        found[f"{kind} all"] = np.array(
            [len({*row.topk(len(s.labels)).indices.tolist()} & {*s.labels}) / len(s.labels)
             for s, row in zip(held.samples, logits, strict=True)]
        )  # fmt: skip
        found[f"{kind} crop"] = np.array([float(int(i) in s.labels) for s, i in _top(held, said(network, crops))])
    return found


def _top(held: Held, logits: Tensor) -> list[tuple[Sample, int]]:
    return list(zip(held.samples, logits.argmax(1).tolist(), strict=True))


def first_layers(run: Run) -> Found:
    """ZFNet and the network of 2012, an eighth as wide: their first layers, and what ten crops add."""
    images, tested = run.images("congruent", LEARNED), Held(WorldImages("congruent", count=TESTED))
    how, found = Preprocessing((64, 64), 73), dict[str, NDArray[Any]]()
    for name in ("zfnet", "alexnet"):
        network = run.train(name, name, images)
        answers = averaged([network], tested, how)
        found |= {f"{name} single": answers.single, f"{name} ten": answers.ten, "labels": answers.labels}
        classifier = cuescope.Classifier(network, classes=tested.classes, preprocessing=how, device="cpu")
        layers = FirstLayers.of(classifier)
        assert layers is not None
        prepared = classifier.prepare(tested.samples[:64])
        seen = [layers.responses(image) for image in prepared]
        found[f"{name} dead"] = (torch.stack([peak for peak, _, _ in seen]).amax(0) <= 0).numpy().astype(float)
        for number in (1, 2):
            parts: list[Any] = [one[number] for one in seen]
            folded = torch.stack(parts)
            found[f"{name} aliasing {number}"] = folded.nanmean(1).numpy()
    return found


JOBS: dict[str, Callable[[Run], Found]] = {
    "stylization": stylization,
    "tuning": tuning,
    "relabeling": relabeling,
    "first_layers": first_layers,
    "bagnet": bagnet,
    "scratch": scratch,
}


def do(job: str, run: Run) -> float:
    """Do a job unless it is done; the seconds that it took."""
    torch.set_num_threads(1)
    began, file = time.perf_counter(), run.work / f"{job}-{run.seed}.npz"
    if not file.is_file():
        found: Any = JOBS[job](run)
        part = file.with_suffix(".part.npz")
        np.savez(part, **found)
        part.rename(file)
    return time.perf_counter() - began


class Claim(NamedTuple):
    """A direction: what is said to be more, and what less; `published` the paper's numbers."""

    title: str
    more: str
    less: str
    published: str


CLAIMS = (
    Claim("Stylized images alone turn texture to shape: shape bias", "A shape", "before shape",
          "22 to 81 % (ResNet-50)"),
    Claim("Stylized images and originals turn texture to shape: shape bias", "B shape", "before shape", "no number"),
    Claim("Stylized C goes by shape more than before: shape bias", "C shape", "before shape", "no number"),
    Claim("Stylized C is better than B on clean images: accuracy", "C clean", "B clean",
          "top-1 74.6 to 76.7 %"),
    Claim("A ResNet learns stylized images better than a BagNet: accuracy on stylized images", "A stylized",
          "bagnet A stylized", "top-5 79.0 against 10.0 to 48.9 %"),
    Claim("Stylized images alone make a ResNet go by shape more than a BagNet: shape bias", "A shape", "bagnet A shape",
          "no number for BagNets"),
    Claim("BlurPool from scratch: consistency", "blur steady", "plain steady",
          "ResNet-18 85.1 to 88.1 %, ResNet-50 89.2 to 91.3 %"),
    Claim("BlurPool from scratch: accuracy", "blur clean", "plain clean",
          "ResNet-18 69.7 to 71.5 %"),
    Claim("BlurPool fine-tuned: consistency", "blur tuned steady", "tuned steady",
          "ResNet-50 89.2 to 91.3 %"),
    Claim("Crops of .3 to .8 against .08 to 1: consistency", "strong crops steady", "usual crops steady",
          "a partial solution, no number"),
    Claim("Crops of .3 to .8 against .08 to 1: accuracy, not claimed", "strong crops clean", "usual crops clean",
          "no number"),
    Claim("ReLabel against labels: accuracy by any label", "local-multi any", "label any",
          "ReaL 83.6 to 85.0 %"),
    Claim("ReLabel against labels: accuracy by the image's label", "local-multi label", "label label",
          "77.5 to 78.9 %"),
    Claim("ReLabel against labels: all labels found (multi-label)", "local-multi all", "label all",
          "better, no number found"),
    Claim("Local against global maps, several classes: accuracy by any label", "local-multi any", "global-multi any",
          "78.9 against 78.5 %"),
    Claim("Local against global maps, one class: accuracy by any label", "local-single any", "global-single any",
          "78.4 against 77.5 %"),
    Claim("Local against global maps, several classes: an object in a random crop named", "local-multi crop",
          "global-multi crop", "no number"),
    Claim("Several classes against one, local: accuracy by any label", "local-multi any", "local-single any",
          "78.9 against 78.4 %"),
    Claim("Several classes against one, global: accuracy by any label", "global-multi any", "global-single any",
          "78.5 against 77.5 %"),
    Claim("The network of 2012 has more dead filters than ZFNet", "alexnet dead", "zfnet dead",
          "more, no number"),
    Claim("The network of 2012 aliases more than ZFNet: layer 1", "alexnet aliasing 1", "zfnet aliasing 1",
          "more, no number"),
    Claim("The network of 2012 aliases more than ZFNet: layer 2", "alexnet aliasing 2", "zfnet aliasing 2",
          "more, no number"),
    Claim("ZFNet: ten crops against one", "ten crops", "single", "an error lower by 1 to 2 points"),
    Claim("ZFNet: all seeds as an ensemble against one", "ensemble", "single",
          "error 38.4 to 36.7 % by five networks"),
    Claim("ZFNet: ensemble with ten crops against one network, one crop", "ensemble of ten", "single",
          "error 38.4 to 36.0 % by six networks"),
)  # fmt: skip


def asked_more(found: Sequence[Found]) -> None:
    """Add right or wrong by one crop, ten crops, and the ensemble, which is the same for each seed."""
    for kind, one, all_ in (("single", "single", "ensemble"), ("ten", "ten crops", "ensemble of ten")):
        together = sum(each[f"zfnet {kind}"] for each in found)
        for each in found:
            each[one] = (each[f"zfnet {kind}"].argmax(1) == each["labels"]).astype(float)
            each[all_] = (np.asarray(together).argmax(1) == each["labels"]).astype(float)


def spread(more: NDArray[Any], less: NDArray[Any]) -> tuple[float, float, float]:
    """The difference of means of (seeds, images), and its 95 % interval over both seeds and images drawn again."""
    random, (seeds, width), drawn = np.random.default_rng(0), more.shape, []
    alike = less.shape[1] == width
    for _ in range(RESAMPLED):
        which = random.integers(seeds, size=(seeds, 1))
        at = random.integers(width, size=(1, width))
        other = at if alike else random.integers(less.shape[1], size=(1, less.shape[1]))
        drawn.append(np.nanmean(more[which, at]) - np.nanmean(less[which, other]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.nanmean(more) - np.nanmean(less)), float(low), float(high)


def table(work: Path, seeds: int) -> list[str]:
    lines = ["| what the papers say | seeds | with | without | difference, points (95 %) | here | published |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    seen: list[Found] = []
    for seed in range(seeds):
        files = [work / f"{job}-{seed}.npz" for job in JOBS]
        seen.append({key: value for file in files if file.is_file() for key, value in np.load(file).items()})
    asked_more([one for one in seen if "labels" in one])
    for claim in CLAIMS:
        if not (found := [one for one in seen if {claim.more, claim.less} <= one.keys()]):
            lines.append(f"| {claim.title} | 0 | | | | not run | {claim.published} |")
            continue
        more, less = (np.stack([one[key] for one in found]) for key in (claim.more, claim.less))
        value, low, high = spread(more, less)
        answer = "yes" if low > 0 else "no, the opposite" if high < 0 else "not shown"
        cells = [claim.title, str(len(found)), f"{np.nanmean(more):.1%}", f"{np.nanmean(less):.1%}",
                 f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})", answer, claim.published]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *trainings(work, seeds)]


def trainings(work: Path, seeds: int) -> list[str]:
    """How long each learned and what, and how often it was right on the validation images in the end."""
    lines = ["| training | network | images x epochs | learning rate | validation accuracy, of each seed |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    folders = sorted(work.glob("*-[0-9]/training.json"), key=lambda file: file.stat().st_mtime)
    for name in dict.fromkeys(file.parent.name[:-2] for file in folders):
        right = [_validated(work / f"{name}-{seed}") for seed in range(seeds)]
        about = read_json(next(file for file in folders if file.parent.name[:-2] == name))
        how, seen = about["settings"], f"{about['images']['count']:,} x {about['settings']['epochs']}"
        model = how["model"].removeprefix("cuescope/") if "@random" in how["model"] else "goes on"
        cells = [name, model, seen, f"{how['optimizer']} {how['learning_rate']:g}", ", ".join(filter(None, right))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _validated(folder: Path) -> str:
    if not (folder / "metrics.parquet").is_file():
        return ""
    return f"{pl.read_parquet(folder / 'metrics.parquet')['held_out_accuracy'].drop_nulls()[-1]:.0%}"


def write(page: Path, lines: Sequence[str]) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{rest.partition(END)[2]}"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("claims-training"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    annotator, began = options.work / "annotator.safetensors", time.perf_counter()
    if "relabeling" in options.jobs and not annotator.is_file():
        train("world-annotator", annotator)
    if {"stylization", "bagnet"} & {*options.jobs}:
        stylized_apart(options.work)
        stylized_once(options.work)
    if {*options.jobs} - {"first_layers", "bagnet", "scratch"}:
        for seed in range(options.seeds):
            Run(options.work, seed).before()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        todo = {
            pool.submit(do, job, Run(options.work, seed)): (job, seed)
            for job in options.jobs
            for seed in range(options.seeds)
        }
        for future in as_completed(todo):
            job, seed = todo[future]
            print(f"{job}, seed {seed}: {future.result():.0f} s", flush=True)
            # Each job is on the page as soon as it is done.
            write(options.page, table(options.work, options.seeds))
    write(options.page, lines := table(options.work, options.seeds))
    print("\n".join(lines), f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

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
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cuescope
from cuescope.api.make import make
from cuescope.api.train import train
from cuescope.data.images import ImageSet, Sample
from cuescope.data.ops.crops import random_resized_crops
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import read_versions
from cuescope.methods.first_layers import FirstLayers
from cuescope.training.fit import fit_network
from cuescope.training.recipes import find
from cuescope.training.ten_crops import averaged
from cuescope.world.images import WorldImages
from cuescope.world.models import load_world
from cuescope.world.strategy import network_input

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training_claims.md"
BEGIN, END = "<!-- measured by scripts/claims_training.py -->", "<!-- end -->"
FAR = 1_000_003
"""Images are learned from far from the small seeds that they are measured on."""
TESTED, STYLIZED, POOL = 960, 240, 512
LEARNED = 1500
WINDOW_PX, ENLARGED_PX = 64, 72
RESAMPLED = 2000

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

    def train(self, name: str, recipe: str, images: ImageSet, **changes: Any) -> nn.Module:
        """The network after the last step of the recipe's small version, with these settings changed."""
        settings = replace(find(recipe).small, seed=self.seed, device="cpu", **changes)
        return fit_network(settings, images, out=self.work / f"{name}-{self.seed}", held_out=SOME()).network


def SOME() -> ImageSet:  # noqa: N802 - made anew for each training, as its name says of no variant
    return WorldImages("congruent", count=64, seed=FAR // 2)


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
    """Recipes stylized-a, -b, -c from the world's congruent network, and A from its BagNet."""
    images = run.images("congruent", POOL)
    folder, tested = run.work / f"stylized-{run.seed}", run.work / "stylized-held-out"
    make("stylized", images, folder, styles="world:texture-only:256", device="cpu", workers=1)
    originals, seen = WorldImages("congruent", count=STYLIZED), []
    make("stylized", originals, tested / f"{run.seed}", styles="world:texture-only:256", device="cpu", workers=1)
    versions = read_versions(originals, "stylized", tested / f"{run.seed}")
    labels = torch.tensor([versions.label(i) for i in range(len(versions))])
    seen = torch.stack([versions.version(i) for i in range(len(versions))])
    found: Found = {}

    def measure(name: str, network: nn.Module) -> None:
        found[f"{name} clean"], found[f"{name} shape"] = right(network, "congruent"), shapes(network)
        found[f"{name} stylized"] = (said(network, seen).argmax(1) == labels).numpy().astype(float)

    how = {"stylized": str(folder), "epochs": 25}
    measure("before", load_world("world-congruent"))
    measure("A", run.train("a", "stylized-a", images, **how))
    measure("B", run.train("b", "stylized-b", images, **{**how, "epochs": 12}))
    # From B's weights after the last epoch: its best are the best on clean images.
    last = run.work / f"b-{run.seed}" / "best.safetensors"
    measure("C", run.train("c", "stylized-c", images, model=str(last), epochs=10))
    measure("bagnet before", load_world("world-bagnet"))
    measure("bagnet A", run.train("bagnet-a", "stylized-a", images, model="cuescope/world-bagnet", **how))
    return found


def consistency(run: Run) -> Found:
    """BlurPool from scratch and fine-tuned, and the stronger crops, each beside the same training without."""
    images, found = run.images("congruent", LEARNED), {}

    def measure(name: str, network: nn.Module) -> None:
        found[f"{name} steady"], found[f"{name} clean"] = steady(network), right(network, "congruent")

    measure("plain", run.train("plain", "imagenet", images))
    measure("blur", run.train("blur", "blurpool", images))
    measure("tuned", run.train("tuned", "blurpool-fine-tuned", images, model="cuescope/world-congruent"))
    measure("blur tuned", run.train("blur-tuned", "blurpool-fine-tuned", images))
    measure("usual crops", run.train("usual", "crops", images, least=0.08, most=1.0))
    measure("strong crops", run.train("strong", "crops", images))
    return found


KINDS = ("label", "local-multi", "local-single", "global-multi", "global-single")


def relabeling(run: Run) -> Found:
    """ReLabel's targets, on images of several objects whose label is the largest one's."""
    images = run.images("several", LEARNED)
    maps = run.work / f"maps-{run.seed}"
    annotator = f"cuescope/world-congruent@{run.work / 'annotator.safetensors'}"
    make("label-maps", images, maps, model=annotator, device="cpu", workers=1)
    held, found = Held(WorldImages("several", count=TESTED)), {}
    pixels = torch.stack([sample.pixels for sample in held.samples])
    random = np.random.default_rng(0)
    cuts = [random_resized_crops(64, 64, 1, random)[0].tolist() for _ in held.samples]
    parts = [image[None, :, y : y + h, x : x + w] for image, (y, x, h, w) in zip(pixels, cuts, strict=True)]
    crops = torch.cat([nn.functional.interpolate(part, (64, 64), mode="bilinear", antialias=True) for part in parts])
    for kind in KINDS:
        network = run.train(kind, "relabel", images, targets=kind, label_maps=str(maps))
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
    how, found = Preprocessing((64, 64), 73), {}
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
            folded = torch.stack([one[number] for one in seen])
            found[f"{name} aliasing {number}"] = folded.nanmean(1).numpy()
    return found


JOBS: dict[str, Callable[[Run], Found]] = {
    "stylization": stylization,
    "consistency": consistency,
    "relabeling": relabeling,
    "first_layers": first_layers,
}


def do(job: str, run: Run) -> float:
    """Do a job unless it is done; the seconds that it took."""
    torch.set_num_threads(1)
    began, file = time.perf_counter(), run.work / f"{job}-{run.seed}.npz"
    if not file.is_file():
        found = JOBS[job](run)
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
    job: str


CLAIMS = (
    Claim("Stylized images alone turn texture to shape: shape bias", "A shape", "before shape",
          "22 to 81 % (ResNet-50)", "stylization"),
    Claim("Stylized C is better than B on clean images: accuracy", "C clean", "B clean",
          "top-1 74.6 to 76.7 %", "stylization"),
    Claim("A ResNet learns stylized images better than a BagNet: accuracy on stylized images", "A stylized",
          "bagnet A stylized", "top-5 79.0 against 10.0 to 48.9 %", "stylization"),
    Claim("BlurPool from scratch: consistency", "blur steady", "plain steady",
          "ResNet-18 85.1 to 88.1 %, ResNet-50 89.2 to 91.3 %", "consistency"),
    Claim("BlurPool from scratch: accuracy", "blur clean", "plain clean",
          "ResNet-18 69.7 to 71.5 %", "consistency"),
    Claim("BlurPool fine-tuned: consistency", "blur tuned steady", "tuned steady",
          "ResNet-50 89.2 to 91.3 %", "consistency"),
    Claim("Crops of .3 to .8 against .08 to 1: consistency", "strong crops steady", "usual crops steady",
          "a partial solution, no number", "consistency"),
    Claim("ReLabel against labels: accuracy by any label", "local-multi any", "label any",
          "ReaL 83.6 to 85.0 %", "relabeling"),
    Claim("ReLabel against labels: accuracy by the image's label", "local-multi label", "label label",
          "77.5 to 78.9 %", "relabeling"),
    Claim("ReLabel against labels: all labels found (multi-label)", "local-multi all", "label all",
          "better, no number found", "relabeling"),
    Claim("Local against global maps, several classes: accuracy by any label", "local-multi any", "global-multi any",
          "78.9 against 78.5 %", "relabeling"),
    Claim("Local against global maps, one class: accuracy by any label", "local-single any", "global-single any",
          "78.4 against 77.5 %", "relabeling"),
    Claim("Local against global maps, several classes: an object in a random crop named", "local-multi crop",
          "global-multi crop", "no number", "relabeling"),
    Claim("Several classes against one, local: accuracy by any label", "local-multi any", "local-single any",
          "78.9 against 78.4 %", "relabeling"),
    Claim("The network of 2012 has more dead filters than ZFNet", "alexnet dead", "zfnet dead",
          "more, no number", "first_layers"),
    Claim("The network of 2012 aliases more than ZFNet: layer 1", "alexnet aliasing 1", "zfnet aliasing 1",
          "more, no number", "first_layers"),
    Claim("The network of 2012 aliases more than ZFNet: layer 2", "alexnet aliasing 2", "zfnet aliasing 2",
          "more, no number", "first_layers"),
    Claim("ZFNet: ten crops against one", "ten crops", "single", "an error lower by 1 to 2 points", "first_layers"),
    Claim("ZFNet: all seeds as an ensemble against one", "ensemble", "single",
          "error 38.4 to 36.7 % by five networks", "first_layers"),
    Claim("ZFNet: ensemble with ten crops against one network, one crop", "ensemble of ten", "single",
          "error 38.4 to 36.0 % by six networks", "first_layers"),
)  # fmt: skip


def asked_more(found: Sequence[Found]) -> list[Found]:
    """Right or wrong by one crop, ten crops, and the ensemble, which is the same for each seed."""
    labels, more = found[0]["labels"], []
    both = {kind: np.mean([one[f"zfnet {kind}"] for one in found], 0).argmax(1) == labels for kind in ("single", "ten")}
    for one in found:
        ours = {kind: (one[f"zfnet {kind}"].argmax(1) == labels).astype(float) for kind in ("single", "ten")}
        more.append({"single": ours["single"], "ten crops": ours["ten"], "ensemble": both["single"].astype(float),
                     "ensemble of ten": both["ten"].astype(float)})  # fmt: skip
    return more


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
    lines = ["| what the papers say | with | without | difference, points (95 %) | here | published |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    results: dict[str, list[Found]] = {}
    for job in JOBS:
        files = [work / f"{job}-{seed}.npz" for seed in range(seeds)]
        results[job] = [dict(np.load(file)) for file in files if file.is_file()]
    if layers := results["first_layers"]:
        results["first_layers"] = [a | b for a, b in zip(layers, asked_more(layers), strict=True)]
    for claim in CLAIMS:
        if not (found := results[claim.job]):
            lines.append(f"| {claim.title} | | | | not measured | {claim.published} |")
            continue
        more, less = (np.stack([one[key] for one in found]) for key in (claim.more, claim.less))
        value, low, high = spread(more, less)
        answer = "yes" if low > 0 else "no, the opposite" if high < 0 else "not shown"
        cells = [claim.title, f"{np.nanmean(more):.1%}", f"{np.nanmean(less):.1%}",
                 f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})", answer, claim.published]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    done = ", ".join(f"{job} {len(found)}" for job, found in results.items())
    return [*lines, "", f"Seeds: {done.replace('_', ' ')}."]


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
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        todo = {
            pool.submit(do, job, Run(options.work, seed)): (job, seed)
            for seed in range(options.seeds)
            for job in options.jobs
        }
        for future in as_completed(todo):
            job, seed = todo[future]
            print(f"{job}, seed {seed}: {future.result():.0f} s", flush=True)
    lines = table(options.work, options.seeds)
    print("\n".join(lines), f"\n{time.perf_counter() - began:.0f} s")
    before, _, rest = options.page.read_text().partition(BEGIN)
    options.page.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{rest.partition(END)[2]}"]))


if __name__ == "__main__":
    main()

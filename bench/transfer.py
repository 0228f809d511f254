"""What does probing cost beyond a bare pass, and how fast is its solver?

    python bench/transfer.py [--model torchvision/mobilenet_v2@random] [--images 400] [--rounds 3]
    python bench/transfer.py --memory 1000 50000    peak memory for so many images, each number in its own process

On one thread, by the clock of the process. A bare pass decodes, resizes and runs the world's images, 32 at a time;
probing keeps 8 layers on the way and writes them. The solver learns what told_of learns (five parts and six penalties),
scikit-learn's LogisticRegression with its defaults the same problems one after another, from the same features of the
last layer; labels are the world's. The bars: 1.2 times the bare pass; a solver at least as fast, its accuracy within
half a point.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.findings import About, Conclusion
from cuescope.data.readers.beside import Beside
from cuescope.instruments.base import Instrument, Rows
from cuescope.instruments.layer_probe import LayerProbe
from cuescope.instruments.registry import build
from cuescope.methods.layer_features import layers_of
from cuescope.methods.linear_probe import fit
from cuescope.methods.probing import FOLDS, PENALTIES, Labeled, parts_of, standardized, told_of
from cuescope.runs.runner import run
from cuescope.runs.store import Cell, Run
from cuescope.runs.task import BATCH, Task
from cuescope.world.images import WorldImages

PENALTY = 1e-2
"""Of a single problem."""
TOOLS = ("layer_probe", "few_shot", "label_issues")


class Silent(LayerProbe):
    """Looks and writes, and concludes nothing."""

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        return Conclusion(verdict=self.say("nothing", why="nothing is asked"))


def bare(classifier: Classifier, images: WorldImages) -> float:
    """Seconds of a pass that keeps nothing."""
    started, count = time.process_time(), len(images)
    groups = [list(range(at, min(at + BATCH, count))) for at in range(0, count, BATCH)]
    for samples, _ in images.stream(groups, 1):
        classifier.see([sample for _, sample in samples])
    return time.process_time() - started


def probed(classifier: Classifier, images: WorldImages) -> tuple[float, Cell]:
    """Seconds of the same pass with 8 layers kept and written, and the cell."""
    tool = Silent(control=False, svm=False)
    task = Task(classifier, images, tool, tuple(range(16)))
    started = time.process_time()
    (cell,) = run([task], Run.create(tempfile.mkdtemp()), workers=1)
    return time.process_time() - started, cell


def concluded(names: Sequence[str], count: int) -> None:
    """Look at so many images with instruments, in one pass, and conclude; print the peak of memory after each step."""
    classifier, images = load("cuescope/world-congruent", device="cpu"), WorldImages("congruent", count=count)
    if "near_duplicates" in names:
        images = Beside(images, WorldImages("congruent", count=count, seed=1))
    tools = [build(name, {"control": False} if name in ("layer_probe", "few_shot") else {}) for name in names]
    tasks = [Task(classifier, images, watched(tool), tuple(range(16))) for tool in tools]
    started = time.monotonic()
    for cell in run(tasks, Run.create(tempfile.mkdtemp()), workers=1):
        assert cell.concluded, cell.error
    print(f"the end {peak():.0f} ({time.monotonic() - started:.0f} s)")


def watched(tool: Instrument) -> Instrument:
    """One that prints the peak of memory before it concludes."""

    class Watching(type(tool)):
        def conclude(self, rows: Rows, about: About) -> Conclusion:
            print(f"before {type(tool).__name__} {peak():.0f} MiB, ", end="")
            return super().conclude(rows, about)

    return Watching(**asdict(tool))


def peak() -> float:
    """The most memory that the process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def solved(features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Seconds and accuracy of ours."""
    started = time.process_time()
    told = told_of(standardized(features), classes)
    return time.process_time() - started, float((told.answers == classes).mean())


def solved_by_others(features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Seconds and accuracy of scikit-learn: the same parts, penalties and choice, one problem after another."""
    started = time.process_time()
    x, part = standardized(features).numpy(), parts_of(classes)
    answers = np.empty_like(classes)

    def learn(chosen: np.ndarray, penalty: float) -> LogisticRegression:
        return LogisticRegression(C=1 / (penalty * chosen.sum())).fit(x[chosen], classes[chosen])

    pairs = [[learn((part != f) & (part != (f + 1) % FOLDS), p) for p in PENALTIES] for f in range(FOLDS)]
    for fold in range(FOLDS):
        costs = []
        for k in range(len(PENALTIES)):
            lost = []
            for first, other in ((fold, (fold + 1) % FOLDS), ((fold - 1) % FOLDS, (fold - 1) % FOLDS)):
                at = part == other
                shares = pairs[first][k].predict_log_proba(x[at])
                lost.append(-shares[np.arange(at.sum()), classes[at]])
            costs.append(np.concatenate(lost).mean())
        best = PENALTIES[int(np.argmin(costs))]
        answers[part == fold] = learn(part != fold, best).predict(x[part == fold])
    return time.process_time() - started, float((answers == classes).mean())


def one(features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Seconds of a single read-out of four fifths, and its accuracy on the fifth."""
    part, y = parts_of(classes) == 0, torch.from_numpy(classes)
    started = time.process_time()
    x = standardized(features)
    counted = torch.from_numpy(~part)[None]
    made = fit(x, y, counted, torch.tensor([PENALTY]), int(classes.max()) + 1)
    seconds = time.process_time() - started
    return seconds, float((made.scores(x)[0].argmax(0) == y)[part].double().mean())


def one_by_others(features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The same by scikit-learn."""
    part = parts_of(classes) == 0
    started = time.process_time()
    x = standardized(features).numpy()
    made = LogisticRegression(C=1 / (PENALTY * (~part).sum())).fit(x[~part], classes[~part])
    return time.process_time() - started, float(made.score(x[part], classes[part]))


_ALL, _ONE = (solved, solved_by_others), (one, one_by_others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="torchvision/mobilenet_v2@random")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tools", nargs="+", default=TOOLS, help="Instruments whose memory is measured.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # scikit-learn does not converge by its defaults
    if given.peak:
        concluded(given.tools, given.peak)
        return
    for count in given.memory or ():
        command = [sys.executable, str(Path(__file__)), "--peak", str(count), "--tools", *given.tools]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(f"{count:,} images: {told.strip()}", flush=True)
    if given.memory:
        return
    classifier, images = load(given.model, device="cpu"), WorldImages("congruent", count=given.images)
    bare(classifier, WorldImages("congruent", count=BATCH))
    ratios = []
    for _ in range(given.rounds):
        first, (second, cell) = bare(classifier, images), probed(classifier, images)
        ratios.append(second / first)
        print(f"bare {first:.2f} s, probing 8 layers {second:.2f} s: {ratios[-1]:.3f} times")
    print(f"median {np.median(ratios):.3f} times (bar 1.2)")
    rows = cell.rows()
    labeled, about = Labeled.of(rows["label"].to_list()), About("", "", (), facts=cell.facts)
    for at, layer in list(enumerate(layers_of(rows, about, "features", labeled.images)))[::7]:
        features = layer.part(0, len(layer))
        print(f"{cell.facts['layers'][at]['name']}, {features.shape[1]} features:")
        for asked, ways in (("five parts, six penalties", _ALL), ("one problem", _ONE)):
            runs = [[way(features, labeled.classes) for way in ways] for _ in range(given.rounds)]
            (mine, right), (theirs, known) = (min(of) for of in zip(*runs, strict=True))
            print(f"  {asked}: ours {mine:.3f} s, {right:.1%}; scikit-learn {theirs:.3f} s, {known:.1%}")


if __name__ == "__main__":
    main()

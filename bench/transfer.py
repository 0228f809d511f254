"""What does probing cost beyond a bare pass, and how fast is its solver?

    python bench/transfer.py [--model torchvision/mobilenet_v2@random] [--images 400] [--rounds 3]
    python bench/transfer.py --memory 1000 4000     peak memory of looking at so many images, each in its own process

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
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.findings import About, Conclusion
from cuescope.instruments.base import Rows
from cuescope.instruments.layer_probe import LayerProbe
from cuescope.methods.layer_features import split
from cuescope.methods.probing import FOLDS, PENALTIES, Labeled, parts_of, standardized, told_of
from cuescope.runs.runner import run
from cuescope.runs.store import Cell, Run
from cuescope.runs.task import BATCH, Task
from cuescope.world.images import WorldImages


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


def solved(features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Seconds and accuracy of ours."""
    started = time.process_time()
    told = told_of(features, classes)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="torchvision/mobilenet_v2@random")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # scikit-learn does not converge by its defaults
    if given.peak:
        probed(load("cuescope/world-congruent", device="cpu"), WorldImages("congruent", count=given.peak))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    for count in given.memory or ():
        command = [sys.executable, str(Path(__file__)), "--peak", str(count)]
        peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{count:,} images: peak {peak:.0f} MiB")
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
    labeled = Labeled.of(rows["label"].to_list())
    for at, features in list(enumerate(split(rows["features"], cell.facts["layers"])))[::7]:
        mine, theirs = solved(features, labeled.classes), solved_by_others(features, labeled.classes)
        name = f"{cell.facts['layers'][at]['name']}, {features.shape[1]} features"
        print(f"{name}: ours {mine[0]:.2f} s, {mine[1]:.1%}; scikit-learn {theirs[0]:.2f} s, {theirs[1]:.1%}")


if __name__ == "__main__":
    main()

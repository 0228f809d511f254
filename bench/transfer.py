"""What does probing cost beyond a bare pass, how fast is its solver, and is its memory flat?

On one thread. A bare pass decodes, resizes and runs the world's images, 32 at a time; probing keeps 8 layers on the way
and writes them. The solver learns what told_of learns (five parts and six penalties), scikit-learn's LogisticRegression
with its defaults the same problems one after another, from the same features of the last layer; labels are the world's.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from ratios import Given, Row, peak_mb, turns
from sklearn.linear_model import LogisticRegression

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.findings import About, Conclusion
from cuescope.instruments.base import Rows
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


def bare(classifier: Classifier, images: WorldImages) -> None:
    """A pass that keeps nothing."""
    count = len(images)
    groups = [list(range(at, min(at + BATCH, count))) for at in range(0, count, BATCH)]
    for samples, _ in images.stream(groups, 1):
        classifier.see([sample for _, sample in samples])


def probed(classifier: Classifier, images: WorldImages, folder: str) -> Cell:
    """The same pass with 8 layers kept and written."""
    task = Task(classifier, images, Silent(control=False, svm=False), tuple(range(16)))
    (cell,) = run([task], Run.create(tempfile.mkdtemp(dir=folder)), workers=1)
    return cell


def concluded(count: int) -> int:
    """Look at so many images with all of TOOLS, in one pass, and conclude: the peak of memory."""
    classifier, images = load("cuescope/world-congruent", device="cpu"), WorldImages("congruent", count=count)
    tools = [build(name, {"control": False} if name in ("layer_probe", "few_shot") else {}) for name in TOOLS]
    with tempfile.TemporaryDirectory() as folder:
        for cell in run([Task(classifier, images, t, tuple(range(16))) for t in tools], Run.create(folder), workers=1):
            assert cell.concluded, cell.error
    return peak_mb()


def solved(features: np.ndarray, classes: np.ndarray) -> float:
    """Accuracy of ours."""
    return float((told_of(standardized(features), classes).answers == classes).mean())


def solved_by_others(features: np.ndarray, classes: np.ndarray) -> float:
    """Accuracy of scikit-learn: the same parts, penalties and choice, one problem after another."""
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
    return float((answers == classes).mean())


def one(features: np.ndarray, classes: np.ndarray) -> float:
    """A single read-out of four fifths: its accuracy on the fifth."""
    part, y, x = parts_of(classes) == 0, torch.from_numpy(classes), standardized(features)
    made = fit(x, y, torch.from_numpy(~part)[None], torch.tensor([PENALTY]), int(classes.max()) + 1)
    return float((made.scores(x)[0].argmax(0) == y)[part].double().mean())


def one_by_others(features: np.ndarray, classes: np.ndarray) -> float:
    """The same by scikit-learn."""
    part, x = parts_of(classes) == 0, standardized(features).numpy()
    made = LogisticRegression(C=1 / (PENALTY * (~part).sum())).fit(x[~part], classes[~part])
    return float(made.score(x[part], classes[part]))


def rows(given: Given) -> Iterator[Row]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # scikit-learn does not converge by its defaults
    few, many = given.take(1_000, 40), min(given.take(50_000, 80), given.largest)
    peaks = {}
    for count in (few, many):  # In processes of their own, before anything is held here.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[count] = pool.submit(concluded, count).result()
    what = f"peak of {', '.join(TOOLS)}, {many:,} images ({peaks[many]:,} MB) / {few:,} ({peaks[few]:,} MB)"
    yield Row(what, "flat from 1,000 to 50,000", [peaks[many] / peaks[few]])
    images = WorldImages("congruent", count=given.take(400, 80))
    classifier = load("torchvision/mobilenet_v2@random", device="cpu")
    bare(classifier, WorldImages("congruent", count=BATCH))
    with tempfile.TemporaryDirectory() as folder:
        ways = {"bare": lambda: bare(classifier, images), "probed": lambda: probed(classifier, images, folder)}
        found = turns(ways, given.rounds, warm=False)
        what, asked = f"8 layers of MobileNetV2, {len(images)} images: probing / a bare pass", "at most 1.2 times"
        yield found.row(what, "probed", "bare", asked, most=1.2)
        cell: Cell = found.given["probed"]
        labeled, about = Labeled.of(cell.rows()["label"].to_list()), About("", "", (), facts=cell.facts)
        layer = list(layers_of(cell.rows(), about, "features", labeled.images))[-1]
        features = layer.part(0, len(layer))
    for asked, mine, theirs in (
        ("five parts, six penalties", solved, solved_by_others),
        ("one problem", one, one_by_others),
    ):
        ways = {"ours": partial(mine, features, labeled.classes), "theirs": partial(theirs, features, labeled.classes)}
        found, bar = turns(ways, given.rounds, warm=False), {} if asked == "one problem" else {"least": 1}
        what = f"{asked}, {features.shape[1]} features: scikit-learn / ours"
        yield found.row(what, "theirs", "ours", "at least as fast as its defaults" if bar else "", **bar)
        gap = abs(found.given["ours"] - found.given["theirs"]) * 100
        yield Row("their accuracies differ by", "within .5 points", [gap], most=0.5, unit="points")

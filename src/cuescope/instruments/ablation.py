"""Which layers does it need? Each is left out in turn, and nothing is trained again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.instruments.base import Rows
from cuescope.network.layer_removal import Cut, Cuts, cuts, left_out

NO_ANSWER = -1
"""Stands for the answer where a logit is no number any more."""


@dataclass(frozen=True)
class Ablation:
    """Which layers does it need?

    Each layer whose output has the shape of its input is replaced by the identity, one at a time; the images that are
    still answered rightly are counted, or without labels the answers that stay. A residual block so loses its branch
    (Veit et al. 2016). Blocks are taken where there are several, else single convolutions and linear layers, and
    stretches of layers that bring the shape back; what changes the shape cannot be left out. Zeiler & Fergus 2014
    train networks anew without the layers, which tells what is needed to learn the task; this tells what the network
    at hand relies on. A batch norm that is folded into a convolution goes with it.

    >>> Ablation(names=("layer1.1", "layer2.1")).images
    64
    """

    images: int = 64
    """How many images are looked at, spread evenly over the set; each goes once through the network for each layer."""
    layers: int = 12
    """The most layers that are tried: the outermost first, evenly spread over the network."""
    names: tuple[str, ...] = ()
    """Layers to try in place of those, by their names in the network, as in layer1.1 or blocks.3."""
    loss: float = 0.05
    """A layer counts as one it can do without where the accuracy falls by less than this."""

    question: ClassVar[str] = "Which layers does it need?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, table 3; "
        "Veit et al. 2016, Residual networks behave like ensembles of relatively shallow networks, lesion study"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "features"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"accuracy_without": "right_without", "answers_kept": "kept_without"}

    def __post_init__(self) -> None:
        if self.images < 1 or self.layers < 1 or not 0 < self.loss <= 1:
            raise ValueError("images and layers must be at least 1, loss above 0 and at most 1")

    def misfit(self, classifier: Classifier) -> str:
        """Where nothing can be left out. Raises CueError for `names` that are no layers, or cannot be left out."""
        found = _cuts(classifier)
        if self._chosen(found):
            return ""
        return f"no layer of {classifier.name} gives the shape it takes, so none can be left out as it stands"

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the answer, and the answer without each layer."""
        found = _cuts(classifier)
        chosen = self._chosen(found)
        answers = [_answers(classifier, cut, batch.pixels) for cut in chosen]
        without = torch.stack(answers, 1) if answers else torch.zeros(len(batch), 0, dtype=torch.long)
        predicted, labels = batch.logits.argmax(1), batch.labels
        right, kept = without == labels[:, None], without == predicted[:, None]
        total = sum(p.numel() for p in classifier.network.parameters()) if classifier.network else 0
        return pl.DataFrame(
            {
                "id": batch.ids,
                "label": [label if label >= 0 else None for label in labels.tolist()],
                "predicted": predicted.tolist(),
                "layers": [[cut.name for cut in chosen]] * len(batch),
                "weights": [[cut.parameters / total for cut in chosen]] * len(batch),
                "removable": [len(found.usual)] * len(batch),
                "without": without.tolist(),
                "right_without": [
                    float(row.double().mean()) if label >= 0 and len(row) else None
                    for row, label in zip(right, labels, strict=True)
                ],
                "kept_without": [float(row.double().mean()) if len(row) else None for row in kept],
            },
            schema=_SCHEMA,
        )

    def _chosen(self, found: Cuts) -> tuple[Cut, ...]:
        return found.named(self.names) if self.names else found.most(self.layers)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        seen = _seen(rows)
        measures = _measures(seen, self.loss, len(about.classes))
        return Finding(
            instrument="ablation",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_panels(seen)) if seen.names and len(seen.intact) else (),
            sentence=_sentence(seen, {m.name: m for m in measures}, self.loss),
            caveats=_caveats(rows, seen, bool(self.names)),
            references=(self.reference,),
        )


_SCHEMA = {
    "id": pl.String,
    "label": pl.Int32,
    "predicted": pl.Int32,
    "layers": pl.List(pl.String),
    "weights": pl.List(pl.Float64),
    "removable": pl.Int32,
    "without": pl.List(pl.Int32),
    "right_without": pl.Float64,
    "kept_without": pl.Float64,
}


class _Seen(NamedTuple):
    """What became of the images: of the labeled ones whether it is right, or of all whether the answer stays."""

    names: list[str]
    weights: list[float]
    intact: NDArray[np.float64]
    """(n,): whether the whole network is right; all 1 without labels."""
    without: NDArray[np.float64]
    """(n, layers): the same without each layer."""
    kept: NDArray[np.float64]
    """(images, layers): whether the answer stays, of all images."""
    labeled: bool

    @property
    def falls(self) -> NDArray[np.float64]:
        return self.intact[:, None] - self.without

    def at(self, which: Literal["largest", "smallest"]) -> int:
        """The layer of the largest or smallest fall; the first where several fall alike."""
        means = self.falls.mean(0)
        return int(means.argmax() if which == "largest" else means.argmin())

    @property
    def what(self) -> str:
        return "accuracy" if self.labeled else "the answers kept"


def _cuts(classifier: Classifier) -> Cuts:
    network = classifier.network
    assert network is not None, "a black box has no features, which are needed"
    height, width = classifier.preprocessing.size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return cuts(network, classifier.normalize(image))


def _answers(classifier: Classifier, cut: Cut, pixels: Tensor) -> Tensor:
    """(B,) int64: the answers without a layer."""
    assert classifier.network is not None
    with torch.inference_mode(), left_out(classifier.network, cut):
        logits = torch.cat([classifier.forward(part).cpu() for part in pixels.split(classifier.batch_size)])
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)


def _seen(rows: Rows) -> _Seen:
    first = rows.row(0, named=True) if rows.height else {"layers": [], "weights": []}
    shape = (rows.height, len(first["layers"]))
    without = np.array(rows["without"].to_list(), int).reshape(shape)
    kept = (without == rows["predicted"].to_numpy()[:, None]).astype(float)
    known = rows["label"].is_not_null().to_numpy()
    if not known.any():
        return _Seen(first["layers"], first["weights"], np.ones(rows.height), kept, kept, labeled=False)
    labels = rows["label"].fill_null(NO_ANSWER - 1).to_numpy()
    intact, right = rows["predicted"].to_numpy() == labels, without == labels[:, None]
    return _Seen(first["layers"], first["weights"], intact[known] * 1.0, right[known] * 1.0, kept, labeled=True)


def _measures(seen: _Seen, loss: float, classes: int) -> tuple[Measure, ...]:
    none = "no image was seen" if not len(seen.kept) else "" if seen.names else "no layer can be left out"
    unlabeled = none or ("" if seen.labeled else "no image has a label")
    return (
        _mean(
            "accuracy_without", "accuracy", seen.without, unlabeled, headline=seen.labeled, chance=1 / max(classes, 1)
        ),
        _mean("answers_kept", "answers kept", seen.kept, none, headline=not seen.labeled),
        _spared(seen, loss, none),
        _fall(seen, "largest", none),
        _fall(seen, "smallest", none),
        _whole(seen, unlabeled),
    )


def _mean(name: str, title: str, values: NDArray[np.float64], why: str, **more: Any) -> Measure:
    """The mean over images of what is left without one layer, as a mean over the layers."""
    title = f"{title} without one layer"
    if why:
        return Measure(name, None, "share", title=title, why=why, **more)
    each = values.mean(1)
    interval = stats.bootstrap_mean(each) if len(each) > 1 else None
    return Measure(name, float(each.mean()), "share", len(each), interval, title=title, **more)


def _spared(seen: _Seen, loss: float, why: str) -> Measure:
    title = f"layers whose removal costs less than {100 * loss:g} points"
    if why:
        return Measure("spared", None, "share", title=title, why=why, headline=True)
    k, n = int((seen.falls.mean(0) < loss).sum()), len(seen.names)
    interval = stats.bootstrap_of_means(seen.falls, lambda means: (means < loss).mean(1))
    return Measure("spared", k / n, "share", n, interval, title=title, count=k, headline=True)


def _fall(seen: _Seen, which: Literal["largest", "smallest"], why: str) -> Measure:
    name, title = f"{which}_fall", f"{which} fall of {seen.what} without one layer"
    if why:
        return Measure(name, None, "difference", title=title, why=why)
    value, interval, n = stats.paired_difference(seen.intact, seen.without[:, seen.at(which)])
    return Measure(name, value, "difference", n, interval, title=title)


def _whole(seen: _Seen, why: str) -> Measure:
    title = "accuracy of the whole network"
    if why:
        return Measure("accuracy", None, "share", title=title, why=why)
    k, n = int(seen.intact.sum()), len(seen.intact)
    return Measure("accuracy", k / n, "share", n, stats.wilson(k, n), title=title, count=k)


def _panels(seen: _Seen) -> Iterable[Panel]:
    n = len(seen.intact)
    dots, falls = [], []
    for i, name in enumerate(seen.names):
        k = int(seen.without[:, i].sum())
        low, high = stats.wilson(k, n)
        dots.append({"label": name, "value": k / n, "low": low, "high": high, "n": n})
        value, interval, _ = stats.paired_difference(seen.intact, seen.without[:, i])
        low, high = interval or (None, None)
        falls.append({"label": name, "value": value, "low": low, "high": high, "n": n})
    marks = [{"who": "the whole network", "values": [float(seen.intact.mean())] * len(dots)}] if seen.labeled else []
    title = "Accuracy without each layer" if seen.labeled else "Answers kept without each layer"
    caption = "In the order of the network. The bars are 95% intervals over images."
    yield Panel("without", "dots", title, caption, {"unit": "share", "rows": dots, "marks": marks})
    if seen.labeled:
        caption = (
            "By how much the accuracy falls on the same images. Where the bar crosses 0, these images do not tell "
            "whether the layer is needed at all."
        )
        yield Panel("falls", "dots", "What each layer is worth", caption, {"unit": "difference", "rows": falls})
    kept = seen.kept.mean(0)
    table = [[name, f"{w:.1%}", f"{k:.1%}"] for name, w, k in zip(seen.names, seen.weights, kept, strict=True)]
    data = {"columns": ["layer", "of all weights", "answers kept without it"], "rows": table}
    yield Panel("layers", "table", "The layers", "How much of the network each layer is.", data)


def _sentence(seen: _Seen, found: Mapping[str, Measure], loss: float) -> str:
    spared, left = found["spared"], found["accuracy_without" if seen.labeled else "answers_kept"]
    if spared.value is None or left.value is None:
        return f"Which layers it needs is not measured: {spared.why}."
    n, worst = len(seen.intact), seen.at("largest")
    images = f"{n} image{'s' * (n > 1)}"
    does = "right on" if seen.labeled else "with its answer on"
    whole = f", in place of {seen.intact.mean():.0%}" if seen.labeled else ""
    if len(seen.names) == 1:
        return f"Left out, {seen.names[0]} leaves it {does} {left.value:.0%} of {images}{whole}."
    few = f"{spared.count or 'none'} of the {spared.n} tried {'costs' if (spared.count or 0) < 2 else 'cost'}"
    return (
        f"Left out one at a time, its layers leave it {does} {left.value:.0%} of {images} on average{whole}: on "
        f"{seen.without[:, worst].mean():.0%} without {seen.names[worst]}, and {few} less than {100 * loss:g} points."
    )


def _caveats(rows: Rows, seen: _Seen, named: bool) -> tuple[str, ...]:
    found = [
        "Nothing was trained again: the layers after the gap get what they have never seen. A network trained without "
        "the layer may do as well.",
        "The largest and the smallest of several falls are picked on the images that they are measured on.",
    ]
    usual, tried = int(rows["removable"].max() or 0), len(seen.names)  # type: ignore[arg-type]
    if usual and not named:
        found.append(f"Tried: {tried} of {usual} blocks or layers that keep the shape; the others cannot be left out.")
    unlabeled = rows.height - len(seen.intact)
    if unlabeled:
        found.append(f"{unlabeled} images without a label count for the answers kept only.")
    return tuple(found)

"""Which patches of the image add up to the answer?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch

from cuescope import stats
from cuescope.classifier import Classifier
from cuescope.findings import Figure, Finding, Map, Measure, Panel
from cuescope.images import Batch, Sample
from cuescope.instrument import About, Rows
from cuescope.ops.convert import to_image


@dataclass(frozen=True)
class Evidence:
    """The exact map of class evidence of a network whose logits are a mean over local patches (BagNets).

    Position (i, j) of the map holds the class logit that the patch of q x q pixels starting at (stride i,
    stride j) gives by itself; the mean of the map is the logit of the whole image, which is checked on every
    call (Brendel & Bethge 2019, section 2). The class is the label where it is known, else the answer.

    >>> Evidence(images=4).images
    4
    """

    images: int = 128
    """Images to look at, spread evenly over the set."""
    top_share: float = 0.1
    """The strongest patches whose part of all positive evidence is stated, as a share of the positions."""

    question: ClassVar[str] = "Which patches add up to the answer?"
    reference: ClassVar[str] = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, section 2"
    needs: ClassVar[frozenset[str]] = frozenset({"patch_logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"top_patches": "top_part", "pointing_game": "hit"}

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.top_share <= 1:
            raise ValueError("images must be at least 1 and 0 < top_share <= 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the class, its logit, the map, and how far the map's mean is from the logit."""
        maps = classifier.patch_logits(batch.pixels).float().cpu()
        means = maps.mean((2, 3))
        _check_identity(means, batch.logits, classifier)
        predicted = batch.logits.argmax(1)
        target = torch.where(batch.labels >= 0, batch.labels, predicted)
        field, stride = classifier.patch_geometry
        rows = []
        for i, sample in enumerate(batch.samples):
            k = int(target[i])
            evidence = maps[i, k].numpy()
            rows.append(
                {
                    "id": sample.id,
                    "target": k,
                    "is_label": bool(batch.labels[i] >= 0),
                    "predicted": int(predicted[i]),
                    "logit": float(batch.logits[i, k]),
                    "gap": float((means[i, k] - batch.logits[i, k]).abs()),
                    "top_part": _top_part(evidence, self.top_share),
                    "hit": _hit(evidence, sample, batch.pixels.shape[2:], field, stride),
                    "height": evidence.shape[0],
                    "width": evidence.shape[1],
                    "field_px": field,
                    "stride_px": stride,
                    "map": evidence.astype(float).ravel().tolist(),
                }
            )
        return pl.DataFrame(rows, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        hits = rows["hit"].drop_nulls()
        field = rows["field_px"].max() if rows.height else None
        top = self._top(rows["top_part"].drop_nulls().to_numpy())
        pointing = Measure(
            "pointing_game",
            int(hits.sum()) / len(hits) if len(hits) else None,
            "share",
            len(hits),
            stats.wilson(int(hits.sum()), len(hits)) if len(hits) else None,
            title="strongest patch lies on the object (pointing game)",
            count=int(hits.sum()) if len(hits) else None,
            why="" if len(hits) else "the images carry neither masks nor boxes",
            better="higher",
            headline=bool(len(hits)),
        )
        gap = Measure(
            "identity_gap",
            float(rows["gap"].max()) if rows.height else None,  # type: ignore[arg-type]
            "",
            rows.height,
            title="largest distance of the map's mean from the logit",
            why="" if rows.height else "no image was seen",
        )
        size = Measure(
            "receptive_field",
            float(field) if field else None,  # type: ignore[arg-type]
            "px",
            rows.height,
            title="side of the patch that one position sees",
            why="" if field else "no image was seen",
        )
        return Finding(
            instrument="evidence",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(pointing, top, size, gap),
            sentence=_sentence(pointing, top, field, self.top_share),
            caveats=("The map is in logits: evidence for the class, not yet against the others.",),
            references=(self.reference,),
        )

    def _top(self, values: np.ndarray[Any, Any]) -> Measure:
        title = f"positive evidence that the strongest {self.top_share:.0%} of patches hold"
        if len(values) < 2:
            return Measure(
                "top_patches", None, "share", len(values), title=title, why="fewer than two maps with evidence"
            )
        mean, interval = float(values.mean()), stats.bootstrap_mean(values)
        return Measure("top_patches", mean, "share", len(values), interval, title=title, chance=self.top_share)

    def examples(self, rows: Rows) -> list[str]:
        """Images spread over the set: the first of each of up to eight classes."""
        return rows.unique("target", keep="first", maintain_order=True)["id"].head(8).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names = classifier.classes.names
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        figures = []
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            row = told[name]
            evidence = np.asarray(row["map"]).reshape(row["height"], row["width"])
            extent = _extent(row, pixels.shape[1:])
            overlay = Map(
                "signed", evidence.round(4).tolist(), f"evidence for {names[row['target']]}", "logit", extent=extent
            )
            figures.append(
                Figure(
                    f"{names[row['target']]}: logit {row['logit']:.2f}, the mean of the map",
                    to_image(pixels),
                    maps=(overlay,),
                )
            )
        caption = "Red speaks for the class, blue against it. Each position is the logit of one patch by itself."
        yield Panel(
            "evidence", "images", "Class evidence, exactly as the network adds it up", caption, figures=tuple(figures)
        )


_SCHEMA = {
    "id": pl.String,
    "target": pl.Int32,
    "is_label": pl.Boolean,
    "predicted": pl.Int32,
    "logit": pl.Float64,
    "gap": pl.Float64,
    "top_part": pl.Float64,
    "hit": pl.Boolean,
    "height": pl.Int32,
    "width": pl.Int32,
    "field_px": pl.Int32,
    "stride_px": pl.Int32,
    "map": pl.List(pl.Float64),
}


def _check_identity(means: torch.Tensor, logits: torch.Tensor, classifier: Classifier) -> None:
    """The map must be a decomposition of the prediction, or it must not be shown."""
    gap = float((means - logits).abs().max())
    scale = max(1.0, float(logits.abs().max()))
    tolerance = 0.05 if classifier.precision == "bfloat16" else 1e-3
    if gap > tolerance * scale:
        raise RuntimeError(
            f"the mean of {classifier.name}'s patch logits is {gap:.3g} away from its logits: not an evidence map"
        )


def _top_part(evidence: np.ndarray[Any, Any], share: float) -> float | None:
    positive = np.sort(evidence.clip(min=0), axis=None)[::-1]
    total = positive.sum()
    return float(positive[: max(1, round(share * positive.size))].sum() / total) if total > 0 else None


def _hit(evidence: np.ndarray[Any, Any], sample: Sample, size: Iterable[int], field: int, stride: int) -> bool | None:
    """Whether the middle of the strongest patch lies on the object; None where that is unknown."""
    height, width = size
    # Mask and boxes are in pixels of the decoded image: they are the input's only where nothing was cropped.
    if sample.framing != "stimulus" or (sample.mask is None and not sample.boxes):
        return None
    i, j = np.unravel_index(int(evidence.argmax()), evidence.shape)
    y = (float(i) * stride + field / 2) / height * sample.pixels.shape[1]
    x = (float(j) * stride + field / 2) / width * sample.pixels.shape[2]
    if sample.mask is not None:
        return bool(sample.mask[min(int(y), sample.mask.shape[0] - 1), min(int(x), sample.mask.shape[1] - 1)])
    return any(box.x0 <= x < box.x1 and box.y0 <= y < box.y1 for box in sample.boxes)


def _extent(row: Mapping[str, Any], size: Iterable[int]) -> tuple[float, float, float, float]:
    """Where the map lies on the image: each cell is a stride wide, around the middle of its patch."""
    height, width = size
    start, stride = (row["field_px"] - row["stride_px"]) / 2, row["stride_px"]
    return (
        start / width,
        start / height,
        (start + stride * row["width"]) / width,
        (start + stride * row["height"]) / height,
    )


def _sentence(pointing: Measure, top: Measure, field: object, share: float) -> str:
    if top.value is None:
        return "No image gave evidence to map."
    text = (
        f"Its answer is exactly the mean of what patches of {field} x {field} pixels say by themselves; the strongest "
        f"{share:.0%} of them hold {top.value:.0%} of the evidence"
    )
    if pointing.value is None:
        return text + "."
    return f"{text}, and the strongest one lies on the object in {pointing.value:.0%} of {pointing.n} images."

"""Mean average precision of a detector, as COCO and as VOC count it, and how far it may be from the truth.

COCO's by torchmetrics with pycocotools, the code of the published numbers. What pycocotools matches is kept, so that
images can be drawn anew: each draw weights the images, without matching again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cuescope.core.intervals import SAME, UNITS, Interval, too_few

Rule = Literal["coco", "eleven", "area"]
"""How precision is averaged over recall: at COCO's 101 points, at VOC07's 11, or all the area below it (from VOC10)."""
Kind = Literal["bbox", "segm"]
IOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
MOST_FOUND = 100
"""Objects found in an image that count, those of the highest scores."""
DRAWS = 500
"""Sets of images drawn with replacement."""
LEVEL = 0.95
MOST_NUMBERS = 1 << 22
"""Of finds in draws at once, over IoUs: some hundred MB."""


class Truth(NamedTuple):
    """The objects of an image: boxes (n, 4) as x0, y0, x1, y1, classes, crowds, areas (0: the box's), masks as RLE."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    masks: tuple[Any, ...] = ()


class Found(NamedTuple):
    """What a detector found in an image."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    masks: tuple[Any, ...] = ()


class Matches(NamedTuple):
    """What was found of one class: per object found, the best first, its image and, for each IoU, whether it hits.

    `counts` says whether it counts at all, which it does not in a crowd; `wanted` is the number of objects an image.
    """

    image: NDArray[np.int64]
    hit: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    wanted: NDArray[np.int64]


def coco_precision(truth: Sequence[Truth], found: Sequence[Found], kind: Kind = "bbox") -> dict[str, float]:
    """COCO's mean average precision by name: "map" over IoUs of .5 to .95, "map50" and "map75". By torchmetrics.

    NaN where there is no object.
    """
    from torchmetrics.detection import MeanAveragePrecision

    # Boxes are asked for with masks too: of masks alone torchmetrics drops images without objects, and what is falsely
    # found in them.
    kinds: Any = ("bbox",) if kind == "bbox" else ("bbox", "segm")
    metric = MeanAveragePrecision(box_format="xywh", iou_type=kinds)
    metric.warn_on_many_detections = False
    for there, seen in zip(truth, found, strict=True):
        wanted = {"boxes": _as_xywh(there.boxes), "labels": _tensor(there.labels), "iscrowd": _tensor(there.crowd * 1)}
        wanted["area"] = _tensor(there.area)
        told = {"boxes": _as_xywh(seen.boxes), "labels": _tensor(seen.labels), "scores": _tensor(seen.scores)}
        if kind == "segm":
            wanted["masks"], told["masks"] = _decoded(there.masks), _decoded(seen.masks)
        metric.update([told], [wanted])
    values = metric.compute()
    prefix = "" if kind == "bbox" else "segm_"
    read = {name: float(values[f"{prefix}{key}"]) for name, key in (("map", "map"), ("map50", "map_50"))}
    read["map75"] = float(values[f"{prefix}map_75"])
    return {name: value if value >= 0 else float("nan") for name, value in read.items()}


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _as_xywh(boxes: NDArray[np.float64]) -> torch.Tensor:
    return _tensor(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1))


def _decoded(masks: Sequence[Any]) -> torch.Tensor:
    from pycocotools import mask

    return torch.from_numpy(np.stack([mask.decode(one) for one in masks])) if masks else torch.zeros(0, 1, 1).byte()


def coco_matches(truth: Sequence[Truth], found: Sequence[Found], classes: int, kind: Kind = "bbox") -> list[Matches]:
    """Of each class what pycocotools matches, for all of the `IOUS`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sets = []
    for images in (truth, found):
        told: list[dict[str, Any]] = []
        for i, one in enumerate(images):
            for k, (box, label) in enumerate(zip(one.boxes.tolist(), one.labels.tolist(), strict=True)):
                wide, high = box[2] - box[0], box[3] - box[1]
                about = {"id": len(told) + 1, "image_id": i, "category_id": label, "area": wide * high, "iscrowd": 0}
                about["bbox"] = [box[0], box[1], wide, high]
                if isinstance(one, Truth):
                    about |= {"iscrowd": int(one.crowd[k]), "area": float(one.area[k]) or wide * high}
                else:
                    about["score"] = float(one.scores[k])
                if one.masks:
                    about["segmentation"] = one.masks[k]
                told.append(about)
        with contextlib.redirect_stdout(io.StringIO()):
            one_set: Any = COCO()
            sizes = [one.masks[0]["size"] if one.masks else (0, 0) for one in images]
            listed = [{"id": i, "height": high, "width": wide} for i, (high, wide) in enumerate(sizes)]
            names = [{"id": k} for k in range(classes)]
            one_set.dataset = {"images": listed, "annotations": told, "categories": names}
            one_set.createIndex()
        sets.append(one_set)
    run = COCOeval(*sets, iouType=kind)
    run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = run.params.areaRng[:1], ["all"], [MOST_FOUND]
    with contextlib.redirect_stdout(io.StringIO()):
        run.evaluate()
    count = len(truth)
    return [_of_class(run.evalImgs[k * count : (k + 1) * count], count) for k in range(classes)]


def _of_class(per_image: Sequence[Any], count: int) -> Matches:
    """Matches of what pycocotools says of each image, None for one with nothing of the class."""
    wanted, images, scores = np.zeros(count, np.int64), [], []
    hits, ignored = [np.zeros((len(IOUS), 0), bool)], [np.zeros((len(IOUS), 0), bool)]
    for i, one in enumerate(per_image):
        if one is not None:
            wanted[i] = int((np.asarray(one["gtIgnore"]) == 0).sum())
            scores += one["dtScores"]
            images += [i] * len(one["dtScores"])
            hits.append(np.asarray(one["dtMatches"]).reshape(len(IOUS), -1) > 0)
            ignored.append(np.asarray(one["dtIgnore"]).reshape(len(IOUS), -1).astype(bool))
    order = np.argsort(-np.array(scores, float), kind="mergesort")
    hit, out = np.concatenate(hits, 1)[:, order], np.concatenate(ignored, 1)[:, order]
    return Matches(np.array(images, np.int64)[order], hit & ~out, ~out, wanted)


def voc_matches(truth: Sequence[Truth], found: Sequence[Found], classes: int) -> list[Matches]:
    """Of each class what VOC's development kit matches, at an IoU of .5: each find belongs to the object that it
    overlaps most, which only the first one hits; those of difficult objects do not count.
    """
    from torchvision.ops import box_iou

    every = []
    for label in range(classes):
        wanted = np.array([int(((one.labels == label) & ~one.crowd).sum()) for one in truth], np.int64)
        finds = [(i, k) for i, one in enumerate(found) for k in np.flatnonzero(one.labels == label)]
        finds.sort(key=lambda at: -found[at[0]].scores[at[1]])
        hit, counts = np.zeros((1, len(finds)), bool), np.ones((1, len(finds)), bool)
        taken: set[tuple[int, int]] = set()
        for n, (i, k) in enumerate(finds):
            there = np.flatnonzero(truth[i].labels == label)
            if not len(there):
                continue
            overlap = box_iou(_tensor(found[i].boxes[k][None]), _tensor(truth[i].boxes[there]))[0].numpy()
            best = int(overlap.argmax())
            if overlap[best] < IOUS[0]:
                continue
            counts[0, n] = not truth[i].crowd[there[best]]
            hit[0, n] = counts[0, n] and (i, best) not in taken
            taken.add((i, best))
        every.append(Matches(np.array([i for i, _ in finds], np.int64), hit, counts, wanted))
    return every


def precisions(
    matches: Sequence[Matches], weights: NDArray[np.float64] | None = None, rule: Rule = "coco"
) -> NDArray[np.float64]:
    """The average precision (IoUs, classes), NaN for a class without objects.

    Images count as their weights say: (images,), or (draws, images), which gives (draws, IoUs, classes).

    >>> one = Matches(np.array([0, 1]), np.array([[True, False]]), np.ones((1, 2), bool), np.array([1, 1]))
    >>> [round(float(precisions([one], rule=rule)[0, 0]), 3) for rule in ("coco", "eleven", "area")]
    [0.505, 0.545, 0.5]
    """
    each = np.ones(len(matches[0].wanted)) if weights is None else weights
    if each.ndim == 1:
        return np.stack([_average(one, each, rule) for one in matches], 1)
    return np.stack([np.concatenate([_average(one, some, rule) for some in _parts(each, one)]) for one in matches], 2)


def _parts(weights: NDArray[np.float64], of: Matches) -> list[NDArray[np.float64]]:
    """The draws, so many at once that memory holds them."""
    return np.array_split(weights, 1 + len(weights) * of.hit.size // MOST_NUMBERS)


def _average(of: Matches, weights: NDArray[np.float64], rule: Rule) -> NDArray[np.float64]:
    """(IoUs,), or (draws, IoUs)."""
    objects = (of.wanted * weights).sum(-1)[..., None, None]
    weight = weights[..., None, of.image]
    hits = np.cumsum(of.hit * weight, -1)
    wrong = np.cumsum((of.counts & ~of.hit) * weight, -1)
    recall = np.divide(hits, objects, out=np.zeros_like(hits), where=objects > 0)
    precision = hits / (hits + wrong + np.spacing(1))
    # The best precision at this recall or a higher one.
    best = np.maximum.accumulate(precision[..., ::-1], -1)[..., ::-1]
    if rule == "area":
        found = (np.diff(recall, axis=-1, prepend=0.0) * best).sum(-1)
    else:
        points = np.linspace(0, 1, 101 if rule == "coco" else 11)
        # How many of the points have their first recall at each find.
        reached = np.searchsorted(points, recall, side="right")
        found = (np.diff(reached, axis=-1, prepend=0) * best).sum(-1) / len(points)
    return np.where(objects[..., 0] > 0, found, np.nan)


def mean_of(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over IoUs and classes that have objects, (IoUs, classes) to (), of each draw; NaN without any."""
    known = ~np.isnan(found)
    count = known.sum((-2, -1))
    total = np.where(known, found, 0.0).sum((-2, -1))
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def drawn_weights(images: int, seed: int = 0, draws: int = DRAWS) -> NDArray[np.float64]:
    """How often each image is in each set of as many images drawn with replacement: (draws, images)."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), draws).astype(float)


def interval(value: float, drawn: NDArray[np.float64], images: int) -> tuple[Interval | None, str]:
    """The bias-corrected interval of the bootstrap (Efron 1981) at 95 %, or None and why: of too few images, where
    hardly a draw has a value, and where all have the same, which says nothing of other images.

    >>> (low, high), why = interval(0.5, np.linspace(0.4, 0.6, 1001), 200)
    >>> round(low, 3), round(high, 3)
    (0.405, 0.595)
    """
    known = np.sort(drawn[~np.isnan(drawn)])
    if images < UNITS:
        return None, too_few(images, "images")
    if len(known) < len(drawn) / 2 or np.isnan(value):
        return None, "hardly a set of images drawn anew has objects"
    if known[-1] - known[0] < SAME:
        return None, "each set of images drawn anew gives the same"
    normal, half = NormalDist(), NormalDist().inv_cdf(0.5 + LEVEL / 2)
    below = float((known < value).mean() + (known == value).mean() / 2)
    shift = normal.inv_cdf(min(max(below, 0.5 / len(known)), 1 - 0.5 / len(known)))
    low, high = np.quantile(known, [normal.cdf(2 * shift - half), normal.cdf(2 * shift + half)])
    return (float(low), float(high)), ""

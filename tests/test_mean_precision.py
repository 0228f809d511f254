"""The precision of detectors is pycocotools' own on the same files, and VOC's by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuescope.data.marked import MarkedImages
from cuescope.data.readers.marked import read_marked
from cuescope.methods import mean_precision as mp
from cuescope.world.marked import write_marked
from cuescope.world.shapes import NAMES

pytestmark = pytest.mark.extra
LABELS = {name: i for i, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images held out in both layouts, of whose objects some are crowds, and some images are empty."""
    pytest.importorskip("torchmetrics")
    root = tmp_path_factory.mktemp("precision")
    write_marked(root / "coco", "coco", 1, 12)
    write_marked(root / "voc", "voc", 1, 12)
    path = root / "coco" / "annotations" / "instances_val2017.json"
    told = json.loads(path.read_text())
    for k, one in enumerate(told["annotations"]):
        one["iscrowd"] = int(k % 4 == 1)
    told["annotations"] = [one for one in told["annotations"] if one["image_id"] not in (3, 4)]
    path.write_text(json.dumps(told))
    for k, file in enumerate(sorted((root / "voc" / "Annotations").iterdir())):
        if k % 3 == 1:
            file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    return root


def truth_of(images: MarkedImages, masks: bool) -> list[mp.Truth]:
    from cuescope.training.marked import MarkedTrial

    return [MarkedTrial(images, LABELS, masks).truth(i) for i in range(len(images))]


def guesses(images: MarkedImages, masks: bool) -> list[mp.Found]:
    """Moved boxes and masks, some of another class, some of nothing, with scores that say little."""
    from cuescope.training.marked import coded

    random, every = np.random.default_rng(0), []
    for i in range(len(images)):
        boxes, labels, outlines = [], [], []
        for k, thing in enumerate(images.things(i)):
            for _ in range(3):
                by = random.integers(-4, 5, 4)
                box = np.clip(np.array(thing.box[:4]) + by, 0, 128)
                boxes.append(np.maximum(box, [0, 0, box[0] + 2, box[1] + 2]))
                labels.append(LABELS[thing.box.name] if random.random() < 0.8 else int(random.integers(16)))
                if masks:
                    outlines.append(coded(images.masks(i)[k].roll((int(by[0]), int(by[1])), (0, 1))))
        for _ in range(2):
            x, y = random.integers(0, 90, 2)
            boxes.append(np.array([x, y, x + 30, y + 20], float))
            labels.append(int(random.integers(16)))
            if masks:
                outlines.append(coded(images.masks(0)[0]))
        scores = random.integers(1, 20, len(boxes)) / 20 + random.random(len(boxes)) * 1e-3
        every.append(mp.Found(np.stack(boxes), np.array(labels), scores, tuple(outlines)))
    return every


def by_pycocotools(told: dict[str, Any], found: list[mp.Found], ids: list[int], kind: str, folder: Path) -> list[float]:
    """mAP, at .5 and at .75, of a results file and a file of annotations: pycocotools alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = []
    for number, one in zip(ids, found, strict=True):
        for k, (x0, y0, x1, y1) in enumerate(one.boxes.tolist()):
            about = {"image_id": number, "category_id": int(one.labels[k]) + 1, "score": float(one.scores[k])}
            about["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            if kind == "segm":
                about["segmentation"] = {**one.masks[k], "counts": one.masks[k]["counts"].decode()}
            results.append(about)
    (folder / "truth.json").write_text(json.dumps({"info": {}, **told}))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        run = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[:3].tolist()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_cocos_layout_has_pycocotools_own_precision(folders: Path, tmp_path: Path, kind: mp.Kind) -> None:
    images = read_marked(folders / "coco", masks=True).held_out
    assert images is not None
    assert sum(thing.crowd for entry in images.entries for thing in entry.things) >= 3
    assert any(not entry.things for entry in images.entries)
    masks = kind == "segm"
    found, truth = guesses(images, masks), truth_of(images, masks)
    told = json.loads((folders / "coco" / "annotations" / "instances_val2017.json").read_text())
    wanted = by_pycocotools(told, found, [one["id"] for one in told["images"]], kind, tmp_path)
    assert 0.1 < wanted[1] < 0.9
    values = mp.coco_precision(truth, found, kind)
    assert [values[name] for name in ("map", "map50", "map75")] == pytest.approx(wanted, abs=1e-6)
    own = mp.precisions(mp.coco_matches(truth, found, len(NAMES), kind))
    assert [mp.mean_of(own), mp.mean_of(own[:1]), mp.mean_of(own[5:6])] == pytest.approx(wanted, abs=1e-9)


def test_vocs_layout_has_pycocotools_own_precision(folders: Path, tmp_path: Path) -> None:
    images = read_marked(folders / "voc").held_out
    assert images is not None
    annotations = []
    for i, entry in enumerate(images.entries):
        # Read anew, by the text: the second object of one in three is difficult.
        text = (folders / "voc" / "Annotations" / f"{entry.id}.xml").read_text()
        for part in text.split("<object>")[1:]:
            x0, y0, x1, y1 = (
                int(part.split(f"<{side}>")[1].split("<")[0]) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            about: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": i,
                "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1],
            }
            about |= {"category_id": LABELS[part.split("<name>")[1].split("<")[0]] + 1, "area": 1.0}
            annotations.append({**about, "iscrowd": int("<difficult>1" in part)})
    assert sum(one["iscrowd"] for one in annotations) >= 3
    told = {"images": [{"id": i} for i in range(len(images))], "annotations": annotations}
    told["categories"] = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    found = guesses(images, False)
    wanted = by_pycocotools(told, found, list(range(len(images))), "bbox", tmp_path)
    values = mp.coco_precision(truth_of(images, False), found)
    assert [values[name] for name in ("map", "map50", "map75")] == pytest.approx(wanted, abs=1e-6)


def of_boxes(*boxes: tuple[float, float, float, float], crowd: tuple[bool, ...] = ()) -> mp.Truth:
    count = len(boxes)
    hard = np.array(crowd or (False,) * count)
    return mp.Truth(np.array(boxes, float).reshape(-1, 4), np.zeros(count, np.int64), hard, np.zeros(count))


def seen(*boxes: tuple[float, float, float, float], scores: tuple[float, ...]) -> mp.Found:
    return mp.Found(np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes), np.int64), np.array(scores))


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def test_voc07_by_hand() -> None:
    """Two objects and a difficult one; found: A, A again, the difficult one, nothing, B."""
    truth = [of_boxes(A, B, C, crowd=(False, False, True))]
    found = [seen(A, (0, 0, 10, 9), C, (80, 80, 90, 90), B, scores=(0.9, 0.8, 0.7, 0.6, 0.5))]
    (matches,) = mp.voc_matches(truth, found, 1)
    assert matches.hit[0].tolist() == [True, False, False, False, True]
    assert matches.counts[0].tolist() == [True, True, False, True, True]
    # Recall .5 at precision 1, recall 1 at precision 2 of 4: six points of 1 and five of .5.
    assert mp.precisions([matches], rule="eleven")[0, 0] == pytest.approx((6 * 1 + 5 * 0.5) / 11)
    assert mp.precisions([matches], rule="area")[0, 0] == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_a_weight_is_a_repetition() -> None:
    truth = [of_boxes(A, B), of_boxes(A), of_boxes()]
    found = [seen(A, scores=(0.6,)), seen(B, A, scores=(0.9, 0.5)), seen(C, scores=(0.7,))]
    for weights in ([1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 2, 0]):
        order = [i for i, count in enumerate(weights) for _ in range(count)]
        again = mp.coco_matches([truth[i] for i in order], [found[i] for i in order], 1)
        weighted = mp.precisions(mp.coco_matches(truth, found, 1), np.array(weights, float))
        assert weighted == pytest.approx(mp.precisions(again)), weights
        both = mp.precisions(mp.coco_matches(truth, found, 1), np.array([[1, 1, 1], weights], float))
        assert both[1] == pytest.approx(weighted)


def test_what_has_no_objects_has_no_precision() -> None:
    truth, found = [of_boxes()], [seen(A, scores=(0.5,))]
    values = mp.coco_precision(truth, found)
    assert np.isnan(values["map50"])
    assert np.isnan(mp.mean_of(mp.precisions(mp.coco_matches(truth, found, 1))))
    assert mp.interval(float("nan"), np.full(10, np.nan), 10)[0] is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Images whose object is found with a chance of .7, and with nothing false: the precision is 51 or 71 of 101."""
    random, inside = np.random.default_rng(3), 0
    for _ in range(60):
        hit = random.random(60) < 0.7
        matches = mp.Matches(
            np.flatnonzero(hit), np.ones((1, hit.sum()), bool), np.ones((1, hit.sum()), bool), np.ones(60, int)
        )
        drawn = mp.precisions([matches], mp.drawn_weights(60, draws=200), "area")[:, 0, 0]
        low, high = mp.interval(float(hit.mean()), drawn, len(hit))[0] or (1, 0)
        inside += low <= 0.7 <= high
    assert inside >= 52

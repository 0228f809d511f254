"""Measure what a backbone is worth to a detector, on the world's images with objects, and write the tables.

python scripts/measure_detection.py [--train 400] [--held-out 160] [--out runs] [--kinds detect,segment]

Both layouts are written: detectors learn from COCO's, segmenters from VOC's. What is in OUT is not measured again. The
tables stand between the marks in docs/transfer.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuescope.api.detect import FILE, detect
from cuescope.world.marked import write_marked

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transfer.md"
START, END = "<!-- measured by scripts/measure_detection.py -->", "<!-- end of detection -->"
MODEL = "cuescope/world-congruent"
CALLED = {MODEL: "the world's own", f"{MODEL}@random": "that, random"}
SHOWN = ("map50", "map", "map75", "map50_eleven")


def number(m: dict[str, Any] | None) -> str:
    if m is None:
        return "-"
    return f"{m['value']:.1%}" + (" ({:.1%} to {:.1%})".format(*m["interval"]) if m["interval"] else "")


def table(told: dict[str, Any]) -> Iterator[str]:
    measures = [name for name in SHOWN if name in told["models"][0]["measures"]]
    titles = [told["models"][0]["measures"][name]["title"] for name in measures]
    yield f"| backbone | {' | '.join(titles)} | after each epoch |"
    yield f"| --- | {' | '.join('---' for _ in titles)} | --- |"
    for model in told["models"]:
        cells = [number(model["measures"][name]) for name in measures]
        epochs = ", ".join(f"{value:.0%}" for _, value in model["epochs"])
        yield f"| {CALLED[model['model']]} | {' | '.join(cells)} | {epochs} |"
    yield ""
    for one in told["differences"]:
        span = " ({:+.1f} to {:+.1f})".format(*(100 * end for end in one["interval"])) if one["interval"] else ""
        value = f"{100 * one['value']:+.1f} points{span}"
        yield f"Difference over the same images: {CALLED[one['a']]} less {CALLED[one['b']]} {value}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=160)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kinds", default="detect,segment")
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp())
    text = [START]
    for kind in given.kinds.split(","):
        layout = "coco" if kind == "detect" else "voc"
        images, folder, kept = out / layout, out / kind, out / f"{kind}.json"
        if not images.exists():
            write_marked(images, layout, given.train, given.held_out)
        if not kept.exists():
            since = time.process_time()
            how = {"masks": kind == "segment", "random": True, "small": True, "settings": {"device": "cpu"}}
            detect(MODEL, images=images, out=folder, say=lambda line: print(line, flush=True), **how)
            minutes = (time.process_time() - since) / 60
            measured = {"minutes": minutes, "images": [given.train, given.held_out]}
            kept.write_text(json.dumps({**json.loads((folder / FILE).read_text()), **measured}))
        told = json.loads(kept.read_text())
        name = "Boxes, Faster R-CNN, COCO's layout" if kind == "detect" else "Masks, Mask R-CNN, VOC's layout"
        train, held_out = told["images"]
        cost = f"{train} images to learn from, {held_out} held out, {told['minutes']:.1f} minutes of one core for both"
        text += ["", f"{name}, `--small`; {cost}:", ""]
        text += table(told)
    text += ["", END]
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(before + "\n".join(text) + rest.partition(END)[2])
    print("\n".join(text))


if __name__ == "__main__":
    main()

"""Measure what features are worth elsewhere, on small images of ten classes and on the world, and write the tables.

python scripts/measure_transfer.py CIFAR10-SAMPLE WEIGHTS [--limit 1000] [--world 480] [--out runs]

CIFAR10-SAMPLE holds a folder for each class; WEIGHTS holds squeezenet1_1.safetensors and mobilenet_v2.safetensors. The
tables stand between the marks in docs/transfer.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cuescope.api.audit import audit
from cuescope.core.findings import Measure
from cuescope.runs.comparisons.ranking import ranking
from cuescope.runs.store import Run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transfer.md"
START, END = "<!-- measured by scripts/measure_transfer.py -->", "<!-- end -->"
COUNTS = (1, 2, 5, 6, 10, 15, 30, 60)


def measured(images: str | Path, models: list[str], out: Path, limit: int | None = None) -> Run:
    """Both instruments in one pass over the images; random weights are models of their own here."""
    settings = {"layer_probe.control": False, "few_shot.control": False}
    only = ["layer_probe", "few_shot", "label_issues"]
    return audit(*models, images=images, only=only, settings=settings, out=out, limit=limit)


def number(m: Measure | None) -> str:
    if m is None or m.value is None:
        return "-"
    return f"{m.value:.1%}" + (" ({:.1%} to {:.1%})".format(*m.interval) if m.interval else "")


def tables(run: Run, called: dict[str, str]) -> Iterator[str]:
    """Ranking, accuracy by depth, and by images of each class."""
    yield "| place | features of | told right | mean over classes | linear machines | surely more than | parameters |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    order = ranking(run, "layer_probe", "accuracy")
    for one in order:
        m = one.measures
        cells = [number(m.get(name)) for name in ("accuracy", "per_class", "svm")]
        beaten = f"{len(one.beats)} of {len(order) - 1}"
        size = m["parameters"].value or 0
        yield f"| {one.place} | {called[one.classifier]} | {' | '.join(cells)} | {beaten} | {size:.2f} million |"
    yield ""
    yield "By depth, the first layer to the last before the answer (softmax, linear machines):"
    yield ""
    for name, said in called.items():
        panel = next(p for p in run.finding("layer_probe", name).panels if p.name == "layers")
        at = [f"{row[0]} {row[3].split()[0]}, {row[4].split()[0]}" for row in panel.data["rows"]]
        yield f"- {said}: {'; '.join(at)}"
    yield ""
    found = {name: run.finding("few_shot", name) for name in called}
    counts = [n for n in COUNTS if next(iter(found.values())).get(f"at_{n}")]
    title = next(iter(found.values()))["accuracy"].title
    last = next(n for n in reversed(COUNTS) if f" {n} image" in title)
    yield f"| images of each class | {' | '.join(called.values())} |"
    yield f"| --- | {' | '.join('---' for _ in called)} |"
    for n in [*counts, last]:
        cells = [number(one.get(f"at_{n}") if n != last else one["accuracy"]) for one in found.values()]
        yield f"| {n} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--world", type=int, default=480)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp())
    pairs = {
        f"torchvision/squeezenet1_1@{given.weights / 'squeezenet1_1.safetensors'}": "SqueezeNet 1.1",
        f"torchvision/mobilenet_v2@{given.weights / 'mobilenet_v2.safetensors'}": "MobileNetV2",
        "torchvision/squeezenet1_1@random": "SqueezeNet 1.1, random",
        "torchvision/mobilenet_v2@random": "MobileNetV2, random",
    }
    cifar = measured(given.cifar, list(pairs), out / "cifar", given.limit)
    of_world = {
        **pairs,
        "cuescope/world-congruent": "the world's own",
        "cuescope/world-congruent@random": "that, random",
    }
    world = measured(f"world:congruent:{given.world}", list(of_world), out / "world")
    text = [START, f"On {given.limit:,} images of CIFAR-10, 32 px, ten classes (one of ten by chance):", ""]
    text += [*tables(cifar, pairs), ""]
    text += [f"On {given.world} images of the world, 64 px, 16 classes of drawn shapes and textures:", ""]
    text += [*tables(world, of_world), "", END]
    page = PAGE.read_text()
    before, _, rest = page.partition(START)
    PAGE.write_text(before + "\n".join(text) + rest.partition(END)[2])
    print("\n".join(text))


if __name__ == "__main__":
    main()

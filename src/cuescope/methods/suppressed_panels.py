"""Panels on accuracy without one cue: cue by cue, and over the strength of each change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import Figure, Inset, Measure, Panel, dot
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.suppression import PUBLISHED, Change
from cuescope.methods.suppressed import CONTROLS, CUES, Suppression

TITLES = dict(zip(CUES, ("global shape", "local shape", "texture", "color"), strict=True))
WITHOUT = TITLES | {
    "rotation": "with 6 x 6 tiles turned",
    "gaussian": "with a blur of 11 px",
    "channels": "with colors traded",
    "noise": "with slight noise",
    "global_cuts": "with 3 x 3 tiles nudged",
    "local_cuts": "with 6 x 6 tiles nudged",
}
"""What is taken away, and what the controls do: the first three to shape, texture and color, the others to no cue."""
CURVES = {
    "shuffle": ("Tiles that trade places", "tiles along a side"),
    "rotation": ("Tiles turned by quarters", "tiles along a side"),
    "bilateral": ("Texture smoothed, edges kept", "window (px of 224)"),
    "gaussian": ("Blurred", "kernel (px of 224)"),
    "greyscale": ("Gray in place of color", "share of gray"),
}


def by_cue(found: Mapping[str, Measure]) -> Iterator[Panel]:
    """What is kept without each cue beside published values, and what under the controls; from `kept_...`."""
    titles = ("by_cue", CUES, "without one cue"), ("controls", tuple(CONTROLS), "under other changes")
    for name, of, what in titles:
        kept = [found[f"kept_{one}"] for one in of]
        if all(m.value is not None for m in kept):
            rows = [dot(WITHOUT[one], m.value, m.interval, m.n) for one, m in zip(of, kept, strict=True)]
            data = {"unit": "share", "rows": rows, "marks": _marks(kept)}
            caption = "Accuracy over that on the images as they are."
            yield Panel(name, "dots", f"Accuracy kept {what}", caption, data)


def curves(right: Mapping[Change, Any], clean: Measure) -> Iterator[Panel]:
    """Accuracy over the strength of each transform of which at least two strengths were seen.

    `right` holds (images,) of 1 for a right answer, by change. A filter of one's own settings is in no curve.
    """
    for transform, (title, axis) in CURVES.items():
        known = [c for c in right if c in PUBLISHED[transform] or c.transform == transform == "shuffle"]
        if len(known) < 2:
            continue
        levels = sorted(known, key=lambda change: change.level)
        points = [clean, *(stats.share("right", right[change]) for change in levels)]
        low, high = zip(*(m.interval or (None, None) for m in points), strict=True)
        series = {"name": "", "x": list(map(float, range(len(points)))), "y": [m.value for m in points]}
        ticks = [[0.0, "none"], *([i + 1.0, f"{change.level:g}"] for i, change in enumerate(levels))]
        data: dict[str, Any] = {"x": axis, "y": "accuracy", "ticks": ticks, "y_ends": [0.0, 1.0]}
        data |= {"chance": clean.chance, "series": [series | {"low": list(low), "high": list(high)}]}
        yield Panel(transform, "lines", title, "Bands are 95 % intervals.", data)


def views(how: Suppression, classifier: Classifier, batch: Batch) -> dict[str, Tensor]:
    """The images as they are and without each cue, (B, 3, H, W) uint8, by what they are called."""
    clean = how.framed(classifier, batch)
    without = {f"without {TITLES[cue]}": how.view(clean, change, batch.ids) for cue, change in how.named.items()}
    return {"as it is": clean} | without


def shown(how: Suppression, classifier: Classifier, batch: Batch) -> Panel:
    """The images without each cue, side by side, and what is said of them."""
    names, seen = classifier.classes.names, views(how, classifier, batch)
    answers = {title: classifier.logits(pixels.float() / 255).argmax(1).tolist() for title, pixels in seen.items()}
    first, *without = seen
    figures = []
    for i in range(len(batch)):
        insets = [Inset(f"{title}: {names[answers[title][i]]}", to_image(seen[title][i])) for title in without]
        figures.append(Figure(f"{first}: {names[answers[first][i]]}", to_image(seen[first][i]), insets=tuple(insets)))
    caption = "What it says to each: images that it is right about as they are."
    return Panel("suppressed", "images", "What was taken away", caption, figures=tuple(figures))


def _marks(kept: Sequence[Measure]) -> list[dict[str, Any]]:
    values: dict[str, list[float | None]] = {}
    for i, measure in enumerate(kept):
        for one in measure.published:
            values.setdefault(one.who, [None] * len(kept))[i] = one.value
    return [{"who": who, "values": each} for who, each in values.items()]

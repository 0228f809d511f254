"""What no instrument measures: people's answers, receptive fields, runtimes, labels, parameters."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from cuescope.api.claims.claim import BAGNET, CONGRUENT, Work
from cuescope.core import stats
from cuescope.core.findings import Measure

PATCH_PX, STRIDE_PX, IMAGES = 9, 4, 24
TIMED = 5
RESAMPLES = 1000


def exact(name: str, value: float, title: str = "", unit: Any = "") -> Measure:
    """A number that is reckoned, not estimated: its interval is itself."""
    return Measure(name, value, unit, interval=(value, value), title=title)


def fields(_: Path | None) -> Mapping[str, Measure]:
    """The side of what one position of the last map sees."""
    from cuescope.classifier.sources import load

    found = {}
    for spec in ("cuescope/bagnet9", "cuescope/bagnet17", "cuescope/bagnet33", "torchvision/resnet50"):
        network = load(f"{spec}@random", device="cpu")
        size = max(field.size_px or 0 for field in network.receptive_fields.values())
        name = spec.partition("/")[2]
        found[name] = exact(name, float(size), f"receptive field of {name}", "px")
    return found


def patches_alone(_: Path | None) -> Mapping[str, Measure]:
    """The patches of images one by one, each as an image of its own, and the logit of the whole beside their mean."""
    import torch

    from cuescope.classifier.sources import load
    from cuescope.world.images import WorldImages
    from cuescope.world.strategy import network_input

    images = network_input(WorldImages("congruent", count=IMAGES).render(range(IMAGES))[0])
    patches = images.unfold(2, PATCH_PX, STRIDE_PX).unfold(3, PATCH_PX, STRIDE_PX).permute(0, 2, 3, 1, 4, 5)
    found = {}
    for spec in (BAGNET, CONGRUENT):
        network = cast(torch.nn.Module, load(spec, device="cpu", fold=False).network)
        with torch.no_grad():
            whole = network(images)
            parts = torch.stack([network(some.flatten(0, 1)).mean(0) for some in patches])
        name = spec.partition("world-")[2]
        title = f"largest distance of a logit of world-{name} from the mean of its patches, each seen alone"
        found[name] = stats.mean(name, (whole - parts).abs().amax(1).numpy(), "", title=title)
    return found


def runtimes(_: Path | None) -> Mapping[str, Measure]:
    """Forward passes of one image of 224 px, taken in turns; the processor's time, which other work does not change."""
    import torch

    from cuescope.classifier.sources import load

    specs = ("cuescope/bagnet33", "torchvision/resnet50")
    networks = [load(f"{spec}@random", device="cpu").network for spec in specs]
    image, ratios = torch.zeros(1, 3, 224, 224), []
    with torch.no_grad():
        for turn in range(TIMED + 1):
            seconds = []
            for network in networks:
                start = time.process_time()
                cast(torch.nn.Module, network)(image)
                seconds.append(time.process_time() - start)
            if turn:  # The first is slow.
                ratios.append(seconds[0] / seconds[1])
    slow = stats.mean("ratio", ratios, "", units="turns", title="time of BagNet-33, in times of ResNet-50")
    return {"ratio": slow, "same": exact("same", 1.0, "time of ResNet-50, in its own")}


def parameters(_: Path | None) -> Mapping[str, Measure]:
    """The share of the parameters that are in the fully connected layers."""
    from torch import nn

    from cuescope.classifier.sources import load

    found = {}
    for spec in ("cuescope/zfnet", "torchvision/resnet50"):
        network = cast(nn.Module, load(f"{spec}@random", device="cpu").network)
        linear = sum(p.numel() for m in network.modules() if isinstance(m, nn.Linear) for p in m.parameters())
        name = spec.partition("/")[2]
        title = f"parameters of {name} in its fully connected layers"
        found[name] = exact(name, linear / sum(p.numel() for p in network.parameters()), title, "share")
    return found


def real_labels(data: Path | None) -> Mapping[str, Measure]:
    """How many labels people found right for each of ImageNet's validation images (ReaL)."""
    from cuescope.core.files import parsed

    counts = [len(labels) for labels in parsed((cast(Path, data) / "real" / "real.json").read_bytes())]
    known = np.array([count for count in counts if count])
    named = {"several": known > 1, "none": np.zeros(len(known), bool)}
    titles = {"several": "images with more than one right label", "none": "of images with one label each"}
    return {name: stats.share(name, hits, title=titles[name]) for name, hits in named.items()}


def trials(data: Path | None) -> Mapping[str, Measure]:
    """The authors' trials of people and networks on their 1,280 stimuli: shape bias, and error consistency."""
    import polars as pl

    from cuescope.core import draws
    from cuescope.core.error_consistency import kappa_table
    from cuescope.data.readers import read_human_data

    rows = read_human_data(cast(Path, data) / "human").trials
    rows = rows.with_columns(who=pl.when(pl.col("kind") == "human").then(pl.lit("people")).otherwise("subject"))
    found = {who: _bias(who, mine) for (who,), mine in rows.group_by("who")}
    people = rows.filter(pl.col("who") == "people")
    for who, mine in (("people", people), (RESNET, rows.filter(pl.col("who") == RESNET))):
        by_category = [_bias(f"{who}, lowest", part) for _, part in mine.group_by("shape")]
        found[f"{who}, lowest"] = min(by_category, key=lambda one: one.value if one.value is not None else 1.0)
    wide = rows.with_columns(right=(pl.col("response") == pl.col("shape")).cast(pl.Float64))
    wide = wide.pivot("subject", index="image", values="right", aggregate_function="first").sort("image")
    kinds = dict(rows.select("subject", "kind").unique().iter_rows())
    names = [name for name in wide.columns if name != "image"]
    table = wide.select(names).fill_null(0.0).to_numpy()
    drawn = np.concatenate([np.ones((1, len(table))), *draws.Draws(np.zeros(len(table)), resamples=RESAMPLES)])
    kappas = kappa_table(table, table, drawn)
    groups = {
        "people": [i for i, name in enumerate(names) if kinds[name] == "human"],
        "networks": [i for i, name in enumerate(names) if name.endswith(("(torchvision)", "(Caffe)"))],
        "stylized": [i for i, name in enumerate(names) if name.endswith("(SIN)")],
    }

    def mean(one: str, other: str) -> Any:
        pairs = [(i, k) for i, k in itertools.product(groups[one], groups[other]) if i != k]
        return np.mean([kappas[:, i, k] for i, k in pairs], 0)

    agree = {f"{one} with {other}": mean(one, other) for one, other in AGREE}
    for name, values in agree.items():
        interval = draws.interval_of(values[1:])
        title = f"error consistency (kappa): {name}"
        found[name] = Measure(name, float(values[0]), "kappa", len(table), interval, title=title)
    return found


RESNET = "ResNet-50 (torchvision)"
AGREE = (("people", "people"), ("networks", "people"), ("stylized", "people"), ("networks", "networks"))


def _bias(who: str, rows: Any) -> Measure:
    """Of the decisions for either cue those for the shape; images share objects and textures."""
    import polars as pl

    conflict = rows.filter(pl.col("shape") != pl.col("texture"))
    either = conflict.filter((pl.col("response") == pl.col("shape")) | (pl.col("response") == pl.col("texture")))
    cues = [re.findall(r"[a-z]+\d+", name) for name in either["image"]]
    clusters = [[pair[0] for pair in cues], [pair[1] for pair in cues]]
    hits = (either["response"] == either["shape"]).to_numpy()
    return stats.share(who, hits, clusters=clusters, title=f"shape bias of {who}")


FIELDS = Work("fields", "receptive fields of BagNet-9, -17, -33 and ResNet-50, reckoned", fields)
APART = Work("patches-alone", "logits of the patches of 24 images, each an image of its own", patches_alone)
RUNTIMES = Work("runtimes", "a forward pass of BagNet-33 and of ResNet-50, in turns, on one image of 224 px", runtimes)
PARAMETERS = Work("parameters", "where the parameters of ZFNet and of ResNet-50 are, counted", parameters)
REAL_LABELS = Work("real-labels", "the labels of ReaL for ImageNet's validation images, counted", real_labels, True)
TRIALS = Work("trials", "the trials of people and networks of Geirhos et al. 2019, counted again", trials, True)

"""What do the first layer's filters look for, and are any wasted?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops import spectrum
from cuescope.data.ops.contact import contact_sheet
from cuescope.instruments.base import Rows
from cuescope.network import first_convolutions, hooks
from cuescope.network.executor import trial
from cuescope.network.hooks import HookPoint

NO_FIRST = "none of its modules is a 2-D convolution: it has no filters to look at"
ONE_PX = "a kernel of a single pixel holds no pattern"


@dataclass(frozen=True)
class Filters:
    """What do the first layer's filters look for, and are any wasted?

    Zeiler & Fergus (2014) found two faults in the network of 2012: first-layer filters of extremely high and low
    frequency "with little coverage of the mid frequencies", some of them dead, and aliasing behind a stride of 4;
    7 x 7 px at stride 2 mended both (section 4.1). Here the filters are those of the first convolution that is run,
    a transformer's patches included. Dead: never active above 0 after the nonlinearity on any image seen, or of
    negligible weights. Saturated: most of the energy lies in the lowest or the highest quarter of the frequencies that
    the kernel can hold (by its cosine transform). Repeated: the absolute cosine with another filter, both without
    their means, reaches `similarity`.

    Aliasing is the share of a response's energy, about its mean, above the Nyquist frequency of the map that is kept:
    what folds back. It is the mean over filters and images. The response is computed at every position, before any is
    left out: for layer 1 by a stride of 1, for layer 2 (the first convolution on a coarser map, with all
    pooling on the way) at each position of layer 1's map.

    >>> Filters(similarity=0.9).images
    64
    """

    images: int = 64
    """How many images are looked at, spread evenly over the set."""
    similarity: float = 0.95
    """Absolute cosine from which on a filter repeats another."""
    extreme_share: float = 0.75
    """Share of a filter's energy in the lowest or the highest frequencies from which on it is saturated."""
    negligible: float = 0.001
    """RMS of a dead filter's weights, at most, as a share of the strongest filter's."""

    question: ClassVar[str] = "What do the first layer's filters look for, and are any wasted?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, sections 3 and 4.1 and figure 6"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "features"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"aliasing_layer1": "aliasing_1", "aliasing_layer2": "aliasing_2"}

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.similarity <= 1 or not 0.5 < self.extreme_share <= 1:
            raise ValueError("images must be at least 1, 0 < similarity <= 1 and 0.5 < extreme_share <= 1")
        if not 0 <= self.negligible < 1:
            raise ValueError("negligible must be at least 0 and below 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: how active each filter gets, and how much of layers 1 and 2 folds back.

        Each row tells of the filters themselves too, so that the rows alone tell all.
        """
        network = classifier.network
        assert network is not None
        noise = classifier.normalize(trial(classifier.preprocessing))
        first = first_convolutions.first_convolution(network, noise)
        if first is None:
            return pl.DataFrame({"id": batch.ids}).select("id", *(pl.lit(None, k).alias(n) for n, k in _MORE.items()))
        convolution = network.get_submodule(first.name)
        assert isinstance(convolution, nn.Conv2d)
        bank = first_convolutions.filters(convolution)
        rms = bank.square().mean((1, 2, 3)).sqrt()
        low, high, frequency = spectrum.bands(bank)
        alive = rms > self.negligible * rms.max()
        second = first_convolutions.second_convolution(network, noise, first)
        common = {
            "layer": first.name,
            "kernel": list(bank.shape[1:]),
            "stride": list(convolution.stride),
            "nonlinear": first.nonlinear,
            "rms": rms.tolist(),
            "low": low.nan_to_num().tolist(),
            "high": high.nan_to_num().tolist(),
            "frequency": frequency.nan_to_num().tolist(),
            "repeats": spectrum.clusters(bank * alive[:, None, None, None], self.similarity).tolist(),
            "second": second.name if second else None,
            "steps": list(second.steps) if second else None,
        }
        rows, places = [], (HookPoint(first.name, before=True), first.active)
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            image = classifier.normalize(pixels[None])
            with torch.no_grad(), hooks.evaluating(network):
                with hooks.captured(network, places, enough=True) as seen:
                    network(image)
                response = first_convolutions.unstrided(convolution)(seen[places[0]])[0]
            folded = spectrum.folded_shares(response, (convolution.stride[0], convolution.stride[1]))
            row: dict[str, Any] = {"peak": seen[first.active][0].float().amax((1, 2)).tolist()}
            row |= {"folded": _known(folded), "aliasing_1": _known(folded[alive].nanmean()[None])[0]}
            if second:
                response = first_convolutions.response_everywhere(network, image, second, classifier.batch_size)
                row["aliasing_2"] = _known(spectrum.folded_shares(response, second.steps).nanmean()[None])[0]
            rows.append({"id": name, **common, **row})
        return pl.DataFrame(rows, schema={"id": pl.String, **_MORE})

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema={"id": pl.String, **_MORE})
        known = rows.filter(pl.col("layer").is_not_null())
        why = "" if known.height else NO_FIRST if rows.height else "no image was seen"
        layer, bank = _layer(known), self._bank(known)
        measures = (*_counts(layer, bank, why), *_energies(layer, bank, why), *_aliasing(layer, known, why))
        found = {measure.name: measure for measure in measures}
        return Finding(
            instrument="filters",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=() if why else tuple(_panels(layer, bank, found)),
            sentence=f"Filters are not measured: {why}." if why else _sentence(layer, found),
            caveats=() if why else tuple(_caveats(layer, known.height)),
            references=(self.reference,),
            why=why if rows.height else "",
        )

    def _bank(self, rows: Rows) -> pl.DataFrame:
        """A row a filter: what it is, and what became of it on the images."""
        per_image = rows.select(pl.int_ranges(pl.col("rms").list.len()).alias("filter"), "peak", "folded")
        seen = per_image.explode("filter", "peak", "folded").group_by("filter", maintain_order=True)
        same = rows.head(1).select(*_SAME, pl.int_ranges(pl.col("rms").list.len()).alias("filter"))
        bank = same.explode(*_SAME, "filter").join(
            seen.agg(pl.col("peak").max(), pl.col("folded").mean()), on="filter", how="left", maintain_order="left"
        )
        bank = bank.with_columns(
            weak=pl.col("rms") <= self.negligible * pl.col("rms").max(),
            silent=(pl.col("peak") <= 0) & pl.lit(_layer(rows).get("nonlinear", False)),
            repeated=pl.col("repeats") != pl.col("filter"),
        )
        strong = ~pl.col("weak")
        return bank.with_columns(
            dead=pl.col("weak") | pl.col("silent"),
            slow=strong & (pl.col("low") >= self.extreme_share),
            fast=strong & (pl.col("high") >= self.extreme_share),
        )

    def examples(self, rows: Rows) -> list[str]:
        """One image: the filters are the same for all."""
        return rows.filter(pl.col("layer").is_not_null())["id"].head(1).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        known = rows.filter(pl.col("layer").is_not_null())
        if not known.height or classifier.network is None:
            return
        layer, bank = _layer(known), self._bank(known)
        convolution = classifier.network.get_submodule(layer["layer"])
        assert isinstance(convolution, nn.Conv2d)
        weights = first_convolutions.filters(convolution)
        sheet = contact_sheet(weights[bank.sort("weak", "frequency", "filter")["filter"].to_list()])
        text = f"{len(weights)} filters of {layer['layer']}, {_size(layer)}"
        if bank["weak"].any():
            text += f"; the last {bank['weak'].sum()} have negligible weights"
        figures = [Figure(text, sheet)]
        alike = bank.filter(pl.col("repeats").is_in(bank.filter("repeated")["repeats"].implode()))
        if alike.height and _pattern(layer):
            groups = alike.group_by("repeats", maintain_order=True).agg("filter")["filter"].to_list()
            joined = [weights[group] for group in sorted(groups, key=len, reverse=True)]
            figures.append(Figure("those of them that are alike", contact_sheet(*joined, width_px=sheet.shape[1])))
        shown = "in color" if layer["kernel"][0] == 3 else "as the mean of its channels, which are not three colors"
        caption = f"Each filter {shown}, stretched to its own contrast around gray; from the lowest mean frequency on."
        yield Panel("filters", "images", "The first layer's filters", caption, figures=tuple(figures))


_SAME = ("rms", "low", "high", "frequency", "repeats")
"""What rows tell of each filter itself, the same in all."""
_MORE: dict[str, Any] = {
    "layer": pl.String,
    "kernel": pl.List(pl.Int32),
    "stride": pl.List(pl.Int32),
    "nonlinear": pl.Boolean,
    "rms": pl.List(pl.Float32),
    "low": pl.List(pl.Float32),
    "high": pl.List(pl.Float32),
    "frequency": pl.List(pl.Float32),
    "repeats": pl.List(pl.Int32),
    "peak": pl.List(pl.Float32),
    "folded": pl.List(pl.Float32),
    "aliasing_1": pl.Float64,
    "second": pl.String,
    "steps": pl.List(pl.Int32),
    "aliasing_2": pl.Float64,
}


def _layer(rows: Rows) -> Mapping[str, Any]:
    """What the rows tell of the layer, the same in all; nothing where there are none."""
    told = rows.select("layer", "kernel", "stride", "nonlinear", "second", "steps")
    return told.row(0, named=True) if told.height else {}


def _size(layer: Mapping[str, Any]) -> str:
    return f"{layer['kernel'][1]} x {layer['kernel'][2]} px"


def _pattern(layer: Mapping[str, Any]) -> bool:
    """Whether the kernel is large enough to hold one."""
    return max(layer["kernel"][1:]) > 1


def _counts(layer: Mapping[str, Any], bank: pl.DataFrame, why: str) -> Iterable[Measure]:
    flat = why or ("" if _pattern(layer) else ONE_PX)
    extreme = bank["slow"] | bank["fast"]
    for name, title, which, reason in (
        ("dead", "dead filters", bank["dead"], why),
        ("saturated", "filters of extreme frequency", extreme, flat),
        ("low", "filters of the lowest frequencies alone", bank["slow"], flat),
        ("high", "filters of the highest frequencies alone", bank["fast"], flat),
        ("repeated", "filters that repeat another", bank["repeated"], flat),
    ):
        told: dict[str, Any] = {"value": None, "why": reason}
        if not reason:
            k, n = int(which.sum()), len(which)
            told = {"value": k / n, "n": n, "interval": stats.wilson(k, n), "count": k}
        # Whether extremes are a fault depends on what lies between them, so no direction is given for them.
        better = "lower" if name in ("dead", "repeated") else ""
        headline = name in ("dead", "saturated")
        yield Measure(f"{name}_filters", unit="share", title=title, better=better, headline=headline, **told)


def _mean(values: NDArray[Any], why: str) -> dict[str, Any]:
    """The value of a measure, its n and interval; why there is none where that is given or nothing is known."""
    if why or not len(values):
        return {"value": None, "why": why or "its responses do not vary"}
    interval = stats.bootstrap_mean(values) if len(values) > 1 else None
    return {"value": float(values.mean()), "n": len(values), "interval": interval}


def _energies(layer: Mapping[str, Any], bank: pl.DataFrame, why: str) -> Iterable[Measure]:
    strong = bank.filter(~pl.col("weak"))
    middle = (1 - strong["low"] - strong["high"]).cast(pl.Float64).to_numpy()
    told = _mean(middle, why or ("" if _pattern(layer) else ONE_PX))
    yield Measure("mid_coverage", unit="share", title="energy of the filters in the middle frequencies", **told)
    title = "energy of the weights in the strongest tenth of the filters"
    told = {"value": None, "why": why}
    if not why:
        energy = np.sort(bank["rms"].cast(pl.Float64).to_numpy() ** 2)[::-1]
        inside = np.clip(len(energy) / 10 - np.arange(len(energy)), 0, 1) * energy
        # Of all the filters there are, not of a sample of them: no interval.
        told = {"value": float(inside.sum() / energy.sum()), "n": len(energy), "chance": 0.1}
    yield Measure("strongest_tenth", unit="share", title=title, **told)


def _aliasing(layer: Mapping[str, Any], rows: Rows, why: str) -> Iterable[Measure]:
    coarser = why or ("" if layer["second"] else "no later convolution works on a coarser map")
    for number, reason in ((1, why), (2, coarser)):
        told = _mean(rows[f"aliasing_{number}"].drop_nulls().to_numpy(), reason)
        name, title = f"aliasing_layer{number}", f"what folds back in layer {number} (aliasing)"
        yield Measure(name, unit="share", title=title, better="lower", headline=number == 1, **told)


def _panels(layer: Mapping[str, Any], bank: pl.DataFrame, found: Mapping[str, Measure]) -> Iterable[Panel]:
    if _pattern(layer):
        edges = np.linspace(0, 1, 11)
        counts = np.histogram(bank.filter(~pl.col("weak"))["frequency"].to_numpy(), edges)[0]
        values = (100 * counts / max(1, counts.sum())).round(2).tolist()
        caption = "Each filter's mean frequency: 0 is a constant, 1 the finest pattern that the kernel can hold."
        data = {"x": "mean frequency", "y": "filters (%)", "edges": edges.tolist(), "values": values}
        yield Panel("frequencies", "bars", "Fine and coarse filters", caption, data)
    dots = []
    for number in (1, 2):
        measure = found[f"aliasing_layer{number}"]
        low, high = measure.interval or (None, None)
        dots.append({"label": f"layer {number}", "value": measure.value, "low": low, "high": high, "n": measure.n})
    caption = "The share of the energy of a layer's responses that is too fine for the map that is kept."
    yield Panel("aliasing", "dots", "What folds back", caption, {"unit": "share", "rows": dots})
    columns = ["filter", "remark", "RMS", "frequency", "lowest", "highest", "folds back"]
    table = []
    for row in bank.iter_rows(named=True):
        remarks = ["negligible"] if row["weak"] else ["never active"] if row["silent"] else []
        remarks += [f"repeats {row['repeats']}"] if row["repeated"] and _pattern(layer) else []
        shares = [row[name] if _pattern(layer) else None for name in ("frequency", "low", "high")]
        numbers = [None if x is None else round(x, 3) for x in (*shares, row["folded"])]
        table.append([row["filter"], ", ".join(remarks), float(f"{row['rms']:.3g}"), *numbers])
    table.sort(key=lambda row: (not row[1], row[0]))
    caption = (
        "Of each filter: its weights' root mean square, its mean frequency, the shares of its energy in the lowest and "
        "the highest frequencies, and the share of its responses that folds back."
    )
    yield Panel("table", "table", "Filter by filter", caption, {"columns": columns, "rows": table})


def _sentence(layer: Mapping[str, Any], found: Mapping[str, Measure]) -> str:
    dead, repeated, extreme = (found[f"{name}_filters"].count or 0 for name in ("dead", "repeated", "saturated"))
    n, alias = found["dead_filters"].n, found["aliasing_layer1"].value
    text = f"Of the {n} filters of its first layer ({_size(layer)}, stride {_by(layer['stride'])}) "
    text += f"{dead or 'none'} {'are' if dead > 1 else 'is'} dead"
    if _pattern(layer):
        text += f", {repeated or 'none'} {'repeat' if repeated > 1 else 'repeats'} another and {extreme or 'none'} "
        text += f"{'hold' if extreme > 1 else 'holds'} little but the lowest or the highest frequencies"
    if alias is None:
        return text + "."
    if max(layer["stride"]) == 1:
        return text + "; it leaves no position out, so nothing folds back."
    return text + f"; {alias:.0%} of what they respond with is too fine for the map that is kept and folds back."


def _by(sides: list[int]) -> str:
    """A stride or steps: one number where both axes agree."""
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} x {sides[1]}"


def _caveats(layer: Mapping[str, Any], images: int) -> Iterable[str]:
    if layer["nonlinear"]:
        yield f"A filter that is never active on {images} images may be on others."
    else:
        yield "No nonlinearity follows before the next layer: only negligible weights make a filter dead here."
    yield (
        "A batch norm behind the filters is folded into them: it rescales whole filters, which changes RMS and what is "
        "negligible, but no shape, frequency or likeness."
    )
    white = 1 - 1 / (layer["stride"][0] * layer["stride"][1])
    if white:
        yield f"Of a response with equal energy at all frequencies {white:.1%} would fold back in layer 1."
    if layer["second"]:
        yield (
            f"Layer 2 is {layer['second']}: along each side it keeps one of {_by(layer['steps'])} positions of layer "
            "1's map. What layer 1 has folded cannot be told there from what it saw."
        )


def _known(shares: Tensor) -> list[float | None]:
    return [None if math.isnan(share) else share for share in shares.tolist()]

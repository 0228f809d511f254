"""What do the first layer's filters look for, and are any wasted?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion, Figure, Inset, Look, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops import spectrum
from cuescope.data.ops.contact import contact_sheet
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answer, typed
from cuescope.methods.filter_bank import bank_of, has_pattern, measures_of
from cuescope.methods.first_layers import FirstLayers

MOST_RESPONSES = 8
"""Filters whose responses to one image are shown."""


@dataclass(frozen=True)
class Filters(Instrument, version=3, order=230, needs={"logits", "features"}):
    """What do the first layer's filters look for, and are any wasted?

    Zeiler & Fergus (2014, section 4.1) found two faults in the network of 2012, which 7 x 7 px at stride 2 mended:
    filters of extremely high and low frequency, some of them dead, and aliasing behind a stride of 4. Here the filters
    are those of the first convolution that is run, a transformer's patches included. Silent: never above 0 after the
    nonlinearity on any image seen. Weak: of negligible weights. Saturated: most of the energy lies in the lowest or
    the highest quarter of the frequencies that the kernel can hold (by its cosine transform). Repeated: the absolute
    cosine with another filter, both without their means, reaches `similarity`. Filters of random weights are saturated
    too, the more often the smaller the kernel: how often is the chance of these measures.

    Aliasing is the share of a response's energy, about its mean, above the Nyquist frequency of the map that is kept,
    as a mean over filters and images. The response is computed at every position: for layer 1 by a stride of 1, for
    layer 2 (the first convolution on a coarser map, with all pooling on the way) at each position of layer 1's map.

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
    """RMS of a weak filter's weights, at most, as a share of the strongest filter's."""

    question = "What do the first layer's filters look for, and are any wasted?"
    reference = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, sections 3 and 4.1 and figure 6"
    )
    columns = {
        "id": pl.String,
        **typed(pl.List(pl.Float32), "peak folded"),
        **typed(pl.Float64, "aliasing_1 aliasing_2"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "Filters are not measured: no image was seen."),
        "silent": Sentence(
            "yes",
            "a nonlinearity follows, and so many filters were never above 0 behind it",
            "{silent} of the {filters} of its first layer ({size}) never {respond} to any of {images}.",
        ),
        "all_respond": Sentence(
            "no",
            "a nonlinearity follows, and every filter was above 0 behind it on some image",
            "Each of the {filters} of its first layer ({size}) responds to some of {images}.",
        ),
        "linear": Sentence(
            "cannot tell",
            "no nonlinearity follows before the next layer",
            "No nonlinearity follows the {filters} of its first layer ({size}), so that none can be silent.",
        ),
        "weak": Sentence(
            "yes",
            "so many filters have weights of an RMS of at most `negligible`",
            "{weak} {have} weights of less than {negligible:.1%} of the strongest filter's.",
        ),
        "repeats": Sentence(
            "yes",
            "the whole interval of the share of repeated filters lies above that of random weights",
            "{repeated} {repeat} another one.",
        ),
        "extreme": Sentence(
            "yes",
            "the whole interval of the share of saturated filters lies above that of random weights",
            "{extreme} {hold} little but the lowest or the highest frequencies; of random weights {chance:.0%} do.",
        ),
        "extreme_chance": Sentence(
            "cannot tell",
            "some filters are saturated, and the interval of their share does not lie above that of random weights",
            "{extreme} {hold} little but the lowest or the highest frequencies, perhaps no more than of random weights "
            "({chance:.0%}).",
        ),
        "folds": Sentence(
            "yes",
            "layer 1 leaves positions out",
            "{aliasing:.0%} of what they respond with is too fine for the map that is kept and folds back; of white "
            "noise {white:.0%} would.",
        ),
        "keeps_all": Sentence("no", "its stride is 1", "It leaves no position out, so that nothing folds back."),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.similarity <= 1 or not 0.5 < self.extreme_share <= 1:
            raise ValueError("images must be at least 1, 0 < similarity <= 1 and 0.5 < extreme_share <= 1")
        if not 0 <= self.negligible < 1:
            raise ValueError("negligible must be at least 0 and below 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: the first layer, each of its filters, and layer 2 ("second"), None where there is none."""
        layers = FirstLayers.of(classifier)
        if layers is None:
            raise Misfit("none of its modules is a 2-D convolution: it has no filters to look at")
        bank, first, second = layers.filters, layers.first, layers.second
        rms = bank.square().mean((1, 2, 3)).sqrt()
        alive = rms > self.negligible * rms.max()
        repeats = spectrum.clusters(bank * alive[:, None, None, None], self.similarity)
        low, high, frequency = (share.nan_to_num().float().tolist() for share in spectrum.bands(bank))
        facts = {"layer": first.name, "kernel": list(bank.shape[1:]), "stride": list(layers.convolution.stride)}
        facts |= {"nonlinear": first.nonlinear, "rms": rms.tolist(), "low": low, "high": high, "frequency": frequency}
        random = spectrum.of_random_weights(bank.shape, self.similarity, self.extreme_share)
        facts |= {
            "repeats": repeats.tolist(),
            "random": random,
            "second": second and second.name,
            "steps": second and list(second.steps),
        }
        return Observer(partial(self._rows, layers, alive), facts=facts)

    def _rows(self, layers: FirstLayers, alive: Tensor, batch: Batch) -> Rows:
        """Per image: the highest response of each filter, and how much of layers 1 and 2 folds back."""
        rows = []
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            peak, folded, coarser = layers.responses(pixels)
            aliasing = folded[alive].nanmean().item(), None if coarser is None else coarser.nanmean().item()
            rows.append((name, peak.tolist(), folded.tolist(), *aliasing))
        known = pl.col("folded").list.eval(pl.element().fill_nan(None)), pl.col("^aliasing.*$").fill_nan(None)
        return pl.DataFrame(rows, self.columns, orient="row").with_columns(*known)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        facts = about.facts
        bank = bank_of(facts, rows, self.negligible, self.extreme_share)
        found = {measure.name: measure for measure in measures_of(facts, bank, rows)}
        verdict = self._verdict(facts, found, rows.height)
        panels, caveats = (tuple(_panels(facts, bank, found)), tuple(_caveats(facts))) if rows.height else ((), ())
        return Conclusion(tuple(found.values()), panels, verdict, caveats)

    def _verdict(self, facts: Mapping[str, Any], found: Mapping[str, Measure], images: int) -> Verdict:
        if not images:
            return self.say("nothing")
        silent, weak, repeated, extreme = (found[f"{n}_filters"] for n in ("silent", "weak", "repeated", "saturated"))
        more = {"filters": counted(weak.n, "filter"), "size": f"{_size(facts)}, stride {_by(facts['stride'])}"}
        if not facts["nonlinear"]:
            said = self.say("linear", **more)
        elif silent.count:
            respond = "responds" if silent.count == 1 else "respond"
            said = self.say("silent", silent=silent.count, respond=respond, images=counted(images, "image"), **more)
        else:
            said = self.say("all_respond", images=counted(images, "image"), **more)
        if weak.count:
            have = "has" if weak.count == 1 else "have"
            said += self.say("weak", weak=weak.count, have=have, negligible=self.negligible)
        if repeated.above(repeated.chance):
            repeat = "repeats" if repeated.count == 1 else "repeat"
            said += self.say("repeats", repeated=repeated.count, repeat=repeat)
        if extreme.count:
            name = "extreme" if extreme.above(extreme.chance) else "extreme_chance"
            hold = "holds" if extreme.count == 1 else "hold"
            said += self.say(name, extreme=extreme.count, hold=hold, chance=extreme.chance)
        if max(facts["stride"]) == 1:
            said += self.say("keeps_all")
        elif (folds := found["aliasing_layer1"]).value is not None:
            said += self.say("folds", aliasing=folds.value, white=folds.chance)
        return said

    def examples(self, rows: Rows) -> list[str]:
        """One image: the filters are the same for all."""
        return rows["id"].head(1).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        facts, (bank, weights) = self.start(classifier).facts, self._bank(classifier)
        every = contact_sheet(weights[bank["filter"].to_list()])
        text = f"{len(weights)} filters of {facts['layer']}, {_size(facts)}"
        if weak := bank["weak"].sum():
            text += f"; the last {weak} have negligible weights"
        figures = [Figure(text, every)]
        alike = bank.filter(pl.col("repeats").is_in(bank.filter("repeated")["repeats"].implode()))
        if alike.height and has_pattern(facts):
            groups = alike.group_by("repeats", maintain_order=True).agg("filter")["filter"].to_list()
            joined = [weights[group] for group in sorted(groups, key=len, reverse=True)]
            figures.append(Figure("those of them that are alike", contact_sheet(*joined, width_px=every.shape[1])))
        shown = "in color" if facts["kernel"][0] == 3 else "as the mean of its channels, which are not three colors"
        caption = f"Each filter {shown}, stretched to its own contrast around gray; from the lowest mean frequency on."
        yield Panel("filters", "images", "The first layer's filters", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, facts, (bank, weights) = rows.row(0, named=True), self.start(classifier).facts, self._bank(classifier)
        layers = FirstLayers.of(classifier)
        assert layers is not None
        maps, figures = layers.maps(batch.pixels[0]), []
        for k in maps.flatten(1).abs().amax(1).argsort(descending=True)[:MOST_RESPONSES].tolist():
            both = [tile(contrast(_colors(weights[k]))), tile(contrast(_colors(maps[k][None])))]
            figures.append(Figure(f"filter {k} and its response", sheet([both], 2)))
        every = contact_sheet(weights[bank["filter"].to_list()])
        image = to_image(batch.pixels[0])
        figure = Figure("", image, insets=(Inset(f"all {len(weights)} filters of {facts['layer']}", every),))
        said = f"It says {answer(classifier, batch.logits[0])}; "
        said += f"its first layer has {len(weights)} filters of {_size(facts)}"
        if facts["nonlinear"]:
            said += f", and {sum(peak > 0 for peak in row['peak'])} of them respond somewhere"
        if max(facts["stride"]) > 1 and row["aliasing_1"] is not None:
            said += f"; {row['aliasing_1']:.0%} of what they respond with is too fine for the map that is kept"
        strongest = Panel("responses", "images", "The strongest responses", figures=tuple(figures))
        return Look(f"{said}.", (Panel("filters", "images", "", figures=(figure,)), strongest))

    def _bank(self, classifier: Classifier) -> tuple[pl.DataFrame, Tensor]:
        """The filters: what is known of each, from low to high frequency, and their weights by number."""
        layers = FirstLayers.of(classifier)
        assert layers is not None
        bank = bank_of(self.start(classifier).facts, self.empty, self.negligible, self.extreme_share)
        return bank.sort("weak", "frequency", "filter"), layers.filters


def _panels(facts: Mapping[str, Any], bank: pl.DataFrame, found: Mapping[str, Measure]) -> Iterable[Panel]:
    if has_pattern(facts):
        counts, edges = np.histogram(bank.filter(~pl.col("weak"))["frequency"].to_numpy(), 10, (0, 1))
        values = (100 * counts / max(1, counts.sum())).round(2).tolist()
        caption = "0 is a constant, 1 the finest pattern that the kernel can hold."
        data = {"x": "mean frequency of a filter", "y": "filters (%)", "edges": edges.tolist(), "values": values}
        yield Panel("frequencies", "bars", "Fine and coarse filters", caption, data)
    layers = [(f"layer {number}", found[f"aliasing_layer{number}"]) for number in (1, 2)]
    dots = [dot(label, measure.value, measure.interval, measure.n) for label, measure in layers]
    caption = "The share of the energy of a layer's responses that the map that is kept cannot hold."
    yield Panel("aliasing", "dots", "What folds back", caption, {"unit": "share", "rows": dots})
    table = []
    for row in bank.iter_rows(named=True):
        remarks = ["weak"] if row["weak"] else ["silent"] if row["inactive"] else []
        remarks += [f"repeats {row['repeats']}"] if row["repeated"] and has_pattern(facts) else []
        if remarks:
            table.append([row["filter"], ", ".join(remarks), float(f"{row['rms']:.3g}")])
    if table:
        columns = ["filter", "why", "RMS of its weights"]
        yield Panel("wasted", "table", "Filters that add nothing", "", {"columns": columns, "rows": table})


def _colors(one: Tensor) -> Tensor:
    """(C, h, w) in color where it has three channels, else their mean in gray: (3, h, w)."""
    return one if len(one) == 3 else one.mean(0, keepdim=True).expand(3, -1, -1)


def _by(sides: list[int]) -> str:
    """A stride or steps: one number where both axes agree."""
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} x {sides[1]}"


def _size(facts: Mapping[str, Any]) -> str:
    return f"{facts['kernel'][1]} x {facts['kernel'][2]} px"


def _caveats(facts: Mapping[str, Any]) -> Iterable[str]:
    if facts["nonlinear"]:
        yield "A filter that is silent on these images may respond to others, and the next layer may use a weak one."
    yield (
        "Intervals of shares of filters are those of filters drawn independently of each other, as random weights are; "
        "the chance beside them is that of normally distributed weights in a kernel of this size."
    )
    yield (
        "A batch norm behind the filters is folded into them: it rescales whole filters, which changes RMS and what is "
        "negligible, but no shape, frequency or likeness."
    )
    if facts["second"]:
        yield (
            f"Layer 2 is {facts['second']}: along each side it keeps one of {_by(facts['steps'])} positions of layer "
            "1's map. There, what layer 1 has folded cannot be distinguished from what it saw."
        )

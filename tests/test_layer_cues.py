"""Read-outs by depth: a plain twin, folds that share nothing, and networks whose layers hold a known cue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About
from cuescope.instruments.base import Misfit
from cuescope.instruments.layer_cues import LayerCues
from cuescope.instruments.registry import build
from cuescope.methods.crossed_readout import FOLDS, PAIR_FOLDS, RIDGE, Crossed, answers, crossed, permuted
from cuescope.methods.layer_features import LayerFeatures, before_answer, layers_of, spread, unseen, usual_layers
from cuescope.network.shuffled_weights import shuffled
from toys import MeanColor, plain, toy


def stimuli(named: bool = True) -> Crossed:
    """Six objects of each of four shapes, three texture images of each of the others."""
    pairs = [(s, t, i, j) for s in range(4) for t in range(4) for i in range(6) for j in range(3)]
    names = [("abcd"[s], "abcd"[t], f"{s}.{i}", f"{t}.{j}") for s, t, i, j in pairs]
    columns = [list(column) for column in zip(*names, strict=True)]
    return crossed(*columns) if named else crossed(*columns[:2])


def test_nothing_is_both_learned_from_and_answered() -> None:
    design, seen = stimuli(), np.zeros(216, int)
    assert len(design.images) == 216, "without the images that show one category twice"
    splits = list(design.splits())
    assert len(splits) == FOLDS**2
    for train, test in splits:
        for source in (design.shape_source, design.texture_source):
            assert set(source[train]).isdisjoint(source[test])
        for category in (design.shape, design.texture):
            assert set(category[test]) <= set(category[train])
        seen += test
    assert (seen == 1).all(), "each image is answered once"


def test_without_names_no_pair_of_categories_is_both() -> None:
    design, seen = stimuli(named=False), np.zeros(216, int)
    splits = list(design.splits())
    assert len(splits) == PAIR_FOLDS
    for train, test in splits:
        pairs = [set(zip(design.shape[part], design.texture[part], strict=True)) for part in (train, test)]
        assert pairs[0].isdisjoint(pairs[1])
        seen += test
    assert (seen == 1).all()
    assert design.clusters == ()


def test_a_read_out_is_that_of_a_plain_ridge_regression() -> None:
    """The slow twin: one fold, one labeling and one category at a time, by scikit-learn."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    random, design = np.random.default_rng(0), stimuli()
    features = random.standard_normal((216, 7)) + design.shape[:, None] * random.standard_normal(7)
    features[:, 3] = 5.0  # tells nothing, and has no spread to be divided by
    labels = np.stack([design.shape, random.permutation(design.shape)], 1)
    found = answers(features, design, labels)
    for train, test in design.splits():
        scaler = StandardScaler().fit(features[train])
        x, new = scaler.transform(features[train]), scaler.transform(features[test])
        for m in range(2):
            scores = [
                Ridge(RIDGE * len(x)).fit(x, (labels[train, m] == k).astype(float)).predict(new) for k in range(4)
            ]
            assert (found[test, m] == np.argmax(scores, 0)).all()
    assert (found[:, 0] == design.shape).mean() > 0.5
    assert (found[:, 1] == labels[:, 1]).mean() < 0.4


def test_permuted_labels_keep_what_images_share() -> None:
    design = stimuli()
    labels = permuted(design.shape, design.shape_source, 20)
    assert labels.shape == (216, 20)
    for source in np.unique(design.shape_source):
        assert (np.ptp(labels[design.shape_source == source], axis=0) == 0).all()
    assert (labels == permuted(design.shape, design.shape_source, 20)).all()
    assert not (labels == design.shape[:, None]).all(0).any()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3, padding=1)] + [nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def test_features_are_pooled_and_projected_in_the_clean_pass() -> None:
    classifier, pixels = toy(network(), size=6), torch.rand(4, 3, 6, 6)
    features = LayerFeatures.of(classifier, ["0", "4"], grid=3, dimensions=20)
    assert [layer["kept"] for layer in features.facts] == [20, 20]
    logits, kept = classifier._layers.watch(pixels, features.watch)
    maps = classifier.features(pixels, ["0", "4"])
    for (name, _), found in kept.items():
        cells = maps[name].reshape(4, 8, 3, 2, 3, 2).mean((3, 5)).flatten(1)
        assert torch.allclose(found, cells, atol=1e-6)
    rows = pl.DataFrame({"features": features.of_batch(unseen(pixels)).tolist()}, {"features": pl.List(pl.Float32)})
    about = About("net", "images", (), facts={"layers": features.facts})
    whole = [one.part(0, 4) for one in layers_of(rows, about, "features", np.arange(4))]
    first, last = whole
    assert first.shape == last.shape == (4, 20)
    some = [one.part(0, len(one)) for one in layers_of(rows, about, "features", np.array([1, 3]))]
    assert all((few == every[[1, 3]]).all() for few, every in zip(some, whole, strict=True))
    nothing = pl.DataFrame({"features": [None] * 4}, rows.schema)
    assert not list(layers_of(nothing, about, "features", np.arange(4))), "of what was not kept there are no layers"
    assert logits.shape == (4, 3)
    wanted = maps["4"].reshape(4, 8, 3, 2, 3, 2).mean((3, 5)).flatten(1) @ features.maps[1]
    assert last == pytest.approx(wanted.numpy(), abs=1e-5)
    few = LayerFeatures.of(classifier, ["0", "4"], grid=1, dimensions=20)
    assert few.maps[0] is None, "few features are kept as they are"


def test_shuffled_weights_are_the_same_numbers_elsewhere() -> None:
    net = network()
    other, again = shuffled(net, 1), shuffled(net, 1)
    for (name, mine), changed, same in zip(net.named_parameters(), other.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine.flatten().sort()[0], changed.flatten().sort()[0]), name
        assert torch.equal(changed, same)
        assert not torch.equal(mine, changed) or mine.numel() < 4
    features = LayerFeatures.of(Classifier(net, preprocessing=plain(6)), ["0", "4"], 1, 20)
    beside, pixels = features.shuffled(1), unseen(torch.rand(2, 3, 6, 6))
    assert beside.classifier.network is not features.classifier.network
    assert (beside.of_batch(pixels) != features.of_batch(pixels)).any()


def test_layers_are_spread_over_the_outermost_level_that_has_a_few() -> None:
    names = ["features", *(f"features.{i}" for i in range(13)), *(f"features.{i}.squeeze" for i in range(13))]
    assert spread(names, 6) == [f"features.{i}" for i in (0, 2, 5, 7, 10, 12)]
    assert spread(["a", "b", "b.0", "b.1", "b.2"], 6) == ["b.0", "b.1", "b.2"]
    assert spread([], 6) == []
    tokens = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.Identity(), nn.Conv2d(8, 3, 1))
    pooling = nn.Sequential(tokens, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert usual_layers(toy(pooling, size=8), 6) == ["0.0", "0.3"]
    with pytest.raises(Misfit, match="fewer than two layers"):
        LayerCues().start(toy(MeanColor()))


def test_rows_hold_no_more_than_the_projections_and_facts_are_plain() -> None:
    from truth.layer_cues import CLASSES, Colors, Layers, Places, samples

    classifier = toy(Layers(Colors(), Places()), CLASSES, size=4)
    tool = LayerCues(dimensions=2)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(samples(2)[:5]))
    assert rows.schema == pl.Schema(tool.columns)
    assert rows["features"].list.len().to_list() == [4] * 5
    assert rows["shuffled"].list.len().to_list() == [4] * 5
    assert rows["object"][0] == "a0"
    assert json.loads(json.dumps(observer.facts))["layers"][1] == {
        "name": "places1",
        "depth": 1.0,
        "features": 4,
        "kept": 2,
    }
    without = replace(tool, control=False).start(classifier).observe(classifier.see(samples(2)[:5]))
    assert without["shuffled"].null_count() == 5


@pytest.mark.parametrize("setting", [{"most": 0}, {"grid": 0}, {"dimensions": 0}])
def test_parameters_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(Exception, match="at least 1"):
        build("layer_cues", setting)


@pytest.mark.slow
def test_the_world_s_models_hold_what_they_go_by() -> None:
    from cuescope.classifier.sources import load
    from cuescope.world.images import WorldImages

    images, found = WorldImages("conflict", count=240), {}
    samples = [images.read(i) for i in range(240)]
    for name in ("world-shape", "world-bagnet"):
        classifier, tool = load(f"cuescope/{name}", device="cpu"), LayerCues(control=False)
        observer = tool.start(classifier)
        rows = pl.concat([observer.observe(classifier.see(samples[i : i + 48])) for i in range(0, 240, 48)])
        found[name] = tool.conclude(rows, About(name, "world", images.classes.names, facts=observer.facts))
    shape, bag = found["world-shape"], found["world-bagnet"]
    assert shape["shape"].value > 0.9
    assert shape["shape_depth"].value == 1
    assert bag["texture"].value > 0.8
    assert not bag["shape"].above(bag["shape"].chance)


@pytest.mark.real
def test_texture_is_read_before_shape_and_both_best_in_depth(data: Path) -> None:
    """On every fourth of the authors' stimuli: what a shallow layer tells is texture, and a deep one tells more."""
    from cuescope.classifier.sources import load
    from cuescope.data.readers.cue_conflict import read_cue_conflict

    classifier = load(f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}", device="cpu")
    images = read_cue_conflict(data / "cue-conflict", limit=320)
    tool = LayerCues(layers=("features.0", "features.6", "features.12"), control=False)
    observer = tool.start(classifier)
    parts = [[images.read(i) for i in range(a, a + 32)] for a in range(0, 320, 32)]
    rows = pl.concat([observer.observe(classifier.see(part)) for part in parts])
    said = tool.conclude(rows, About("squeezenet", "stimuli", classifier.classes.names, facts=observer.facts))
    shape, texture = (curve["y"] for curve in said.panels[0].data["series"])
    assert texture[1] > 2 * shape[1]
    assert texture[2] > texture[0] + 0.1
    assert shape[2] > shape[0]


def test_the_last_layer_before_the_answer_is_what_the_answer_is_made_of() -> None:
    maps = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    plainly = Classifier(nn.Sequential(*maps, nn.Linear(6, 3)), preprocessing=plain(12))
    assert before_answer(plainly, 8) == ["0", "1", "2", "3"], "the pooled map is what a vector after it holds"
    deeper = Classifier(nn.Sequential(*maps, nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), preprocessing=plain(12))
    assert before_answer(deeper, 8)[-1] == "7"
    assert before_answer(deeper, 3) == ["0", "3", "7"]
    features = LayerFeatures.of(deeper, ["7"], 1, 20)
    pixels = torch.rand(2, 3, 12, 12)
    assert torch.allclose(torch.tensor(features.of_pixels(unseen(pixels))), deeper.network[:8](pixels), atol=1e-5)

"""A bag of visual words: equal to scikit-learn and to its plain twin, exact as a map, safe as a file."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.accuracy import Accuracy
from cuescope.instruments.shape_bias import ShapeBias
from cuescope.models.bow import FLOOR, LUMA, BagOfWords, Saved, from_file, to_bytes
from cuescope.training import bow as training
from cuescope.training.bow import fit_words
from cuescope.training.recipe import Trained
from cuescope.training.settings import WordSettings
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.strategy import network_input
from toys import Images, colored

QUICK = WordSettings(
    size_px=64, side_px=7, stride_px=3, components=10, words=24, patches=3000, images=80, inverse_penalty=0.3
)


def some(count: int = 8, seed: int = 5) -> Tensor:
    return network_input(WorldImages(seed=seed).render(range(count))[0])


def random_net(**how: object) -> BagOfWords:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BagOfWords(**{"side_px": 5, "stride_px": 3, "components": 8, "words": 11, "classes": 4, **how})


@pytest.fixture(scope="module")
def fitted() -> Trained:
    return fit_words(QUICK, WorldImages(count=80, seed=1))


# scikit-learn and the plain twin


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_words_and_logits_are_scikit_learns(color: bool, classes: int) -> None:
    settings = dataclasses.replace(QUICK, color=color)
    network, x = training.untrained(settings, classes), some(30)
    patches = network.patches(x).flatten(0, 1).numpy()
    whiten, means = training.find_words(network, patches[::3], settings)
    expected = means.predict(whiten.transform(patches)).reshape(30, 20, 20)
    assert np.array_equal(network.words(x).numpy(), expected)
    assert len(np.unique(expected)) > 15

    counts = np.stack([np.bincount(one.ravel(), minlength=settings.words) for one in expected]) / 400
    assert network.histogram(x).numpy() == pytest.approx(counts, abs=1e-6)
    labels = np.arange(30) % classes
    scale, regression, notes = training.find_classifier(network, counts.astype(np.float32), labels, settings)
    decisions = regression.decision_function(scale.transform(counts))
    logits = network(x).detach().numpy()
    found = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    assert found == pytest.approx(decisions, rel=1e-4, abs=1e-4)
    assert np.ptp(found) > 0.1
    assert notes == []


@pytest.mark.parametrize("color", [False, True])
def test_the_map_equals_its_plain_twin(color: bool) -> None:
    network, x = random_net(color=color), some(2)[:, :, :20, :27]
    logits = network.patch_logits(x)
    assert logits.shape == (2, 4, 6, 8)
    for b in range(2):
        for i in range(6):
            for j in range(8):
                patch = x[b, :, 3 * i : 3 * i + 5, 3 * j : 3 * j + 5].double()
                if not color:
                    patch = (patch * torch.tensor(LUMA).double()[:, None, None]).sum(0)
                patch = patch.flatten() - patch.mean()
                patch = patch / (patch.pow(2).mean() + FLOOR).sqrt()
                whitened = (patch - network.mean) @ network.whitening.double()
                word = int((network.codebook - whitened).norm(dim=1).argmin())
                assert int(network.words(x)[b, i, j]) == word
                expected = network.fc.weight[:, word] + network.fc.bias
                assert torch.allclose(logits[b, :, i, j], expected, atol=1e-6)


def test_the_mean_of_the_map_is_the_logits_and_a_patch_stands_alone() -> None:
    network, x = random_net(), some(3)
    maps = network.patch_logits(x)
    assert torch.allclose(maps.mean((2, 3)), network(x), atol=1e-5)
    assert (network.receptive_field_px, network.stride_px) == (5, 3)
    assert torch.allclose(network(x[:, :, 6:11, 9:14]), maps[:, :, 2, 3], atol=1e-6)


def test_more_patches_than_one_table_holds() -> None:
    network, x = random_net(stride_px=1), some(2)
    assert torch.equal(network.words(x)[1], network.words(x[1:])[0])


def test_an_image_smaller_than_a_patch() -> None:
    with pytest.raises(CueError, match="4 x 30 px are smaller than a patch of 5 px"):
        random_net()(torch.zeros(1, 3, 4, 30))


# As a classifier


def test_precision_and_layout_leave_the_words_in_float32() -> None:
    network, x = random_net(), some(4)
    lowered = copy.deepcopy(network).to(torch.bfloat16).to(memory_format=torch.channels_last)
    assert {tensor.dtype for tensor in lowered.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(lowered.words(x.to(memory_format=torch.channels_last)), network.words(x))
    # What is left is the input itself, of which eight bits remain.
    assert (lowered.words(x.bfloat16()) == network.words(x)).double().mean() > 0.95
    classifier = Classifier(
        network, precision="bfloat16", preprocessing=training.preprocessing(64), classes=list("abcd")
    )
    assert classifier.logits(torch.rand(3, 3, 64, 64)).dtype == torch.float32
    assert any("bfloat16" in note for note in classifier.notes)


def test_what_can_be_asked_of_it() -> None:
    classifier = cuescope.load("cuescope/world-bow", device="cpu")
    assert {"words", "patch_logits", "logits"} <= classifier.capabilities
    assert not {"gradients", "features"} & classifier.capabilities
    pixels = torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    words = classifier.words(pixels)
    assert words.shape == (9, 28, 28)
    assert words.dtype == torch.int64
    assert torch.equal(words, classifier.network.words(classifier.normalize(pixels)))
    bagnet = cuescope.load("cuescope/world-bagnet", device="cpu")
    with pytest.raises(CueError, match="no visual words"):
        bagnet.words(pixels)


def test_the_worlds_goes_by_texture_and_knows_it_well() -> None:
    classifier = cuescope.load("cuescope/world-bow", device="cpu")
    about = About(classifier.name, "world", CLASSES.names, CLASSES.name)
    found = {}
    for tool, variant in ((Accuracy(), "congruent"), (ShapeBias(), "conflict")):
        samples = [WorldImages(variant, count=144, seed=3).read(i) for i in range(144)]
        batch = classifier.see(samples, [s.label for s in samples])  # type: ignore[misc]
        found[variant] = tool.conclude(tool.observe(classifier, batch), about)
    top1, bias = found["congruent"]["top1"], found["conflict"]["shape_bias"]
    assert top1.interval is not None
    assert top1.interval[0] > 0.9
    assert bias.interval is not None
    assert bias.interval[1] < 0.15


def test_untrained_words_come_from_a_seed() -> None:
    thousand = [f"class {i}" for i in range(1000)]
    one, two = (cuescope.load("cuescope/bow@random", classes=thousand, device="cpu") for _ in range(2))
    assert one.digest == two.digest
    with pytest.raises(CueError, match="ships no weights for bow"):
        cuescope.load("cuescope/bow")


# As a file


def test_classes_and_size_come_back_from_the_file(tmp_path: Path, fitted: Trained) -> None:
    (tmp_path / "fitted.safetensors").write_bytes(fitted.weights)
    assert cuescope.load(f"cuescope/bow@{tmp_path / 'fitted.safetensors'}", device="cpu").classes == CLASSES
    space = ClassSpace("mine", ("Katze", "chien", "鳥", "d"), ("k", "c", "t", "d"))
    network, path = random_net(color=True), tmp_path / "mine.safetensors"
    path.write_bytes(to_bytes(Saved(network, space, 40)))
    assert path.read_bytes() == to_bytes(Saved(network, space, 40))
    classifier = cuescope.load(f"cuescope/bow@{path}", device="cpu")
    assert classifier.classes == space
    assert classifier.preprocessing.size == (40, 40)
    assert classifier.patch_geometry == (5, 3)
    pixels = torch.rand(2, 3, 40, 40)
    assert torch.allclose(classifier.logits(pixels), network(classifier.normalize(pixels)), atol=1e-6)


def test_files_that_are_no_bag_of_words(tmp_path: Path) -> None:
    network = random_net()
    good = safetensors.torch.load(to_bytes(Saved(network, ClassSpace("mine", tuple("abcd")), 40)))
    stored = {"size_px": 40, "space": "mine", "classes": list("abcd"), "keys": []}
    path = tmp_path / "a.safetensors"
    for state, words in (
        (good, None),
        (good, "not JSON"),
        (good, json.dumps({**stored, "classes": 3})),
        ({**good, "step": torch.tensor(0)}, json.dumps(stored)),
        ({**good, "codebook": torch.zeros(11, 9)}, json.dumps(stored)),
        ({"codebook": torch.zeros(11, 8)}, json.dumps(stored)),
    ):
        path.write_bytes(safetensors.torch.save(state, {"bag of words": words} if words else None))
        with pytest.raises(CueError, match="holds no bag of words"):
            from_file(path, state)
    path = tmp_path / "a.pth"
    torch.save(good, path)
    with pytest.raises(CueError, match="holds no bag of words"):
        cuescope.load(f"cuescope/bow@{path}")


def test_a_file_cannot_pass_for_imagenet(tmp_path: Path) -> None:
    path, space = tmp_path / "a.safetensors", ClassSpace("imagenet-1k", tuple("abcd"))
    path.write_bytes(to_bytes(Saved(random_net(), space, 40)))
    assert from_file(path, safetensors.torch.load_file(path)).classes.name == "given"


# Fitting


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_generator(fitted: Trained) -> None:
    state = torch.random.get_rng_state()
    again = fit_words(QUICK, WorldImages(count=80, seed=1))
    assert again.weights == fitted.weights
    assert torch.equal(torch.random.get_rng_state(), state)
    other = fit_words(dataclasses.replace(QUICK, seed=1), WorldImages(count=80, seed=1))
    assert not torch.equal(other.network.codebook, fitted.network.codebook)


def test_a_tenth_is_held_out_and_tried(fitted: Trained) -> None:
    assert (fitted.held_out, fitted.learned) == (8, 72)
    images, back = WorldImages(count=80, seed=1), training.held_out(80, np.random.default_rng(QUICK.seed))
    pixels, labels = images.render(back)
    assert int((fitted.network(network_input(pixels)).argmax(1) == labels).sum()) == fitted.correct


def test_held_out_images_are_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the words nor the classifier may see them: other pixels there, the same weights."""
    images = WorldImages(count=80, seed=1)
    back = set(training.held_out(80, np.random.default_rng(QUICK.seed)).tolist())
    samples = [images.read(i) for i in range(80)]
    changed = [dataclasses.replace(s, pixels=255 - s.pixels.flip(1)) if i in back else s for i, s in enumerate(samples)]
    first, second = (fit_words(QUICK, Images(some, CLASSES)) for some in (samples, changed))
    assert first.weights == second.weights


def test_it_learns_and_stays_within_its_bounds() -> None:
    seen: list[tuple[int, int, str]] = []
    settings = dataclasses.replace(QUICK, images=50, patches=200)
    found = fit_words(settings, WorldImages(count=400, seed=1), lambda *done: seen.append(done))
    assert "50 of 400 images, evenly spread" in found.notes
    assert found.learned + found.held_out == 50
    assert (0, 0, "finding 24 words among 200 patches") in seen
    assert (50, 50, "counting words") in seen


def test_unreadable_and_unlabeled_images_are_left_out() -> None:
    samples = [*colored(40), Sample("who.png", torch.zeros(3, 20, 20, dtype=torch.uint8))]
    settings = dataclasses.replace(QUICK, size_px=20)
    found = fit_words(settings, Images(samples, bad=[3, 4]))
    assert [one.id for one in found.skipped] == ["0003.png", "0004.png"]
    assert found.learned + found.held_out == 38


def test_a_class_without_images_is_never_the_answer() -> None:
    classes = ClassSpace("four", ("red", "green", "never", "blue"))
    samples = [dataclasses.replace(s, label=[0, 1, 3][s.label or 0]) for s in colored(30)]
    network = fit_words(dataclasses.replace(QUICK, size_px=20), Images(samples, classes)).network
    x = torch.randn(40, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert network.fc.out_features == 4
    lowest = network.patch_logits(x).amin((0, 2, 3))
    assert float(network.patch_logits(x)[:, 2].max()) < float(lowest[[0, 1, 3]].min())


def test_what_cannot_be_learned_from() -> None:
    samples = colored(30)
    for images, message in (
        (Images(samples, None), "toys have no labels"),
        (Images(samples, ClassSpace("one", ("red",))), "the class 'red' alone"),
        (Images([s for s in samples if s.label == 1]), "the class 'green' alone"),
        (Images(samples[:2]), "2 images give 18 patches for 24 words"),
        (Images(samples, bad=range(30)), "0 patches for 24 words"),
    ):
        with pytest.raises(CueError, match=message):
            fit_words(dataclasses.replace(QUICK, size_px=14), images)


@pytest.mark.parametrize(
    "wrong",
    [{"size_px": 6}, {"stride_px": 0}, {"words": 1}, {"patches": 20}, {"images": 1}, {"inverse_penalty": 0.0}]
    + [{"components": n} for n in (0, 49)],
)
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(CueError, match=next(iter(wrong))):
        dataclasses.replace(QUICK, **wrong)


def test_fewer_than_ten_images_hold_none_out() -> None:
    found = fit_words(dataclasses.replace(QUICK, size_px=20), Images(colored(9)))
    assert (found.held_out, found.learned) == (0, 9)


def test_flat_images_are_refused() -> None:
    samples = [Sample(f"{i}", torch.full((3, 20, 20), 60 * (i % 3), dtype=torch.uint8), label=i % 3) for i in range(12)]
    with pytest.raises(CueError, match="toys are flat"):
        fit_words(dataclasses.replace(QUICK, size_px=20), Images(samples))


def test_images_of_few_different_patches() -> None:
    """Stripes span six of ten dimensions; rounding errors must not become the rest."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 255, (30, 3, 20, 1), generator=generator, dtype=torch.uint8).expand(-1, -1, -1, 20)
    samples = [Sample(f"{i}", one, label=i % 3) for i, one in enumerate(rows)]
    network = fit_words(dataclasses.replace(QUICK, size_px=20), Images(samples)).network
    assert network.codebook.shape == (24, 6)
    assert float(network.whitening.abs().max()) < 100
    words = network.words((rows.float() / 255 - 0.5) / 0.25)
    assert bool((words == words[:, :, :1]).all()), "along a stripe the word is the same"

"""Networks of Keras, by name and by file: their logits are Keras's own, and their layers torch's."""

import os
import random
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

os.environ.setdefault("KERAS_BACKEND", "torch")
keras: Any = pytest.importorskip("keras")

import cuescope  # noqa: E402
from cuescope.classifier.classifier import Classifier, Preprocessing  # noqa: E402
from cuescope.classifier.sources import from_keras, load  # noqa: E402
from cuescope.classifier.sources.keras_layers import LAYERS, MERGES, SamePad, of  # noqa: E402
from cuescope.core.errors import CueError  # noqa: E402
from cuescope.data.images import Sample  # noqa: E402

pytestmark = [
    pytest.mark.extra,
    # Keras hands its tensors to NumPy in the way of NumPy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
L = keras.layers
THREE = {"VGG16": 224, "ResNet50": 224, "InceptionResNetV2": 299}
"""Those of source 003, and the sides of their inputs in px."""


def trained(model: Any) -> Any:
    """With statistics and offsets that are not 0 and 1, as after training."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        kind, shape = weight.path.rpartition("/")[2], tuple(weight.shape)
        if kind in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.7, 1.3, shape))
        elif kind in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.1, shape))
    return model


def array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def noise(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255


def last(pixels: Tensor) -> np.ndarray:
    """As Keras takes them: 0 to 255, channels last."""
    return (pixels * 255).round().permute(0, 2, 3, 1).numpy().astype(np.float32)


def consistent(found: Classifier, pixels: Tensor, probabilities: np.ndarray) -> bool:
    return np.allclose(found.logits(pixels).softmax(1).numpy(), probabilities, atol=1e-5)


@pytest.mark.parametrize("name", THREE)
def test_logits_of_the_three_networks_are_those_of_keras(name: str, tmp_path: Path) -> None:
    model = trained(getattr(keras.applications, name)(weights=None, classes=7))
    model.save_weights(tmp_path / "tuned.weights.h5")
    found = load(f"keras/{name}@{tmp_path / 'tuned.weights.h5'}", device="cpu", fold=False)
    side = THREE[name]
    assert found.preprocessing.size == (side, side)
    pixels = noise(2, side)
    home = sys.modules[getattr(keras.applications, name).__module__]
    given = home.preprocess_input(last(pixels))
    assert consistent(found, pixels, model.predict(given, verbose=0))
    model.layers[-1].activation = keras.activations.linear
    logits = array(model(given, training=False))
    # Of the largest logit: those of random weights reach 40, where float32 itself is 4e-6 apart.
    assert np.abs(found.logits(pixels).numpy() - logits).max() < 1e-5 * max(1, np.abs(logits).max())
    assert "gradients" in found.capabilities
    assert set(found.layers) & {"block5_conv3", "conv5_block3_out", "conv_7b"}
    deep = next(layer for layer in found.layers if layer in ("block1_conv2", "conv1_relu", "mixed_5b"))
    own = keras.Model(model.input, model.get_layer(deep).output)(given, training=False)
    maps = found.features(pixels, [deep])[deep].permute(0, 2, 3, 1).numpy()
    assert np.allclose(maps, array(own), rtol=1e-4, atol=1e-3)
    assert not any("pad" in stage or "flatten" in stage for stage in found.stages())
    if name == "VGG16":
        assert found.receptive_fields["block5_conv3"].size_px == 196


@pytest.mark.parametrize("name", sorted(from_keras.known.keras_names()))
def test_every_application_is_built_of_torchs_layers(name: str) -> None:
    heavy = ("L", "XL", "Large", "XLarge", "Base", "B3", "B4", "B5", "B6", "B7", "152", "152V2", "169", "201", "101V2")
    if name.endswith(heavy) and name != "MobileNetV3Large":
        pytest.skip("a larger one of a family")
    settings = {"weights": None, "classes": 3, "input_shape": (96, 96, 3)}
    model = getattr(keras.applications, name)(**settings)
    how = replace(from_keras._preprocessing(keras, name, model), size=(96, 96))
    network, notes = from_keras._network(keras, model, name, how)
    assert isinstance(network, torch.nn.Module), notes


def test_the_preprocessing_is_the_applications_own(tmp_path: Path) -> None:
    model = keras.applications.MobileNet
    for name in ("VGG16", "InceptionResNetV2", "DenseNet121", "EfficientNetB0", "ConvNeXtTiny", "MobileNetV3Small"):
        make = getattr(keras.applications, name)
        home, pixels = sys.modules[make.__module__], noise(2, 8)
        how = from_keras._preprocessing(keras, name, model(weights=None, classes=2, input_shape=(32, 32, 3)))
        x = (pixels - torch.tensor(how.mean).view(3, 1, 1)) / torch.tensor(how.std).view(3, 1, 1)
        ours = (x.flip(1) if how.channels == "BGR" else x).permute(0, 2, 3, 1).numpy()
        assert np.allclose(ours, home.preprocess_input(last(pixels)), atol=1e-4), name


def test_images_are_resized_as_keras_loads_them(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 91, 140), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    found = load("keras/MobileNet@random", device="cpu")
    wanted = keras.utils.img_to_array(keras.utils.load_img(tmp_path / "a.png", target_size=(224, 224)))
    prepared = found.prepare([Sample("a.png", pixels)])[0].mul(255).permute(1, 2, 0).numpy()
    assert np.allclose(prepared, wanted, atol=1e-3)
    assert any("resize assumed" in note for note in found.assumed)


def test_random_weights_and_names_of_layers_are_the_same_each_time() -> None:
    state = random.getstate()
    first = load("keras/InceptionV3@random", device="cpu")
    assert random.getstate() == state
    small(L.Conv2D(2, 3), L.BatchNormalization(), L.Activation("relu"))
    second = load("keras/InceptionV3@random", device="cpu")
    assert first.digest == second.digest
    assert first.layers == second.layers
    assert first.classes.names[0] == "tench"


@pytest.mark.parametrize("file", ["w.weights.h5", "w.keras", "w.h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_of_weights(tmp_path: Path, file: str) -> None:
    model = trained(keras.applications.MobileNet(weights=None, classes=7))
    model.save_weights(tmp_path / file) if file.endswith("weights.h5") else model.save(tmp_path / file)
    found = load(f"keras/MobileNet@{tmp_path / file}", device="cpu")
    pixels = noise(2, 224)
    assert len(found.classes) == 7
    assert consistent(found, pixels, model.predict(last(pixels) / 127.5 - 1, verbose=0))
    with pytest.raises(CueError, match="do not fit keras/VGG16"):
        load(f"keras/VGG16@{tmp_path / file}", device="cpu")


def small(*layers: Any, side: int = 32, channels: int = 3) -> Any:
    return trained(keras.Sequential([keras.Input((side, side, channels)), *layers]))


def test_a_model_in_a_file(tmp_path: Path) -> None:
    own = [L.Conv2D(6, 4, 2, "same", activation="relu"), L.MaxPooling2D(3, 2, "same"), L.Flatten(), L.Dropout(0.5)]
    model = small(L.Rescaling(1 / 255), L.RandomFlip(), *own, L.Dense(5, activation="softmax"))
    model.save(tmp_path / "own.keras")
    found = load(tmp_path / "own.keras", device="cpu")
    assert consistent(found, noise(4, 32), model.predict(last(noise(4, 32)), verbose=0))
    assert "Rescaling" in found.assumed[0]
    assert found.preprocessing.size == (32, 32)
    assert {"gradients", "features"} <= found.capabilities
    # The user's own model gives the same, and stays as it is.
    given = load(model, device="cpu")
    assert torch.equal(given.logits(noise(4, 32)), found.logits(noise(4, 32)))
    assert model.layers[-1].activation is keras.activations.softmax
    plain = small(*own, L.Dense(5, activation="softmax"))
    assert "ImageNet's mean" in load(plain, device="cpu").assumed[0]


def test_a_model_without_counterparts_is_a_black_box(tmp_path: Path) -> None:
    ends = [L.UpSampling2D(interpolation="bilinear"), L.GlobalAveragePooling2D(), L.Dense(5, activation="softmax")]
    for channels in (3, 1):
        model = small(L.Conv2D(6, 3), *ends, channels=channels)
        model.save(tmp_path / "own.keras")
        found = load(tmp_path / "own.keras", device="cpu")
        assert found.capabilities == {"logits"}
        assert any("UpSampling2D" in note for note in found.assumed)
        pixels = noise(3, 32)
        x = found.normalize(pixels)
        x = x if channels == 3 else (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        assert consistent(found, pixels, model.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0))
        assert model.layers[-1].activation is keras.activations.softmax


def test_one_sigmoid_and_one_channel() -> None:
    model = small(L.Conv2D(6, 3), L.GlobalAveragePooling2D(), L.Dense(1, activation="sigmoid"), channels=1)
    found, pixels = load(model, device="cpu"), noise(3, 32)
    gray = (found.normalize(pixels) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    wanted = model.predict(gray.permute(0, 2, 3, 1).numpy(), verbose=0)[:, 0]
    assert np.allclose(found.logits(pixels).softmax(1)[:, 1].numpy(), wanted, atol=1e-5)


def test_an_audit_of_a_model_in_a_file(tmp_path: Path) -> None:
    parts = [L.Conv2D(8, 3, 2, "same", use_bias=False), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(3, 2, "same")]
    parts += [L.SeparableConv2D(12, 3, padding="same", activation="relu"), L.GlobalAveragePooling2D()]
    names = [f"thing {i}" for i in range(12)]
    small(L.Rescaling(1 / 255), *parts, L.Dense(12, activation="softmax"), side=64).save(tmp_path / "own.keras")
    for i, image in enumerate(noise(8, 70)):
        (tmp_path / "images" / names[i]).mkdir(parents=True)
        smooth = torch.nn.functional.avg_pool2d(image, 7, 1).mul(255).byte()
        Image.fromarray(smooth.permute(1, 2, 0).numpy()).save(tmp_path / "images" / names[i] / "a.png")
    (tmp_path / "names.txt").write_text("\n".join(names))
    options = {"images": tmp_path / "images", "classes": tmp_path / "names.txt", "device": "cpu", "preset": "standard"}
    run = cuescope.audit(str(tmp_path / "own.keras"), out=tmp_path / "run", **options)
    states = {cell["instrument"]: cell["status"] for cell in run.manifest["cells"]}
    assert states.pop("typicality") == "not applicable"
    assert set(states.values()) == {"done"}
    assert {"accuracy", "evidence", "occlusion", "shift_stability"} <= states.keys()


def test_a_factory_that_gives_a_model(tmp_path: Path) -> None:
    lines = ["import keras", "L = keras.layers", "def own():"]
    lines += ["    return keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(6, 3), L.Flatten(), L.Dense(4)])"]
    (tmp_path / "own.py").write_text("\n".join(lines))
    found = load(f"{tmp_path / 'own.py'}:own", device="cpu")
    assert found.preprocessing.size == (32, 32)
    assert "gradients" in found.capabilities


MAPS = {
    "same, odd": lambda: L.Conv2D(5, 3, 2, "same"),
    "same, even": lambda: L.Conv2D(5, (4, 2), padding="same"),
    "dilated": lambda: L.Conv2D(5, 3, padding="same", dilation_rate=2),
    "groups": lambda: L.Conv2D(6, 3, groups=3, use_bias=False),
    "depthwise": lambda: L.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, activation="tanh"),
    "separable": lambda: L.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, activation="gelu"),
    "dense": lambda: L.Dense(5, activation="silu"),
    "max": lambda: L.MaxPooling2D(3, 2, "same"),
    "mean": lambda: L.AveragePooling2D(3, 1, "same"),
    "norm": lambda: L.BatchNormalization(scale=False),
    "layer norm": lambda: L.LayerNormalization(),
    "pad": lambda: L.ZeroPadding2D(((1, 2), (3, 0))),
    "crop": lambda: L.Cropping2D(((1, 2), (3, 0))),
    "leaky": lambda: L.LeakyReLU(0.3),
    "relu6": lambda: L.ReLU(6.0),
    "reshape": lambda: L.Reshape((12, 11, 3)),
    "normalize": lambda: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 4.0, 0.5]),
    "rescale": lambda: L.Rescaling([1.0, 2.0, 3.0], 0.5),
    **{name: lambda name=name: L.Activation(name) for name in ("leaky_relu", "hard_sigmoid", "hard_silu", "softmax")},
}


@pytest.mark.parametrize("kind", MAPS)
def test_layers_give_what_keras_gives(kind: str) -> None:
    layer = MAPS[kind]()
    x = torch.randn(2, 11, 12, 3, generator=torch.Generator().manual_seed(4))
    layer.build((None, 11, 12, 3))
    trained(keras.Sequential([keras.Input((11, 12, 3)), layer]))
    wanted = array(layer(x, training=False))
    with torch.no_grad():
        found = of(layer, [4]).eval()(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"])
def test_merges_and_arithmetic(kind: str) -> None:
    image = keras.Input((8, 8, 3))
    a, b = L.Conv2D(4, 3)(image), L.Conv2D(4, 3)(image)
    both = getattr(L, kind)()([a, b]) * 0.5 + 3.0
    other = both - a / 2.0 if kind != "Concatenate" else both
    model = keras.Model(image, L.GlobalMaxPooling2D()(other))
    network, notes = from_keras._network(keras, model, "merged", Preprocessing((8, 8), 8))
    assert isinstance(network, torch.nn.Module), notes


def test_zeros_of_same_lie_at_the_end_where_they_are_odd() -> None:
    pad = SamePad((2, 3), (2, 2), (1, 1), 0.0)
    assert pad(torch.ones(1, 1, 3, 4))[0, 0].tolist() == [[1, 1, 1, 1, 0]] * 3 + [[0] * 5]
    assert set(MERGES) < set(LAYERS)


def test_code_in_files_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @keras.saving.register_keras_serializable()
    class Mine(L.Layer):
        def call(self, x: Any) -> Any:
            return x

    touched = tmp_path / "touched"
    code = L.Lambda(lambda x, where=str(touched): (Path(where).touch(), x)[1])
    for name, layer, words in (("mine", Mine(), "Mine"), ("code", code, "Lambda")):
        small(layer, L.Flatten(), L.Dense(2)).save(tmp_path / f"{name}.keras")
        touched.unlink(missing_ok=True)
        with pytest.raises(CueError, match=words):
            load(tmp_path / f"{name}.keras")
    assert not touched.exists()
    # An object of another package, which a config may name.
    small(L.Flatten(), L.Dense(2)).save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "os.keras", "w") as other:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "config.json":
                own = b'"module": "keras.layers", "class_name": "Flatten"'
                assert own in content
                content = content.replace(own, b'"module": "os", "class_name": "system"')
            other.writestr(name, content)
    with pytest.raises(CueError, match="system"):
        load(tmp_path / "os.keras")


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "bad.keras").write_bytes(b"no model")
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    for spec, words in (
        ("keras/resnet50", "unknown model"),
        (f"keras/VGG16@{tmp_path / 'none.h5'}", "no weights file"),
        (f"keras/MobileNet@{tmp_path / 'bad.weights.h5'}", "cannot be read"),
        (tmp_path / "bad.keras", "no model of Keras 3"),
        (tmp_path / "none.keras", "no file"),
    ):
        with pytest.raises(CueError, match=words):
            load(spec)


def test_keras_on_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(CueError, match="tensorflow") as caught:
        load("keras/MobileNet@random")
    assert "KERAS_BACKEND=torch" in caught.value.do

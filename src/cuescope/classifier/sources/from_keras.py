"""Networks of keras.applications by name, and models in .keras files, by Keras 3 on its torch backend."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import os
import random
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources import keras_graph, known
from cuescope.classifier.sources.array_input import ArrayInput
from cuescope.classifier.sources.found import RANDOM, SEED, Asked, Found
from cuescope.core.classes import imagenet_1k
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import parsed
from cuescope.data.preprocessing import Preprocessing
from cuescope.network.batchnorm_folding import difference
from cuescope.network.executor import Executor, probes

SAME = 1e-4
"""The most by which logits of torch's layers may differ from Keras's own, as a share of the largest."""
ROUNDING = 10
"""Or by so many times the rounding of float32."""
SAVE = "save it with model.save('model.keras') of Keras 3"
RESIZE = "keras.utils.load_img(target_size=...), which squeezes the image with nearest pixels"


def find(path: str, asked: Asked) -> Found:
    """`NAME` of keras.applications, trained, with weights from a file, or random; or a model in `FILE.keras`.

    Raises CueError for an unknown name, weights that do not fit, and a file that cannot be read without running code.
    """
    keras = _keras()
    if path.endswith(".keras"):
        if asked.weights:
            found = f"'{path}' and weights={asked.weights}"
            raise CueError(found, wanted="a .keras file, which has its weights", do="leave the weights out")
        return _of_file(keras, Path(path))
    if path not in (options := known.keras_names()):
        raise unknown("model", f"keras/{path}", [f"keras/{option}" for option in options])
    with _cpu(keras):
        model, notes = _application(keras, path, asked.weights)
        how = _preprocessing(keras, path, model)
        network, more = _network(keras, model, path, how)
    classes = imagenet_1k() if model.output_shape[-1] == 1000 else None
    if classes is not None:
        notes.append("1,000 outputs: taken to be the classes of ImageNet in their usual order")
    return Found(network, classes, how, (*notes, *more))


def _keras() -> Any:
    known.need("keras")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if (backend := keras.backend.backend()) != "torch":
        do = "set KERAS_BACKEND=torch before keras is imported"
        raise CueError(f"keras was imported with its backend {backend}", wanted="its torch backend", do=do)
    return keras


@contextlib.contextmanager
def _cpu(keras: Any) -> Iterator[None]:
    """Keras on the CPU, its images channels last, its seeds and the numbers in its names the same each time."""
    from keras.src.backend.common import global_state

    # Keras draws its seeds from Python's generator, and counts layers without a name through a whole process.
    state, layout = random.getstate(), keras.config.image_data_format()
    counts = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    random.seed(SEED)
    keras.config.set_image_data_format("channels_last")
    try:
        with keras.device("cpu"):
            yield
    finally:
        random.setstate(state)
        global_state.set_global_attribute("object_name_uids", counts)
        keras.config.set_image_data_format(layout)


def _application(keras: Any, name: str, weights: str) -> tuple[Any, list[str]]:
    make = getattr(keras.applications, name)
    try:
        if weights in ("", RANDOM):
            return make(weights=None if weights else "imagenet"), ["untrained: random weights"] if weights else []
    except Exception as error:  # urllib's, and what Keras makes of them
        do = f"give a file of weights, as in keras/{name}@{name}.weights.h5, or keras/{name}@random"
        raise CueError(f"keras/{name} cannot be made: {_first_line(error)}", wanted="its weights", do=do) from error
    path = known.weights_file(weights)
    model = make(weights=None)
    if (count := _classes_in(path, model)) != model.output_shape[-1]:
        model = make(weights=None, classes=count)
    try:
        model.load_weights(path)
    except Exception as error:  # of h5py, zipfile and Keras
        found = f"the weights in '{path}' do not fit keras/{name}: {_first_line(error)}"
        wanted = "a .weights.h5, .keras or .h5 file of this network"
        raise CueError(found, wanted=wanted, do="check that it is the one they were saved of") from error
    return model, []


def _classes_in(path: Path, model: Any) -> int:
    """The number of classes in a file of weights: that of the one matrix that is as tall as the network's last."""
    import h5py

    shapes: list[tuple[int, ...]] = []
    try:
        file = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5")) if zipfile.is_zipfile(path) else path
        with h5py.File(file, "r") as opened:
            opened.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        wanted = "a .weights.h5, .keras or .h5 file"
        found = f"'{path}' cannot be read as weights of Keras: {_first_line(error)}"
        raise CueError(found, wanted=wanted, do="save them with model.save_weights('NAME.weights.h5')") from error
    *others, last = [tuple(weight.shape) for weight in model.weights if len(weight.shape) > 1]
    alike = Counter(shape for shape in shapes if len(shape) == len(last) and shape[:-1] == last[:-1])
    left = [shape[-1] for shape in (alike - Counter(others)).elements()]
    return left[0] if len(left) == 1 else last[-1]


def _of_file(keras: Any, path: Path) -> Found:
    _refuse_code(path)
    with _cpu(keras):
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises ValueError, TypeError and more for what it does not know
            found = f"'{path}' cannot be loaded: {_first_line(error)}"
            raise CueError(found, wanted="a model of Keras's own layers", do=SAVE) from error
        if (found := given(model, path.name)) is None:
            text = f"'{path}' takes {getattr(model, 'input_shape', None) or 'inputs of no known shape'}"
            raise CueError(text, wanted="one input (B, H, W, 3)", do="save a model with one input")
    return found


def given(model: Any, name: str = "") -> Found | None:
    """What is known of a model that is Keras's own; None for another module, and where its input has no known axes."""
    if (keras := sys.modules.get("keras")) is None or not isinstance(model, keras.Model):
        return None
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple):
        return None
    how = ArrayInput.of(name or model.name, shape, np.float32)
    source = f"size from the model, the rest assumed: {RESIZE}; "
    settings: dict[str, Any] = {"size": how.size, "resize": how.size, "interpolation": "nearest", "keep_aspect": False}
    inside, most = _normalizing(keras, model)
    if inside:
        settings |= {"mean": (0.0, 0.0, 0.0), "std": (1 / most,) * 3}
        source += f"the model begins with {inside}, which normalizes: pixels from 0 to {most}"
    else:
        source += "ImageNet's mean and std"
    preprocessing = Preprocessing(**settings, source=source)
    network, notes = _network(_keras(), model, name or model.name, preprocessing)
    return Found(network, preprocessing=preprocessing, notes=notes)


def _refuse_code(path: Path) -> None:
    """Raise CueError for a file whose model is not of Keras's own classes alone, before Keras reads it."""
    if not path.is_file():
        raise CueError(f"no file '{path}'", wanted="a .keras file", do="check the path")
    try:
        config = parsed(zipfile.ZipFile(path).read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        found = f"'{path}' is no model of Keras 3: {_first_line(error)}"
        raise CueError(found, wanted="what model.save('FILE.keras') writes", do=SAVE) from error
    for entry in _entries(config):
        kind, home = str(entry["class_name"]), str(entry.get("module") or "")
        if kind in ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"):
            found = f"'{path}' holds a layer {kind}, which is code of its own and would run"
            do = "build the model in a file.py:factory, or replace that layer by Keras's own"
            raise CueError(found, wanted="layers without code", do=do)
        if not (home == "keras" or home.startswith("keras.") or home == "builtins"):
            found = f"'{path}' needs the class {entry.get('registered_name') or kind}, which is not Keras's own"
            raise CueError(found, wanted="Keras's own layers", do="build the model in a file.py:factory")


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """All objects that a config describes."""
    if isinstance(config, dict):
        if "class_name" in config and "module" in config:
            yield config
        config = list(config.values())
    for item in config if isinstance(config, list) else ():
        yield from _entries(item)


def _normalizing(keras: Any, model: Any) -> tuple[str, int]:
    """The class of a layer that normalizes before the first weights, and the largest pixel that it is made for.

    ("", 0) where there is none.
    """
    while hasattr(model, "layers"):
        plain = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        for layer in plain:
            if isinstance(layer, keras.layers.Rescaling):
                return type(layer).__name__, 1 if np.max(layer.scale) >= 1 else 255
            if isinstance(layer, keras.layers.Normalization):
                mean = layer.mean.detach().cpu().numpy()
                return type(layer).__name__, 1 if 0 < np.max(mean) <= 1 else 255
            if layer.weights or hasattr(layer, "layers"):
                break
        model = next((layer for layer in plain if hasattr(layer, "layers")), None)
    return "", 0


def _preprocessing(keras: Any, name: str, model: Any) -> Preprocessing:
    """The application's own preprocess_input, which is a factor and an offset for each channel, as a Preprocessing."""
    home = sys.modules[getattr(keras.applications, name).__module__]
    levels = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])[:, None, None]
    found = np.array(home.preprocess_input(levels, data_format="channels_last"), np.float64)[:, 0, 0]
    slopes = found[1:] - found[:1]
    order = slopes.argmax(1)
    std = [float(1 / slopes[i, order[i]]) for i in range(3)]
    mean = [float(0.0 - found[0, order[i]] * std[i]) for i in range(3)]
    size = tuple(model.input_shape[1:3])
    source = f"keras.applications' preprocess_input for {name}; resize assumed: {RESIZE}"
    channels = "BGR" if order[0] == 2 else "RGB"
    how = Preprocessing(size, size, "nearest", tuple(mean), tuple(std), source, keep_aspect=False)
    return dataclasses.replace(how, channels=channels)


def _network(keras: Any, model: Any, name: str, how: Preprocessing) -> tuple[Any, tuple[str, ...]]:
    """The model as a network of torch, or as a black box where it has no counterpart; and what was done."""
    last = model
    while getattr(last, "layers", None):
        last = last.layers[-1]
    soft = getattr(last, "activation", None) is keras.activations.softmax
    notes = ("its last layer's softmax is left out: what goes into it are the logits",) if soft else ()
    black_box = KerasNetwork(keras, model, name, last if soft else None)
    try:
        with black_box.giving_logits():
            network = keras_graph.of(model).eval()
        images = Executor.of(black_box, how, torch.device("cpu"), 1).normalize(probes(how))
        with torch.no_grad():
            plain = images[:, :1].repeat(1, 3, 1, 1) if black_box.input.gray else images
            taken = images[:, :1] if black_box.input.gray else images
            found = network(taken)
            wanted = torch.from_numpy(black_box(plain))
            gap = difference(found, wanted)
            if gap > SAME:
                # Untrained networks may give logits that are hardly more than rounding.
                exact = copy.deepcopy(network).double()(taken.double())
                gap = 0.0 if gap < ROUNDING * difference(found, exact) else gap
        if gap <= SAME:
            return network, (*notes, "the layers of Keras as torch's own, channels first")
        why = f"torch's layers would give logits that differ by {gap:.1e} of the largest"
    except keras_graph.NoCounterpartError as error:
        why = f"torch has no counterpart of {error}"
    return black_box, (*notes, f"black box: Keras on the CPU, since {why}", *black_box.input.notes)


class KerasNetwork:
    """Normalized images (B, 3, H, W) to a Keras model's outputs, on the CPU, without the softmax of `last`."""

    def __init__(self, keras: Any, model: Any, name: str, last: Any) -> None:
        self.__name__, self.keras, self.model, self.last = name, keras, model, last
        self.input = ArrayInput.of(name, model.input_shape, np.float32)

    @cached_property
    def identity(self) -> bytes:
        """A hash of its layers and weights."""
        hasher = hashlib.blake2b(self.model.to_json().encode(), digest_size=16)
        for weight in self.model.weights:
            hasher.update(np.ascontiguousarray(weight.value.detach().cpu().numpy()).data)
        return hasher.digest()

    def __call__(self, images: Tensor) -> Any:
        return self.input.run(images, self.once)

    def once(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """One pass: the outputs by name."""
        with self.keras.device("cpu"), torch.no_grad(), self.giving_logits():
            found = self.model(images, training=False)
        found = found if isinstance(found, dict) else dict(enumerate(found if isinstance(found, list) else [found]))
        return {str(name): value.detach().cpu().numpy() for name, value in found.items()}

    @contextlib.contextmanager
    def giving_logits(self) -> Iterator[None]:
        """Without the last softmax while it lasts: the model may be a user's."""
        if self.last is not None:
            self.last.activation = self.keras.activations.linear
        try:
            yield
        finally:
            if self.last is not None:
                self.last.activation = self.keras.activations.softmax


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

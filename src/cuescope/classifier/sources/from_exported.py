"""A file of torch.export as a black box: its operations are run as they are written, and nothing is unpickled."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuescope.classifier.sources import archives
from cuescope.classifier.sources.found import Asked, Found
from cuescope.classifier.sources.graphs import ForbiddenError, Graph, dtype_of, tensor_of
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.network.wrappers import in_parts, preprocessing_for

WHAT = "a file that torch.export.save wrote of a network for images (B, 3, H, W)"
AGAIN = "export it again with torch.export.save of this version, or give the network as file.py:factory"
TABLES = {"data/weights/": "model_weights_config.json", "data/constants/": "model_constants_config.json"}


class ExportedNetwork:
    """Images as the program takes them to its outputs, as one tensor or a list of them. ValueError for other images."""

    def __init__(self, path: Path) -> None:
        files = archives.members(path, WHAT)
        self.__name__, self.identity = path.name, archives.identity(files)
        try:
            module, tensors = _read(path, files)
            self.graph = Graph(module["graph"])
            self.held, self.input = _bound(module["signature"]["input_specs"], tensors)
            specs = module["signature"]["output_specs"]
            self.wanted = [i for i, spec in enumerate(specs) if "user_output" in spec]
            meta = module["graph"]["tensor_values"][self.input]
            self.sides = [side.get("as_int") for side in meta["sizes"]]
            self.dtype = dtype_of(meta)
            channels = {self.sides[1], self.sides[3]} if len(self.sides) == 4 else set()
        except ForbiddenError as error:
            raise archives.refused(path, str(error), AGAIN) from None
        except (KeyError, ValueError, TypeError, ArithmeticError, RuntimeError, AttributeError, IndexError) as error:
            raise archives.broken(path, WHAT, f"{type(error).__name__}: {error}") from None
        self.takes = f"{str(self.dtype).removeprefix('torch.')} {self.sides}"
        known = self.dtype.is_floating_point or self.dtype == torch.uint8
        if not known or not {1, 3, None} & channels:
            wanted = "floats or uint8, (B, 3, H, W) or (B, H, W, 3), or one channel"
            raise CueError(f"'{path}' takes {self.takes}", wanted=wanted, do="export it with such an input")
        self.run = in_parts(self._once, self.sides[0])

    def __call__(self, images: Tensor) -> Any:
        return self.run(images)

    def _once(self, images: Tensor) -> Any:
        # Operations may take others without an error, and give something else.
        fits = all(side in (None, have) for side, have in zip(self.sides[1:], images.shape[1:], strict=True))
        if not fits or images.is_floating_point() != self.dtype.is_floating_point:
            raise ValueError(f"it takes {self.takes}")
        self.held = {name: tensor.to(images.device) for name, tensor in self.held.items()}
        outputs = self.graph.run({**self.held, self.input: images.to(self.dtype)}, images.device)
        found = [outputs[i] for i in self.wanted]
        return found[0] if len(found) == 1 else found


def find(path: str, asked: Asked) -> Found:
    """The network in a file of torch.export. Of its preprocessing the input size is known, the rest is assumed."""
    if archives.program(path) != "from_exported":
        do = "give its path" if not Path(path).is_file() else AGAIN
        raise CueError(f"'{path}' holds no exported program", wanted=WHAT, do=do)
    network = ExportedNetwork(Path(path))
    notes = ["black box: an exported program, its operations run one by one, without layers and gradients"]
    if (batch := network.sides[0]) is not None:
        notes.append(f"takes {batch} {'image' if batch == 1 else 'images'} at a time: run in such parts")
    return Found(network, preprocessing=preprocessing_for(network.sides, "the exported program"), notes=tuple(notes))


def _read(path: Path, files: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The graph module as it is written, and the tensors by name."""
    if archives.OLD_PROGRAM in files:
        program = parsed(files[archives.OLD_PROGRAM])
        tensors = {
            name: tensor
            for kind in ("state_dict", "constants")
            for name, tensor in _unpickled(path, files[f"serialized_{kind}.pt"]).items()
        }
    else:
        if "models/model.json" not in files:
            raise ValueError("it holds no models/model.json")
        program, tensors = parsed(files["models/model.json"]), {}
        for folder, table in TABLES.items():
            if folder + "model.pt" in files:
                tensors |= _unpickled(path, files[folder + "model.pt"])
                continue
            for name, entry in parsed(files[folder + table])["config"].items():
                if entry["use_pickle"]:
                    raise ForbiddenError(f"its '{name}' is a pickled object, which may hold code")
                tensors[name] = tensor_of(files[folder + entry["path_name"]], entry["tensor_meta"])
    return program["graph_module"], tensors


def _unpickled(path: Path, data: bytes) -> dict[str, Tensor]:
    """Tensors that older versions of torch pickled: nothing else is."""
    import io

    if not data:
        return {}
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ForbiddenError("it holds pickled objects, which may hold code") from None


def _bound(specs: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors by the names that the graph gives them, and the name of its only input."""
    held: dict[str, Tensor] = {}
    images = []
    for spec in specs:
        ((kind, what),) = spec.items()
        if kind == "user_input":
            if "as_tensor" in what["arg"]:
                images.append(what["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            held[what["arg"]["name"]] = tensors[what[f"{kind}_name"]].detach()
        elif kind != "constant_input":
            raise ForbiddenError(f"it takes an input of kind {kind[:80]}")
    if len(images) != 1:
        raise ValueError(f"it takes {len(images)} tensors in place of one of images")
    return held, images[0]

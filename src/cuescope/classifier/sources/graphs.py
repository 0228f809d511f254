"""The graph of an exported program, run operation by operation.

torch.export.load unpickles what is in the file with `weights_only=False` where `True` fails, evaluates its expressions
of sizes, and makes Python code of its names. Here nothing of a file is evaluated: a node is an operation of torch's
own, found by its name among those allowed, and its arguments are values of JSON.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

NAMESPACES = ("aten", "prims", "quantized", "quantized_decomposed")
FORBIDDEN = ("from_file", "save")
"""Operations on files."""
PYTHON = {
    **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "truediv", "mod")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("neg", "pow", "eq", "ne", "lt", "le", "gt", "ge")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("and_", "or_", "not_", "getitem")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{"torch.sym_int": int, "torch.sym_float": float, "torch.sym_max": max, "torch.sym_min": min},
    **{"torch.sym_not": operator.not_},
}
"""On sizes, which are plain numbers here."""
GRAD, AUTOCAST = "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast"
PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_string", "as_strings", "as_bool", "as_bools")
LISTS = ("as_int_lists", "as_float_lists")
SYMBOLS = ("as_sym_int", "as_sym_bool", "as_sym_float")
TABLES = {
    "as_scalar_type": "_SERIALIZE_TO_TORCH_DTYPE",
    "as_layout": "_SERIALIZE_TO_TORCH_LAYOUT",
    "as_memory_format": "_SERIALIZE_TO_TORCH_MEMORY_FORMAT",
}
"""The numbers that torch writes for its constants."""


class ForbiddenError(Exception):
    """The graph asks for something that is not allowed. The message says for what, as a clause."""


class Graph:
    """A graph as torch.export writes it. Raises ForbiddenError for operations that are not allowed."""

    def __init__(self, written: Mapping[str, Any]) -> None:
        self.inputs = [_name(argument) for argument in written["inputs"]]
        self.outputs = written["outputs"]
        self.nodes = [_Node(node) for node in written["nodes"] if not _checks_only(str(node["target"]))]

    def run(self, values: dict[str, Any], device: torch.device) -> list[Any]:
        """The outputs for the inputs, by their names; `values` then holds what every node gave."""
        for node in self.nodes:
            node.run(values, device)
        return [_value(output, values, device) for output in self.outputs]


class _Node:
    def __init__(self, written: Mapping[str, Any]) -> None:
        self.target = str(written["target"])
        self.outputs = written["outputs"]
        self.arguments = [(str(given["name"]), given["arg"]) for given in written["inputs"]]
        self.function = None if self.target in (GRAD, AUTOCAST) else _function(self.target)
        self.graphs = [Graph(given["as_graph"]["graph"]) for _, given in self.arguments if "as_graph" in given]

    def run(self, values: dict[str, Any], device: torch.device) -> None:
        given = [(name, _value(arg, values, device)) for name, arg in self.arguments if "as_graph" not in arg]
        if self.function is None:
            found: Any = self._within([value for _, value in given], device)
        elif self.target in PYTHON:
            found = self.function(*(value for _, value in given))
        else:
            found = self.function(**dict(given))
        if len(self.outputs) == 1 and not (self.function is None and "as_tensors" not in self.outputs[0]):
            found = [found]
        for output, value in zip(self.outputs, found or (), strict=False):
            _store(output, value, values)

    def _within(self, given: Sequence[Any], device: torch.device) -> list[Any]:
        """The graph inside, with gradients or casts switched as it says."""
        graph, settings = self.graphs[0], 1 if self.target == GRAD else 4
        context: AbstractContextManager[Any] = torch.set_grad_enabled(bool(given[0]) and torch.is_grad_enabled())
        if self.target == AUTOCAST:
            _, dtype, enabled, cache = given[:4]
            context = torch.autocast(device.type, dtype, bool(enabled), cache)
        with context:
            return graph.run(dict(zip(graph.inputs, given[settings:], strict=True)), device)


def _function(target: str) -> Any:
    if target in PYTHON:
        return PYTHON[target]
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"] and len(parts) == 5 and parts[2] in NAMESPACES and parts[3] not in FORBIDDEN:
        packet = getattr(getattr(torch.ops, parts[2]), parts[3], None)
        found = getattr(packet, parts[4], None)
        if isinstance(found, torch._ops.OpOverload):
            return found
    raise ForbiddenError(f"it calls {target[:80]}")


def _checks_only(target: str) -> bool:
    """Whether a node only checks its inputs."""
    return target.rpartition("aten.")[2].startswith(("_assert_", "sym_constrain_range"))


def _name(argument: Mapping[str, Any]) -> str:
    (value,) = argument.values()
    return str(value.get("name", value.get("as_name"))) if isinstance(value, dict) else ""


def _store(output: Mapping[str, Any], value: Any, values: dict[str, Any]) -> None:
    ((kind, what),) = output.items()
    if kind == "as_tensors":
        values |= {one["name"]: tensor for one, tensor in zip(what, value, strict=True)}
    elif kind != "as_none":
        values[_name(output)] = value


def _value(argument: Mapping[str, Any], values: Mapping[str, Any], device: torch.device) -> Any:
    ((kind, what),) = argument.items()
    if kind in PLAIN or kind in LISTS:
        return what
    if kind in ("as_none", "as_tensor"):
        return None if kind == "as_none" else values[what["name"]]
    if kind in ("as_tensors", "as_nested_tensors"):
        return [values[one["name"]] if isinstance(one, dict) else [values[t["name"]] for t in one] for one in what]
    if kind == "as_optional_tensor":
        return _value(what, values, device)
    if kind == "as_optional_tensors":
        return [_value(one, values, device) for one in what]
    if kind in SYMBOLS:
        return values[what["as_name"]] if "as_name" in what else next(iter(what.values()))
    if kind.endswith("s") and kind[:-1] in SYMBOLS:
        return [_value({kind[:-1]: one}, values, device) for one in what]
    if kind in TABLES:
        from torch._export.serde import serialize

        return getattr(serialize, TABLES[kind])[what]
    if kind == "as_device":
        return device
    if kind == "as_complex":
        return complex(what["real"], what["imag"])
    raise ForbiddenError(f"it takes an argument {kind[:80]}")


def dtype_of(meta: Mapping[str, Any]) -> torch.dtype:
    """The dtype that is written of a tensor. Raises KeyError for none."""
    from torch._export.serde import serialize

    return serialize._SERIALIZE_TO_TORCH_DTYPE[meta["dtype"]]


def tensor_of(data: bytes, meta: Mapping[str, Any]) -> Tensor:
    """A tensor from its bytes and what is written of it. Raises ValueError and the like where that makes no sense."""
    size, stride = ([int(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
    # torch makes no tensor of no bytes.
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    return torch.as_strided(flat.view(dtype_of(meta)), size, stride, int(meta["storage_offset"]["as_int"]))

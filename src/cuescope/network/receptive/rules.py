"""How each operation of torch moves and widens what the positions of a map see of the image."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cuescope.network.receptive.spans import LOST, Call, Map, Span, State, UnknownError, union

NOWHERE = -(1 << 20)
"""The row and column of a class token."""


def after(call: Call) -> list[State]:
    """What is known of each output of an operation. What has no rule is lost."""
    if all(state is None for state in call.states):
        return [None for _ in call.outputs]
    # relu_ and _max_pool2d follow the rules of relu and max_pool2d; operators are called __iadd__ or __radd__.
    name = call.func.__name__
    name = DUNDERS.get(name, name.strip("_"))
    try:
        found = RULES[name](call)
    except (UnknownError, KeyError, IndexError, TypeError, ValueError):  # no rule, or called in an unfamiliar way
        found = LOST
    return found if isinstance(found, list) else [found for _ in call.outputs]


def _joined(call: Call, shape: torch.Size | None = None) -> State:
    """Inputs that are broadcast to one shape: a position sees what it sees through any of them."""
    shape = call.shape if shape is None else shape
    known = [(t, s) for t, s in zip(call.inputs, call.states, strict=True) if s is not None]
    maps = [s for t, s in known if isinstance(s, Map) and all(t.shape[a] == shape[a] for a in s.axes)]
    if not maps or any(m.layout != maps[0].layout for m in maps):
        return LOST
    # What is lost may be anything of the image: the gate of a squeeze-and-excitation, what attention adds to a token.
    rest = len(maps) < len(known)
    rows, columns = union(m.rows for m in maps), union(m.columns for m in maps)
    everywhere, padded = rest or any(m.everywhere for m in maps), any(m.padded for m in maps)
    return replace(maps[0], rows=rows, columns=columns, everywhere=everywhere, padded=padded)


def _unchanged(call: Call) -> State:
    """The first input's positions as they are, with parameters that are usually weights."""
    return replace(call.map, everywhere=call.map.everywhere or any(s is not None for s in call.states[1:]))


def _joined_along(call: Call) -> State:
    """torch.cat and torch.stack."""
    dim, ndim = call.argument(1, "dim", 0), call.inputs[0].ndim
    if (tokens := _after_others(call, dim if dim < 0 else dim - ndim)) is not None:
        return tokens
    state = _joined(call, call.inputs[0].shape)
    if not isinstance(state, Map):
        return LOST
    if len(call.shape) == ndim:
        return LOST if (dim if dim < 0 else dim - ndim) in state.axes else state
    dim = dim % (ndim + 1)
    return state.changed(lambda span: replace(span, axis=span.axis - (span.axis + ndim < dim)))


def _after_others(call: Call, dim: int) -> State:
    """Patch tokens that class tokens are put before; None where these are no such."""
    last = call.states[-1]
    if len(call.shape) != call.inputs[0].ndim or not isinstance(last, Map) or not last.grid or last.axes[0] != dim:
        return None
    if any(isinstance(state, Map) and state.layout == last.layout for state in call.states[:-1]):
        return None
    others = any(state is not None for state in call.states[:-1])
    more = sum(tensor.shape[dim] for tensor in call.inputs[:-1])
    return replace(last, everywhere=last.everywhere or others, before=last.before + more)


def _product(call: Call) -> State:
    """A matrix product: rows of the first, or columns of the second, keep their places, and mix those of the other."""
    first, second = call.states[0], call.states[1]
    if isinstance(first, Map) and -1 not in first.axes:
        return replace(first, everywhere=first.everywhere or second is not None)
    if isinstance(second, Map) and -2 not in second.axes and len(call.inputs[1].shape) == len(call.shape):
        return replace(second, everywhere=second.everywhere or first is not None)
    return LOST


def _attention(call: Call) -> State:
    """Scaled dot products: the places are those of the queries, which see those of all keys."""
    return LOST if -1 in call.map.axes else replace(call.map, everywhere=True)


def _everywhere(call: Call) -> State:
    """Normalized by means over the whole map."""
    return replace(call.map, everywhere=True)


def _layer_norm(call: Call) -> State:
    last = len(call.argument(1, "normalized_shape"))
    return _everywhere(call) if any(axis >= -last for axis in call.map.axes) else _unchanged(call)


def _along(call: Call, position: int = 1) -> State:
    """Something over one or more axes, as mean and softmax."""
    state, ndim = call.map, call.inputs[0].ndim
    dims = call.argument(position, "dim")
    dims = [dims] if isinstance(dims, int) else dims
    if len(call.inputs) > 1 or not isinstance(dims, Sequence) or any(type(d) is not int for d in dims):
        raise UnknownError
    dims = {d if d < 0 else d - ndim for d in dims}
    if dims & set(state.axes):
        if call.shape != call.inputs[0].shape:
            return LOST
        return replace(state, everywhere=True)
    if len(call.shape) == ndim:
        return state
    return state.changed(lambda span: replace(span, axis=span.axis + sum(d > span.axis for d in dims)))


def _windowed(call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> State:
    state, source = call.map, call.inputs[0]
    if sorted(state.axes) != [-2, -1]:
        return LOST
    padded = False
    spans = {}
    for span in state.spans:
        k, s, p, d = (_side(v, span.axis) for v in (kernel, stride, padding, dilation))
        # A window beyond the end, with ceil_mode, sticks out as one over padding does.
        padded |= p > 0 or (call.shape[span.axis] - 1) * s + (k - 1) * d >= source.shape[span.axis]
        spans[span] = span.windowed(k, s, p, d)
    changed = state.changed(spans.__getitem__, padded)
    return replace(changed, everywhere=state.everywhere or any(s is not None for s in call.states[1:]))


def _side(value: Any, axis: int) -> int:
    if isinstance(value, int):
        return value
    values = tuple(value)
    if any(type(v) is not int for v in values):
        raise UnknownError
    return values[axis] if len(values) == 2 else values[0]


def _conv2d(call: Call) -> State:
    kernel, dilation = tuple(call.argument(1, "weight").shape[2:]), call.argument(5, "dilation", 1)
    padding = call.argument(4, "padding", 0)
    if isinstance(padding, str):
        reach = [(kernel[a] - 1) * _side(dilation, a) for a in (-2, -1)]
        padding = [r // 2 if padding == "same" else 0 for r in reach]
    return _windowed(call, kernel, call.argument(3, "stride", 1), padding, dilation)


def _max_pool2d(call: Call) -> State:
    return _avg_pool2d(call, call.argument(4, "dilation", 1))


def _avg_pool2d(call: Call, dilation: Any = 1) -> State:
    kernel = call.argument(1, "kernel_size")
    return _windowed(call, kernel, call.argument(2, "stride") or kernel, call.argument(3, "padding", 0), dilation)


def _adaptive(call: Call) -> State:
    """A pooling with windows of one size where the sides divide; one over the whole map depends on its size."""
    kernel = []
    for axis in (-2, -1):
        before, now = call.inputs[0].shape[axis], call.shape[axis]
        if before % now or (now == 1 and before > 1):
            return LOST
        kernel.append(before // now)
    return _windowed(call, kernel, kernel, 0)


def _pad(call: Call) -> State:
    amounts, mode = list(call.argument(1, "pad")), call.argument(2, "mode", "constant")
    if call.map.grid and any(amounts[-2 * call.map.axes[0] - 2 : -2 * call.map.axes[0]]):
        return LOST
    state = call.map.changed(Span.settled)
    sides = {axis: (amounts[-2 * axis - 2 : -2 * axis] or [0, 0]) for axis in state.axes}
    padded = any(amount > 0 for pair in sides.values() for amount in pair)
    shifted = state.changed(lambda span: replace(span, start=span.start - sides[span.axis][0] * span.stride), padded)
    if mode == "constant":
        return shifted
    if mode not in ("reflect", "replicate"):
        return LOST
    return shifted.changed(lambda span: replace(span, mirror=max(0, *sides[span.axis])))


def _moved(call: Call) -> State | list[State]:
    """Views, permutations and slices: done once more, with each element's row and column in its place."""
    only_shape = call.func.__name__.endswith("_as")
    if call.inputs[0] is not call.argument(0, "input") or (any(call.states[1:]) and not only_shape):
        raise UnknownError
    state = call.map.changed(Span.settled)
    along = [_repeat(call, span.axis, place) for span, place in zip(state.spans, _places(call), strict=True)]
    found: list[State] = []
    for output, rows, columns in zip(call.outputs, *along, strict=True):
        found.append(_laid(rows, columns, state) if rows.shape == output.shape else LOST)
    return found


def _places(call: Call) -> tuple[Tensor, Tensor]:
    """The row and the column of each position along the axes of a map; NOWHERE for a class token."""
    source, state = call.inputs[0], call.map
    if state.grid is None:
        down, across = (source.shape[axis] for axis in state.axes)
        return torch.arange(down, dtype=torch.int32), torch.arange(across, dtype=torch.int32)
    flat = torch.arange(-state.before, source.shape[state.axes[0]] - state.before, dtype=torch.int32)
    rows, columns = flat.div(state.grid[1], rounding_mode="floor"), flat % state.grid[1]
    return torch.where(flat < 0, NOWHERE, rows), torch.where(flat < 0, NOWHERE, columns)


def _repeat(call: Call, axis: int, places: Tensor) -> list[Tensor]:
    source = call.inputs[0]
    shape = [1] * source.ndim
    shape[axis] = -1
    index = places.to(source.device).view(shape)
    # The same memory layout, which decides whether a view can be had.
    place = torch.empty_like(source, dtype=torch.int32).copy_(index.expand(source.shape))
    result = call.func(*(place if a is source else a for a in call.args), **call.kwargs)
    return [result] if isinstance(result, Tensor) else list(result)


def _laid(rows: Tensor, columns: Tensor, state: Map) -> State:
    """What the places of all elements say of a tensor: a map, patch tokens, or neither."""
    plain = replace(state, grid=None, before=0)
    if not bool((rows == NOWHERE).any()):
        down, across = _found(rows, state.rows), _found(columns, state.columns)
        if down is not None and across is not None and down.axis != across.axis:
            return replace(plain, rows=down, columns=across)
    for axis in range(-rows.ndim, 0):
        (down, r), (across, c) = (_ends(index, axis) for index in (rows, columns))
        before = int((r == NOWHERE).sum())
        grid = None if bool((r[:before] != NOWHERE).any()) else _grid(r[before:], c[before:])
        if grid is None or bool(down[:before].any()):
            continue
        ends = (down[before:], r[before:].view(grid)[:, 0]), (across[before:], c[before:].view(grid)[0])
        spans = [_even(low, width, span, axis) for (width, low), span in zip(ends, state.spans, strict=True)]
        if spans[0] is not None and spans[1] is not None:
            return replace(plain, rows=spans[0], columns=spans[1], grid=grid, before=before)
    return LOST


def _ends(index: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Of each position along an axis: how far apart the places of its elements are, and the first of them."""
    flat = index.movedim(axis, 0).flatten(1)
    low = flat.amin(1)
    return flat.amax(1) - low, low


def _grid(rows: Tensor, columns: Tensor) -> tuple[int, int] | None:
    """(h, w) of places that follow each other row by row; None where they do not, or are a single row or column."""
    wide = int((rows == rows[0]).sum()) if len(rows) else 0
    if wide < 2 or len(rows) % wide or len(rows) == wide:
        return None
    grid = len(rows) // wide, wide
    r, c = rows.view(grid), columns.view(grid)
    return grid if bool((r == r[:, :1]).all() and (c == c[:1]).all()) else None


def _even(low: Tensor, width: Tensor, span: Span, axis: int) -> Span | None:
    """Along an axis whose positions follow each other evenly; None where they do not."""
    step = int(low[1] - low[0]) if len(low) > 1 else 0
    if step < 1 or bool((low.diff() != step).any()) or bool((width != width[0]).any()):
        return None
    size = span.size + int(width[0]) * span.stride
    return Span(axis, span.start + int(low[0]) * span.stride, span.stride * step, size)


def _found(index: Tensor, span: Span) -> Span | None:
    """The axis along which positions follow each other evenly, with the least that is seen from one of them."""
    best = None
    for axis in range(-index.ndim, 0):
        width, low = _ends(index, axis)
        found = _even(low, width, span, axis)
        if found is not None and (best is None or found.size < best.size):
            best = found
    return best


def _rules(rule: Callable[[Call], State | list[State]], names: str) -> dict[str, Callable[[Call], Any]]:
    return dict.fromkeys(names.split(), rule)


OPERATORS = "add sub mul truediv div floordiv pow mod and or xor neg abs lt le gt ge eq ne invert"
DUNDERS = {f"__{kind}{name}__": name for name in OPERATORS.split() for kind in ("", "i", "r")}

RULES = (
    _rules(
        _joined,
        OPERATORS
        + " relu relu6 hardtanh hardswish hardsigmoid leaky_relu elu selu celu gelu silu mish sigmoid logsigmoid tanh "
        "softplus softsign tanhshrink hardshrink softshrink threshold exp expm1 log log1p sqrt rsqrt square "
        "reciprocal sin cos tan erf sign round floor ceil clamp clamp_min clamp_max clip maximum minimum where lerp "
        "addcmul addcdiv subtract multiply divide true_divide negative absolute logical_not logical_and logical_or "
        "masked_fill nan_to_num isnan isfinite rrelu",
    )
    | _rules(_unchanged, "prelu local_response_norm dropout dropout1d dropout2d feature_dropout alpha_dropout")
    | _rules(
        lambda call: call.states[0],
        "to type type_as float double half bfloat16 cpu cuda contiguous clone detach requires_grad alias",
    )
    | _rules(lambda _: None, "zeros_like ones_like empty_like rand_like randn_like new_zeros new_ones new_empty")
    | _rules(_joined_along, "cat concat concatenate stack")
    | _rules(lambda call: _joined(call) if len(call.inputs) == 2 else _along(call), "max min")
    | _rules(
        _along,
        "mean sum amax amin std var var_mean std_mean prod logsumexp all any median softmax log_softmax softmin "
        "cumsum glu argmax argmin count_nonzero",
    )
    | _rules(lambda call: _along(call, 2), "norm normalize linalg_vector_norm")
    | _rules(_everywhere, "group_norm instance_norm")
    | {"batch_norm": lambda call: _everywhere(call) if call.argument(5, "training", False) else _unchanged(call)}
    | {"linear": lambda call: LOST if -1 in call.map.axes else _unchanged(call)}
    | _rules(_layer_norm, "layer_norm rms_norm")
    | _rules(_product, "matmul bmm")
    | {"scaled_dot_product_attention": _attention}
    | {"conv2d": _conv2d, "avg_pool2d": _avg_pool2d, "pad": _pad}
    | _rules(_max_pool2d, "max_pool2d max_pool2d_with_indices")
    | _rules(_adaptive, "adaptive_avg_pool2d adaptive_max_pool2d")
    | _rules(
        _moved,
        "getitem permute transpose swapaxes swapdims movedim moveaxis narrow select chunk split tensor_split unbind "
        "unsafe_chunk unsafe_split index_select squeeze unsqueeze flatten unflatten view view_as reshape reshape_as "
        "expand expand_as repeat flip roll pixel_unshuffle channel_shuffle t",
    )
)

"""The layers of a network that end a stage: the last one of each size of map."""

from collections.abc import Mapping

from torch import nn

from cuescope.network import hooks


def stages(network: nn.Module, maps: Mapping[str, hooks.Layer]) -> tuple[str, ...]:
    """Of a survey's maps the last of each size, at most five, in the order they are computed.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
    >>> stages(net, hooks.survey(net, torch.zeros(2, 3, 16, 16)))
    ('1', '2')
    """
    own = {name: layer for name, layer in maps.items() if layer.inner not in maps}
    passing = (*hooks.KEEP_SHAPE, nn.ZeroPad2d)
    kept = [name for name in own if not isinstance(network.get_submodule(name), passing)]
    last = {own[name].size: name for name in kept}
    return tuple(name for name in maps if name in last.values())[-5:]

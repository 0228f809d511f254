"""The same network with its weights in another order: what its architecture does without what it has learned."""

import copy

import torch
from torch import nn


def shuffled(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of a network in which the entries of each tensor of weights are in another order, drawn from the seed.

    So each layer's weights keep their distribution, and activations about their size, which new random weights would
    not where batch norms are folded. Buffers stay as they are.

    >>> net = nn.Linear(3, 2)
    >>> other = shuffled(net)
    >>> torch.equal(other.weight, net.weight), set(other.bias.tolist()) == set(net.bias.tolist())
    (False, True)
    """
    other, random = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=random)
            parameter.copy_(parameter.detach().flatten()[order.to(parameter.device)].reshape(parameter.shape))
    return other

"""The same network with random weights (Adebayo et al. 2018, Sanity checks for saliency maps)."""

import copy
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cuescope.classifier.classifier import Classifier


def randomized(classifier: Classifier, seed: int = 0) -> Classifier:
    """The same architecture with random weights; made once for a classifier and a seed, which is left as it is.

    Filters, matrices and embeddings are drawn from a normal distribution of mean 0, as large as what was learned (root
    mean square); the values of biases and gains are shuffled; statistics of batch norms that are not folded start anew.
    So activations keep their order of magnitude in any architecture, and nothing of what was learned is left where it
    was. Raises CueError for a black box.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> classifier = Classifier(net)
    >>> other = randomized(classifier)
    >>> other is randomized(classifier), bool((other.network[0].weight == net[0].weight).any())
    (True, False)
    """
    return classifier.known(("random weights", seed), lambda: _randomized(classifier, seed))


def _randomized(classifier: Classifier, seed: int) -> Classifier:
    network = copy.deepcopy(classifier.torch_network("layers")).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1:
                size = weights.square().mean().sqrt()
                weights.copy_(torch.randn(weights.shape, generator=generator).to(weights) * size)
            elif weights.ndim == 1:
                weights.copy_(weights[torch.randperm(len(weights), generator=generator).to(weights.device)])
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    how: dict[str, Any] = {"device": classifier.device, "precision": classifier.precision, "fold": False, "owned": True}
    name = f"{classifier.name} with random weights"
    space, preprocessing = classifier.classes, classifier.preprocessing
    return Classifier(
        network, classes=space, preprocessing=preprocessing, name=name, batch_size=classifier.batch_size, **how
    )

"""How near are the embeddings of images to each other?"""

import numpy as np
from numpy.typing import NDArray


def nearest_other(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """The largest cosine of each embedding (n, d) with another one, (n,); at least two are needed.

    >>> nearest_other(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])).tolist()
    [1.0, 1.0, 0.0]
    """
    vectors = np.asarray(embeddings, float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    return alike.max(1)

"""A file of weights that says which network they are of: what `cuescope train` writes."""

from cuescope.classifier.sources.found import Asked, Found
from cuescope.classifier.sources.known import unknown_model
from cuescope.models.saved import read_saved


def find(path: str, asked: Asked) -> Found:
    """The network with these weights, its classes and its preprocessing. Raises CueError for a file without them."""
    from cuescope.classifier.sources import find as find_any

    saved = read_saved(path)
    if saved is None:
        raise unknown_model(path, path)
    spec = saved.name if "/" in saved.name or ":" in saved.name else f"cuescope/{saved.name}"
    found = find_any(spec, asked._replace(weights=path))[1]
    return found._replace(classes=saved.classes, preprocessing=saved.preprocessing, spec=spec)

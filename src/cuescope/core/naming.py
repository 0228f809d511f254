"""Names of classifiers and instruments, and counts of things, as people say them."""

from collections.abc import Iterable


def short_name(name: str) -> str:
    """The name of a classifier without its source and its checkpoint.

    >>> short_name("timm/resnet50.a1_in1k@best.pt"), short_name("resnet50")
    ('resnet50.a1_in1k', 'resnet50')
    """
    return name.partition("@")[0].rpartition("/")[2]


def title(name: str) -> str:
    """The name of an instrument or a measure as a heading.

    >>> title("shape_bias")
    'Shape bias'
    """
    return name.replace("_", " ").capitalize()


def counted(n: int, thing: str) -> str:
    """So many things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def listed(things: Iterable[str]) -> str:
    """Things one after another, as a sentence has them.

    >>> listed(["conv1", "conv2", "fc"]), listed(["fc"])
    ('conv1, conv2 and fc', 'fc')
    """
    *first, last = things
    return f"{', '.join(first)} and {last}" if first else last

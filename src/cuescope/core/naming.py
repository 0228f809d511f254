"""Names of classifiers and instruments as people say them."""

from pathlib import PurePosixPath

SERIES = "epochs"
"""The folder of a training that holds its checkpoints, named by epochs: 0001.safetensors, 0010.safetensors."""


def short_name(name: str) -> str:
    """The name of a classifier without its source and its checkpoint.

    >>> short_name("timm/resnet50.a1_in1k@best.pt"), short_name("resnet50")
    ('resnet50.a1_in1k', 'resnet50')
    >>> short_name("runs/mine/best"), short_name("runs/mine/best.safetensors")
    ('mine', 'mine')
    >>> short_name("runs/mine/epochs/0010")
    'mine/0010'
    """
    if of_series(name):
        return f"{PurePosixPath(name).parents[1].name}/{PurePosixPath(name).stem}"
    folder, _, last = name.partition("@")[0].rpartition("/")
    # Of a training's folder: its best weights are called like those of every other one.
    return folder.rpartition("/")[2] if folder and last in ("best", "best.safetensors") else last


def of_series(name: str) -> bool:
    """Whether a classifier is one of the checkpoints of a training, by its name."""
    path = PurePosixPath(name)
    return path.parent.name == SERIES and path.stem.isdecimal()


def network_of(name: str) -> str:
    """Whose checkpoint a classifier is, by its name: that of the network, or the folder of a training's checkpoints.

    >>> network_of("timm/resnet50.a1_in1k@best.pt"), network_of("runs/mine/epochs/0010")
    ('timm/resnet50.a1_in1k', 'runs/mine/epochs')
    """
    return str(PurePosixPath(name).parent) if of_series(name) else name.partition("@")[0]


def checkpoint_of(name: str) -> str:
    """Which checkpoint of its network a classifier is.

    >>> checkpoint_of("timm/resnet50.a1_in1k@best.pt"), checkpoint_of("runs/mine/epochs/0010")
    ('best.pt', 'epoch 10')
    """
    if of_series(name):
        return f"epoch {int(PurePosixPath(name).stem)}"
    return name.partition("@")[2].rpartition("/")[2] or name


def title(name: str) -> str:
    """The name of an instrument or a measure as a heading.

    >>> title("shape_bias")
    'Shape bias'
    """
    return name.replace("_", " ").capitalize()


def key(text: str) -> str:
    """A text as a part of the name of a measure or a panel.

    >>> key("Grad-CAM")
    'grad_cam'
    """
    return "".join(c if c.isalnum() else "_" for c in text.lower())

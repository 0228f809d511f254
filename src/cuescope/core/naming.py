"""Names of classifiers and instruments as people say them."""


def short_name(name: str) -> str:
    """The name of a classifier without its source and its checkpoint.

    >>> short_name("timm/resnet50.a1_in1k@best.pt"), short_name("resnet50")
    ('resnet50.a1_in1k', 'resnet50')
    >>> short_name("runs/mine/best"), short_name("runs/mine/best.safetensors")
    ('mine', 'mine')
    """
    folder, _, last = name.partition("@")[0].rpartition("/")
    # Of a training's folder: its best weights are called like those of every other one.
    return folder.rpartition("/")[2] if folder and last in ("best", "best.safetensors") else last


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

"""Names of classifiers and instruments as people say them."""

from collections.abc import Sequence


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


def apart(names: Sequence[str], short: Sequence[str] = ()) -> list[str]:
    """What classifiers are called: each by the shortest that no other one has, of `short` (by default its short name),
    that with its checkpoint, and its whole name.

    >>> apart(["timm/a@w/best.pt", "timm/a@random", "timm/b"])
    ['a@best', 'a@random', 'b']
    """
    short = short or [short_name(name) for name in names]
    parts = [
        (one, name.partition("@")[2].replace("\\", "/").rpartition("/")[2])
        for one, name in zip(short, names, strict=True)
    ]
    told = [f"{one}@{file.rpartition('.')[0] or file}" if file else one for one, file in parts]
    return [
        next((called[i] for called in (short, told) if called.count(called[i]) == 1), name)
        for i, name in enumerate(names)
    ]


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

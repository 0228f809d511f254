"""What several classifiers are called beside each other."""

from collections.abc import Sequence

from cuescope.core.naming import short_name


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

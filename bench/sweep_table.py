"""The table that docs/sweep.md holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

MARKS = {"done": "●", "not applicable": "–", "failed": "✗"}
HEAD = """# Every instrument on {count} architectures

`python bench/sweep.py OUT --write docs/sweep.md` makes this page: {count} architectures of timm, torchvision and
transformers with random weights, and of each all instruments of the standard preset and some others on a few images
of the built-in world. It is about whether they run, not about what they find.

● done   – does not apply, for the reason below the table (without the name of the layer)   ✗ failed

`logits` is the largest difference from the logits that the library itself gives, as a share of the largest logit.

"""


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page of what came of all models."""
    swept = [line for line in lines if "instruments" in line]
    names = list(dict.fromkeys(name for line in swept for name in line["instruments"]))
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows = []
    for line in swept:
        states = line["instruments"]
        marks = [MARKS.get(states[name][0], "✗") if name in states else "" for name in names]
        rows.append([line["model"], f"{line['size']} px", f"{line['gap']:.0e}", *marks])
        for name, (status, why) in states.items():
            if status == "not applicable":
                said = re.sub(r" at layer '[^']*'", "", why.replace(f"{line['model']}@2", "it"))
                reasons[said, name].append(line["model"])
    counts = [status for line in swept for status, _ in line["instruments"].values()]
    counts += ["failed" for line in lines if "error" in line]
    text = HEAD.format(count=len(swept))
    text += ", ".join(f"{counts.count(status)} {status}" for status in MARKS)
    text += f"; logits at most {max((line['gap'] for line in swept), default=0):.0e} away.\n\n"
    numbers = {name: str(i) for i, name in enumerate(names, 1)}
    text += ", ".join(f"{number} {name}" for name, number in numbers.items()) + "\n\n"
    text += "\n".join(
        _row(cells) for cells in [["model", "input", "logits", *numbers.values()], ["---"] * (3 + len(names)), *rows]
    )
    text += "\n\n## Why an instrument does not apply\n\n| reason | instruments | models |\n| --- | --- | --- |\n"
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (why, name), of in reasons.items():
        grouped[why, tuple(of)].append(name)
    text += "".join(_row([why, ", ".join(tools), ", ".join(of)]) + "\n" for (why, of), tools in grouped.items())
    for line in lines:
        if "skipped" in line:
            text += f"\n{line['model']} was skipped: {line['skipped']}.\n"
        if "error" in line:
            text += f"\n{line['model']} failed: {summary(line['error'])}.\n"
    return text


def summary(trace: str) -> str:
    """The line of a traceback that names the error."""
    return next((line for line in reversed(trace.splitlines()) if line and not line.startswith(" ")), trace)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""Whether the rows of a cell are of this classifier: what it gives for the images it was tried on is kept with them."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cuescope.core.files import read_bytes, write

FILE = "answers.npy"
SAME = 1e-3
"""Answers of one classifier differ by less, as a share of the largest, on another machine or with more threads."""


def keep_only(folder: Path, answers: Any) -> None:
    """Empty a cell's folder where it holds other answers than these: no digest sees all that a classifier is.

    `answers` is an array of float32; it is noted for the next time.
    """
    path, answers = folder / FILE, np.asarray(answers, np.float32)
    if _same(path, answers):
        return
    if folder.is_dir():
        shutil.rmtree(folder)
    buffer = io.BytesIO()
    np.save(buffer, answers)
    write(path, buffer.getvalue())


def _same(path: Path, answers: np.ndarray[Any, Any]) -> bool:
    try:
        known = np.load(io.BytesIO(read_bytes(path, 2**30)), allow_pickle=False)
    except Exception:  # whatever numpy's parser makes of a damaged header: the answers are not known
        return False
    scale = max(float(np.abs(answers).max(initial=0)), 1e-12)
    return known.shape == answers.shape and float(np.abs(known - answers).max(initial=0)) <= SAME * scale

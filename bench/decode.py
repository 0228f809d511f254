"""How much faster is cuescope's decoding than Pillow's, and two threads than one?

Files are read into memory first, so the disk plays no part.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from PIL import Image
from ratios import Given, Row, turns

from cuescope.data.readers import read_folder
from cuescope.data.readers.decode import decode

SHARE = 20
"""Images a thread takes at a time."""


def pillow(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def work(decoder: Callable[[bytes], torch.Tensor], files: Sequence[bytes], threads: int) -> None:
    def some(start: int) -> None:
        for data in files[start : start + SHARE]:
            decoder(data)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(0, len(files), SHARE)))


def rows(given: Given) -> Iterator[Row]:
    torch.set_num_threads(1)
    images = read_folder(given.photographs(), limit=given.take(500, 40))
    files = [(images.root / images.id(i)).read_bytes() for i in range(len(images))]
    ways = {(name, n): partial(work, f, files, n) for name, f in (("pillow", pillow), ("ours", decode)) for n in (1, 2)}
    found = turns({f"{name} {n}": way for (name, n), way in ways.items()}, given.rounds)
    yield found.row(f"decoding {len(files)} photographs: Pillow / ours", "pillow 1", "ours 1", "")
    yield found.row("our decoding: one thread / two", "ours 1", "ours 2", "")
    differ = sum(not torch.equal(decode(data), pillow(data)) for data in files)
    yield Row("photographs of which a pixel differs from Pillow's", "same pixels", [differ], most=0, unit="")

"""How much faster is cuescope's decoding than Pillow's, and two threads than one?

    python bench/decode.py FOLDER [--repeat 3] [--limit 500]

Prints images per second and ratios, all from one run (best of the repeats, which take turns). Files are read into
memory first, so the disk plays no part.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cuescope.data.readers import read_folder
from cuescope.data.readers.decode import decode

SHARE = 20
"""Images a thread takes at a time."""


def pillow(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def seconds(decoder: Callable[[bytes], torch.Tensor], files: Sequence[bytes], threads: int) -> float:
    def work(start: int) -> None:
        for data in files[start : start + SHARE]:
            decoder(data)

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, len(files), SHARE)))
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = read_folder(options.folder, limit=options.limit)
    files = [(images.root / images.id(i)).read_bytes() for i in range(len(images))]
    differ = [images.id(i) for i, data in enumerate(files) if not torch.equal(decode(data), pillow(data))]
    print(f"{len(files)} images, {sum(map(len, files)) / len(files) / 1e3:.0f} kB each; not equal: {differ or 'none'}")
    ways = {(name, n): (f, n) for name, f in (("pillow", pillow), ("cuescope", decode)) for n in (1, 2, 4)}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(options.repeat):
        for way, (decoder, threads) in ways.items():
            best[way] = min(best[way], seconds(decoder, files, threads))
    for (name, threads), taken in best.items():
        print(
            f"{name:9s} {threads} thread{'s' * (threads > 1):1s} {len(files) / taken:6.0f} images/s   "
            f"{best[name, 1] / taken:.2f} x one thread   {best['pillow', threads] / taken:.2f} x pillow"
        )


if __name__ == "__main__":
    main()

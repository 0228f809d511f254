"""Is memory flat in the number of images?

    python bench/memory.py [FEW] [MANY]

Peak resident memory of an audit of the world by `cuescope/world-bagnet`, every instrument, for few and many images,
each in a process of its own. The bar: 10,000 images at most 200 MB over 1,000.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

CODE = """
import resource, sys
from cuescope.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["audit", "cuescope/world-bagnet", "--images", f"world:congruent:{count}", "--out", f"{folder}/run"]
        command += ["--cue-conflict", f"world:conflict:{count}"]
        done = subprocess.run([sys.executable, "-c", CODE, *command], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    few, many = (int(a) for a in (sys.argv[1:] or ("1000", "10000")))
    peaks = {count: peak_mb(count) for count in (few, many)}
    for count, peak in peaks.items():
        print(f"{count:6,} images: {peak:,} MB")
    print(f"difference: {peaks[many] - peaks[few]:+,} MB (bar +200)")


if __name__ == "__main__":
    main()

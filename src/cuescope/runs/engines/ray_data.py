"""Ray Data over numbers of units, on actors that hold the classifiers: numbers go out, counts come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cuescope.runs.engines.worker import Job
from cuescope.runs.runner import Done


def done(job: Job, numbers: Sequence[int], processes: int) -> Iterator[Done]:
    raise NotImplementedError

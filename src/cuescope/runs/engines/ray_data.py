"""Ray Data over the numbers of units, on a pool of actors that hold the classifiers: numbers go out, counts come back.

What Ray would do again after a fault writes the same bytes to the same files.
"""

from __future__ import annotations

import gc
import logging
import os
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from cuescope.core.errors import CueError
from cuescope.runs.engines.worker import Job, Worker, unsendable
from cuescope.runs.runner import Done

START_S = 600
"""Seconds within which all actors have to be there, their classifiers loaded."""
STORE_BYTES = 2**28
"""Of the object store of a cluster that is started here: numbers and counts, and once the names of the images."""
RETRIES = 3
"""Of an actor that dies, and of its unit: what kills every actor is not tried for ever."""
MOST_TASKS = 10_000
"""Of Ray's tasks; of more units several are done by one task."""


class Actor:
    """A process of the pool. Whatever goes wrong is given back as a row: Ray would only try it again."""

    def __init__(self, job: Any) -> None:
        import ray

        self.worker, self.error = None, {}
        try:
            found: Job = ray.get(job)
            self.worker = Worker.of(found, found.options.device)
        except Exception as error:
            self.error = _told(error)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[str]]:
        return {"told": [msgspec.json.encode(self._done(number)).decode() for number in batch["item"].tolist()]}

    def _done(self, number: int) -> Any:
        if self.worker is None:
            return self.error
        try:
            return {"done": self.worker.do(number)}
        except Exception as error:
            return _told(error)


def done(job: Job, numbers: Sequence[int], processes: int) -> Generator[Done]:
    """Have units done by so many actors of a Ray cluster: that of RAY_ADDRESS, one of this machine, or a new one here.

    Raises what an actor raises, and CueError where Ray is not installed or the pool does not start. However it ends,
    no actor is left, nor a cluster that was started here.
    """
    with _cluster(processes * job.threads) as ray:
        from ray.data import ActorPoolStrategy, DataContext

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # What failed is said once, without a traceback.
        context = DataContext.get_current().copy()
        context.wait_for_min_actors_s = START_S
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        gpu = job.options.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0)
        with DataContext.current(context):
            try:
                held = ray.put(job)
            except Exception as error:  # Whatever pickling a user's image set raises.
                raise unsendable(error) from None
            units = ray.data.from_items(list(numbers), override_num_blocks=min(len(numbers), MOST_TASKS))
            with warnings.catch_warnings(action="ignore"):
                # Not `concurrency`: a pool of that starts with one actor. Retries have no name of their own in Ray 2.60
                # to 2.63, which say that the last argument goes with 2.64.
                told = units.map_batches(
                    Actor,
                    batch_size=1,
                    compute=ActorPoolStrategy(size=processes),
                    fn_constructor_args=(held,),
                    num_cpus=1 if gpu else job.threads,
                    num_gpus=1 if gpu else 0,
                    ray_remote_args_fn=lambda: {"max_restarts": RETRIES, "max_task_retries": RETRIES},
                )
            rows = _rows(ray, told, processes)
            try:
                for text in rows:
                    yield _received(msgspec.json.decode(text))
            finally:
                rows.close()
                # The executor ends its actors when nobody holds it any more.
                del rows, told, units, held
                gc.collect()


def _rows(ray: Any, told: Any, processes: int) -> Generator[str]:
    try:
        for batch in told.iter_batches(batch_size=None, prefetch_batches=0):
            yield from batch["told"].tolist()
    except ray.exceptions.GetTimeoutError:
        found = f"not all of {processes} Ray actors were there within {START_S} s"
        do = f"see what `ray status` says; give fewer --processes, or more room: it has {ray.cluster_resources()}"
        raise CueError(found, wanted="CPUs, GPUs and memory for all of them", do=do) from None
    except ray.exceptions.RayError as error:
        do = "run the same command again: it goes on where it was"
        raise CueError(f"Ray failed: {error}", wanted="a cluster that stays", do=do) from None


@contextmanager
def _cluster(cpus: int) -> Iterator[Any]:
    """Ray, connected; what was connected or started here is left again."""
    # Of an actor whose arguments are in the object store it says that they could be lost: they are held here.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError:
        do = "install it: uv pip install 'cuescope[ray]'"
        raise CueError("--engine ray without Ray", wanted="the library ray[data]", do=do) from None
    if ray.is_initialized():
        yield ray
        return
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **quiet)
        except ConnectionError:
            if "RAY_ADDRESS" in os.environ:
                raise
            cpus = max(cpus, os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **quiet)
    except Exception as error:  # Of many kinds.
        do = "check RAY_ADDRESS and `ray status`"
        raise CueError(f"Ray does not start: {error}", wanted="a Ray cluster", do=do) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, CueError):
        return {"error": [error.found, error.wanted, error.do]}
    return {"trace": traceback.format_exc()}


def _received(told: dict[str, Any]) -> Done:
    if "error" in told:
        found, wanted, do = told["error"]
        raise CueError(found, wanted=wanted, do=do)
    if "trace" in told:
        raise RuntimeError(f"in a process of the audit:\n{told['trace']}")
    return msgspec.convert(told["done"], Done, strict=False)

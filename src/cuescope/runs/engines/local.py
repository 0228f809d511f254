"""Several processes on this machine, one a device. Each ends by itself when the first one closes its end, or dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch

from cuescope.core.errors import CueError
from cuescope.runs.engines.worker import Job, Worker, unsendable
from cuescope.runs.runner import Done

STOP_S = 5.0
"""A process that has not ended so long after it was told to is killed; what it finished is in the run folder."""


class _Process(NamedTuple):
    process: subprocess.Popen[bytes]
    connection: Connection


def done(job: Job, numbers: Sequence[int], processes: int) -> Iterator[Done]:
    """Have units done by so many processes, each the next one when it is free; what came of each, in any order.

    Raises what a process raises, and CueError where one dies. However it ends, no process is left.
    """
    waiting = iter(numbers)
    running: dict[Connection, _Process] = {}
    try:
        for _ in range(processes):
            one = _started()
            running[one.connection] = one
        for number, connection in enumerate(running):
            _send(connection, (job, _device(job.options.device, number)))
            _send(connection, next(waiting))
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                yield _received(running[connection])
                following = next(waiting, None)
                if following is None:
                    _stop([running.pop(connection)])
                else:
                    _send(connection, following)
    finally:
        _stop(list(running.values()))


def _device(device: str, number: int) -> str:
    """The device of a process, by its number."""
    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{number % count}" if count > 1 else device


def _started() -> _Process:
    # No fork: threads of torch and of CUDA do not survive it. No multiprocessing: it would run the user's script again.
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    command = [sys.executable, "-c", f"from {__name__} import main; main({theirs.fileno()})"]
    # Standard output is for findings. In a session of its own: Ctrl-C is for the first process, which tells the others.
    process = subprocess.Popen(command, stdout=2, pass_fds=[theirs.fileno()], env=environment, start_new_session=True)
    theirs.close()
    return _Process(process, Connection(ours.detach()))


def _send(connection: Connection, what: Any) -> None:
    try:
        connection.send(what)
    except (BrokenPipeError, ConnectionResetError):  # It has died: reading says so.
        pass
    except Exception as error:  # Whatever pickling a user's image set raises.
        raise unsendable(error) from None


def _received(one: _Process) -> Done:
    try:
        found = one.connection.recv()
    except (EOFError, OSError):
        with suppress(subprocess.TimeoutExpired):
            one.process.wait(STOP_S)
        status = one.process.returncode
        how = f"killed by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        do = "run the same command again: it goes on where it was; with fewer --processes if memory was short"
        raise CueError(f"a process of the audit was {how}", wanted="that all go on", do=do) from None
    if isinstance(found, Exception):
        raise found
    if isinstance(found, str):
        raise RuntimeError(f"in a process of the audit:\n{found}")
    return found


def _stop(processes: Sequence[_Process]) -> None:
    """End processes; each keeps the full batches that it has."""
    for one in processes:
        one.connection.close()
    until = time.monotonic() + STOP_S
    try:
        for one in processes:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(until - time.monotonic(), 0.0))
    finally:
        for one in processes:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()


def main(handle: int) -> None:
    """A process that does units until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection, inbox = Connection(handle), SimpleQueue[Any]()

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                inbox.put(connection.recv())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=receive, daemon=True).start()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        try:
            worker = Worker.of(*inbox.get())
            while True:
                connection.send(worker.do(inbox.get()))
        except CueError as error:
            connection.send(error)
        except Exception:
            connection.send(traceback.format_exc())
    # Without what an interpreter does at its end: an interrupt may come at any time.
    os._exit(0)

"""The command line. Commands are imported when they are run, so that `--help` is instant."""

import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from cyclopts import App, CycloptsPanel

from cuescope.core.errors import CueError, StoppedError, printable
from cuescope.core.processes import rank

OTHERS_WAIT_S = 10.0
"""Seconds that processes beside the first wait before they say what is wrong."""
_COMMANDS = {
    "demo": "An audit of the models of the built-in world; needs no data.",
    "audit": "Which cues do these classifiers use? A run folder and a report.",
    "transfer": "Whose features serve your own classes, or objects, best? Several models ranked on a folder.",
    "look": "One instrument, one classifier, one image: one PNG.",
    "make": "New images from images: textures without shapes, and more.",
    "get": "Other people's data and weights, fetched and checked: human-data, weights.",
    "train": "A classifier by a recipe, on your own labeled images or on the built-in world's.",
    "cure": "What helps a weak model, and did it help? Makes the data, fine-tunes, audits before and after.",
    "live": "A page on which one hides, moves and changes an image, and watches the answer.",
    "export": "A classifier as an ONNX file that says its classes and preprocessing.",
    "report": "Make the report again from run folders; needs no model.",
    "compare": "Which of two classifiers is better, and do they agree? Over the same images.",
    "check": "Do a run's intervals support what is required? Exit status 1 where they do not, for CI.",
    "slices": "On which images is a classifier worse, by what a CSV says of them? The worst first.",
    "claims": "What five papers say, what tries it here, and what came of it.",
    "list": "The models, instruments, makers, recipes and image sets there are.",
}

# Of help in Markdown the parser alone takes as long to import as all of cyclopts: only the commands' own help has it.
app = App(
    name="cuescope",
    help="cuescope tells which cues an image classifier really uses, and shows it.",
    help_format="plaintext",
    # It would end without a word.
    suppress_keyboard_interrupt=False,
    error_formatter=lambda error: CycloptsPanel(printable(str(error))),
)
for _name, _help in _COMMANDS.items():
    # An App of its own says so itself.
    _how = {} if _name in ("make", "get", "transfer", "claims") else {"help_format": "markdown"}
    app.command(f"cuescope.cli.{_name}:{_name.replace('list', 'list_')}", name=_name, help=_help, **_how)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit status: 0 done, 1 a fault or a failed cell, 2 a mistake (one CueError), 130 Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path that is no UTF-8 is shown with escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(arguments, result_action="return_value")
    except CueError as error:
        if rank():
            # Where the first process has made the same mistake, it says so, and the launcher ends this one.
            time.sleep(OTHERS_WAIT_S)
        _no_more()
        print(f"cuescope: {f'process {rank()}: ' if rank() else ''}{error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, StoppedError) else 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # Only a path that a user typed is too long, a link to itself, or in a folder of others.
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES) or not error.filename:
            raise
        print(f"cuescope: {printable(str(error.filename)[:200])}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _no_more()
        print("cuescope: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _no_more() -> None:
    """Ctrl-C once more ends the process at once, without a traceback from where it was stopping."""
    if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))

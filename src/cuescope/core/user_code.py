"""Python files of a user's: each run once in a process, under a module name that shadows no other module."""

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from cuescope.core.errors import CueError

PREFIX = re.compile(r"^_cuescope_user_[0-9a-f]{16}_")


class _FromSource(SourceFileLoader):
    """Never from cached bytecode: of a file that changes twice within a second, Python would take the old one."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file(path: str | Path, what: str = "a Python file") -> ModuleType:
    """The module that a file defines, run once for each content; it can import what lies beside it.

    What the file raises is the user's own and is not caught. Raises CueError, with `what` was wanted, where there is no
    file.
    """
    path = Path(path)
    if not path.is_file():
        raise CueError(f"no file '{path}'", wanted=what, do="check the path")
    content = hashlib.blake2b(f"{path.resolve()}\n".encode() + path.read_bytes(), digest_size=8).hexdigest()
    name = f"_cuescope_user_{content}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    loader, module = _FromSource(name, str(path)), ModuleType(name)
    module.__file__ = str(path)
    # Known while it runs, so that dataclasses, inspect and pickle find it.
    sys.modules[name] = module
    try:
        with importing_from(path.parent):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def public_name(module: str) -> str:
    """The name of a module as its user knows it: of a file its stem, whichever folder it lies in.

    >>> public_name("_cuescope_user_0123456789abcdef_mine"), public_name("timm.models")
    ('mine', 'timm.models')
    """
    return PREFIX.sub("", module)


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """The folder comes first among those that Python imports from."""
    entry: Any = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)

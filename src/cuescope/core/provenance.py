"""What a manifest says of the time and the packages it was written with."""

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version


def now() -> str:
    """The time in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(*packages: str) -> dict[str, str]:
    """The versions of packages by name.

    >>> versions("no-such-package")
    {'no-such-package': 'not installed'}
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

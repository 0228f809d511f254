"""Object stores by obstore, one package without dependencies, for addresses whose own driver is not installed."""

import functools
from datetime import timedelta
from typing import Any

from obstore.fsspec import SUPPORTED_PROTOCOLS, FsspecStore

PROTOCOLS = frozenset(SUPPORTED_PROTOCOLS)

CONNECT_S, REQUEST_S, RETRY_S = 5, 20, 15
"""Seconds for a connection and for a request, and after which a failed request is not repeated."""


class _Store(FsspecStore):
    """As it is, but "create" writes nothing where there is something."""

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> Any:
        bucket, path = self._split_path(path)
        how: Any = "create" if mode == "create" else "overwrite"
        return await self._construct_store(bucket).put_async(path, value, mode=how)


@functools.cache
def file_system(protocol: str) -> FsspecStore:
    """The file system of these addresses; credentials and endpoints come from the environment."""
    # Who names an endpoint without TLS, as on the own machine, means it.
    client: Any = {"connect_timeout": f"{CONNECT_S}s", "timeout": f"{REQUEST_S}s", "allow_http": True}
    retry: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_S)}
    return _Store(protocol, client_options=client, retry_config=retry)  # pyright: ignore[reportArgumentType, reportCallIssue]

"""A server of one file on this machine, which can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """What it gives, how much of it before it hangs up, and what it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.tag, self.ranges = data, '"one"', True
        self.stop_after: int | None = None
        self.asked: list[str | None] = []
        self.starts: list[int] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/a.zip":
                    self.send_error(404)
                    return
                wanted = self.headers.get("Range")
                told.asked.append(wanted)
                start = int(wanted[6:-1]) if wanted and told.ranges and self.headers["If-Range"] == told.tag else 0
                if start >= len(told.data):
                    self.send_error(416)
                    return
                told.starts.append(start)
                body = told.data[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", told.tag)
                self.end_headers()
                self.wfile.write(body[: told.stop_after])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/a.zip"


@contextmanager
def serving(data: bytes) -> Iterator[Server]:
    """A server of these bytes, until the block ends."""
    server = Server(data)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()

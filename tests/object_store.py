"""A real object-store server on this machine, which moto gives, and a door in front of it that can be told to fail."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest


def _command() -> list[str]:
    if find_spec("moto"):
        return [sys.executable, "-m", "moto.server"]
    return [found] if (found := shutil.which("moto_server")) else []


class Door:
    """Passes requests on. `fault` gives of (method, path) what goes wrong: None, a status, "cut", "slow" or "gone"."""

    def __init__(self, port: int) -> None:
        self.fault: Any = lambda method, path: None
        self.slow_s = 2.0
        self.asked: list[tuple[str, str]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                door.asked.append((self.command, self.path))
                fault = door.fault(self.command, self.path)
                if fault == "gone":
                    self.connection.close()
                    self.close_connection = True
                    return
                if fault == "slow":
                    time.sleep(door.slow_s)
                if isinstance(fault, int):
                    code = {403: "AccessDenied", 404: "NoSuchKey"}.get(fault, "InternalError")
                    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
                    self.send_response(fault)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                    return
                inner = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
                try:
                    inner.request(self.command, self.path, body, headers)
                    answer = inner.getresponse()
                    data = answer.read()
                except OSError:  # the server was killed
                    self.close_connection = True
                    return
                finally:
                    inner.close()
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(key, value)
                length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if fault == "cut":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._pass)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @contextmanager
    def failing(self, what: Any, of: str = "", method: str = "GET") -> Iterator[None]:
        """Requests of this method whose path holds this text go wrong in this way."""
        self.fault = lambda asked, path: what if asked == method and of in path else None
        try:
            yield
        finally:
            self.fault = lambda method, path: None


@contextmanager
def object_store() -> Iterator[Door]:
    """A server with the bucket "bucket"; its door. The test is skipped where moto is not installed."""
    command = _command()
    if not command:
        pytest.skip("moto's server is not installed: uv tool install 'moto[server,s3]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*command, "-H", "127.0.0.1", "-p", str(port)], **quiet)
    door = Door(port)
    thread = threading.Thread(target=door.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        for _ in range(600):
            try:
                put = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
                urllib.request.urlopen(put, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield door
    finally:
        server.kill()
        server.wait()
        door.http.shutdown()
        thread.join()
        door.http.server_close()

"""A proxy between a client and a server, which a test can break from a certain request on."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import sleep
from urllib.parse import urlsplit

FAULTS = ("refuses", "hangs", "500", "503")
PASSED_ON = {"transfer-encoding", "connection", "date", "server"}


class Proxy(ThreadingHTTPServer):
    """A proxy with one of FAULTS or none; a fault begins with the first request whose path contains `begins_at`."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seconds = 0.0  # the delay of every answer
        self.mended = Event()
        self._fault, self._begins_at, self.begun = "", "", False

    @contextmanager
    def broken(self, fault: str, begins_at: str = "/") -> Iterator[None]:
        self._fault, self._begins_at, self.begun = fault, begins_at, False
        self.mended.clear()
        try:
            yield
        finally:
            self._fault = ""
            self.mended.set()

    def fault_at(self, path: str) -> str:
        self.begun = self.begun or self._begins_at in path
        return self._fault if self.begun else ""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault_at(self.path)
        if fault in ("500", "503"):
            self._answer(int(fault), {}, b'{"error_code": "INTERNAL_ERROR", "message": "it is broken"}')
        elif fault:
            if fault == "hangs":
                self.server.mended.wait(60)
            self.close_connection = True  # without an answer
        else:
            self._pass_on(body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (the server calls them so)

    def _pass_on(self, body: bytes) -> None:
        sleep(self.server.seconds)
        server = http.client.HTTPConnection(self.server.target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in PASSED_ON}
        server.request(self.command, self.path, body, headers)
        answer = server.getresponse()
        self._answer(answer.status, dict(answer.getheaders()), answer.read())
        server.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in PASSED_ON | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    with Proxy(target) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.mended.set()
            server.shutdown()
            thread.join()

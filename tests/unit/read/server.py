"""A small web server on loopback that answers HEAD and byte ranges, and fails when told to."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """``files`` maps paths to bodies; ``failures`` maps paths to statuses still to be answered.

    Without ``ranges`` every answer is a whole file.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    ranges: bool = True

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def serve(files: dict[str, bytes] | None = None) -> Iterator[Site]:
    site = Site(files=dict(files or {}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            site.requests.append((self.command, path))
            if site.failures.get(path):
                return self._send(site.failures[path].pop(0), b"", {}, body)
            content = site.files.get(path)
            if content is None:
                return self._send(404, b"", {}, body)
            headers = {
                "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"',
                "Accept-Ranges": "bytes",
            }
            wanted = self.headers.get("Range", "")
            if wanted.startswith("bytes=") and body and site.ranges:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                if int(first) >= len(content):
                    return self._send(416, b"", {}, body)
                start, stop = int(first), min(int(last or len(content) - 1) + 1, len(content))
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
                return self._send(206, content[start:stop], headers, body)
            return self._send(200, content, headers, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                with suppress(OSError):  # the client has had enough
                    self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

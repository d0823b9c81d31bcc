"""A server on loopback that answers what it is told to, and keeps what it was asked."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EMPTY = {"links": [], "collections": []}


@dataclass
class Answer:
    """An answer; a body that is no text is sent as JSON."""

    status: int = 200
    body: object = field(default_factory=lambda: EMPTY)
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def problem(cls, status: int, code: str, **headers: str) -> "Answer":
        body = {"status": status, "code": code, "detail": "What is wrong.", "request_id": "r1"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, body, "application/problem+json", named)


@dataclass
class Stub:
    """``answers`` are given one after the other, then empty collections for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serve(*answers: Answer, certificate: Path | None = None) -> Iterator[Stub]:
    """With ``certificate`` (PEM with its key) over TLS."""
    stub = Stub(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            stub.asked.append((self.path, self.headers.get("Authorization")))
            answer = stub.answers.pop(0) if stub.answers else Answer()
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(text)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    stub.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

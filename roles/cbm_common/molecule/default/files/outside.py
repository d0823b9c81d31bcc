"""What the network has: web servers, the cloud's metadata, a proxy that keeps what it was asked."""

import http.server
import ssl
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

ASKED = Path("/var/tmp/proxy-asked")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("http"):
            return self.relay()
        self.answer(200, b"here\n")

    def relay(self):
        with ASKED.open("a") as asked:
            asked.write(self.path + "\n")
        kept = ("if-modified-since", "if-range", "range", "user-agent", "cache-control")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.path, headers=headers)) as page:
                self.answer(page.status, page.read(), page.headers)
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), error.headers)

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name in ("Last-Modified", "Content-Range", "Content-Type"):
            if headers and headers[name]:
                self.send_header(name, headers[name])
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 304:
            self.wfile.write(body)


def serve(address, port, context=None):
    server = http.server.ThreadingHTTPServer((address, port), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
serve("0.0.0.0", 80)
serve("0.0.0.0", 3128)
serve("0.0.0.0", 443, context)

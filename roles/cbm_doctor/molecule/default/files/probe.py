"""Answers as the API does, with TLS."""

from __future__ import annotations

import ssl
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "version": "0.3.0"}')


server = HTTPServer(("127.0.0.1", 8443), Ready)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/probe/host.pem", "/etc/probe/host.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()

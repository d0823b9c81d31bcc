"""An API with figures for one login, a webhook that keeps what it gets, and a mail server."""

import base64
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ALERTS = Path(sys.argv[1])
LOGIN = "Basic " + base64.b64encode(b"prometheus:of the stand-in").decode()


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers["Authorization"] == LOGIN
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        if known:
            self.wfile.write(b'cbm_api_release{version="0"} 1\n')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with ALERTS.with_suffix(".posted").open("ab") as file:
            file.write(body + b"\n")
        self.send_response(204)
        self.end_headers()


class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                with ALERTS.with_suffix(".mailed").open("ab") as file:
                    for text in iter(self.rfile.readline, b".\r\n"):
                        file.write(text)
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


socketserver.ThreadingTCPServer.allow_reuse_address = True
mail = socketserver.ThreadingTCPServer(("127.0.0.1", 2525), Mail)
threading.Thread(target=mail.serve_forever, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", 8080), Web).serve_forever()

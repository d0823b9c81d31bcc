"""Has a websocket send something back by way of the proxy: websocket.py HOST CA_FILE."""

import socket
import ssl
import sys

host, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with (
    socket.create_connection((host, 443), 10) as plain,
    context.wrap_socket(plain, server_hostname=host) as connection,
):
    connection.sendall(
        f"GET /api/kernels HTTP/1.1\r\nHost: {host}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or sys.exit(f"closed after {head!r}").encode()
    assert b"101" in head.splitlines()[0], head
    connection.sendall(b"\x81\x05hello")
    assert connection.recv(7) == b"\x81\x05hello"

"""A service that says what it may do: ``probe.py <port> [stubborn]``; GET / answers with JSON."""

import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

HOME = Path("/var/lib/cbm probe")


def tried(action):
    """`ok`, or the name of the error."""
    try:
        action()
    except OSError as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return "ok"


def unshare():
    """Ask for a name space of its own, which needs a system call that services have no use for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")


def facts():
    status = dict(
        line.split(":\t", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":\t" in line
    )
    return {
        "pid": os.getpid(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "told": os.environ.get("CBM_PROBE"),
        "capabilities": int(status["CapBnd"], 16),
        "new_privileges": status["NoNewPrivs"].strip() == "0",
        "write": {
            str(folder): tried((folder / "written").touch)
            for folder in (HOME, Path("/etc/open"), Path("/opt/open"), Path("/srv"), Path("/tmp"))
        },
        "home": tried(lambda: Path("/home/open/file").read_text()),
        "settings": tried(lambda: Path("/etc/open/file").read_text()),
        "other processes": Path("/proc/1/status").exists(),
        "packet socket": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)),
        "new name space": tried(unshare),
        "child": subprocess.run(
            ["/bin/echo", "ok"], stdout=subprocess.PIPE, text=True
        ).stdout.strip(),
    }


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(facts()).encode())


def stopped(number, _frame):
    (HOME / "stopped").write_text(signal.Signals(number).name)
    sys.exit()


for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN if "stubborn" in sys.argv else stopped)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()

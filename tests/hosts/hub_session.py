"""Works with a notebook as an analyst's browser does; reads the password from standard input.

    hub_session.py --url URL --user NAME NOTEBOOK

Logs in by the form, starts the user's server, opens the notebook (a path in the user's home) and
runs its cells in the kernel `cbm`. Prints what the cells wrote, as a JSON list of texts, one per
code cell. Needs requests and tornado.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect


class RefusedError(Exception):
    """The hub said no."""


class Session:
    """A browser's session with the hub.

    `ca` names the file of the authority that signed its certificate.
    """

    def __init__(self, url: str, user: str, ca: str | None = None) -> None:
        self.url, self.user, self.ca = url.rstrip("/") + "/", user, ca
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.verify = ca or True

    def log_in(self, password: str) -> None:
        """Sends the form; raises RefusedError where the hub does not let the user in."""
        self.http.get(f"{self.url}hub/login", timeout=60).raise_for_status()
        form = {"username": self.user, "password": password, "_xsrf": self.xsrf("hub/")}
        said = self.http.post(f"{self.url}hub/login", data=form, allow_redirects=False, timeout=60)
        if said.status_code != 302:
            raise RefusedError(f"{self.user} is not let in: {said.status_code}")
        # The token of whom nobody knew is not good for a user.
        self.http.get(f"{self.url}hub/home", timeout=60).raise_for_status()

    def start_server(self, seconds: float = 180) -> None:
        """Starts the user's server unless it runs, and logs in there."""
        me = f"{self.url}hub/api/users/{self.user}"
        header = {"X-XSRFToken": self.xsrf("hub/")}
        said = self.http.post(f"{me}/server", headers=header, timeout=seconds)
        if said.status_code not in {201, 202, 400}:
            raise RefusedError(f"no server is started: {said.status_code} {said.text}")
        end = time.monotonic() + seconds
        while not self.is_ready(me, header):
            if time.monotonic() > end:
                raise RefusedError(f"the server is not ready after {seconds} seconds")
            time.sleep(0.5)
        self.http.get(f"{self.url}user/{self.user}/lab", timeout=60).raise_for_status()

    def is_ready(self, me: str, header: dict[str, str]) -> bool:
        """Whether the user's server answers."""
        servers = self.http.get(me, headers=header, timeout=60).json()["servers"]
        return bool(servers.get("", {}).get("ready"))

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Asks the user's server; its answer."""
        said = self.http.request(
            method,
            f"{self.url}user/{self.user}/api/{path}",
            headers={"X-XSRFToken": self.xsrf(f"user/{self.user}/")},
            timeout=60,
            **more,
        )
        if not said.ok:
            raise RefusedError(f"{method} {path}: {said.status_code} {said.text}")
        return said.json() if said.content else None

    def xsrf(self, path: str) -> str:
        """The token that the page at this path sends with its requests."""
        wanted = urlsplit(self.url).path + path
        found = [
            one.value for one in self.http.cookies if (one.name, one.path) == ("_xsrf", wanted)
        ]
        return found[0] or "" if found else ""

    async def run(self, notebook: str, kernel: str = "cbm") -> list[str]:
        """Runs the notebook's code cells; what each wrote.

        Raises RuntimeError with the error of one that failed.
        """
        cells = self.ask("GET", f"contents/{notebook}")["content"]["cells"]
        sources = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
        started = self.ask("POST", "kernels", json={"name": kernel})["id"]
        try:
            channel = await self.connect(f"user/{self.user}/api/kernels/{started}/channels")
            return [await execute(channel, source) for source in sources]
        finally:
            self.ask("DELETE", f"kernels/{started}")

    async def connect(self, path: str) -> WebSocketClientConnection:
        """Opens a websocket in this session."""
        url = self.url + path
        prepared = self.http.prepare_request(requests.Request("GET", url))
        request = HTTPRequest(
            "ws" + url.removeprefix("http"),
            headers={"Cookie": prepared.headers.get("Cookie", "")},
            ssl_options=ssl.create_default_context(cafile=self.ca) if url[4] == "s" else None,
        )
        return await websocket_connect(request)


async def execute(channel: WebSocketClientConnection, source: str) -> str:
    """Runs one cell; what it wrote."""
    message = uuid.uuid4().hex
    header = {"msg_id": message, "msg_type": "execute_request", "version": "5.4"}
    content = {"code": source, "silent": False, "allow_stdin": False}
    await channel.write_message(
        json.dumps(
            {
                "header": header | {"session": "test", "username": ""},
                "parent_header": {},
                "metadata": {},
                "content": content,
                "channel": "shell",
            }
        )
    )
    written: list[str] = []
    while True:
        answer = await asyncio.wait_for(channel.read_message(), timeout=300)
        if answer is None:
            raise RuntimeError("the server cut the connection to the kernel")
        if isinstance(answer, bytes):
            continue
        said = json.loads(answer)
        if said["parent_header"].get("msg_id") != message or said["channel"] != "iopub":
            continue
        kind, content = said["msg_type"], said["content"]
        if kind == "stream":
            written.append(content["text"])
        elif kind in {"execute_result", "display_data"}:
            written.append(content["data"].get("text/plain", ""))
        elif kind == "error":
            raise RuntimeError("\n".join(content["traceback"]))
        elif kind == "status" and content["execution_state"] == "idle":
            return "".join(written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the hub's address, as a browser has it")
    parser.add_argument("--user", required=True)
    parser.add_argument("--ca", help="file of the authority that signed the hub's certificate")
    parser.add_argument("notebook", nargs="?", help="without one the user only logs in")
    asked = parser.parse_args()
    session = Session(asked.url, asked.user, asked.ca)
    try:
        session.log_in(sys.stdin.readline().rstrip("\n"))
        outputs = []
        if asked.notebook:
            session.start_server()
            outputs = asyncio.run(session.run(asked.notebook))
    except (RefusedError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    json.dump(outputs, sys.stdout)


if __name__ == "__main__":
    main()

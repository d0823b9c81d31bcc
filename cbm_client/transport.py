"""Requests to the API: login, time limits, patience, and failures as :class:`ApiError`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from cbm_client.errors import ApiError

# To connect: more means that nothing is there.
_CONNECT_SECONDS = 10.0
# What of a piece had come when a connection was cut is lost.
_PIECE = 1 << 16
# Between attempts, where the server does not say how long.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# A proxy says so while the API starts anew; a 502 of the API itself has a code of its own.
PROXYS = ("http_502", "http_504")


class Bearer(AuthBase):
    """A token as a login."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request."""
        request.headers["Authorization"] = self._header
        return request


def login(user: str | None, password: str | None, token: str | None) -> AuthBase:
    """Return the login of a user and a password, or of a token.

    Raises:
        ValueError: Neither or both are given.

    """
    if token and not (user or password):
        return Bearer(token)
    if user and password and not token:
        # As bytes: requests would take texts for Latin-1, the API takes UTF-8.
        return HTTPBasicAuth(user.encode(), password.encode())
    raise ValueError("expected user and password, or a token")


class Transport:
    """Asks one API as one user; not to be shared by threads."""

    def __init__(
        self, url: str, auth: AuthBase, ca: str | Path | None, timeout: float, patience: float
    ) -> None:
        self.url = checked(url)
        self.patience = patience
        self._auth = auth
        # With each request: the session's own setting yields to REQUESTS_CA_BUNDLE.
        self._verify = True if ca is None else str(Path(ca).expanduser().resolve(strict=True))
        self._timeout = (min(timeout, _CONNECT_SECONDS), timeout)
        self._session = requests.Session()
        # A proxy would read a login that is meant to stay on this machine.
        self._session.trust_env = urlsplit(self.url).scheme == "https"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> requests.Response:
        """Return the whole answer to GET.

        Raises:
            ApiError: The API refuses, or does not answer.

        """
        return self._patiently("GET", path, query)

    def post(
        self, path: str, body: Mapping[str, Any], query: Mapping[str, Any]
    ) -> requests.Response:
        """Return the answer to POST; its body is read by :meth:`pieces`.

        Raises:
            ApiError: The API refuses, or does not answer.

        """
        return self._patiently("POST", path, query, json=body, stream=True)

    def delete(self, path: str) -> None:
        """Send DELETE.

        Raises:
            ApiError: The API refuses, or does not answer.

        """
        self._patiently("DELETE", path, None)

    def download(self, path: str, start: int) -> requests.Response:
        """Return the answer to GET from a byte on; its body is read by :meth:`pieces`.

        Raises:
            ApiError: The API refuses, or does not answer.

        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        return self._patiently("GET", path, None, headers=headers, stream=True)

    def pieces(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the body of an answer.

        Raises:
            ApiError: ``cut_off``, ``timed_out``: it did not come whole.

        """
        with response, self._translated(begun=True):
            yield from response.iter_content(_PIECE)

    def _patiently(
        self, method: str, path: str, query: Mapping[str, Any] | None, **given: Any
    ) -> requests.Response:
        """Ask, and where the server asks to wait do so, as long as patience lasts."""
        left = self.patience
        for attempt in count():
            with self._translated():
                response = self._session.request(
                    method, f"{self.url}{path}", params=query, auth=self._auth,
                    verify=self._verify, timeout=self._timeout, allow_redirects=False, **given,
                )  # fmt: skip
                if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                    return response
                with response:
                    error = _refusal(response)
            pause = min(_SHORTEST_PAUSE * 2**attempt, _LONGEST_PAUSE)
            pause = max(error.retry_after or pause, _SHORTEST_PAUSE)
            if not _passes(method, error) or pause > left:
                raise error
            time.sleep(pause)
            left -= pause
        raise AssertionError

    @contextmanager
    def _translated(self, *, begun: bool = False) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError:
            raise ApiError(
                "tls_failed", f"No trusted connection to {self.url} could be made."
            ) from None
        except requests.Timeout:
            raise ApiError(
                "timed_out", f"{self.url} did not answer within {self._timeout[1]:g} s."
            ) from None
        except requests.exceptions.ChunkedEncodingError:
            raise ApiError("cut_off", "The answer ended before it was whole.") from None
        except requests.ConnectionError:
            if begun:
                raise ApiError("cut_off", "The answer ended before it was whole.") from None
            raise ApiError("unreachable", f"{self.url} cannot be reached.") from None


def checked(url: str) -> str:
    """Return an API's address without a slash at its end.

    Raises:
        ValueError: It is no address, holds a login, or would send the login readable by all.

    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("the address holds a login; give it as user and password")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"expected an address like https://cbm.example, found {url!r}")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise ValueError(f"the login would be sent readable by all; use https instead of {url!r}")
    return url.rstrip("/").removesuffix("/v1")


def segment(text: str) -> str:
    """Return an id as one part of a path.

    Raises:
        ValueError: It is empty, or one of the two that every library takes for folders.

    """
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no id that can be asked for")
    return quote(text, safe="")


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _passes(method: str, error: ApiError) -> bool:
    """Whether waiting helps; asking again with a wrong password only makes it worse."""
    if error.code in PROXYS:
        # What else was asked for may have been done.
        return method == "GET"
    return error.code != "locked_out" and error.status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _refusal(response: requests.Response) -> ApiError:
    status = response.status_code
    facts: dict[str, Any] = {
        "status": status,
        "request_id": response.headers.get("X-Request-Id"),
        "retry_after": _seconds(response.headers.get("Retry-After")),
    }
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        with suppress(ValueError, KeyError, TypeError):
            problem = response.json()
            facts["request_id"] = problem.get("request_id") or facts["request_id"]
            facts["cursor"] = problem.get("cursor")
            return ApiError(problem["code"], problem["detail"], **facts)
    if status < HTTPStatus.BAD_REQUEST:
        where = response.headers.get("Location", "nowhere")
        return ApiError("redirected", f"The server sends on to {where}.", **facts)
    # Not the API's: a proxy's page, say.
    return ApiError(f"http_{status}", f"The server answers {status} {response.reason}.", **facts)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None

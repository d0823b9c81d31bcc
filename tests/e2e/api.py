"""Questions to a deployed API."""

import base64
import json
import tomllib
import urllib.error
import urllib.request
from typing import Any

from tests.e2e.deployment import Deployment


def settings_of(deployment: Deployment) -> dict[str, Any]:
    return tomllib.loads((deployment.root / "etc/api.toml").read_text("utf-8"))


def ask(deployment: Deployment, path: str, login: str | None = None) -> tuple[int, Any]:
    """Status and document of an answer; login is user:password."""
    request = urllib.request.Request(f"http://{settings_of(deployment)['api']['listen']}{path}")
    if login is not None:
        token = base64.b64encode(login.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)

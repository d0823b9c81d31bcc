"""What the service did, counted for Prometheus; all workers together.

Labels name routes, never parcels or users.
"""

from __future__ import annotations

import os
import time

from flask import Flask, Response, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from cbm_api.context import when_sent
from cbm_core import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)

_requests = Counter("cbm_api_requests", "Requests answered.", ["method", "route", "status"])
_seconds = Histogram(
    "cbm_api_request_seconds",
    "Seconds from a request to the beginning of its answer.",
    ["route"],
    buckets=_BUCKETS,
)
_in_work = Gauge(
    "cbm_api_requests_in_work",
    "Requests being answered, streams included.",
    multiprocess_mode="livesum",
)
_release = Gauge(
    "cbm_api_release", "1 for the running release.", ["version"], multiprocess_mode="livemax"
)


def install(app: Flask) -> None:
    """Count every request."""
    _release.labels(__version__).set(1)
    app.before_request(_start)
    app.after_request(_count)


def exposition() -> bytes:
    """Return all figures in Prometheus' text format."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _start() -> None:
    g.started = time.perf_counter()
    _in_work.inc()


def _count(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in _METHODS else "other"
    _requests.labels(method, route, str(response.status_code)).inc()
    _seconds.labels(route).observe(time.perf_counter() - g.started)
    when_sent(response, _in_work.dec)
    return response

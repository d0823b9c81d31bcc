"""The process that works on jobs: ``python -m cbm_api.jobs``, one or more on hosts of the API."""

import logging
import signal
import threading

from cbm_api.jobs.worker import work
from cbm_core import settings


def main() -> None:
    """Work until the process is told to end (SIGTERM, SIGINT)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work(settings.load(), stop)


if __name__ == "__main__":
    main()

"""Jobs: requests of so many parcels that the API answers with a file, later."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from cbm_client.asking import Asking
from cbm_client.errors import ApiError
from cbm_client.transport import PROXYS, Transport, segment

# How often a job's state is asked for: soon at first, for small ones.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# A connection that comes back within this does not end the wait.
_OUTAGE_SECONDS = 300.0
# A download that is cut so often in a row without a new byte is given up.
_MOST_CUTS = 3
_OUTAGES = ("unreachable", "timed_out", "cut_off", *PROXYS)


class Job:
    """A job of the user: its state as last asked for, its file, its end."""

    def __init__(self, transport: Transport, facts: dict[str, Any]) -> None:
        self._transport = transport
        self.facts = facts

    def __repr__(self) -> str:
        done, whole = self.facts["parcels_done"], self.facts["parcels"]
        # How many there are is counted when the work begins.
        of = "" if whole is None else f", {done:,} of {whole:,} parcels"
        return f"Job {self.id}: {self.state}{of}"

    @property
    def id(self) -> str:
        """The job's id; ``Client.job`` finds it again, in another session, too."""
        return str(self.facts["id"])

    @property
    def state(self) -> str:
        """``pending``, ``running``, ``done`` or ``failed``."""
        return str(self.facts["state"])

    def refresh(self) -> None:
        """Ask for the state.

        Raises:
            ApiError: ``job_unknown``: it was deleted, has expired, or is another user's.

        """
        self.facts = self._transport.get(self._path).json()

    def wait(
        self, progress: Callable[[Job], object] | None = None, seconds: float | None = None
    ) -> None:
        """Return when the job is done.

        Args:
            progress: Called with the job each time its state was asked for; ``print`` will do.
            seconds: How long to wait at most; None: until it is done. The job goes on.

        Raises:
            ApiError: The job failed (``disk_full``, ...), is gone (``job_unknown``), or the API
                was out of reach for five minutes.
            TimeoutError: It is not done yet.

        """
        start = heard = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            try:
                self.refresh()
                heard = time.monotonic()
            except ApiError as error:
                passing = error.code in _OUTAGES or error.status == HTTPStatus.SERVICE_UNAVAILABLE
                if not passing or time.monotonic() - heard > _OUTAGE_SECONDS:
                    raise
            if progress:
                progress(self)
            if self.state == "failed":
                raise ApiError(self.facts["error_code"], self.facts["error"])
            if self.state == "done":
                return
            if seconds is not None and time.monotonic() - start + pause > seconds:
                raise TimeoutError(f"{self!r}; Client.job({self.id!r}) finds it again")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def download(self, path: str | Path) -> Path:
        """Write the file (Parquet, the columns of ``Client.signatures``), and return its path.

        A connection that is cut goes on where it was. The file has its name when it is whole.

        Raises:
            ApiError: ``not_found``: the job is not done; ``job_unknown``; ``cut_off``.

        """
        if self.state != "done":
            self.refresh()
        target = Path(path)
        half = target.with_name(f"{target.name}.part")
        size: int = self.facts["bytes"] or 0
        cuts = 0
        try:
            with half.open("wb") as file:
                while not file.tell() or file.tell() < size:
                    before = file.tell()
                    try:
                        self._fetch(file)
                    except ApiError as error:
                        cuts = 1 if file.tell() > before else cuts + 1
                        if error.code != "cut_off" or cuts >= _MOST_CUTS:
                            raise
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
        return target

    def delete(self) -> None:
        """End the job, and delete its file.

        Raises:
            ApiError: ``job_unknown``.

        """
        self._transport.delete(self._path)

    def _fetch(self, file: BinaryIO) -> None:
        """Write what is missing of the file."""
        answer = self._transport.download(f"{self._path}/result", file.tell())
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            file.seek(0)
            file.truncate()
        for piece in self._transport.pieces(answer):
            file.write(piece)

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{segment(self.id)}"


class Jobs(Asking):
    """The part of the client that finds jobs."""

    def jobs(self) -> list[Job]:
        """Return the user's jobs, the newest first.

        Raises:
            ApiError: ``login_failed`` and the like.

        """
        return [Job(self._transport, one) for one in self._json("/v1/jobs")["jobs"]]

    def job(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            ApiError: ``job_unknown``, ``bad_parameter``.

        """
        return Job(self._transport, self._json(f"/v1/jobs/{segment(job_id)}"))

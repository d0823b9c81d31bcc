"""Jobs: their state, their files, their end."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, current_app, send_file, url_for
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api.context import log_read, reading
from cbm_api.jobs.files import file_of
from cbm_api.parameters import Parameters
from cbm_api.queries import jobs
from cbm_api.routes.ogc import NoParameters
from cbm_api.series.formats import CONTENT_TYPES
from cbm_core.errors import CbmError

api = APIBlueprint(
    "jobs",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs", description="Requests that are answered with a file, later")],
)
_FILE: dict[Any, Any] = {
    200: {
        "description": "The series as Parquet, a row group per some parcels.",
        "content": {CONTENT_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "The part that the header Range names.",
        "content": {CONTENT_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The file is as the client has it."},
}


class JobPath(Parameters):
    """One job."""

    job_id: UUID = Field(description="The job's id.")


class JobStatus(BaseModel):
    """What there is to know about a job."""

    id: str
    collection: str
    state: str = Field(description="pending, running, done or failed.")
    parcels: int | None = Field(description="Counted when the work on it begins.")
    parcels_done: int
    rows: int
    bytes: int | None = Field(description="Size of the file.")
    error_code: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When job and file are deleted.")
    result: str | None = Field(description="Where the file is, once it is there.")

    @classmethod
    def of(cls, job: jobs.Job) -> JobStatus:
        """Return a job's status."""
        facts = {name: value for name, value in vars(job).items() if name != "request"}
        result = url_for("jobs.result", job_id=job.id) if job.state == "done" else None
        return cls(**facts, result=result)


class JobList(BaseModel):
    """Jobs."""

    jobs: list[JobStatus]


@api.get("", responses={200: JobList}, summary="The user's jobs")
def listed(query: NoParameters) -> dict[str, Any]:
    """List the jobs of the user who asks, the newest first."""
    with reading() as cursor:
        found = jobs.listed(cursor)
    return JobList(jobs=[JobStatus.of(job) for job in found]).model_dump(mode="json")


@api.get("/<job_id>", responses={200: JobStatus}, summary="A job's state")
def status(path: JobPath, query: NoParameters) -> dict[str, Any]:
    """Say how far a job is."""
    with reading() as cursor:
        return JobStatus.of(jobs.get(cursor, path.job_id)).model_dump(mode="json")


@api.get("/<job_id>/result", responses=_FILE, summary="A job's file")
def result(path: JobPath, query: NoParameters) -> Response:
    """Send a job's file."""
    with reading() as cursor:
        job = jobs.get(cursor, path.job_id)
        file = file_of(current_app.extensions["cbm_settings"], job.id)
        if job.state != "done" or job.parcels is None or not file.is_file():
            raise CbmError(
                "not_found",
                f"The job is {job.state}; its file is not there.",
                "Ask for the job's state until it is done.",
            )
        log_read(cursor, job.collection, job.parcels)
    return send_file(
        file,
        mimetype=CONTENT_TYPES["parquet"],
        as_attachment=True,
        download_name=f"{job.collection}_{job.id[:8]}.parquet",
    )


@api.delete("/<job_id>", responses={204: None}, summary="Delete a job and its file")
def delete(path: JobPath, query: NoParameters) -> tuple[str, int]:
    """Forget a job, whatever its state."""
    with reading() as cursor:
        jobs.delete(cursor, path.job_id)
    # What stays here is taken away by the process that works on jobs.
    with suppress(OSError):
        file_of(current_app.extensions["cbm_settings"], str(path.job_id)).unlink(missing_ok=True)
    return "", 204

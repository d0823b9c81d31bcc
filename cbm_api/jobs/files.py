"""Where the files of jobs are: in one folder, which all hosts of the API share."""

from __future__ import annotations

from pathlib import Path

from cbm_core.settings import Settings

SUFFIX = ".parquet"


def folder(settings: Settings) -> Path:
    """Return the folder of jobs' files."""
    return Path(settings.api.jobs_folder)


def file_of(settings: Settings, job: str) -> Path:
    """Return the file of a job, there or not."""
    return folder(settings) / f"{job}{SUFFIX}"

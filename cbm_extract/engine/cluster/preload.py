"""Loaded by every ``dask worker`` (``distributed.worker.preload`` in dask.yaml)."""

from __future__ import annotations

from typing import Any

from cbm_extract.engine.cluster import tasks


def dask_setup(_worker: Any) -> None:
    """Load the libraries of the work before the first scene comes."""
    from cbm_extract.engine import worker  # noqa: F401


async def dask_teardown(_worker: Any) -> None:
    """Give scenes in hand back when the worker is told to stop, or has lost its scheduler."""
    import asyncio

    await asyncio.get_running_loop().run_in_executor(None, tasks.give_back)

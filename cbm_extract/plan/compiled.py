"""How the numeric kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def kernel(function: FunctionT) -> FunctionT:
    """Compile for the types it is first called with; the GIL is released while it runs.

    Machine code is kept on disk beside the source or in the user's cache folder. Where neither can
    be written (a service without a home) it is compiled anew in each process. A cached kernel does
    not notice that a kernel in *another* file changed, so kernels call only those of their own file.
    """
    return _compiled(function)


def inlined(function: FunctionT) -> FunctionT:
    """Like ``kernel``, for parts of a kernel that run once per run of pixels or per pixel.

    Each array handed over costs seven arguments: a call can take longer than the work.
    """
    return _compiled(function, forceinline=True)


def _compiled(function: FunctionT, **options: bool) -> FunctionT:
    options |= {"nogil": True, "error_model": "numpy"}  # type: ignore[dict-item]
    try:
        return njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba: "no locator available"
        return njit(**options)(function)  # type: ignore[no-any-return]

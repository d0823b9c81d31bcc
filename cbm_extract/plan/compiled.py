"""How the numeric kernels are compiled.

Kernels are written without type annotations: numba derives their types from the first call, and
they serve several. Modules that hold kernels switch the checks for annotations off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Any:
    """Compile for the types it is first called with; the GIL is released while it runs.

    Machine code is kept on disk beside the source or in the user's cache folder. Where neither can
    be written (a service without a home) it is compiled anew in each process. A cached kernel does
    not notice that a kernel in another file changed: kernels call only those of their own file.
    """
    return _compiled(function, inline=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Like ``kernel``, for parts of a kernel that run once per run of pixels or per pixel.

    Each array handed over costs seven arguments: a call can take longer than the work.
    """
    return _compiled(function, inline=True)


def _compiled(function: Callable[..., Any], inline: bool) -> Any:
    try:
        return njit(nogil=True, error_model="numpy", forceinline=inline, cache=True)(function)
    except RuntimeError:  # numba: "no locator available"
        return njit(nogil=True, error_model="numpy", forceinline=inline)(function)

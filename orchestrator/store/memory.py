"""Memory of a process that builds very many small objects: what the C library and the collector do about it.

Rules of this file
- A batch of 500 inputs builds some megabytes of short-lived bytes. glibc returns the top of its heap when more than
  128 KiB of it are free, and asks for it again a moment later: measured, thirteen times the page faults, and twice the
  time for building a batch. Elsewhere (macOS, musl, Windows) `keep_freed_memory` does nothing.
- States and records are many and free of cycles: a full pass of the garbage collector over them would stop the process
  for most of a second and find nothing. Left to its defaults it takes half the time of a rebuild, measured.
"""

from __future__ import annotations

import ctypes
import gc
from functools import cache

KEPT_BYTES_MAX = 64 * 1024 * 1024
MMAP_BYTES_MIN = 32 * 1024 * 1024  # glibc's own upper bound

# Generations of the garbage collector. A full pass is made (nearly) never. The young pass comes where objects pile up:
# with a low threshold in the middle of every batch, over all its temporaries (a tenth of the time, measured).
GC_THRESHOLDS = (500_000, 4, 1_000)

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@cache
def keep_freed_memory() -> bool:
    """Lets the process keep up to 64 MiB that it has freed. True where the C library understood."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    kept: int = mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
    mapped: int = mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES_MIN)
    return kept == mapped == 1


def collect_rarely() -> None:
    """Takes what there is now for lasting, and looks for garbage in cycles seldom from here on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

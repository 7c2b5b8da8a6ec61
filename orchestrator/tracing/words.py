"""Names of low cardinality for span names."""

from __future__ import annotations

import re
from functools import lru_cache

_INDEX = re.compile(r"\[[^\]]*\]")


@lru_cache(maxsize=4_096)
def low(activity: str) -> str:
    """What an activity is called in its definition: `lines[3]/reserve` is `reserve`, whichever line it is for."""
    return _INDEX.sub("", activity).rpartition("/")[2]

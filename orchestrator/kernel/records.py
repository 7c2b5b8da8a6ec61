"""Records: what happened in a saga, in its own words. A record is (type, activity, data).

Rules of this file
- A record holds everything that `evolve` needs, so a state can be folded with no saga code installed.
- A record that moves control names the token that it consumes (`takes`) and those that it makes (`gives`).
- Outbox rows, timers, waits and tasks are functions of records and state (`effects.py`), never a second list.
"""

from __future__ import annotations

from typing import Any

from orchestrator.messages.value import value


@value
class Record:
    """One line of a stream, before the store adds version, actor, causation, trace, time and hashes."""

    type: str
    activity: str
    data: dict[str, Any]


class FoldError(ValueError):
    """A record does not fit the state it is folded into: the stream is broken, or the kernel has a bug."""

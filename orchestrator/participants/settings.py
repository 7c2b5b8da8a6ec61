"""Every limit and time of a participant's loop, with its unit in the name. Plain data: reading the environment is the
runtime's business."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class ParticipantSettings:
    """Limits and times. Durations are milliseconds unless the name says otherwise.

    batch_messages: commands taken into one transaction at most. fetch_wait_ms: how long an empty fetch waits.
    outside_at_once: handlers that call the outside, or only read, running side by side in one process.
    unanswered_max: messages read and not yet answered; beyond it the participant stops reading.
    reply_bytes_max: the largest reply body; a larger one fails its handler before anything is committed.
    statement_timeout_ms, lock_timeout_ms, idle_transaction_ms: set in every transaction; the last ends a handler that
    sleeps with its transaction open.
    retry_ms, retry_ms_max: pause after database or broker could not be reached; doubles up to the second.
    positions_ms: how often progress is written while no batch carries it along.
    inbox_keep_days: settled keys older than this are forgotten. Longer than the longest saga plus the time in which a
    dead letter may be driven again, or a very late duplicate acts a second time. 0 keeps all.
    """

    batch_messages: int = 500
    fetch_wait_ms: int = 50
    outside_at_once: int = 64
    unanswered_max: int = 10_000
    reply_bytes_max: int = 900_000
    statement_timeout_ms: int = 15_000
    lock_timeout_ms: int = 5_000
    idle_transaction_ms: int = 15_000
    retry_ms: int = 100
    retry_ms_max: int = 5_000
    positions_ms: int = 500
    inbox_keep_days: int = 400
    forget_every_ms: int = 60_000
    forget_rows: int = 5_000

    def __post_init__(self) -> None:
        """Refuse values that could not work. Raises ValueError naming the setting."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value < (0 if item.name == "inbox_keep_days" else 1):
                raise ValueError(f"participant setting {item.name} is {value}; it must be a positive whole number")

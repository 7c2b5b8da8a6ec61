"""The port of notices: one message to one recipient, and what carries it.

Rules of this file
- A notice has an id that never changes: sent again after a crash or by an operator, it is the same one, and a receiver
  that remembers ids takes it once (Message-ID, webhook-id, CloudEvents id).
- A notice carries no power. Its link opens a page that only shows; who decides must sign in there and say so.
- What cannot be sent says whether trying again may help, and whether it is this notice or the whole channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Channel = Literal["mail", "webhook", "event"]
CHANNELS: tuple[Channel, ...] = ("mail", "webhook", "event")

# What happened, in the words of receivers; "digest" holds several of the others.
Kind = Literal["opened", "delegated", "reassigned", "amended", "reminded", "escalated", "decided", "expired", "digest"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One message, ready to go.

    id: stable and unique. who: "person:maria", "role:manager", or "system" for what is told to other systems. address:
    where this channel reaches them. facts: the same for machines, plain JSON. planned_at: microseconds.
    """

    id: str
    tenant: str
    kind: Kind
    who: str
    address: str
    subject: str
    text: str
    html: str
    planned_at: int
    facts: Mapping[str, Any] = field(default_factory=dict)


class NotSentError(Exception):
    """A notice was not sent, or nobody knows. `retriable`: trying again may help. `channel_down`: it is not about this
    notice; others on the channel would fare no better now."""

    def __init__(self, reason: str, *, retriable: bool, channel_down: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retriable, self.channel_down = reason, retriable, channel_down


class Notifier(Protocol):
    """One channel. `send` may be called by several tasks at once."""

    async def send(self, notice: Notice) -> None:
        """Hands the notice over; returns when the other side has taken it. Raises NotSentError."""

    async def rest(self) -> None:
        """Nothing more for now: connections may be closed. They are opened again when needed."""

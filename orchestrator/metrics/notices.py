"""What a sender of notices does, counted by channel: mail, webhook, event. Never by recipient, saga or text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from orchestrator.metrics import names
from orchestrator.metrics.figures import Figures, Reading
from orchestrator.notices.contract import Channel

OUTCOMES = ("sent", "failed", "retried", "skipped")


class NoticeFigures:
    """Counts for one sender. `away`: the channels that cannot be reached now."""

    def __init__(self, figures: Figures, away: Callable[[], Collection[Channel]]) -> None:
        self._settled = figures.counter(names.NOTICES_SETTLED)
        self._took = figures.histogram(names.NOTICE_DURATION)
        self._waited = figures.histogram(names.NOTICE_WAIT)
        self._away, self._channels = away, list[Channel]()
        figures.watch(self._readings)

    def begin(self, channel: Channel) -> None:
        """A channel that is there: its series begin at 0, so that nobody misses the first failure of a day."""
        self._channels.append(channel)
        for outcome in OUTCOMES:
            self._settled.add((channel, outcome), 0)

    def settled(self, channel: Channel, outcome: str, waited_seconds: float) -> None:
        """See orchestrator.notices.sender.Watching."""
        self._settled.add((channel, outcome))
        if outcome == "sent":
            self._waited.observe((channel,), waited_seconds)

    def tried(self, channel: Channel, error: str, seconds: float) -> None:
        """See orchestrator.notices.sender.Watching."""
        self._took.observe((channel, error), seconds)

    def _readings(self) -> Iterator[Reading]:
        away = self._away()
        for channel in self._channels:
            yield names.CHANNEL_AWAY, (channel,), int(channel in away)

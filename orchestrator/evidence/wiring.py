"""Evidence in a running process: the check at its start, the loop that seals, and one loop for each place.

Rules of this file
- Evidence never holds up sagas: a place or a database that is away is waited for here, by these loops alone. They beat
  on, and say what is wrong in their detail.
- What no waiting mends (EvidenceError) ends the process. The start says what is missing, and refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from orchestrator.broker.contract import Broker
from orchestrator.evidence.errors import PlaceAwayError
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.places import FilePlace, Place, TopicPlace, UrlPlace
from orchestrator.evidence.publishing import Publisher
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.settings import EvidenceSettings
from orchestrator.evidence.starting import check_start
from orchestrator.keyfiles import KeyFileError
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from orchestrator.store.postgres import PostgresStore

PAUSE_MS_MAX = 60_000
PUBLISH_MS_MAX = 1_000

Loop = Callable[[Stopping, Pulse], Awaitable[None]]

log = structlog.get_logger("orchestrator.evidence")


class LogEvidence:
    """What a process does for evidence. `ring` None: nothing is configured, nothing is done.

    Raises KeyFileError where the configured key cannot be used.
    """

    def __init__(self, settings: EvidenceSettings, store: PostgresStore, broker: Broker, *, holder: str) -> None:
        self.ring: KeyRing | None = settings.evidence_ring()
        self.evidence = Evidence(store.pools, "work")
        self.sealer: Sealer | None = None
        self.places: list[Place] = []
        self._publishers: list[Publisher] = []
        self._settings = settings
        if self.ring is None:
            return
        self.places = places(settings, broker)
        if self.ring.signer is not None and settings.evidence_seal_ms:
            self.sealer = Sealer(store, self.ring, records_max=settings.evidence_records_max)
            lease_ms = 3 * max(settings.evidence_seal_ms, PUBLISH_MS_MAX)
            self._publishers = [
                Publisher(
                    store.pools, place, self.ring.verifiers, holder=holder, lease_ms=lease_ms,
                    attempt_ms=settings.evidence_attempt_ms,
                )
                for place in self.places
            ]  # fmt: skip

    async def check_start(self) -> None:
        """See `starting.check_start`."""
        keys = self.ring.verifiers if self.ring else ()
        await check_start(self.evidence, self.places, keys, attempt_ms=self._settings.evidence_attempt_ms)

    def loops(self) -> Iterator[tuple[str, Loop]]:
        """The loops of a coordinator: name and how it runs."""
        if self.sealer is not None:
            yield "log-seal", self._seal
            for publisher in self._publishers:
                yield f"log-publish-{publisher.place.name}", _publishing(publisher, self._pause_ms)

    @property
    def longest_ms(self) -> int:
        """How long a round may take that is not stuck."""
        return max(self._settings.evidence_seal_ms, PAUSE_MS_MAX) + 2 * self._settings.evidence_attempt_ms

    def facts(self) -> dict[str, int]:
        """Sizes and counts, for pages and metrics."""
        if self.sealer is None:
            return {}
        latest = self.sealer.latest
        number = latest.number if latest else 0
        return {
            "log_size": latest.size if latest else 0,
            "log_checkpoint": number,
            "log_checkpoints_signed": self.sealer.signed,
            "log_places_in_trouble": sum(bool(one.trouble) for one in self._publishers),
            "log_checkpoints_unpublished": max(
                (max(0, number - one.published) for one in self._publishers if one.published or one.trouble), default=0
            ),
        }

    async def close(self) -> None:
        """Gives the places back."""
        for publisher in self._publishers:
            try:
                await publisher.close()
            except StoreError as error:
                log.debug("a lease runs out by itself", place=publisher.place.name, reason=str(error))
        for place in self.places:
            await place.close()

    @property
    def _pause_ms(self) -> int:
        return min(self._settings.evidence_seal_ms, PUBLISH_MS_MAX)

    async def _seal(self, stopping: Stopping, pulse: Pulse) -> None:
        assert self.sealer is not None
        while not stopping:
            before = self.sealer.latest
            try:
                made = await self.sealer.seal()
            except StoreError as error:
                if not error.retriable:
                    raise
                _trouble(pulse, str(error))
                made = None
            else:
                pulse.beat()
            more = (
                made is not None and made.size - (before.size if before else 0) >= self._settings.evidence_records_max
            )
            await stopping.sleep(0 if more else self._settings.evidence_seal_ms)


def _publishing(publisher: Publisher, pause_ms: int) -> Loop:
    """The loop of one place: at once while there is more, rarely while it is away."""

    async def run(stopping: Stopping, pulse: Pulse) -> None:
        failed = 0
        while not stopping:
            went = 0
            try:
                went = await publisher.publish()
                failed = 0
                pulse.beat()
            except PlaceAwayError as error:
                failed += 1
                if failed == 1:
                    log.warning("checkpoints are not published", place=publisher.place.name, reason=str(error))
                _trouble(pulse, str(error))
            except StoreError as error:
                if not error.retriable:
                    raise
                _trouble(pulse, str(error))
            await stopping.sleep(0 if went else min(pause_ms << min(failed, 16), PAUSE_MS_MAX))
        await _last_words(publisher)

    return run


async def _last_words(publisher: Publisher) -> None:
    """What was signed while stopping still goes out, where that is quickly done."""
    try:
        await publisher.publish()
    except (PlaceAwayError, StoreError) as error:
        log.info("the last checkpoints wait for the next start", place=publisher.place.name, reason=str(error))


def _trouble(pulse: Pulse, detail: str) -> None:
    """The loop is alive and ready: sagas do not depend on it. What is wrong stands beside it."""
    pulse.beat()
    pulse.detail = detail


def places(settings: EvidenceSettings, broker: Broker) -> list[Place]:
    """The places that settings name."""
    found: list[Place] = []
    if settings.evidence_file:
        found.append(FilePlace(Path(settings.evidence_file)))
    if settings.evidence_topic:
        found.append(TopicPlace(broker, settings.evidence_topic))
    if settings.evidence_url:
        found.append(UrlPlace(settings.evidence_url, settings.evidence_token, settings.evidence_attempt_ms))
    return found


__all__ = ["KeyFileError", "LogEvidence", "places"]

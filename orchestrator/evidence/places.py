"""Where checkpoints go: a file, a topic of the broker, an HTTP endpoint. Each can be read back.

Rules of this file
- A place is worth something where the database's owner cannot write. Nothing here believes what a place holds: the last
  checkpoint in it is the last one that a trusted key signed, however much of something else lies behind it.
- Whoever may write to a place can write old checkpoints again behind the last one, so that an older database looks new.
  So samples are taken from farther back, each eight times as far: where more lies between a sample and the end than the
  checkpoints between them take, everything in between is read.
- Publishing twice does no harm. Publishing fails as a whole (PlaceAwayError) and is then done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import httpx2

from orchestrator.broker.contract import (
    Assignment,
    Broker,
    BrokerError,
    OutgoingMessage,
    PositionSource,
    TopicSpec,
)
from orchestrator.evidence.errors import PlaceAwayError
from orchestrator.evidence.notes import NoteError, SignedCheckpoint, Verifier, notes_in, open_checkpoint

TAIL_BYTES = 256 * 1024
TAIL_MESSAGES = 200
NOTE_BYTES_MAX = 64 * 1024
SAMPLE_BYTES, SAMPLE_MESSAGES, FARTHER = 4 * 1024, 10, 8
FETCH_MS = 500
TRIES = 60
FOR_EVER_MS = 3_153_600_000_000  # a hundred years
CONTENT_TYPE = "text/plain; charset=utf-8"

Result = TypeVar("Result")


class Place(Protocol):
    """Somewhere that keeps checkpoints. `name`: for people and tables."""

    name: str

    async def last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        """The last checkpoint there that one of these keys signed; None where there is none. Raises PlaceAwayError."""

    async def publish(self, notes: Sequence[str]) -> None:
        """Adds notes behind what is there; durable when it returns. Raises PlaceAwayError."""

    async def close(self) -> None:
        """Gives connections back."""


def latest(notes: Iterable[str], keys: Sequence[Verifier]) -> SignedCheckpoint | None:
    """Of these notes, oldest first, the one of the newest key with the highest number.

    A key that was retired can sign what it likes: beside a checkpoint of a newer one it counts for nothing.
    """
    found: SignedCheckpoint | None = None
    for note in notes:
        try:
            opened = open_checkpoint(note, keys)
        except NoteError:
            continue
        if found is None or not is_newer(found, opened, keys):
            found = opened
    return found


def is_newer(one: SignedCheckpoint, other: SignedCheckpoint | None, keys: Sequence[Verifier]) -> bool:
    """Was it signed after the other? `keys`: newest first."""
    if other is None:
        return True
    return (-keys.index(one.by), one.checkpoint.number) > (-keys.index(other.by), other.checkpoint.number)


def may_hide(
    found: SignedCheckpoint | None,
    older: SignedCheckpoint | None,
    keys: Sequence[Verifier],
    *,
    back: int,
    nearer: int,
    each: int,
    is_all: bool,
) -> bool:
    """Could something newer than `found`, the last one at the end, lie between there and a sample from farther back?

    `older`: the last one in the sample, `back` from the end; `nearer`: how far the sample before it lay;
    `each`: what a checkpoint takes, all in one measure. Whoever hides the newest ones has written at least `nearer`
    behind them. `is_all`: there is nothing before the sample.
    """
    if found is None:
        return older is not None or is_all
    if older is None:
        return is_all
    between = (found.checkpoint.number - older.checkpoint.number) * each
    return is_newer(older, found, keys) or back - between >= nearer // 2


class FilePlace:
    """A file that grows: every checkpoint behind the last one, an empty line between them.

    Its disk may be a network's and hang: at most one thread of its own waits for it, and nobody waits for that thread.
    Those of the event loop look up names for everybody else, and would soon all hang as well.
    """

    def __init__(self, path: Path) -> None:
        self.name = "file"
        self.path = path
        self._busy = threading.Lock()

    async def last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        """See `Place`. Reads only the end of the file where a checkpoint is there."""
        return await self._apart(lambda: self._last(keys))

    async def publish(self, notes: Sequence[str]) -> None:
        """See `Place`. Several processes may write the same file."""
        await self._apart(lambda: self._append(notes))

    async def close(self) -> None:
        """See `Place`."""

    async def _apart(self, work: Callable[[], Result]) -> Result:
        """Works in a thread that the end of the process does not wait for."""
        if not self._busy.acquire(blocking=False):
            raise PlaceAwayError(f"{self.path}: an earlier attempt hangs still")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def tell(outcome: Result | Exception) -> None:
            if done.done():
                return
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

        def run() -> None:
            outcome: Result | Exception
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            finally:
                self._busy.release()
            with contextlib.suppress(RuntimeError):  # the process has ended meanwhile
                loop.call_soon_threadsafe(tell, outcome)

        threading.Thread(target=run, daemon=True, name="checkpoint-file").start()
        return await done

    def _last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        tail, is_all = self._tail(TAIL_BYTES)
        found, nearer = latest(notes_in(tail), keys), TAIL_BYTES
        while not is_all:
            back = nearer * FARTHER
            sample, is_all = self._tail(back, SAMPLE_BYTES)
            older, each = latest(notes_in(sample), keys), len(found.note.encode()) + 1 if found else 1
            distance = min(back, self._size()) - len(sample.encode())
            if may_hide(found, older, keys, back=distance, nearer=nearer, each=each, is_all=is_all):
                found = latest(notes_in(self._tail(back)[0]), keys)
            nearer = back
        return found

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise PlaceAwayError(f"{self.path}: {error}") from error

    def _tail(self, most: int = TAIL_BYTES, count: int = -1) -> tuple[str, bool]:
        """The end of the file, or `count` bytes where it begins; and whether that is all of the file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most))
                return file.read(count).decode("utf-8", "replace"), size <= most
        except FileNotFoundError:
            return "", True
        except OSError as error:
            raise PlaceAwayError(f"{self.path}: {error}") from error

    def _append(self, notes: Sequence[str]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever has it may be frozen: later again
                end, _ = self._tail()
                # Behind a line that a crash cut off begins a new one; what is there is never changed.
                start = "" if not end or end.endswith("\n\n") else "\n\n"
                file.write((start + "".join(f"{note}\n" for note in notes if note not in end)).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PlaceAwayError(f"{self.path}: {error}") from error


class TopicPlace:
    """A topic of the broker with one partition, whose messages are kept for as long as the broker can."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.name = "topic"
        self.topic = topic
        self._broker = broker
        self._producer = broker.producer("log-checkpoints")
        self._started = False

    async def last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        """See `Place`. Reads the last messages of the topic, in a group of its own that nobody shares."""
        try:
            await self._broker.ensure_topics([self._spec()])
            first, end = await self._ends()
            found = latest(await self._read(max(first, end - TAIL_MESSAGES), end), keys) if end > first else None
            nearer = TAIL_MESSAGES
            while end - nearer > first:
                back, start = nearer * FARTHER, max(first, end - nearer * FARTHER)
                older = latest(await self._read(start, min(start + SAMPLE_MESSAGES, end)), keys)
                distance = end - start - SAMPLE_MESSAGES
                if may_hide(found, older, keys, back=distance, nearer=nearer, each=1, is_all=start == first):
                    found = latest(await self._read(start, end), keys)
                nearer = back
            return found
        except BrokerError as error:
            raise PlaceAwayError(f"topic {self.topic}: {error}") from error

    async def publish(self, notes: Sequence[str]) -> None:
        """See `Place`."""
        try:
            if not self._started:
                await self._producer.start()
                self._started = True
            key = self.topic.encode()
            outcome = await self._producer.send([OutgoingMessage(self.topic, key, note.encode()) for note in notes])
        except BrokerError as error:
            raise PlaceAwayError(f"topic {self.topic}: {error}") from error
        refused = next((error for error in outcome if error is not None), None)
        if refused is not None:
            raise PlaceAwayError(f"topic {self.topic}: {refused}")

    async def close(self) -> None:
        """See `Place`."""
        if self._started:
            await self._producer.stop()

    def _spec(self) -> TopicSpec:
        return TopicSpec(self.topic, partitions=1, retention_ms=FOR_EVER_MS)

    async def _ends(self) -> tuple[int, int]:
        """The first offset that is kept, and the next one to be written."""
        consumer = self._broker.consumer(_group(), [self.topic], _from(None))
        await consumer.start()
        first: int | None = None
        try:
            for _ in range(TRIES):
                for message in await consumer.fetch(1, FETCH_MS):
                    first = message.offset if first is None else first
                if consumer.settled() and (positions := consumer.positions()):
                    ends = await consumer.end_offsets()
                    return min(positions.values()) if first is None else first, max(ends.values(), default=0)
        finally:
            await consumer.stop()
        raise PlaceAwayError(f"topic {self.topic}: nobody could read it")

    async def _read(self, first: int, end: int) -> list[str]:
        consumer = self._broker.consumer(_group(), [self.topic], _from(max(0, first)))
        notes: list[str] = []
        await consumer.start()
        try:
            for _ in range(TRIES):
                for message in await consumer.fetch(TAIL_MESSAGES, FETCH_MS):
                    notes.append((message.value or b"").decode("utf-8", "replace"))
                if min(consumer.positions().values(), default=0) >= end:
                    return notes
        finally:
            await consumer.stop()
        raise PlaceAwayError(f"topic {self.topic}: its end could not be read")


class UrlPlace:
    """An HTTP endpoint: POST adds one checkpoint (2xx: it is kept), GET gives the last one (404 or 204: none yet)."""

    def __init__(self, url: str, token: str, attempt_ms: int) -> None:
        self.name = "url"
        self.url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.AsyncClient(
            timeout=attempt_ms / 1000, follow_redirects=False, trust_env=False, headers=headers
        )

    async def last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        """See `Place`."""
        answer = await self._ask("GET")
        if answer.status_code in (204, 404):
            return None
        self._expect(answer)
        found = latest(notes_in(answer.text), keys)
        if found is None:
            raise PlaceAwayError(f"{self.url}: GET gives no checkpoint that a known key signed")
        return found

    async def publish(self, notes: Sequence[str]) -> None:
        """See `Place`."""
        for note in notes:
            self._expect(await self._ask("POST", note))

    async def close(self) -> None:
        """See `Place`."""
        await self._http.aclose()

    async def _ask(self, method: str, note: str | None = None) -> httpx2.Response:
        try:
            content = None if note is None else note.encode()
            async with self._http.stream(
                method, self.url, content=content, headers={"Content-Type": CONTENT_TYPE} if content else None
            ) as answer:
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > NOTE_BYTES_MAX:
                        raise PlaceAwayError(f"{self.url}: {method} gives more than {NOTE_BYTES_MAX} bytes")
                return httpx2.Response(answer.status_code, content=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PlaceAwayError(f"{self.url}: {type(error).__name__}: {error}") from error

    def _expect(self, answer: httpx2.Response) -> None:
        if not answer.is_success:
            raise PlaceAwayError(f"{self.url}: answered {answer.status_code}")


def _group() -> str:
    return f"log-checkpoints-{uuid.uuid4().hex[:12]}"


def _from(offset: int | None) -> PositionSource:
    async def source(wanted: frozenset[Assignment]) -> dict[Assignment, int | None]:
        return dict.fromkeys(wanted, offset)

    return source

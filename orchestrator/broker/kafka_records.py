"""Record batches whose header names are no UTF-8: legal in Kafka, and more than the driver can read.

The driver raises for such a record each time it meets it, so one odd sender's partition would stand still for ever.
Here the batch is read again, and the bytes of such a name that are no text are written as escapes (``\\xff``), so that
the message comes as any other and whoever is responsible decides what it is worth.

How: the driver builds one reader per fetched partition, by the names of two classes in its module ``fetcher``.
``install`` puts ours in their place. They add nothing while all is well: the driver's compiled reader does the work,
and only where it has raised does ours go on behind the last record that was handed out.
"""

import logging
import struct
from collections.abc import Iterator
from typing import Any

import aiokafka.consumer.fetcher as driver
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

logger = logging.getLogger(__name__)

_BATCH_HEAD = struct.Struct(">qi")  # offset, length of what follows
_MAGIC_AT = 16
_FIRST_WITH_HEADERS = 2  # the format's version


def install() -> None:
    """Makes the driver read with the classes below. Idempotent."""
    driver.MemoryRecords = _Fetched
    driver.PartitionRecords = _Reader


class _Fetched:
    """What was fetched of a partition: the driver's own reader, and the bytes, should they be needed again."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        inner = MemoryRecords(raw)
        self.has_next, self.next_batch, self.size_in_bytes = inner.has_next, inner.next_batch, inner.size_in_bytes


class _Reader(driver.PartitionRecords):  # type: ignore[misc] # the driver publishes no types
    """The driver's reader of a partition, that goes on where it gives up on a header's name."""

    def _unpack_records(self) -> Iterator[Any]:
        fetched: _Fetched = self._records
        try:
            yield from super()._unpack_records()
        except (ValueError, CorruptRecordException) as error:  # UnicodeDecodeError, or what the slow reader makes of it
            logger.warning("%s: a record is read a second time: %s", self._tp, error)
            self._records: Any = _Again(fetched.raw, self.next_fetch_offset)
            yield from super()._unpack_records()


class _Again:
    """The batches of some fetched bytes from an offset on, read patiently."""

    def __init__(self, raw: bytes, from_offset: int) -> None:
        self._batches = [batch for batch in _batches(raw) if batch.next_offset > from_offset]

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> Any:
        return self._batches.pop(0)


def _batches(raw: bytes) -> Iterator[Any]:
    at = 0
    while at + _BATCH_HEAD.size <= len(raw):
        _, length = _BATCH_HEAD.unpack_from(raw, at)
        end = at + _BATCH_HEAD.size + length
        if end > len(raw):
            return  # cut off by the fetch's limit: it comes whole with the next one
        piece, magic = memoryview(raw)[at:end], raw[at + _MAGIC_AT]
        yield _Patient(piece) if magic >= _FIRST_WITH_HEADERS else LegacyRecordBatch(piece, magic)
        at = end


class _Patient(_DefaultRecordBatchPy):  # type: ignore[misc] # the driver publishes no types
    """A batch whose records are read with any header names. The format: Kafka's record batch, version 2."""

    def _read_msg(self, decode_varint: Any = decode_varint) -> Any:
        buffer: bytearray = self._buffer
        length, at = decode_varint(buffer, self._pos)
        end = at + length
        _, at = decode_varint(buffer, at)  # attributes, unused
        delta, at = decode_varint(buffer, at)
        append_time = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if append_time else self.first_timestamp + delta
        offset, at = decode_varint(buffer, at)
        key, at = _field(buffer, at)
        value, at = _field(buffer, at)
        count, at = decode_varint(buffer, at)
        headers = []
        for _ in range(count):
            name, at = _field(buffer, at)
            text, at = _field(buffer, at)
            headers.append(((name or b"").decode("utf-8", "backslashreplace"), text))
        if at != end:
            raise ValueError(f"the record says that it ends at {end} and ends at {at}")
        self._pos: int = end
        return _DefaultRecordPy(self.base_offset + offset, timestamp, self.timestamp_type, key, value, headers)


def _field(buffer: bytearray, at: int) -> tuple[bytes | None, int]:
    """Bytes with their length before them; a length below zero means that there are none."""
    length, at = decode_varint(buffer, at)
    return (None, at) if length < 0 else (bytes(buffer[at : at + length]), at + length)

"""Which partition a key belongs to: one function for both brokers and for every process.

It is the hash of Kafka's own clients (murmur2 of the key, positive, modulo the number of partitions), so that a Java or
Go service that publishes under the same key lands in the same partition, and a topic that moves from PostgreSQL to
Kafka keeps its layout. Never Python's ``hash``: that differs from process to process.
"""

import struct
from functools import lru_cache

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_FACTOR = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as an unsigned 32-bit integer. Source: org.apache.kafka.common.utils.Utils."""
    length = len(data)
    value = _SEED ^ length
    for word in struct.unpack_from(f"<{length >> 2}I", data):
        mixed = word * _FACTOR & _MASK
        mixed = (mixed ^ (mixed >> 24)) * _FACTOR
        value = (value * _FACTOR ^ mixed) & _MASK
    rest = length & 3
    if rest:
        value = (value ^ int.from_bytes(data[length - rest :], "little")) * _FACTOR & _MASK
    value = (value ^ (value >> 13)) * _FACTOR & _MASK
    return value ^ (value >> 15)


@lru_cache(maxsize=32_768)
def _positive_hash(key: bytes) -> int:
    # A saga's id is hashed for each of its messages, and costs 3 microseconds a time: worth remembering.
    return murmur2(key) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key`` in a topic with ``partitions`` partitions (at least 1)."""
    return _positive_hash(key) % partitions

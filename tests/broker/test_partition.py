"""The partition of a key is the same in every process, in both brokers, and in other languages' Kafka clients."""

from collections import Counter

import pytest
from aiokafka.partitioner import murmur2 as drivers_murmur2
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.broker.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # Kafka's own test vectors, org.apache.kafka.common.utils.UtilsTest.testMurmur2, as signed integers there.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_the_one_of_kafkas_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@given(st.binary(max_size=300), st.integers(1, 100))
def test_the_partition_is_the_drivers(key: bytes, partitions: int) -> None:
    assert murmur2(key) == drivers_murmur2(key)
    assert partition_of(key, partitions) == (drivers_murmur2(key) & 0x7FFFFFFF) % partitions


def test_keys_spread_evenly() -> None:
    counts = Counter(partition_of(f"order/{number}".encode(), 8) for number in range(8_000))
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1_150

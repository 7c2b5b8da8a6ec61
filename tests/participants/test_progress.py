"""Which position may be stored: never one that passes a message without an answer."""

from __future__ import annotations

from orchestrator.broker.contract import IncomingMessage
from orchestrator.participants.progress import Progress

PLACE = ("till.commands", 0)


def fetched(*offsets: int, partition: int = 0) -> list[IncomingMessage]:
    return [IncomingMessage("till.commands", partition, offset, None, b"", (), 0) for offset in offsets]


def test_a_position_waits_for_every_message_before_it() -> None:
    progress = Progress()
    first = progress.take(fetched(0, 1))[PLACE]
    second = progress.take(fetched(2, 5))[PLACE]
    second.finish()
    second.finish()
    first.finish()
    assert progress.positions() == {}
    assert progress.unfinished() == 1
    first.finish()
    assert progress.positions() == {PLACE: 6}


def test_partitions_do_not_wait_for_each_other() -> None:
    progress = Progress()
    parts = progress.take([*fetched(7), *fetched(3, partition=1)])
    parts["till.commands", 1].finish()
    assert progress.positions() == {("till.commands", 1): 4}


def test_a_position_is_offered_until_it_is_confirmed() -> None:
    """The transaction that should have carried it may have failed."""
    progress = Progress()
    progress.take(fetched(0))[PLACE].finish()
    offered = progress.positions()
    assert progress.positions() == offered == {PLACE: 1}
    progress.take(fetched(1))[PLACE].finish()
    assert progress.positions() == {PLACE: 2}
    progress.confirm(offered)
    assert progress.positions() == {PLACE: 2}
    progress.confirm({PLACE: 2})
    assert progress.positions() == {}

"""A feed that reads ahead gives the same records as one that does not, whatever is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.postgres import PostgresStore
from projections.contract import FeedRecord
from projections.feed import Feed
from tests.contracts.stores import begun, start
from tests.databases import Database

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """A store with twelve records."""
    async with PostgresStore(database.url) as made:
        await begun(made, *(start(f"K-{number}") for number in range(12)))
        yield made


async def test_what_is_read_ahead_is_what_follows(store: PostgresStore) -> None:
    """In order, in other sizes, from another place, twice from the same one, and at the end."""
    plain = Feed(store)
    async with aclosing(_Closed(Feed(store, ahead=True))) as one:
        for position, limit in ((0, 3), (3, 3), (6, 2), (8, 3), (2, 4), (6, 6), (6, 3), (9, 3), (12, 3), (12, 3)):
            assert await one.feed.after(position, limit) == await plain.after(position, limit)


async def test_a_page_that_could_not_be_read_ahead_is_read_when_it_is_wanted(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure reaches whoever asks for that page, once; nothing of it stays behind."""
    feed = Feed(store, ahead=True)
    read, fails = feed._read, False

    async def sometimes(position: int, limit: int) -> list[FeedRecord]:
        if fails:
            raise StoreUnavailableError("away")
        return await read(position, limit)

    monkeypatch.setattr(feed, "_read", sometimes)
    async with aclosing(_Closed(feed)):
        fails = False
        assert len(await feed.after(0, 4)) == 4
        await asyncio.sleep(0)
        fails = True
        assert len(await feed.after(4, 4)) == 4  # on its way before it went away
        with pytest.raises(StoreUnavailableError):
            await feed.after(8, 4)
        fails = False
        assert len(await feed.after(8, 4)) == 4


class _Closed:
    """Closes a feed."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def aclose(self) -> None:
        """Leaves nothing running."""
        await self.feed.close()

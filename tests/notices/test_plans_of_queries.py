"""What is asked again and again is answered from an index, however much was sent before."""

from __future__ import annotations

import asyncpg
import pytest

from orchestrator.notices.store import SQL
from tests.databases import Database

FILL = """
INSERT INTO notice_outbox (planned_at, due, task_due, version, tenant, saga_id, activity, kind, who, channel, digest,
                           address, language, zone, facts, state, closed_at)
SELECT n, n, 0, 1, 'main', 's' || n, 'a', 'opened', 'person:p' || (n % 500), 'mail', '', 'x@y.example', 'en', 'UTC',
       '{}', CASE WHEN n % 200 = 0 THEN 'waiting' ELSE 'sent' END, CASE WHEN n % 200 = 0 THEN NULL ELSE n END
FROM generate_series(1, 20000) AS n
"""


@pytest.mark.parametrize(
    ("name", "args", "index"),
    [
        ("claim", (50, 60_000_000, ["mail"], 500), "notice_outbox_due"),
        ("list", ("main", 2**62, 51, "failed", None, None), "notice_outbox_by_state"),
        ("list", ("main", 2**62, 51, None, "person:nobody", None), "notice_outbox_by_who"),
        ("list", ("main", 2**62, 51, None, None, "s77"), "notice_outbox_saga_id"),
        ("trim", (10**15, 50), "notice_outbox_closed"),
    ],
)
async def test_a_query_uses_its_index(
    module_database: Database, name: str, args: tuple[object, ...], index: str
) -> None:
    """On 20,000 rows, none of which it wants more than a few of."""
    connection = await asyncpg.connect(module_database.admin_url)
    try:
        if not await connection.fetchval("SELECT count(*) FROM notice_outbox"):
            await connection.execute(FILL)
            await connection.execute("ANALYZE notice_outbox")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {SQL[name]}", *args))
    finally:
        await connection.close()
    assert index in plan, plan
    assert "Seq Scan on notice_outbox" not in plan

"""What a participant's handling shows: its statements, its calls, its answer, and the author's own instrumentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from opentelemetry import trace as otel_trace

from orchestrator import telemetry as names
from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages.protocol import CommandHeader
from orchestrator.participants import calling
from orchestrator.participants.delivery import Delivery, read_delivery
from orchestrator.participants.testing import TRACEPARENT, command_message, incoming
from orchestrator.participants.tracing import (
    Handling,
    begin,
    handling,
    process_traceparent,
    reply_traceparent,
    spans_of,
    statement,
)
from orchestrator.runtime.identity import span_id_of
from orchestrator.tracing.span import encoded
from tests.databases import Database
from tests.participants.tills import PutIn


@pytest.fixture
def delivery() -> Delivery:
    """A sampled command as it comes from the broker."""
    message: IncomingMessage = incoming(command_message(PutIn(amount=1)))
    found = read_delivery(message, {})
    assert isinstance(found, Delivery)
    return found


@pytest.fixture
def found(delivery: Delivery) -> Handling:
    """Its handling."""
    begun = begin(delivery.header)
    assert begun is not None
    return begun


@pytest_asyncio.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection as handlers get one."""
    made = await asyncpg.connect(database.admin_url)
    try:
        yield made
    finally:
        await made.close()


async def test_statements_are_spans_without_their_text_or_values(
    found: Handling, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Named by first word and table; a failed one is marked with the database's code."""
    with handling(found, connection):
        await connection.execute("CREATE TEMP TABLE holds (note text)")
        await connection.execute("INSERT INTO holds (note) VALUES ($1)", "CANARY")
        await connection.fetch("SELECT note FROM holds WHERE note = 'CANARY'")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("UPDATE nowhere SET note = 'CANARY'")
    await connection.execute("SELECT 1")
    await asyncio.sleep(0)
    assert [span.name for span in found.inside] == ["CREATE", "INSERT holds", "SELECT holds", "UPDATE nowhere"]
    assert [span.error for span in found.inside] == ["", "", "", "42P01"]
    assert {span.parent_id for span in found.inside} == {found.span_id}
    assert found.inside[1].attributes[names.DB_SYSTEM] == "postgresql"
    assert b"CANARY" not in encoded([({}, found.inside)])
    assert all(span.end_ns > span.start_ns for span in found.inside)


async def test_a_run_that_was_rolled_back_leaves_no_span(
    found: Handling, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A batch is done again with savepoints: what is shown is what counted."""
    with pytest.raises(asyncpg.DivisionByZeroError), handling(found, connection):
        await connection.execute("SELECT 1 / 0")
    with handling(found, connection):
        await connection.fetch("SELECT name FROM definitions")
    await asyncio.sleep(0)
    assert [span.name for span in found.inside] == ["SELECT definitions"]


def test_the_authors_own_instrumentation_finds_its_parent(found: Handling) -> None:
    """OpenTelemetry's current span inside is the handling; afterwards it is what it was."""
    with handling(found):
        context = otel_trace.get_current_span().get_span_context()
        assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (found.trace_id, found.span_id)
        assert context.trace_flags.sampled
    assert not otel_trace.get_current_span().get_span_context().is_valid


def test_a_call_outside_is_a_span_and_carries_its_context(found: Handling) -> None:
    """Method, host and status; neither path nor query, which may name a customer."""
    with handling(found):
        with calling("POST", "https://bank.example:8443/customers/CANARY?iban=CANARY") as call:
            call.status = 201
        with pytest.raises(TimeoutError), calling("GET", "https://bank.example/") as other:
            raise TimeoutError
    first, second = found.inside
    assert call.headers == {"traceparent": f"00-{found.trace_id}-{first.span_id}-01"}
    assert other.headers["traceparent"] != call.headers["traceparent"]
    assert (first.name, first.kind, first.error) == ("POST", names.CLIENT, "")
    assert dict(first.attributes) == {
        "http.request.method": "POST", "server.address": "bank.example", "server.port": 8443,
        "url.full": "https://bank.example:8443/REDACTED",
        "http.response.status_code": 201,
    }  # fmt: skip
    assert second.error == "TimeoutError"
    with calling("POST", "https://bank.example/") as outside:
        assert outside.headers == {}


def test_an_answer_carries_the_context_of_its_own_send(delivery: Delivery, found: Handling) -> None:
    """So the coordinator's handling of it links there; the same whenever it is answered."""
    reply_id = f"{delivery.header.id}/ok"
    process, send = spans_of("till", delivery.header, delivery.message, found, "refused", reply_id, 1_000, 5_000)
    assert (process.parent_id, process.error, process.kind) == (TRACEPARENT[36:52], "refused", names.CONSUMER)
    assert process.name == "process till.commands"
    assert process.attributes[names.MESSAGING_PARTITION] == str(delivery.message.partition)
    assert (send.parent_id, send.kind, send.name) == (process.span_id, names.PRODUCER, "send till.replies")
    assert reply_traceparent(delivery.header, reply_id) == f"00-{found.trace_id}-{send.span_id}-01"
    assert process_traceparent(delivery.header) == found.traceparent
    assert process.start_ns <= send.start_ns < send.end_ns <= process.end_ns


def test_an_unsampled_command_is_not_measured(delivery: Delivery) -> None:
    """It costs nothing, and what it calls hears that nobody keeps this trace."""
    unsampled = CommandHeader("s/2", "main", "s", "pay", 1, 1, "do", "k", "T", traceparent=TRACEPARENT[:-2] + "00")
    assert begin(unsampled) is None
    assert process_traceparent(unsampled) == f"00-{TRACEPARENT[3:35]}-{span_id_of('s/2/process')}-00"
    strange = CommandHeader("s/2", "main", "s", "pay", 1, 1, "do", "k", "T", traceparent="nonsense-01")
    assert begin(strange) is None
    assert process_traceparent(strange) == "nonsense-01"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SELECT a FROM b WHERE c", "SELECT b"),
        ("  insert into x.y (a) select 1 from z", "INSERT x.y"),
        ("UPDATE stock SET n = 1 FROM unnest($1) AS u", "UPDATE stock"),
        ("UPDATE stock s SET n = 1", "UPDATE stock"),
        ("DELETE FROM holds WHERE a", "DELETE holds"),
        ("-- why\nSELECT 1", "SELECT"),
        ("WITH a AS (SELECT 1 FROM t) SELECT * FROM a", "WITH t"),
        ("", "QUERY"),
    ],
)
def test_a_statement_is_named_by_what_it_does_and_to_which_table(text: str, name: str) -> None:
    """Few names, whatever the values."""
    assert statement(text)[0] == name

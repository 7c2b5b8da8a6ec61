"""`orchestrator traces ...`: traces from the store, without the process that sent them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Json
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.store.queries import ReadQueries
    from orchestrator.tracing.again import Again, Emitted
    from orchestrator.tracing.settings import TelemetrySettings
    from orchestrator.tracing.span import Span

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Traces: show them, send them to the collector again.")


@app.command()
def emit(
    saga: Annotated[str, typer.Option("--saga", help="One saga: its id or business key.")] = "",
    since: Annotated[str, typer.Option("--from", help="All sagas that lived from this instant on (ISO 8601).")] = "",
    until: Annotated[str, typer.Option("--to", help="Until this instant; default: now.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Whose sagas; default ORCHESTRATOR_TENANT.")] = "",
    as_json: Json = False,
) -> None:
    """Makes the spans of sagas from their records and sends them to OTEL_EXPORTER_OTLP_ENDPOINT, sampled or not.

    They are the same spans as at the first time, so nothing is shown twice. Logs in to the database.
    """
    from orchestrator.cli.run import run_async
    from orchestrator.config import SettingsError, load_settings
    from orchestrator.tracing.again import CollectorError
    from orchestrator.tracing.settings import telemetry_settings

    out = Output(as_json)
    if bool(saga) == bool(since):
        raise CliError(ExitCode.USAGE, "say which: --saga ID, or --from INSTANT", "orchestrator traces emit --help")
    span = (_instant(since, "--from"), _instant(until, "--to")) if since else (0, 0)
    try:
        settings = load_settings()
        telemetry = telemetry_settings(deployment=settings.environment)
    except SettingsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the environment variable") from error
    if not telemetry.traces_url:
        raise CliError(ExitCode.USAGE, "no collector is named", "set OTEL_EXPORTER_OTLP_ENDPOINT")
    try:
        done = run_async(_emitted(settings, telemetry, saga, tenant or settings.tenant, span))
    except CollectorError as error:
        raise CliError(ExitCode.UNREACHABLE, f"the collector: {error}", "see whether it runs, then again") from error
    if saga and not done.sagas:
        raise CliError(ExitCode.NOT_FOUND, f"there is no saga {saga!r}", "orchestrator saga list")
    out.object(asdict(done) if saga else {"sagas": done.sagas, "spans": done.spans})
    out.line(f"{done.spans} spans of {done.sagas} sagas sent" + (f", trace {done.trace_id}" if saga else ""))


@app.command()
def show(
    saga: Annotated[str, typer.Argument(metavar="ID", help="Saga id or business key.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose saga; default ORCHESTRATOR_TENANT.")] = "",
    as_json: Json = False,
) -> None:
    """Prints the spans that a saga's records make, as a tree; needs no collector. Logs in to the database."""
    from orchestrator.cli.run import run_async
    from orchestrator.config import SettingsError, load_settings
    from orchestrator.tracing.settings import telemetry_settings
    from orchestrator.tracing.words import lines_of

    out = Output(as_json)
    try:
        settings = load_settings()
        telemetry = telemetry_settings(deployment=settings.environment)
    except SettingsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the environment variable") from error

    async def work() -> list[Span]:
        async with _again(settings, telemetry) as (again, queries):
            found = await queries.find(tenant or settings.tenant, saga)
            return await again.spans(found.tenant, found.saga_id) if found is not None else []

    spans = run_async(work())
    if not spans:
        raise CliError(ExitCode.NOT_FOUND, f"there is no saga {saga!r}", "orchestrator saga list")
    out.objects([asdict(span) for span in spans])
    out.line(f"trace {spans[0].trace_id}")
    for line in lines_of(spans):
        out.line(line)


@asynccontextmanager
async def _again(settings: Settings, telemetry: TelemetrySettings) -> AsyncIterator[tuple[Again, ReadQueries]]:
    from orchestrator.cli.local import load_catalog
    from orchestrator.cli.serving import database
    from orchestrator.runtime import parts
    from orchestrator.store.postgres import PostgresStore
    from orchestrator.store.queries import ReadQueries
    from orchestrator.tracing.again import Again
    from orchestrator.tracing.store import TraceStore

    topic_of = parts.event_topics(load_catalog())
    async with database(settings) as urls:
        store = PostgresStore(urls.app, parts.connection_limits(settings))
        again = Again(TraceStore(store), telemetry, topic_of, parts.wire(settings))
        try:
            yield again, ReadQueries(store.pools)
        finally:
            again.close()
            await store.close()


async def _emitted(
    settings: Settings, telemetry: TelemetrySettings, saga: str, tenant: str, span: tuple[int, int]
) -> Emitted:
    from orchestrator.tracing.again import Emitted

    done = Emitted()
    async with _again(settings, telemetry) as (again, queries):
        if saga:
            found = await queries.find(tenant, saga)
            if found is not None:
                await again.saga(tenant, found.saga_id, done)
        else:
            async for saga_id in again.between(tenant, *span):
                await again.saga(tenant, saga_id, done)
    return done


def _instant(text: str, option: str) -> int:
    """Microseconds since 1970; without a zone it is UTC. An empty one is now."""
    try:
        found = datetime.fromisoformat(text) if text else datetime.now(UTC)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"{option} {text!r} is no instant", "2026-11-21T09:00:00+00:00") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)

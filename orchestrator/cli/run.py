"""Verbs that run the product: serve, migrate, demo."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from orchestrator.cli.options import Json
from orchestrator.cli.output import CliError, ExitCode, Output

T = TypeVar("T")


def serve(
    roles: Annotated[
        str, typer.Option("--roles", help="What runs here, comma-separated; default ORCHESTRATOR_ROLES, else all.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Runs the product, or some of its roles, until SIGTERM or Ctrl-C."""
    from orchestrator.cli.serving import serve_until_stopped
    from orchestrator.config import load_settings

    out = Output(as_json)
    given: dict[str, Any] = {"roles": roles} if roles else {}
    settings = _known(lambda: load_settings(**given))
    run_async(serve_until_stopped(settings, out))


def migrate(as_json: Json = False) -> None:
    """Brings the database to the schema that this version needs; logs in as ORCHESTRATOR_MIGRATE_URL."""
    from orchestrator.cli.serving import migrate_all
    from orchestrator.config import load_settings

    out = Output(as_json)
    settings = _known(load_settings)
    applied = run_async(migrate_all(settings))
    out.object({"applied": applied})
    out.line(f"applied {len(applied)} migrations" + (f": {', '.join(applied)}" if applied else "; nothing was missing"))


def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the sample has been played.")] = False,
    sagas: Annotated[int, typer.Option("--sagas", min=0, max=100_000, help="How many; 0: the sample as it is.")] = 0,
    kafka: Annotated[bool, typer.Option("--kafka", help="Over a real Kafka instead of the log in PostgreSQL.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port of the API; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where the data is kept between runs.")] = Path(".data"),
    as_json: Json = False,
) -> None:
    """Starts everything on this machine and plays sample orders and transfers; data stays in ./.data."""
    from orchestrator.demo.run import DemoOptions, run_demo

    out = Output(as_json)
    ok = run_async(run_demo(DemoOptions(once, sagas, kafka, port, data_dir), out))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the fastest event loop there is, with the product's errors turned into CliError."""
    try:
        import uvloop

        loop_factory: Any = uvloop.new_event_loop
    except ImportError:  # not on Windows
        loop_factory = None
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(work)
    except (CliError, KeyboardInterrupt):
        raise
    except BaseException as error:
        known = as_cli_error(error)
        if known is None:
            raise
        raise known from error


def as_cli_error(error: BaseException) -> CliError | None:
    """The product's own errors, whose texts say what to do; None for everything else. Looks into groups."""
    if isinstance(error, BaseExceptionGroup):
        found = [known for part in error.exceptions if (known := as_cli_error(part)) is not None]
        return found[0] if found else None
    from orchestrator.activation.keeping import ActivationError
    from orchestrator.api.server import ServerError
    from orchestrator.broker.contract import BrokerError
    from orchestrator.config import SettingsError
    from orchestrator.definition import DefinitionError
    from orchestrator.evidence.errors import EvidenceError, PlaceAwayError
    from orchestrator.keyfiles import KeyFileError
    from orchestrator.messages import ContractError
    from orchestrator.participants.work import ParticipantError
    from orchestrator.runtime.catalog import CatalogError
    from orchestrator.store.contract import StoreError
    from orchestrator.store.embedded import EmbeddedPostgresError
    from orchestrator.store.migrate import MigrationError

    if isinstance(error, CliError):
        return error
    if isinstance(error, ActivationError):
        return CliError(ExitCode.FOUND_SOMETHING, str(error), "see docs/guides/activate-a-version.md")
    if isinstance(error, (DefinitionError, CatalogError, ContractError, ParticipantError)):
        return CliError(ExitCode.FOUND_SOMETHING, str(error).strip(), "orchestrator check")
    if isinstance(error, EvidenceError):
        return CliError(ExitCode.FOUND_SOMETHING, str(error))
    if isinstance(error, (SettingsError, ServerError, KeyFileError)):
        return CliError(ExitCode.USAGE, str(error))
    if isinstance(error, (BrokerError, StoreError, MigrationError, EmbeddedPostgresError, PlaceAwayError, OSError)):
        return CliError(ExitCode.UNREACHABLE, str(error))
    return None


def _known(make: Any) -> Any:
    """What `make` gives, its settings errors as CliError."""
    try:
        return make()
    except Exception as error:
        known = as_cli_error(error)
        if known is None:
            raise
        raise known from error

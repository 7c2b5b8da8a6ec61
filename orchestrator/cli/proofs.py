"""What the verbs that prove things share: settings, keys, the store, and checkpoints from outside.

Rules of this file: nothing is imported before it is needed; whatever goes wrong is a CliError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.cli.output import CliError, ExitCode

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.evidence.keys import KeyRing
    from orchestrator.store.postgres import PostgresStore

T = TypeVar("T")

STATEMENT_MS_MAX = 600_000


def settings_of_log() -> Settings:
    """Those of this environment; on a laptop with the key that lies beside the database."""
    from orchestrator.config import load_settings
    from orchestrator.evidence.settings import beside_database

    settings: Settings = known(load_settings)
    beside = beside_database(settings.data_dir)
    if not settings.database_url and not settings.has_key and Path(beside["evidence_key_file"]).exists():
        return settings.model_copy(update=beside)
    return settings


def known(make: Callable[[], T]) -> T:
    """What `make` gives, its errors as CliError."""
    from orchestrator.cli.run import as_cli_error

    try:
        return make()
    except Exception as error:
        said = as_cli_error(error)
        if said is None:
            raise
        raise said from error


def run_on_store(work: Callable[[Settings, PostgresStore], Awaitable[T]], settings: Settings) -> T:
    """Runs it with the settings' database open, and gives what it gave. Raises CliError."""
    from orchestrator import logs
    from orchestrator.cli.run import run_async
    from orchestrator.cli.serving import database
    from orchestrator.store.connections import ConnectionLimits
    from orchestrator.store.postgres import PostgresStore

    logs.configure("WARNING", production=settings.environment == "production")  # to stderr: stdout is for data

    async def run() -> T:
        limits = ConnectionLimits(statement_timeout_ms=STATEMENT_MS_MAX, answer_timeout_ms=STATEMENT_MS_MAX + 5_000)
        async with database(settings) as urls, PostgresStore(urls.app, limits, application="audit") as store:
            return await work(settings.model_copy(update={"database_url": urls.app}), store)

    return run_async(run())


def trusted(settings: Settings, given: list[str] | None) -> KeyRing:
    """The keys that were named, else those of the settings. Raises CliError where there are none."""
    from orchestrator.evidence.keys import KeyRing

    ring = known(lambda: KeyRing.of(given) if given else settings.evidence_ring())
    if ring is None:
        raise CliError(
            ExitCode.USAGE, "no key says which checkpoints to trust", "add --key, or set ORCHESTRATOR_EVIDENCE_KEY_FILE"
        )
    return ring


@asynccontextmanager
async def open_places(settings: Settings, store: PostgresStore) -> AsyncIterator[list[Any]]:
    """The places of the settings."""
    from orchestrator.broker.contract import open_broker
    from orchestrator.evidence.wiring import places

    broker = open_broker(settings.resolved_broker_url(settings.database_url), settings=settings.broker_settings())
    found = places(settings, broker)
    try:
        yield found
    finally:
        for one in found:
            await one.close()
        await broker.close()


def notes_of(file: Path) -> list[str]:
    """The notes in a file of checkpoints. Raises CliError."""
    from orchestrator.evidence.notes import notes_in

    try:
        return list(notes_in(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(ExitCode.NOT_FOUND, f"{error}", "name files of checkpoints") from error


async def published_notes(
    settings: Settings, store: PostgresStore, ring: KeyRing, files: list[Path]
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """The checkpoints of these files; where none are named, those of the places in the settings. And who was silent."""
    from orchestrator.evidence.errors import PlaceAwayError

    own, silent = Path(settings.evidence_file), []
    if not files and settings.evidence_file:
        if await asyncio.to_thread(own.exists):
            files = [own]
        else:
            silent.append(f"not compared with the place file: there is no {own}")
    found = [(str(file), notes_of(file)) for file in files]
    async with open_places(settings, store) as places:
        for place in places:
            if place.name == "file":
                continue
            try:
                last = await place.last(ring.verifiers)
            except PlaceAwayError as error:
                silent.append(f"not compared with the place {place.name}: {error}")
                continue
            if last is not None:
                found.append((place.name, [last.note]))
            else:
                silent.append(f"not compared with the place {place.name}: it holds no checkpoint")
    return found, silent


def instant_of(text: str) -> int:
    """Microseconds since 1970. Raises CliError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"{text!r} is no instant", "as in 2026-01-31T12:00:00Z") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def new_file(path: Path) -> Any:
    """A file that is not there yet, open for writing. Raises CliError."""
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise CliError(ExitCode.CONFLICT, f"{path} is there already", "choose another name, or remove it") from error
    except OSError as error:
        raise CliError(ExitCode.FAILED, str(error), "choose another place") from error

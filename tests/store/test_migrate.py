"""Migrations run in order, once, all or nothing; the application's role gets no more than a table states."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from orchestrator.store import migrate as runner
from orchestrator.store.migrate import (
    MIGRATIONS,
    MigrationChangedError,
    MigrationError,
    SchemaBehindError,
    check_schema,
    load_migrations,
    migrate,
)
from tests.databases import Database

GRANTS = (MIGRATIONS / "grants.sql").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two small migrations and the real grants."""
    (tmp_path / "0001_notes.sql").write_text(
        "CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text);\n"
        "COMMENT ON TABLE notes IS 'append-only: what was noted';\n"
    )
    (tmp_path / "0002_drafts.sql").write_text(
        "CREATE TABLE drafts (id int PRIMARY KEY, text text);\n"
        "COMMENT ON TABLE drafts IS 'mutable: what is being written';\n"
    )
    (tmp_path / "grants.sql").write_text(GRANTS)
    return tmp_path


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_it_applies_each_file_once_and_in_order(empty_database: Database, directory: Path) -> None:
    """Running it again is how a deploy normally runs it."""
    assert await migrate(empty_database.migrate_url, directory) == ["0001_notes.sql", "0002_drafts.sql"]
    assert await migrate(empty_database.migrate_url, directory) == []


async def test_the_products_own_migrations_apply_and_can_be_checked(empty_database: Database) -> None:
    """From nothing to the newest schema."""
    applied = await migrate(empty_database.migrate_url)
    assert applied == [migration.name for migration in load_migrations()]
    async with connected(empty_database.url) as application:
        await check_schema(application)


async def test_every_table_says_how_it_may_be_used(database: Database) -> None:
    """grants.sql treats a silent table as append-only; whoever adds one should decide instead."""
    async with connected(database.migrate_url) as owner:
        silent = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            "AND coalesce(obj_description(oid, 'pg_class'), '') !~ '^(append-only|add-only|mutable|read-only): '"
        )
    assert not silent, "begin COMMENT ON TABLE with one of the words that grants.sql explains"


async def test_several_migrators_at_once_apply_everything_once(empty_database: Database, directory: Path) -> None:
    """Each replica of a deployment may run it."""
    (directory / "0003_slow.sql").write_text("SELECT pg_sleep(0.1);")
    applied = await asyncio.gather(*(migrate(empty_database.migrate_url, directory) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == ["0001_notes.sql", "0002_drafts.sql", "0003_slow.sql"]


async def test_a_filled_database_is_upgraded_and_keeps_its_rows(empty_database: Database, directory: Path) -> None:
    """The normal case in production, which an empty test database never shows."""
    await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.url) as application:
        await application.execute("INSERT INTO notes (text) SELECT 'note ' || n FROM generate_series(1, 1000) n")
    (directory / "0003_length.sql").write_text(
        "ALTER TABLE notes ADD COLUMN length int;\nUPDATE notes SET length = length(text);\n"
        "ALTER TABLE notes ALTER COLUMN length SET NOT NULL;\n"
    )
    assert await migrate(empty_database.migrate_url, directory) == ["0003_length.sql"]
    async with connected(empty_database.url) as application:
        assert await application.fetchval("SELECT count(*) FROM notes WHERE length = length(text)") == 1000


async def test_a_failing_file_leaves_nothing_and_is_named(empty_database: Database, directory: Path) -> None:
    """Its first statement works, so only a transaction can take it back; the files before it stay."""
    bad = directory / "0003_bad.sql"
    bad.write_text("CREATE TABLE half (id int);\nCREATE TABLE broken (id no_such_type);\n")
    with pytest.raises(MigrationError, match=r"0003_bad\.sql: UndefinedObjectError.*no_such_type.*Nothing"):
        await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.migrate_url) as owner:
        assert await owner.fetchval("SELECT to_regclass('half')") is None
        assert await owner.fetchval("SELECT count(*) FROM schema_migrations") == 2
    bad.write_text("CREATE TABLE half (id int);\n")
    assert await migrate(empty_database.migrate_url, directory) == ["0003_bad.sql"]


async def test_an_edited_file_is_refused_with_both_checksums(empty_database: Database, directory: Path) -> None:
    """Otherwise two databases with the same version would differ."""
    await migrate(empty_database.migrate_url, directory)
    file = directory / "0001_notes.sql"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(file.read_text() + "-- only a comment\n")
    after = hashlib.sha256(file.read_bytes()).hexdigest()
    (directory / "0003_new.sql").write_text("CREATE TABLE never (id int);")
    with pytest.raises(MigrationChangedError, match=rf"0001_notes\.sql .*{before}.*{after}"):
        await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.url) as application:
        assert await application.fetchval("SELECT to_regclass('never')") is None
        with pytest.raises(MigrationChangedError):
            await check_schema(application, directory)


async def test_an_older_database_is_refused_with_the_next_step(empty_database: Database, directory: Path) -> None:
    """The product must not half-work on a schema that lacks something."""
    async with connected(empty_database.url) as application:
        with pytest.raises(SchemaBehindError, match=r"2 of 2 migrations: 0001.*Run: orchestrator migrate"):
            await check_schema(application, directory)
        await migrate(empty_database.migrate_url, directory)
        await check_schema(application, directory)
        (directory / "0003_more.sql").write_text("SELECT 1;")
        with pytest.raises(SchemaBehindError, match=r"1 of 3 migrations: 0003_more\.sql"):
            await check_schema(application, directory)


async def test_a_database_whose_grants_never_ran_is_refused_with_the_next_step(
    empty_database: Database, directory: Path
) -> None:
    """A migration was killed between its last file and the grants."""
    await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.migrate_url) as owner, connected(empty_database.url) as application:
        await owner.execute("REVOKE ALL ON schema_migrations FROM orchestrator_app")
        with pytest.raises(SchemaBehindError, match="may not read the table of applied migrations"):
            await check_schema(application, directory)
        await migrate(empty_database.migrate_url, directory)
        await check_schema(application, directory)


async def test_a_newer_database_is_accepted(empty_database: Database, directory: Path) -> None:
    """During a rolling upgrade the old code runs on the new schema for a while."""
    await migrate(empty_database.migrate_url, directory)
    (directory / "0002_drafts.sql").unlink()
    async with connected(empty_database.url) as application:
        await check_schema(application, directory)
    assert await migrate(empty_database.migrate_url, directory) == []


async def test_a_pool_can_be_checked_too(database: Database) -> None:
    """The product has a pool at hand when it starts."""
    async with asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool:
        await check_schema(pool)


@pytest.mark.parametrize(
    ("table", "statement", "allowed"),
    [
        ("notes", "INSERT INTO notes (text) VALUES ('x')", True),
        ("notes", "SELECT count(*) FROM notes", True),
        ("notes", "UPDATE notes SET text = 'other'", False),
        ("notes", "DELETE FROM notes", False),
        ("notes", "TRUNCATE notes", False),
        ("notes", "SELECT * FROM notes FOR UPDATE", False),
        ("notes", "ALTER TABLE notes ADD COLUMN extra int", False),
        ("notes", "DROP TABLE notes", False),
        ("drafts", "UPDATE drafts SET text = 'other'", True),
        ("drafts", "DELETE FROM drafts", True),
        ("drafts", "TRUNCATE drafts", False),
        ("silent", "INSERT INTO silent VALUES (1)", True),
        ("silent", "UPDATE silent SET id = 2", False),
        ("schema_migrations", "SELECT count(*) FROM schema_migrations", True),
        ("schema_migrations", "INSERT INTO schema_migrations VALUES ('9999_x.sql', 'x')", False),
        ("new table", "CREATE TABLE mine (id int)", False),
    ],
)
async def test_the_application_role_may_do_what_the_table_says(
    empty_database: Database, directory: Path, table: str, statement: str, allowed: bool
) -> None:
    """Append-only is enforced by the database, not by good manners."""
    (directory / "0003_silent.sql").write_text("CREATE TABLE silent (id int);")
    await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.url) as application:
        if allowed:
            await application.execute(statement)
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await application.execute(statement)


async def test_privileges_that_crept_in_are_taken_back(empty_database: Database, directory: Path) -> None:
    """grants.sql runs every time, also when no migration is left to apply."""
    await migrate(empty_database.migrate_url, directory)
    async with connected(empty_database.migrate_url) as owner:
        await owner.execute("GRANT ALL ON notes TO orchestrator_app; GRANT DELETE ON notes TO PUBLIC")
        await migrate(empty_database.migrate_url, directory)
        assert not await owner.fetchval("SELECT has_table_privilege('orchestrator_app', 'notes', 'UPDATE, DELETE')")


async def test_a_table_in_use_stops_the_migration_instead_of_everybody(
    empty_database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting ALTER TABLE makes every later statement on that table wait too."""
    monkeypatch.setattr(runner, "LOCK_WAIT_SECONDS_MAX", 1)
    await migrate(empty_database.migrate_url, directory)
    (directory / "0003_alter.sql").write_text("ALTER TABLE notes ADD COLUMN extra int;")
    async with connected(empty_database.url) as application, application.transaction():
        await application.execute("INSERT INTO notes (text) VALUES ('long')")
        with pytest.raises(MigrationError, match=r"0003_alter\.sql: a table stayed in use for 1 s; nothing"):
            await migrate(empty_database.migrate_url, directory)
    assert await migrate(empty_database.migrate_url, directory) == ["0003_alter.sql"]


async def test_the_wrong_role_is_told_which_one_to_use(empty_database: Database, directory: Path) -> None:
    """The likely mistake is to migrate with the application's URL."""
    with pytest.raises(MigrationError, match=r"Migrations need the owner's role: set ORCHESTRATOR_MIGRATE_URL"):
        await migrate(empty_database.url, directory)


async def test_an_unreachable_server_is_reported_with_the_setting_to_check(tmp_path: Path) -> None:
    """No stack of driver errors."""
    with pytest.raises(MigrationError, match=r"cannot connect to migrate.*ORCHESTRATOR_MIGRATE_URL"):
        await migrate(f"postgresql://nobody@/none?host={tmp_path}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0001_b.sql"], "0001_a.sql and 0001_b.sql have the same number"),
        (["1_short.sql"], "1_short.sql: rename it to look like 0001_what_it_does.sql"),
        (["0001-dash.sql"], "0001-dash.sql: rename it"),
    ],
)
def test_names_that_would_break_the_order_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    """Found when the tests run, not when a database is half-way."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=message):
        load_migrations(tmp_path)

"""Subjects' keys in the database, and the file that wraps them."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.cli.output import CliError, ExitCode
from orchestrator.cli.subjects import check
from orchestrator.config import Settings
from orchestrator.keyfiles import KeyFileError
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.vault import keyfile
from orchestrator.vault.keys import SECONDS_MAX, Broken, BrokenKeyError, Erased, Keys, Subject, check_unused
from tests.databases import Database

ANNA, BO = ("main", "CUST-ANNA"), ("main", "CUST-BO")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file."""
    path = tmp_path / "keys" / "vault.keys"
    keyfile.create(path)
    return path


@pytest_asyncio.fixture
async def pools(database: Database) -> AsyncIterator[Pools]:
    """The application's connections."""
    made = Pools(database.url, ConnectionLimits(), "test")
    yield made
    await made.close()


def test_a_key_file_is_private_and_is_not_made_twice(path: Path) -> None:
    """A second one would lose what the first has wrapped."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileError, match="cannot be written"):
        keyfile.create(path)
    assert keyfile.read_or_create(path) == keyfile.read(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs a line index"),
        ("index AAAA\n", "no 32 bytes"),
        ("k1 \xe4", "cannot be read"),
        ("a b\na b", "32 bytes"),
    ],
)
def test_a_key_file_that_is_not_right_is_refused(path: Path, text: str, why: str) -> None:
    """Each refusal says what is wrong, and shows no key."""
    path.write_text(text, encoding="latin-1")
    with pytest.raises(KeyFileError, match=why):
        keyfile.read(path)


def test_a_key_file_that_others_may_read_or_that_is_gone_is_refused(path: Path) -> None:
    """Whoever can read it can open everything."""
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keyfile.read(path)
    with pytest.raises(KeyFileError, match="ORCHESTRATOR_VAULT_KEY_FILE"):
        keyfile.read(path.with_name("none"))


async def test_a_subject_has_one_key_whoever_asks_first(pools: Pools, path: Path, database: Database) -> None:
    """Two processes that meet a customer at once seal under the same key; the database holds no id of them."""
    one, other = Keys(pools, keyfile.read(path)), Keys(pools, keyfile.read(path))
    found = await asyncio.gather(
        one.of_subjects({ANNA: ["s-1"], BO: ["s-2"]}), other.of_subjects({BO: ["s-2"], ANNA: ["s-3"]})
    )
    assert found[0] == found[1]
    assert found[0][ANNA].raw != found[0][BO].raw
    async with pools.connection("vault") as connection:
        rows = await connection.fetch("SELECT * FROM vault_keys")
        sagas = await connection.fetch("SELECT key_id, saga_id FROM vault_sagas ORDER BY saga_id")
    text = str([dict(row) for row in rows])
    assert "CUST" not in text
    assert all(found[0][who].raw not in bytes(row["wrapped"]) for who in (ANNA, BO) for row in rows)
    assert [row["saga_id"] for row in sagas] == ["s-1", "s-2", "s-3"]
    assert await one.known_ids("main", ["CUST-ANNA"]) == [found[0][ANNA].key_id]
    assert await one.known_ids("other", ["CUST-ANNA"]) == []


async def test_a_key_is_forgotten_after_a_minute(pools: Pools, path: Path) -> None:
    """A process that has used a key asks the database again: by then it may be erased."""
    now = [0.0]
    keys = Keys(pools, keyfile.read(path), lambda: now[0])
    key = (await keys.of_subjects({ANNA: ()}))[ANNA]
    assert await Keys(pools, keyfile.read(path)).by_id([key.key_id, "x" * 16]) == {key.key_id: key}
    async with pools.connection("vault") as connection:
        await connection.execute(
            "UPDATE vault_keys SET wrapped = NULL, subject = NULL, erased_at = '2026-03-01', request = 'ER-7'"
        )
    now[0] = SECONDS_MAX - 1
    assert keys.at_hand(key.key_id) == key
    now[0] = SECONDS_MAX
    assert keys.at_hand(key.key_id) is None
    erased = (await keys.by_id([key.key_id]))[key.key_id]
    assert isinstance(erased, Erased)
    assert erased.text() == "[erased under request ER-7, 1 March 2026]"
    assert (await keys.of_subjects({ANNA: ()}))[ANNA] != key, "who comes again has a new key"


async def test_a_new_wrapping_key_wraps_all_keys_anew(pools: Pools, path: Path) -> None:
    """After that the old one may go, and with it whatever old backups hold."""
    key = (await Keys(pools, keyfile.read(path)).of_subjects({ANNA: ()}))[ANNA]
    rotated = Keys(pools, keyfile.add(path))
    assert rotated.wrapping.active == "k2"
    assert await rotated.rewrap() == 1
    assert await rotated.rewrap() == 0
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("k1 ")))
    alone = Keys(pools, keyfile.read(path))
    assert await alone.by_id([key.key_id]) == {key.key_id: key}


async def test_a_key_of_another_file_or_row_does_not_unwrap(pools: Pools, path: Path, tmp_path: Path) -> None:
    """A wrapped key is bound to its row, and to the file that wrapped it."""
    key = (await Keys(pools, keyfile.read(path)).of_subjects({ANNA: (), BO: ()}))[ANNA]
    other = (await Keys(pools, keyfile.create(tmp_path / "other.keys")).by_id([key.key_id]))[key.key_id]
    assert isinstance(other, Broken)
    assert "another key file" in other.reason
    async with pools.connection("vault") as connection:
        await connection.execute("UPDATE vault_keys SET wrapped = (SELECT min(wrapped) FROM vault_keys)")
    keys = Keys(pools, keyfile.read(path))
    found = await keys.by_id(await keys.known_ids("main", ["CUST-ANNA", "CUST-BO"]))
    assert sorted(type(one).__name__ for one in found.values()) == ["Broken", "DataKey"]
    (broken,) = (one for one in found.values() if isinstance(one, Broken))
    assert f"key {broken.key_id} does not open" in broken.reason
    assert "was altered; put the row back from a backup" in broken.reason
    with pytest.raises(BrokenKeyError, match=broken.key_id):
        await keys.of_subjects({ANNA: (), BO: ()})
    kept: dict[Subject, Broken] = {}
    assert len(await keys.of_subjects({ANNA: (), BO: ()}, kept)) == len(kept) == 1, "the other one's is given"


async def test_a_database_knows_its_key_file(pools: Pools, path: Path, tmp_path: Path) -> None:
    """Under another one everybody would get a second key beside the first, and only the second would be erased."""
    await Keys(pools, keyfile.read(path)).of_subjects({ANNA: ()})
    other = keyfile.create(tmp_path / "other.keys")
    with pytest.raises(KeyFileError, match="another key file"):
        await Keys(pools, other).check()
    for _ in range(2):
        await Keys(pools, keyfile.read(path)).check()
    for strange in (other, replace(keyfile.read(path), index=other.index)):
        with pytest.raises(KeyFileError):
            await Keys(pools, strange).check()
    rotated = Keys(pools, keyfile.add(path))
    await rotated.check()
    assert await rotated.rewrap() == 2
    await Keys(pools, replace(rotated.wrapping, keys={"k2": rotated.wrapping.keys["k2"]})).check()


async def test_what_is_sealed_is_not_worked_on_without_its_key_file(
    pools: Pools, path: Path, database: Database
) -> None:
    """Functions would be given sealed text for values. A database in which nobody has a key needs none."""
    keys = Keys(pools, keyfile.read(path))
    await keys.check()
    await check_unused(pools)
    await keys.of_subjects({ANNA: ()})
    with pytest.raises(KeyFileError, match="ORCHESTRATOR_VAULT_KEY_FILE"):
        async with Runtime(Settings(database_url=database.url), catalog=Catalog.of([])):
            pytest.fail("it started")


async def test_a_running_process_takes_a_rotated_key_file(pools: Pools, path: Path) -> None:
    """It need not be stopped for it; what it has wrapped with the older key meanwhile is wrapped by doing it again."""
    now = [0.0]
    running = Keys(pools, keyfile.read(path), lambda: now[0], reread=lambda: keyfile.read(path))
    anna = (await running.of_subjects({ANNA: ()}))[ANNA]
    rotated = Keys(pools, keyfile.add(path))
    assert await rotated.rewrap() == 1
    bo = (await running.of_subjects({BO: ()}))[BO]
    only_new = replace(rotated.wrapping, keys={"k2": rotated.wrapping.keys["k2"]})
    (broken,) = await Keys(pools, only_new).check()
    assert (broken.key_id, "no key k1" in broken.reason) == (bo.key_id, True), "it starts, and says whose sagas stand"
    now[0] = SECONDS_MAX
    assert await running.by_id([anna.key_id, bo.key_id]) == {anna.key_id: anna, bo.key_id: bo}
    assert await rotated.rewrap() == 1
    assert await Keys(pools, only_new).check() == []


async def test_an_altered_row_is_found_and_stops_neither_start_nor_rotation(pools: Pools, path: Path) -> None:
    """The start tells of it, a walk over all keys names it, and the others are wrapped anew all the same."""
    keys = Keys(pools, keyfile.read(path))
    await keys.check()
    found = await keys.of_subjects({ANNA: (), BO: ()})
    anna = found[ANNA].key_id
    async with pools.connection("vault") as connection:
        await connection.execute("UPDATE vault_keys SET wrapped = '\\x00' || wrapped WHERE key_id = $1", anna)
    assert [one.key_id for one in await Keys(pools, keyfile.read(path)).check()] == [anna]
    assert [one.key_id async for one in Keys(pools, keyfile.read(path)).all_broken() if one is not None] == [anna]
    rotated = Keys(pools, keyfile.add(path))
    assert await rotated.rewrap() == 2, "the other's, and the one by which the database knows its key file"
    assert [one.key_id for one in await rotated.check()] == [anna]


def test_a_check_walks_all_keys_and_names_those_that_do_not_open(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`orchestrator vault check`: 0 where all open, 1 and what to do where one does not."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database.url)
    monkeypatch.setattr("orchestrator.vault.keys.REWRAPPED_AT_ONCE", 2)

    async def made(alter: bool) -> str:
        pools = Pools(database.url, ConnectionLimits(), "test")
        keys = Keys(pools, keyfile.read(path))
        await keys.check()
        found = await keys.of_subjects({ANNA: (), BO: (), ("main", "CUST-CY"): ()})
        if alter:
            async with pools.connection("vault") as connection:
                text = "UPDATE vault_keys SET wrapped = wrapped || wrapped WHERE key_id = $1"
                await connection.execute(text, found[ANNA].key_id)
        await pools.close()
        return found[ANNA].key_id

    for alter in (False, True):
        anna = asyncio.run(made(alter))
        found_something = pytest.raises(CliError, match="1 of 4 keys do not open") if alter else nullcontext()
        with found_something as raised:
            check(file=path, as_json=True)
        assert raised is None or raised.value.code == ExitCode.FOUND_SOMETHING
        told = json.loads(capsys.readouterr().out)
        assert [one["key"] for one in told["broken"]] == [anna] * alter


async def test_a_key_that_was_asked_for_is_at_hand_for_a_while(pools: Pools, path: Path) -> None:
    """Between asking and opening others have their turn; a message must not become a dead letter by that."""
    now = [0.0]
    keys = Keys(pools, keyfile.read(path), lambda: now[0])
    key = (await keys.of_subjects({ANNA: ()}))[ANNA]
    now[0] = SECONDS_MAX - 0.001
    await keys.by_id([key.key_id])
    now[0] = SECONDS_MAX + 10
    assert keys.at_hand(key.key_id) == key


async def test_many_keys_push_out_the_oldest_ones_only(
    pools: Pools, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one batch has asked for stays at hand while others ask for theirs."""
    monkeypatch.setattr("orchestrator.vault.keys.KEYS_MAX", 4)
    keys = Keys(pools, keyfile.read(path), lambda: 0.0)
    made = [(await keys.of_subjects({("main", f"CUST-{n}"): ()}))["main", f"CUST-{n}"] for n in range(5)]
    assert [keys.at_hand(key.key_id) is not None for key in made] == [False, False, True, True, True]

"""Participants with the key file, and participants that are lent keys: the same sagas, and nothing for anybody else."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from orchestrator.broker.contract import IncomingMessage, OutgoingMessage
from orchestrator.config import SettingsError, load_settings
from orchestrator.identity.keeping import Kept
from orchestrator.messages.personal import subject_key
from orchestrator.participants.lent import KeyServiceError, LentKeys
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.headers import unpack
from orchestrator.vault import keyfile
from orchestrator.vault.boxes import Pair
from orchestrator.vault.tokens import SealedError
from tests.databases import Database
from tests.vault.care import care, visits
from tests.vault.conftest import Care, at_work
from tests.vault.test_canary import ANNA, found_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = b64encode(Pair().public).decode()
OTHERS = "coordinator,relay,timers,api,projections"


@dataclass
class Served:
    """A product, and the keys on loan of the process of its participants."""

    product: Care
    lent: LentKeys = field(init=False)

    async def key(self, *actions: str) -> str:
        """An API key."""
        kept = Kept(self.product.runtime.store.pools)
        return await kept.make_key(
            tenant="main", name="visits", capacities=["service"], actions=actions, made_by="test", seconds=600
        )

    async def commands(self, case: str) -> list[IncomingMessage]:
        """The commands that a saga has sent."""
        connection = await asyncpg.connect(self.product.database.admin_url)
        try:
            rows = await connection.fetch(
                "SELECT o.* FROM outbox o JOIN saga_heads h USING (saga_id)"
                " WHERE h.business_key = $1 AND o.topic = 'visits.commands' ORDER BY o.version", case
            )  # fmt: skip
        finally:
            await connection.close()
        return [
            IncomingMessage(r["topic"], 9, n, r["key"].encode(), r["value"], unpack(r["headers"]), 0)
            for n, r in enumerate(rows)
        ]

    async def command(self, case: str) -> dict[str, Any]:
        """The first command that a saga has sent, as its participant would show it to the service."""
        message = (await self.commands(case))[0]
        headers = {name: (value or b"").decode() for name, value in message.headers}
        return {
            "id": headers["ce_id"],
            "source": headers["ce_source"],
            "type": headers["ce_type"],
            "saga": headers["ce_correlationid"],
            "participant": "visits",
            "key": (message.key or b"").decode(),
            "digest": sha256(message.value or b"").hexdigest(),
            "proof": headers["ce_sealproof"],
            "keys": [headers["ce_subjectkey"]],
        }

    async def lend(self, token: str, *commands: dict[str, Any]) -> httpx2.Response:
        """Asks the service."""
        body = {"publicKey": PUBLIC, "commands": commands}
        headers = {"Authorization": f"Bearer {token}"}
        return await self.product.client.post("/v1/keys/lend", json=body, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def others(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Care]:
    """A product whose participants run elsewhere."""
    path = tmp_path_factory.mktemp("keys") / "vault.keys"
    keyfile.create(path)
    async with at_work(module_database, path, roles=OTHERS) as made:
        yield made


@asynccontextmanager
async def beside(product: Care, **how: str) -> AsyncIterator[Runtime]:
    """The process of its participants."""
    url = product.database.url
    settings = load_settings(database_url=url, sagas="tests.vault", roles="participants", topic_partitions=2, **how)
    async with Runtime(settings, catalog=Catalog.of([care], [visits])) as process:
        running = asyncio.create_task(process.run())
        try:
            yield process
        finally:
            process.stop()
            await running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(others: Care) -> AsyncIterator[Served]:
    """Participants that have no key file."""
    made = Served(others)
    how = {"key_service_url": str(others.client.base_url), "key_service_token": await made.key("key.lend:visits")}
    async with beside(others, **how) as process:
        assert process.vault is None
        assert process.lent_keys is not None
        made.lent = process.lent_keys
        yield made


async def every_way(product: Care, way: str) -> None:
    """Sagas that are done, refused with a name in the reason, failed with an address in the exception, undone."""
    for case, mood in ((f"{way}-1", ""), (f"{way}-2", "no"), (f"{way}-3", "raise")):
        await product.publish("caretest.CareRequested", {"case": case, "mood": mood, **ANNA})
    task = await product.approve(f"{way}-1")
    assert "Mrs Quatermain waits" in str(task["shown"]), "what a participant has answered is opened for people"
    await product.until(f"{way}-2", "compensated")
    await product.approve(f"{way}-3")
    dump = await product.dump()
    assert "personal:v1:" in dump["visits.inbox"], "replies are kept sealed"
    assert found_in(dump) == []
    assert dump["visits.dead_letters"] == ""


async def test_participants_with_the_key_file_obey_and_say_nothing_in_the_clear(others: Care) -> None:
    """One way to have keys."""
    async with beside(others, vault_key_file=str(others.key_file)):
        await every_way(others, "file")


async def test_participants_that_are_lent_keys_obey_and_say_nothing_in_the_clear(served: Served) -> None:
    """The other way: the same sagas, the same ends."""
    await every_way(served.product, "lent")
    assert served.lent.counts["lent"] >= 3
    assert served.lent.counts["refused"] == 0


async def test_while_the_service_is_away_commands_wait(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody's command becomes a dead letter; one line says what is wrong, one that it is over."""
    caplog.set_level(logging.INFO, "orchestrator.participants")
    product, url = served.product, served.lent.url
    served.lent.url = "http://127.0.0.1:9"
    await product.publish("caretest.CareRequested", {"case": "away-1", **ANNA})
    for _ in range(500):
        if served.lent.counts["failed"] >= 3:
            break
        await asyncio.sleep(0.02)
    assert served.lent.away
    assert served.lent.counts["failed"] >= 3
    served.lent.url = url
    await product.approve("away-1")
    assert served.lent.readings()[-1][2] == 0
    lines = [record.getMessage() for record in caplog.records if "keys of persons" in record.getMessage()]
    assert len(lines) == 2, lines
    assert "no key service answers at http://127.0.0.1:9" in lines[0]
    assert (await product.dump())["visits.dead_letters"] == ""
    asked = {metric.name: value for metric, said, value in served.lent.readings() if said in ((), ("failed",))}
    assert asked["saga.keys.asked"] >= 3
    assert asked["saga.keys.away"] == 0


ASKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "for its participant": ("key.lend:visits", {}, ""),
    "for this type alone": ("key.lend:visits/caretest.PlanVisit", {}, ""),
    "for another type": ("key.lend:visits/caretest.CancelVisit", {}, "not_addressed"),
    "for another participant": ("key.lend:letters", {}, "not_named"),
    "for nobody by name": ("key.lend", {}, "not_named"),
    "another's command as one's own": ("key.lend:letters", {"participant": "letters"}, "not_proven"),
    "another saga": ("key.lend:visits", {"saga": "0" * 36}, "not_proven"),
    "other data": ("key.lend:visits", {"digest": "0" * 64}, "not_proven"),
    "no proof": ("key.lend:visits", {"proof": ""}, "not_proven"),
}


@pytest.mark.parametrize("asked", list(ASKED))
async def test_keys_are_lent_for_proven_commands_to_whom_a_key_names(served: Served, asked: str) -> None:
    """Everything else is refused, command by command, and stands in the security log."""
    action, change, refused = ASKED[asked]
    command = await served.command("lent-1")
    answer = await served.lend(await served.key(action), command | change, command)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["commands"]
    assert first["refused"] == refused
    assert bool(first["sender"]) == bool(first["keys"]) == (not refused)
    assert bool(second["refused"]) == (refused in ("not_addressed", "not_named") or action.endswith("letters")), (
        "each by itself"
    )
    if not refused:
        (loan,) = first["keys"]
        assert loan["box"]
        assert 0 < loan["seconds"] <= 60
        assert command["keys"] == [loan["id"]]
    log = (await served.product.get("/v1/security-log", actor="audrey", action="key.lend", limit=1)).json()["items"]
    assert (log[0]["outcome"], log[0]["code"]) == (("refused", refused) if refused else ("allowed", ""))


async def test_one_request_a_minute_and_saga_and_none_for_what_only_looks_like_a_command(served: Served) -> None:
    """Further commands of a saga are proven here, what is not is shown to the service, which is asked anew in time."""
    now = [0.0]
    keys = LentKeys(str(served.product.client.base_url), await served.key("key.lend:visits"), clock=lambda: now[0])
    try:
        first, second = await served.commands("lent-1")
        await keys.ask([first])
        await keys.ask([second, first])
        assert (keys.counts["lent"], keys.refusal(first), keys.refusal(second)) == (1, "", "")
        key_id = subject_key(first.headers)
        saga = dict(first.headers)["ce_correlationid"].decode()
        assert b"Annabel Quatermain" in keys.open_message(first.value or b"", "main")[0]
        assert keys.sealer_of(key_id, saga, "main") is not None
        assert keys.sealer_of(key_id, "another", "main") is keys.sealer_of(key_id, saga, "other") is None

        forged = replace(first, offset=7, value=(first.value or b"") + b" ")
        encoded = tuple((n, b"personal%3Av1%3A" if n == "ce_id" else v) for n, v in first.headers)
        for command, why in ((forged, "not_proven"), (replace(first, offset=8, headers=encoded), "does not look like")):
            await keys.ask([command, second])
            assert why in keys.refusal(command)
            assert keys.refusal(second) == ""
        assert (keys.counts["refused"], keys.counts["lent"]) == (1, 1), "a strange one is shown to nobody"

        now[0] = 60.0
        with pytest.raises(SealedError, match="not lent"):
            keys.open_message(first.value or b"", "main")
        assert keys.sealer_of(key_id, saga, "main") is None
        await keys.ask([first])
        assert keys.counts["lent"] == 2
    finally:
        await keys.close()


@pytest.mark.parametrize("action", ["key.lend:visit", "key.lend"])
async def test_with_a_key_that_names_somebody_else_commands_wait(served: Served, action: str) -> None:
    """A slip in what the key was made for fails nobody's saga: the key is wrong, the commands are not."""
    keys = LentKeys(str(served.product.client.base_url), await served.key(action))
    (first, _) = await served.commands("lent-1")
    with pytest.raises(KeyServiceError, match=r"lends this process nothing for visits: .* --action key.lend:visits"):
        await keys.ask([first])
    assert (keys.away, keys.refusal(first)) == (True, "")
    await keys.close()


@pytest.mark.parametrize("answer", [b"[]", b"{", b'{"publicKey": "AAAA", "commands": []}', b'{"publicKey": 1}'])
async def test_what_does_not_answer_as_a_key_service_is_waited_for(served: Served, answer: bytes) -> None:
    """Another program at that address makes nobody's command a dead letter."""
    keys = LentKeys("http://127.0.0.1:9", "orc_x")
    (first, _) = await served.commands("lent-1")
    keys._client = httpx2.AsyncClient(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=answer)), trust_env=False
    )
    with pytest.raises(KeyServiceError, match="check ORCHESTRATOR_KEY_SERVICE_URL"):
        await keys.ask([first])
    assert keys.away
    await keys.close()


async def test_nobody_else_is_let_in_to_the_key_service(served: Served) -> None:
    """Neither a key for other things, nor a person, nor whoever sends too much."""
    command = await served.command("lent-1")
    assert (await served.lend(await served.key("event.publish"), command)).status_code == 403
    assert (await served.lend(await served.key("key.lend:visits"), *[command] * 501)).status_code == 422
    nothing = {"publicKey": "A" * 43 + "=", "commands": [command]}
    assert (await served.product.post("/v1/keys/lend", nothing)).status_code == 422, "a box that anybody could open"
    by_header = await served.product.post("/v1/keys/lend", {"publicKey": PUBLIC, "commands": [command]})
    assert by_header.json()["commands"][0]["refused"] == "not_named", "who names no participant is lent nothing"


async def test_a_forged_command_is_not_obeyed(served: Served) -> None:
    """Whoever may write to the topic of commands has a victim's values opened for no handler, though its saga's keys
    are at hand."""
    product = served.product
    await product.publish("caretest.CareRequested", {"case": "victim-1", **ANNA})
    await product.until("victim-1", "approve")
    genuine = (await served.commands("victim-1"))[0]
    changed = {"ce_id": b"forged-1", "ce_idempotencykey": b"x:y:1:" + b"0" * 16}
    headers = tuple((name, changed.get(name, value)) for name, value in genuine.headers)
    producer = product.runtime.broker.producer("forger")
    await producer.start()
    body = (genuine.value or b"").replace(b'"case":"victim-1"', b'"case":"forged-1"')
    assert await producer.send([OutgoingMessage("visits.commands", genuine.key or b"", body, headers)]) == [None]
    connection = await asyncpg.connect(product.database.admin_url)
    letters: list[Any] = []
    for _ in range(500):
        letters = await connection.fetch("SELECT reason, detail FROM visits.dead_letters")
        if letters:
            break
        await asyncio.sleep(0.02)
    await connection.close()
    assert [letter["reason"] for letter in letters] == ["invalid"]
    assert "not_proven" in letters[0]["detail"]
    await product.approve("victim-1")


async def test_only_participants_go_without_the_key_file(others: Care) -> None:
    """Whoever writes records seals them; a service without a key of its own is of no use."""
    service = {"database_url": others.database.url, "sagas": "tests.vault", "key_service_url": "http://127.0.0.1:9"}
    catalog = Catalog.of([care], [visits])
    with pytest.raises(SettingsError, match="role participants alone"):
        Runtime(load_settings(**service, key_service_token="orc_x"), catalog=catalog)
    with pytest.raises(SettingsError, match="KEY_SERVICE_TOKEN is missing"):
        Runtime(load_settings(**service, roles="participants"), catalog=catalog)

"""Nothing of a person lies anywhere in the clear, before they are erased and after (V19); nobody else is harmed."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.kernel.api import fold
from orchestrator.kernel.records import Record
from orchestrator.vault.keys import SECONDS_MAX as SECONDS_MAX_OF_KEYS
from projections.rebuild import rebuild
from projections.registry import projections
from tests.vault.conftest import SECONDS_MAX, Care
from tests.vault.leaks import pg_dump

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANNA = {
    "customer_id": "CUST-CANARY-1",
    "name": "Annabel Quatermain",
    "address": "7 Rosebud Lane, Kingsmarkham",
    "story": 'My mother said "come at once": the stairs are broken, and since Tuesday nobody has been here to see her.',
}
CANARIES = (
    "CUST-CANARY-1", "Annabel", "ANNABEL", "Quatermain", "Rosebud", "Kingsmarkham", "the stairs are broken",
    "nobody has been here", "Uncle Theodore",
)  # fmt: skip


def found_in(places: dict[str, str]) -> list[str]:
    """Canaries, and where they sing."""
    return [f"{canary} in {place}" for place, text in places.items() for canary in CANARIES if canary in text]


async def told(product: Care) -> None:
    """Everything that can be said of somebody is said: six sagas with every way through, good and bad."""
    await product.publish("caretest.CareRequested", {"case": "a-1", **ANNA})
    for case, mood in (("a-2", "no"), ("a-3", "raise"), ("a-4", "bug"), ("a-5", "wait")):
        await product.publish("caretest.CareRequested", {"case": case, "mood": mood, **ANNA})
    body = {"case": "a-6", **ANNA}
    answer = await product.post("/v1/sagas/care", body, actor="CUST-CANARY-1")
    assert answer.status_code == 201, answer.text
    await product.publish("caretest.CareConfirmed", {"case": "a-5", "said_by": "Uncle Theodore"})
    await product.publish("caretest.CareConfirmed", {"case": "a-none", "said_by": "Uncle Theodore"})


async def finished(product: Care) -> dict[str, Any]:
    """All of them end; gives the task of the first as it was shown."""
    detail = await product.until("a-1", "approve")
    (item,) = (await product.get("/v1/tasks", saga=detail["saga"]["sagaId"])).json()["items"]
    comment = {"text": "I spoke to Mrs Quatermain of Rosebud Lane."}
    answer = await product.post(f"/v1/tasks/{item['id']}/comments", comment, actor="nora")
    assert answer.status_code < 300, answer.text
    draft = {"form": {"note": "Annabel Quatermain should see a doctor"}, "subjectHash": item["subjectHash"]}
    headers = {"X-Actor": "nora", "X-Actor-Roles": "nurse"}
    kept = await product.client.put(f"/v1/tasks/{item['id']}/draft", json=draft, headers=headers)
    assert kept.status_code < 300, kept.text
    task = await product.approve("a-1", reason="Annabel Quatermain is known to me")
    await product.until("a-2", "compensated")
    await product.approve("a-3")
    stuck = await product.until("a-4", "stuck")
    answer = await product.post(
        f"/v1/sagas/{stuck['saga']['sagaId']}/cancel", {"reason": "no letter for Annabel"}, actor="olga"
    )
    assert answer.status_code < 300, answer.text
    await product.until("a-4", "compensated")
    await product.approve("a-5")
    await product.approve("a-6")
    return task


async def test_nothing_of_a_person_lies_anywhere_and_after_erasing_nobody_can_read_it(
    product: Care, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The whole life of six sagas, then a dump of all tables, the log's topics, what was logged, and the pages."""
    caplog.set_level(logging.DEBUG, "orchestrator")
    await product.publish("caretest.CareRequested", {"case": "b-1", **ANNA, "customer_id": "CUST-B", "name": "Bo Ek"})
    await told(product)
    broken = b'{"case": "a-9", "name": "Annabel Quatermain", "address": '
    headers = {"ce_specversion": "1.0", "ce_id": "x-1", "ce_source": "/up", "ce_type": "caretest.CareRequested"}
    packed = tuple((name, value.encode()) for name, value in {**headers, "content-type": "application/json"}.items())
    producer = product.runtime.broker.producer("upstream")
    await producer.start()
    assert await producer.send([OutgoingMessage("caretest.events", b"a-9", broken, packed)]) == [None]
    task = await finished(product)
    await product.approve("b-1")
    assert "Annabel Quatermain" in str(task["shown"]), "people see what they decide on"
    assert "Rosebud" in str(task["shown"])
    await product.settled()

    places = await product.dump()
    upstream = places["public.broker_message"].count("Annabel")
    places["public.broker_message"] = places["public.broker_message"].replace(broken.decode(), "")
    assert upstream == 1, "only what upstream itself wrote to its topic, unreadable, is there"
    signed_in = ["CUST-CANARY-1 in public.security_log"]  # who asked for what over HTTP: an access log of its own
    assert found_in(places) == signed_in
    assert await dumped(product, broken) == ["CUST-CANARY-1 in pg_dump"], "the same, as the server itself dumps it"
    assert "Bo Ek" not in str(places)
    assert "personal:v1:" in places["public.records_stored"] or "personal:v1:" in str(places)

    saga = (await product.get("/v1/sagas/a-1")).json()["saga"]["sagaId"]
    assert "Annabel Quatermain" in (await product.get(f"/v1/sagas/{saga}/records")).text
    shown = await product.get(f"/office/audit/records/{saga}/{await number_of(product, saga, 'task.voted')}")
    assert "Rosebud" in shown.text
    assert "personal:v1:" not in shown.text

    await erased(product)
    after = await product.dump()
    after["public.broker_message"] = after["public.broker_message"].replace(broken.decode(), "")
    assert found_in(after) == signed_in
    assert await dumped(product, broken) == ["CUST-CANARY-1 in pg_dump"]
    records = await product.get(f"/v1/sagas/{saga}/records")
    assert "[erased under request ER-7, " in records.text
    assert not found_in({"records": records.text})
    detail = await product.get("/v1/sagas/a-1")
    assert "[erased under request ER-7, " in detail.text
    assert "subject.erased" in records.text
    for case in ("a-1", "a-2", "a-3", "a-4", "a-5", "a-6", "b-1"):
        one = (await product.get(f"/v1/sagas/{case}")).json()["saga"]["sagaId"]
        assert await product.runtime.queries.verify("main", one) is None, "the chain stands, over what is sealed"
        page = await product.get(f"/office/sagas/{one}")
        assert page.status_code == 200
        assert not found_in({"page": page.text})
    shown = await product.get(f"/office/audit/records/{saga}/{await number_of(product, saga, 'task.voted')}")
    assert "[erased under request ER-7, " in shown.text
    assert "Bo Ek" in (await product.get("/v1/sagas/b-1/records")).text, "somebody else is as before"
    assert "CUST-CANARY" not in caplog.text
    assert not found_in({"log": caplog.text, "stdout and stderr": "".join(capfd.readouterr())})
    assert product.sent is not None
    heard = await product.sent.until(saga, "plan_visit", "saga.outcome", "saga.in_flight", "saga.step.duration")
    assert not found_in({"spans and figures": heard})


async def dumped(product: Care, broken: bytes) -> list[str]:
    """What is found in a dump of all that the product has, without what upstream itself wrote and the access log."""
    text = await pg_dump(product.database)
    for kept in ("CREATE TABLE public.records_stored", "COPY public.vault_keys", "personal:v1:", "security_log"):
        assert kept in text, kept
    assert broken.hex() in text, "bytes are looked into"
    return found_in({"pg_dump": text.replace(broken.decode(), "")})


async def number_of(product: Care, saga: str, type_: str) -> int:
    """The number of a saga's first record of a type."""
    items = (await product.get(f"/v1/sagas/{saga}/records")).json()["items"]
    return int(next(item["version"] for item in items if item["type"] == type_))


async def erased(product: Care) -> None:
    """Two people erase her, and everybody's memory of her key ends."""
    ask = {"subject": "CUST-CANARY-1", "request": "ER-7", "reason": "asked by letter"}
    assert (await product.post("/v1/subjects/erasures", ask, actor="olga")).json()["erasedAt"] is None
    alone = await product.post("/v1/subjects/erasures/ER-7/confirm", actor="olga")
    assert (alone.status_code, alone.json()["code"]) == (403, "second_person")
    done = await product.post("/v1/subjects/erasures/ER-7/confirm", actor="omar")
    assert done.status_code == 200, done.text
    assert done.json()["sagas"] == 6
    again = await product.post("/v1/subjects/erasures/ER-7/confirm", actor="omar")
    assert again.json()["sagas"] == 6


async def test_who_still_has_a_saga_running_or_is_held_is_not_erased(product: Care) -> None:
    """The refusal names what to wait for; afterwards it goes."""
    clara = {**ANNA, "customer_id": "CUST-CLARA", "name": "Clara Holm"}
    await product.publish("caretest.CareRequested", {"case": "c-1", **clara})
    await product.until("c-1", "approve")
    ask = {"subject": "CUST-CLARA", "request": "ER-8", "reason": "asked by letter"}
    answer = await product.post("/v1/subjects/erasures", ask)
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert "care c-1" in answer.json()["detail"]
    await product.approve("c-1")
    assert (await product.post("/v1/subjects/holds", {"subject": "CUST-CLARA", "reason": "a lawsuit"})).json()["held"]
    answer = await product.post("/v1/subjects/erasures", ask)
    assert "a lawsuit" in answer.json()["detail"]
    assert not (await product.post("/v1/subjects/holds", {"subject": "CUST-CLARA"})).json()["held"]
    named = await product.post("/v1/subjects/erasures", {**ask, "reason": "cust-clara asked"})
    assert (named.status_code, named.json()["code"]) == (422, "invalid")
    assert (await product.post("/v1/subjects/erasures", {**ask, "subject": "CUST-NONE"})).status_code == 404
    assert (await product.post("/v1/subjects/erasures", ask)).status_code == 200
    listed = (await product.get("/v1/subjects/erasures")).json()["items"]
    assert listed[0]["request"] == "ER-8"
    assert listed[0]["erasedAt"] is None


async def test_a_customer_is_found_by_their_id_though_no_table_holds_it(product: Care) -> None:
    """Lists, the audit and the one box take the id that people know; read models hold what stands for it."""
    dora = {**ANNA, "customer_id": "CUST-DORA", "name": "Dora Lind"}
    await product.publish("caretest.CareRequested", {"case": "d-1", **dora})
    await product.approve("d-1")
    await product.settled()
    for path in ("/v1/journeys", "/v1/audit"):
        found = (await product.get(path, customer="CUST-DORA")).json()["items"]
        assert {item["businessKey"] for item in found} == {"d-1"}, path
    page = await product.get("/office/sagas", customer="CUST-DORA")
    assert "d-1" in page.text
    exported = (await product.get("/v1/audit/export", customer="CUST-DORA")).text
    assert "d-1" in exported
    assert "Dora Lind" not in exported, "what leaves in files stays sealed"
    assert "CUST-DORA" not in (await product.dump())["public.journeys_a"]


async def test_an_erasure_that_was_cut_off_after_its_commit_is_finished_by_nobodys_asking(
    product: Care, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that confirmed it is killed before it tells any saga; another one does, and forgets the key."""
    eva = {**ANNA, "customer_id": "CUST-EVA", "name": "Eva Brandt"}
    for case in ("e-1", "e-2"):
        await product.publish("caretest.CareRequested", {"case": case, **eva})
        await product.approve(case)
    ask = {"subject": "CUST-EVA", "request": "ER-9", "reason": "asked by letter"}
    assert (await product.post("/v1/subjects/erasures", ask, actor="olga")).status_code == 200
    assert "Eva Brandt" in (await product.get("/v1/sagas/e-1/records")).text, "this process knows her key"
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.vault.killed", product.database.url, str(product.key_file), "ER-9"
    )
    assert await killed.wait() == -signal.SIGKILL
    said = (await product.get("/v1/subjects/erasures/ER-9")).json()
    assert (said["erasure"]["erasedAt"] is not None, said["erasure"]["finishedAt"]) == (True, None)
    assert {saga["businessKey"] for saga in said["sagas"]} == {"e-1", "e-2"}
    async with product.runtime.store.pools.connection("vault") as connection:  # the minute of whoever died is over
        await connection.execute("UPDATE vault_erasures SET again_at = now() WHERE request = 'ER-9'")
    for _ in range(SECONDS_MAX * 20):
        said = (await product.get("/v1/subjects/erasures/ER-9")).json()
        if said["erasure"]["finishedAt"] is not None:
            break
        await asyncio.sleep(0.05)
    assert (said["erasure"]["sagas"], said["erasure"]["untold"]) == (2, 0)
    assert product.runtime.vault is not None
    monkeypatch.setattr(product.runtime.vault.keys, "_clock", lambda: time.monotonic() + SECONDS_MAX_OF_KEYS)
    for case in ("e-1", "e-2"):
        records = await product.get(f"/v1/sagas/{case}/records")
        assert [item["type"] for item in records.json()["items"]].count("subject.erased") == 1
        assert "[erased under request ER-9, " in records.text
        assert "Eva Brandt" not in records.text
    again = await product.post("/v1/subjects/erasures/ER-9/confirm", actor="omar")
    assert again.json()["sagas"] == 2, "who comes late is told what was done"


async def test_every_prefix_of_a_stream_with_erased_values_folds_to_the_state_that_it_folded_to(
    product: Care,
) -> None:
    """Nothing but the texts themselves differs (V12), in other processes under other hash seeds too; and every read
    model that is built anew from erased records has the rows of the live one (V15)."""
    fay = {**ANNA, "customer_id": "CUST-FAY", "name": "Fay Monroe"}
    await product.publish("caretest.CareRequested", {"case": "f-1", **fay})
    await product.publish("caretest.CareRequested", {"case": "f-2", "mood": "no", **fay})
    await product.approve("f-1", reason="Fay Monroe is known to me")
    await product.until("f-2", "compensated")
    before = {case: await opened_records(product, case) for case in ("f-1", "f-2")}
    ask = {"subject": "CUST-FAY", "request": "ER-10", "reason": "asked by letter"}
    assert (await product.post("/v1/subjects/erasures", ask, actor="olga")).is_success
    assert (await product.post("/v1/subjects/erasures/ER-10/confirm", actor="omar")).is_success
    for case, plain in before.items():
        erased = await opened_records(product, case)
        assert erased[-1].type == "subject.erased"
        assert len(erased) == len(plain) + 1
        differing: set[str] = set()
        for length in range(1, len(plain) + 1):
            found = fold(erased[:length]).summary()
            differing |= set(differences(fold(plain[:length]).summary(), found))
        assert any("Fay Monroe" in text for text in differing), "something was erased"
        again = fold(erased).summary()
        for seed in ("1", "2"):
            assert await folded_elsewhere(erased, seed) == repr(again)
    await product.settled()
    for made in projections():
        rebuilt = await rebuild(product.database.url, made.name, swap=False)
        assert (rebuilt.same_rows, rebuilt.differences) == (True, ()), made.name


async def opened_records(product: Care, case: str) -> list[Record]:
    """A saga's records as they are folded in the coordinator: opened, or with what stands for a value."""
    saga = (await product.get(f"/v1/sagas/{case}")).json()["saga"]["sagaId"]
    stored = await product.runtime.queries.records("main", saga)
    assert product.runtime.vault is not None
    plain, _, broken, _ = await product.runtime.vault.open_streams({saga: stored})
    assert not broken
    return [Record(record.type, record.activity, record.data) for record in plain[saga]]


def differences(before: Any, after: Any) -> Iterator[str]:
    """The texts that were erased; fails at any other difference."""
    if isinstance(before, str) and before != after:
        assert str(after).startswith("[erased under request ER-10, "), (before, after)
        yield before
    elif isinstance(before, Mapping):
        assert list(before) == list(after)
        for name in before:
            yield from differences(before[name], after[name])
    elif isinstance(before, list | tuple):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            yield from differences(one, other)
    elif hasattr(before, "__slots__") and not isinstance(before, str | bytes | int):
        for name in before.__slots__:
            yield from differences(getattr(before, name), getattr(after, name))
    else:
        assert before == after


async def folded_elsewhere(records: Sequence[Record], seed: str) -> str:
    """The state that a fresh process under another hash seed folds, from what is written of the records."""
    code = (
        "import json, sys; from orchestrator.kernel.api import fold; from orchestrator.kernel.records import Record\n"
        "print(repr(fold(Record(*json.loads(line)) for line in sys.stdin).summary()))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    lines = "\n".join(json.dumps([record.type, record.activity, record.data]) for record in records)
    said, _ = await process.communicate(lines.encode())
    return said.decode().strip()

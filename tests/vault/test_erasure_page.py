"""The pages on which people are erased: asked, refused in plain words, confirmed by another, held, let go."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from html import unescape

import asyncpg
import httpx2
import pytest

from tests.pages.rendered import flaws
from tests.vault.conftest import Care
from tests.vault.test_canary import ANNA

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/office/erasures"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


def words(page: str) -> str:
    """What people read of the body of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page[page.index("<main") :])).split())


async def send(
    product: Care, path: str, form: Mapping[str, str], actor: str = "olga", roles: str = "operator"
) -> httpx2.Response:
    """A form as somebody."""
    url = str(product.client.base_url).rstrip("/")
    headers = {"X-Actor": actor, "X-Actor-Roles": roles, "Origin": url}
    return await product.client.post(path, data=dict(form), headers=headers)


async def see(product: Care, path: str = PATH, actor: str = "olga", roles: str = "operator") -> httpx2.Response:
    """A page as somebody."""
    return await product.client.get(path, headers={"X-Actor": actor, "X-Actor-Roles": roles})


async def test_a_person_is_erased_by_two_on_the_page(product: Care) -> None:
    """Refused while a saga runs, with a way to it; then asked by one, confirmed by another who says whom."""
    anna = {**ANNA, "customer_id": "CUST-ANNA"}
    await product.publish("caretest.CareRequested", {"case": "p-1", **anna})
    saga = (await product.until("p-1", "approve"))["saga"]["sagaId"]
    ask = {"subject": "CUST-ANNA", "request": "ER-1", "reason": "asked by letter"}
    refused = await send(product, PATH, ask)
    assert refused.status_code == 409
    said = "A saga of theirs still runs, or may be undone by who called it: care p-1. Ask again later."
    assert said in words(refused.text)
    assert f'href="/office/sagas/{saga}"' in refused.text
    assert 'value="ER-1"' in refused.text, "what was typed is still there"
    await product.approve("p-1")
    assert (await send(product, PATH, ask)).headers["location"] == f"{PATH}?said=asked"
    page = await see(product, f"{PATH}?said=asked")
    assert "Somebody else has to confirm it" in words(page.text)
    assert "ER-1 asked by letter you" in words(page.text)
    twice = await send(product, PATH, ask, actor="omar")
    assert twice.status_code == 409, "asking never carries out what somebody else has asked for"
    assert "There is a request ER-1 already" in words(twice.text)
    one = f"{PATH}/one?request=ER-1"
    assert "You asked for this" in words((await see(product, one)).text)
    others = await see(product, one, actor="omar")
    assert "p-1 care has ended" in words(others.text)
    assert "CUST-ANNA" not in others.text
    assert flaws(others.text) == []
    hidden = {name: unescape(value) for name, value in _HIDDEN.findall(others.text)}
    assert (await send(product, f"{PATH}/confirm", hidden, actor="omar")).status_code == 422
    full = {**hidden, "subject": "CUST-ANNA", "sure": "true"}
    assert (await send(product, f"{PATH}/confirm", full, actor="olga")).status_code == 403
    wrong = await send(product, f"{PATH}/confirm", {**full, "subject": "CUST-BO"}, actor="omar")
    assert wrong.status_code in (404, 422)
    done = await send(product, f"{PATH}/confirm", full, actor="omar")
    assert (done.status_code, done.headers["location"]) == (303, one)
    told = words((await see(product, one)).text)
    assert "What it did" in told
    assert "1 of 1 sagas, in a record subject.erased" in told
    assert "[erased under request ER-1, " in (await see(product, f"/office/sagas/{saga}?tab=data", roles="viewer")).text
    assert "olga , omar" in words((await see(product)).text).replace("olga,", "olga ,")


async def test_a_hold_is_placed_seen_and_let_go_on_the_page(product: Care) -> None:
    """It says why and what it protects; asking is refused with its reason meanwhile."""
    bo = {**ANNA, "customer_id": "CUST-BO", "name": "Bo Ek"}
    await product.publish("caretest.CareRequested", {"case": "p-2", **bo})
    await product.approve("p-2")
    assert (await send(product, f"{PATH}/hold", {"held": "CUST-NONE", "why": "a lawsuit"})).status_code == 404
    assert (await send(product, f"{PATH}/hold", {"held": "CUST-BO", "why": "lawsuit 7"})).status_code == 303
    ask = {"subject": "CUST-BO", "request": "ER-2", "reason": "asked by letter"}
    refused = await send(product, PATH, ask)
    assert (refused.status_code, "They are under a legal hold: lawsuit 7" in words(refused.text)) == (409, True)
    page = await see(product)
    assert "lawsuit 7" in words(page.text)
    assert "care p-2" in words(page.text)
    assert flaws(page.text) == []
    hidden = dict(_HIDDEN.findall(page.text[page.text.index("/office/erasures/release") :]))
    assert (await send(product, f"{PATH}/release", hidden)).headers["location"] == f"{PATH}?said=released"
    assert (await send(product, f"{PATH}/release", hidden)).status_code == 409
    assert (await send(product, PATH, ask)).status_code == 303


async def test_each_sees_of_it_what_is_theirs_to_do(product: Care) -> None:
    """An auditor reads and has no form; a viewer is not shown the way, and is refused."""
    auditors = await see(product, actor="vera", roles="auditor")
    assert "Ask for an erasure" not in auditors.text
    assert "Let go" not in auditors.text
    assert 'href="/office/erasures"' in auditors.text
    assert (await send(product, PATH, {}, actor="vera", roles="auditor")).status_code == 403
    viewers = await see(product, "/office/sagas", actor="vic", roles="viewer")
    assert "/office/erasures" not in viewers.text
    assert (await see(product, actor="vic", roles="viewer")).status_code == 403
    assert (await see(product, f"{PATH}/one?request=ER-404")).status_code == 404
    empty = await send(product, PATH, {"subject": "x" * 300})
    assert empty.status_code == 422
    assert "This has 300 characters; 200 at most." in words(empty.text)


async def test_what_staff_write_beside_sagas_in_the_clear_repeats_nobody(product: Care) -> None:
    """Reasons of owners and of acts on many, of requests and holds, and saved views: none keeps a name or an id."""
    tess = {**ANNA, "customer_id": "CUST-TESS", "name": "Tess Durbeyfield"}
    await product.publish("caretest.CareRequested", {"case": "p-3", "mood": "bug", **tess})
    await product.until("p-3", "stuck")
    page = (await see(product, "/office/operations")).text
    cause = re.search(r"/office/operations/causes/[^\"?/]+", page)
    assert cause is not None
    assert (await send(product, f"{cause[0]}/owner", {"act": "taken", "seen": "0"}, "ada")).status_code == 303
    over = {"act": "taken", "seen": "1", "reason": "I know the durbeyfield case"}
    refused = await send(product, f"{cause[0]}/owner", over)
    assert refused.status_code == 422
    assert "The reason repeats what a saga holds of a person (name)." in words(refused.text)
    assert (await send(product, f"{cause[0]}/owner", {**over, "reason": "the customer waits"})).status_code == 303
    bulk = (await send(product, f"{cause[0]}/preview", {"act": "retry"})).headers["location"]
    refused = await send(product, f"{bulk}/start", {"reason": "call her at 7 Rosebud Lane, Kingsmarkham"})
    assert (refused.status_code, "(address)" in words(refused.text)) == (422, True)
    assert (await send(product, f"{bulk}/start", {"reason": "the letter is mended"})).status_code == 303
    await product.until("p-3", "stuck")
    bulk = (await send(product, f"{cause[0]}/preview", {"act": "retry"})).headers["location"]
    connection = await asyncpg.connect(product.database.admin_url)
    try:
        await connection.execute("UPDATE bulk_items SET next_at = next_at + 9e15 WHERE state = 'open'")
    finally:
        await connection.close()
    assert (await send(product, f"{bulk}/start", {"reason": "the letter is mended"})).status_code == 303
    assert (await send(product, f"{bulk}/pause", {"reason": "Durbeyfield!"})).status_code == 303, "it needs no reason"
    assert (await send(product, f"{bulk}/resume", {"reason": "Durbeyfield!"})).status_code == 303
    refused = await send(product, f"{bulk}/stop", {"reason": "Durbeyfield!"})
    assert (refused.status_code, "Until then it is paused." in words(refused.text)) == (422, True)
    assert (await send(product, f"{bulk}/stop", {"reason": "the letter is wrong"})).status_code == 303
    view = {"name": "hers", "path": "/office/sagas", "view": "customer=CUST-TESS"}
    saved = (await send(product, "/office/views", view)).headers["location"]
    found = (await see(product, saved)).headers["location"]
    assert "CUST-TESS" not in found
    assert "p-3" in (await see(product, found)).text, "what stands for her finds her as well"
    for bad in ({"view": "text=CUST-TESS"}, {"name": "of CUST-TESS"}):
        assert (await send(product, "/office/views", {**view, **bad})).status_code == 400
    detail = await product.until("p-3", "stuck")
    await product.post(f"/v1/sagas/{detail['saga']['sagaId']}/cancel", {"reason": "no letter"}, actor="olga")
    await product.until("p-3", "compensated")
    ask = {"subject": "CUST-TESS", "request": "ER-3", "reason": "Mrs Durbeyfield wrote"}
    assert "Request or reason repeats" in words((await send(product, PATH, ask)).text)
    held = await send(product, f"{PATH}/hold", {"held": "CUST-TESS", "why": "Tess Durbeyfield sues"})
    assert held.status_code == 422
    kept = {name: text for name, text in (await product.dump()).items() if "security" not in name}
    assert [name for name, text in kept.items() if "urbeyfield" in text or "CUST-TESS" in text] == []

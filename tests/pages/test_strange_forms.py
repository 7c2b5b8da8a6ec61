"""What no record may hold does not come in by operators' forms either; the JSON routes refuse it at their door."""

from __future__ import annotations

import base64
import re

import pytest

from orchestrator.api.views import Actor
from orchestrator.pages.forms import Field, read_form
from tests.pages.office import OfficeProduct

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What one parser reads and another refuses, or falls over.
STRANGE = {
    "zero": '"a\\u0000b"',
    "nan": "NaN",
    "twice": '{"a":1,"a":2}',
    "surrogate": '"\\ud800"',
    "huge": "1e400",
    "deep": "[" * 5_000 + "]" * 5_000,
    "deeper than any parser goes": "[" * 40_000,
}


async def test_a_reason_with_a_zero_character_is_not_recorded(office: OfficeProduct) -> None:
    """No text of the database can hold one, and whoever reads the records would have to."""
    saga, stuck, letter = await office.begin("wait"), await office.begin("bug"), await office.poison()
    before = (
        len(await office.engine.records(saga, Actor("test"))),
        len(await office.engine.records(stuck, Actor("test"))),
    )
    for path in (
        f"/office/sagas/{saga}/act/cancel",
        f"/office/sagas/{stuck}/act/retry?place=-hold",
        f"/office/operations/letters/{letter}",
    ):
        assert (await office.form(path, reason="a\0b")).status_code == 400, path
    # In another alphabet: a lone half of a character, which is no text either.
    kind = "multipart/form-data; boundary=x; charset=unicode_escape"
    part = b'--x\r\nContent-Disposition: form-data; name="reason"\r\n\r\n\\ud800\r\n--x--\r\n'
    headers = {"X-Actor": "ada", "Origin": office.url, "Content-Type": kind}
    for path in (f"/office/sagas/{saga}/act/cancel", f"/office/operations/letters/{letter}"):
        assert (await office.client.post(path, content=part, headers=headers)).status_code == 400, path
    assert before == (
        len(await office.engine.records(saga, Actor("test"))),
        len(await office.engine.records(stuck, Actor("test"))),
    )


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
async def test_a_value_by_hand_is_strict_json_or_none(office: OfficeProduct, data: str) -> None:
    """A form's JSON is read as strictly as a body's: the page comes again, and never a bug of ours."""
    saga = office.sagas["stuck"]
    before = len(await office.engine.records(saga, Actor("test")))
    answer = await office.form(f"/office/sagas/{saga}/act/value?place=-hold", data=data, reason="because")
    assert answer.status_code == 422
    assert "not strict JSON" in answer.text or "U+0000" in answer.text or "nested deeper" in answer.text
    assert len(await office.engine.records(saga, Actor("test"))) == before


@pytest.mark.parametrize("number", ["\u00b2", "\u0663", "9" * 5_000])
async def test_a_number_that_is_none_is_no_bug_of_ours(office: OfficeProduct, number: str) -> None:
    """Digits of other alphabets, and more of them than any number has."""
    saga, waiting = office.sagas["stuck"], office.sagas["waiting"]
    answer = await office.form(f"/office/sagas/{saga}/act/retry?place=-hold", version=number, reason="because")
    assert answer.status_code == 409
    listed = (await office.get("/office/operations")).text
    cause = re.findall(r"/office/operations/causes/\w+", listed)[0]
    assert (await office.post(f"{cause}/owner", {"act": "taken", "seen": number})).status_code == 409
    (task,) = await office.engine.tasks(saga_id=waiting, tenant="main")
    path = f"/office/tasks/{task.id}/comment"
    assert (await office.post(path, {"text": "a word", "replaces": number}, "maria")).status_code < 500


@pytest.mark.parametrize("place", ['[18446744073709551615,"",""]', '[1,"\\u0000",""]', '[true,"",""]', '[1,"",2]', "{"])
async def test_a_place_in_a_list_that_was_not_given_is_a_bad_request(office: OfficeProduct, place: str) -> None:
    """Also one that no column of the database can be compared with."""
    cursor = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
    assert (await office.get(f"/office/inbox?tab=others&cursor={cursor}", "maria")).status_code == 400


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
async def test_a_field_of_a_decision_is_strict_json_or_none(data: str) -> None:
    """The same where an approver types it."""
    field = Field("more", "More", "json", required=True)
    values, (wrong,) = read_form([field], {field.name: data})
    assert (values, wrong.id) == ({}, field.id)

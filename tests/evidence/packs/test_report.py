"""The report: what it tells, that it needs nothing from anywhere, and that everybody can read it, on paper too."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Request, async_playwright

from orchestrator.evidence.pack.assemble import files_of
from orchestrator.evidence.pack.decisions import decisions, matches
from orchestrator.evidence.pack.gather import Gathering
from orchestrator.evidence.pack.layout import archive
from orchestrator.evidence.pack.material import Material
from tests.browser.conftest import AXE, AXE_RULES, chromium
from tests.evidence.packs.logs import KEYS, VKEY, SignedOffice, unpacked
from tests.pages.rendered import flaws

pytestmark = pytest.mark.asyncio(loop_scope="session")

_TAGS = re.compile(r"<style>.*?</style>|<[^>]+>", re.DOTALL)


async def material_of(office: SignedOffice, name: str, zone: str = "Asia/Kolkata") -> Material:
    """What the pack of a staged saga is made of."""
    gathering = Gathering(office.product.runtime.store.pools, KEYS)
    return await gathering.material("main", office.sagas[name], zone=zone)


def words(report: bytes) -> str:
    """The text of a page, without markup."""
    return " ".join(_TAGS.sub(" ", report.decode()).split())


async def test_it_tells_what_happened_who_decided_and_what_was_undone(office: SignedOffice) -> None:
    """In words, with the amounts and the hash of what was shown."""
    files = await office.pack("compensated")
    told = words(files["report.html"])
    for said in (
        "Wire compensated-1 ended after undoing", "maria (manager) decided reject on approve (record 8).",
        "One step was undone.",
        "It turned back: rejected.", "manager (role); 1 vote needed", "Not allowed to ravi", "EUR 6,000.00",
        "CUST00012", "✓ Saw what stands above", "No operator acted on this saga.", VKEY,
    ):  # fmt: skip
        assert said in told, said
    assert told.count(" IST ") > 10, "local times"
    assert told.count(" UTC") > 10, "and UTC"
    assert "SHA-256 " + decided_hash(files) in told


def decided_hash(files: dict[str, bytes]) -> str:
    """The hash of what was shown, as the record has it."""
    found = re.search(rb'"hash":"([0-9a-f]{64})"', files["records/000007.json"])
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize("name", ["waiting", "event", "stuck", "unknown", "undo", "helped", "cancelled", "completed"])
async def test_a_saga_in_any_state_has_a_report_that_is_whole(office: SignedOffice, name: str) -> None:
    """Well-formed, one line a record, no scripts, and nothing to be fetched: links lead into the pack."""
    material = await material_of(office, name, "UTC")
    files = files_of(material)
    page = files["report.html"].decode()
    assert flaws(page) == []
    assert page.count('<tr id="record-') == len(material.strand.records)
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|records/)', page), "every link stays in the pack"
    assert "url(" not in page
    assert "@import" not in page
    for record in re.findall(r'href="(records/[^"]+)"', page):
        assert record in files
    assert " IST" not in page, "where local time is UTC it is told once"
    assert flaws(files["definition.svg"].decode()) == []


async def test_text_from_outside_can_neither_act_nor_hide(office: SignedOffice) -> None:
    """Markup is text, and a character that turns the line round is shown as what it is."""
    odd = "<script>alert(1)</script>\u202e"
    office.sagas["odd"] = await office.product.begin("", key=f"odd-{odd}", requester=odd)
    material = await material_of_unsigned(office, "odd")
    page = files_of(material)["report.html"].decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "U+202E right-to-left override" in page
    body = page.partition("<body>")[2]
    assert "\u202e" not in body


async def material_of_unsigned(office: SignedOffice, name: str) -> Material:
    """Of a saga that has just begun."""
    from tests.evidence.packs.logs import seal_all

    await seal_all(office.sealer)
    return await material_of(office, name)


async def test_what_does_not_match_is_said_and_never_mended(office: SignedOffice) -> None:
    """A vote on another hash, and something shown that is not what its record hashed."""
    views = list((await material_of(office, "compensated")).strand.views)
    assert matches(decisions(views))
    place = next(n for n, one in enumerate(views) if one.type == "task.voted")
    vote = {**views[place].data["vote"], "hash": "00" * 32}
    other = [*views]
    other[place] = replace(views[place], data={"vote": vote})
    found = decisions(other)
    assert (matches(found), found["tasks"][0]["votes"][0]["matches"]) == (False, False)
    place = next(n for n, one in enumerate(views) if one.type == "task.opened")
    shown = {**views[place].data, "shown": {"amount": "1"}}
    other = [*views]
    other[place] = replace(views[place], data=shown)
    found = decisions(other)
    assert [one["matches"] for one in found["tasks"][0]["shown"]] == [False]
    assert not matches(found)


async def test_values_about_people_go_through_one_place(office: SignedOffice) -> None:
    """What stands for an erased value stands wherever people read, and records keep their bytes."""

    def erased(text: str) -> str:
        return text.replace("CUST00012", "[erased under request ER-7, 1 March 2026]")

    material = await material_of(office, "compensated")
    files = files_of(material, erased)
    assert "CUST00012" not in files["report.html"].decode()
    assert "[erased under request ER-7, 1 March 2026]" in words(files["report.html"])
    assert b"CUST00012" in files["records/000001.json"]
    assert files["decisions.json"] == files_of(material)["decisions.json"]


def _heard(asked: list[str], request: Request) -> None:
    asked.append(request.url)


async def test_everybody_can_read_it_on_a_screen_on_a_phone_in_the_dark_and_on_paper(
    office: SignedOffice, tmp_path: Path
) -> None:
    """axe finds nothing, nothing scrolls sideways, nothing is fetched, and a PDF comes out of it."""
    executable = chromium()
    folders = [
        unpacked(b"".join(archive(await office.pack(name))), tmp_path / name) for name in ("compensated", "helped")
    ]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            for folder in folders:
                page = await browser.new_page()
                asked: list[str] = []
                page.on("request", partial(_heard, asked))
                await page.goto((folder / "report.html").as_uri())
                await page.evaluate(AXE)
                for width, scheme in ((1280, "light"), (390, "dark")):
                    await page.set_viewport_size({"width": width, "height": 900})
                    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    found = await page.evaluate(
                        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", AXE_RULES
                    )
                    assert [each["id"] for each in found["violations"]] == [], found["violations"]
                    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    assert await page.evaluate(over) <= 0
                assert (await page.pdf(prefer_css_page_size=True)).startswith(b"%PDF")
                assert asked == [(folder / "report.html").as_uri()]
                await page.close()
        finally:
            await browser.close()

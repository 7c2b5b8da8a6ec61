"""Plays samples against a running product, from outside: events through the broker, people through the HTTP API.

Rules of this file
- Nothing is assumed to have worked: what became of a saga is read from the API and compared with its sample's `expect`.
- One copy of each of an area's samples is under way at a time, so that accounts suffice however many are played.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from orchestrator.api.contracts import named
from orchestrator.broker.contract import Broker, OutgoingMessage
from orchestrator.demo.samples import Sample
from orchestrator.messages import Envelope, Event
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import events_topic
from orchestrator.runtime.catalog import Catalog

SAGA_SECONDS_MAX = 60.0  # for one saga, from its event to its end
POLL_SECONDS = 0.1
ENDED = ("completed", "compensated")
LIVE = ("forward", "compensating", "on_failed")
QUIET_POLLS = 5
WAITS_FOR_PEOPLE = ("task ", "wait ")
SOURCE = "/demo"
_OURS = re.compile(r".+-demo[0-9a-z]{8}\Z")


@dataclass
class Played:
    """One saga. `state`: in words, as last read. `wrong`: why it is not as expected, "" where it is."""

    sample: Sample
    key: str
    state: str = "not started"
    phase: str = ""
    stuck: int = 0
    saga_id: str = ""
    wrong: str = ""
    over: bool = False


@dataclass
class Run:
    """One run: its suffix, everything played, and who is told about changes."""

    suffix: str
    played: list[Played] = field(default_factory=list)
    changed: Callable[[], None] = lambda: None

    @property
    def ok(self) -> bool:
        """Everything has ended, and as expected."""
        return bool(self.played) and all(item.over and not item.wrong for item in self.played)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many sagas ended how, by area; `waiting` are those that were left for a visitor."""
        found: dict[str, dict[str, int]] = {}
        for item in self.played:
            area = found.setdefault(item.sample.area, {"completed": 0, "compensated": 0, "stuck": 0, "unfinished": 0})
            place = item.phase if item.phase in ENDED else "stuck" if item.stuck else "unfinished"
            if place == "unfinished" and item.sample.waits and item.over and not item.wrong:
                place = "waiting"
            area[place] = area.get(place, 0) + 1
        return found


def new_suffix() -> str:
    """What makes the business keys of one run its own."""
    return f"-demo{uuid.uuid4().hex[:8]}"


class Player:
    """Plays samples. `client` calls the API. `journal`: where keys are kept that cannot be recognised later."""

    def __init__(self, broker: Broker, catalog: Catalog, client: httpx2.AsyncClient, journal: Path) -> None:
        self._journal = journal
        self._producer = broker.producer("demo")
        self._catalog = catalog
        self._client = client

    async def play(self, samples: Sequence[Sample], sagas: int, run: Run, *, visitors: bool = False) -> None:
        """Plays every sample once, or `sagas` sagas by going round. Mistakes are in `Played.wrong`.

        visitors: also leave the samples that wait for one, each once.
        """
        left = [self._own(sample, run.suffix.replace("-demo", "-open"), 0) for sample in samples if sample.waits]
        samples = [sample for sample in samples if not sample.waits]
        await self._producer.start()
        try:
            await self._clear_leftovers()
            areas: dict[str, list[Sample]] = {}
            mixed = _mixed(samples)
            for number in range(sagas or len(samples)):
                sample = mixed[number % len(samples)]
                round_ = number // len(samples)
                areas.setdefault(sample.area, []).append(self._own(sample, run.suffix, round_))
            plans = {area: [Played(s, self._key(s)) for s in found] for area, found in areas.items()}
            run.played = [item for plan in plans.values() for item in plan]
            waiting = [Played(sample, self._key(sample)) for sample in left] if visitors else []
            run.played += waiting
            at_once = {area: sum(sample.area == area for sample in samples) for area in plans}
            async with asyncio.TaskGroup() as group:
                for area, plan in plans.items():
                    group.create_task(self._rounds(plan, at_once[area], run))
                for item in waiting:
                    group.create_task(self._one(item, run))
        finally:
            await self._producer.stop()

    async def _rounds(self, plan: list[Played], at_once: int, run: Run) -> None:
        for first in range(0, len(plan), at_once):
            await asyncio.gather(*(self._one(item, run) for item in plan[first : first + at_once]))

    async def _one(self, item: Played, run: Run) -> None:
        """One saga from its first event to the comparison with what was expected."""
        try:
            async with asyncio.timeout(SAGA_SECONDS_MAX):
                if item.sample.post is None:
                    await self._send(item.sample)
                else:
                    item.key = await self._post(item.sample.post)
                await self._until(item, run, lambda detail: True)
                for act in item.sample.then:
                    await self._act(item, act, run)
                detail = await self._until(item, run, lambda d: _rests(d, item.sample.waits))
                item.wrong = await self._compare(item.sample.expect, detail)
        except TimeoutError:
            item.wrong = f"not over after {SAGA_SECONDS_MAX:.0f} s: {item.state}"
        except (httpx2.HTTPError, RuntimeError) as error:
            item.wrong = f"{type(error).__name__}: {error}"
        item.over = True
        run.changed()

    async def _send(self, sample: Sample) -> None:
        """All events of a sample in one batch, as an upstream service would publish them."""
        messages = []
        for sent in sample.events:
            event = self._event(sent["type"]).from_plain(sent["data"])
            envelope = Envelope(
                id=str(uuid.uuid4()),
                source=SOURCE,
                type=event.wire_name,
                dataschema=schema_urn(event.wire_name, event.wire_version),
            )
            topic = events_topic(event.context)
            messages.append(OutgoingMessage(topic, event.key().encode(), event.canonical(), envelope.headers()))
        for error in await self._producer.send(messages):
            if error is not None:
                raise RuntimeError(str(error))

    async def _post(self, post: Mapping[str, Any]) -> str:
        """Starts a saga through a package's own route; gives its business key."""
        headers = {"X-Actor": post["by"], "Idempotency-Key": str(uuid.uuid4())}
        answer = await self._client.post(post["path"], json=post["body"], headers=headers)
        key = answer.json().get(post["key"]) if answer.is_success else None
        if not isinstance(key, str):
            raise RuntimeError(f"{post['path']}: {answer.status_code} {answer.text[:200]}")
        with self._journal.open("a") as journal:
            journal.write(f"{key}\n")
        return key

    async def _act(self, item: Played, act: Mapping[str, Any], run: Run) -> None:
        """A person decides a task or calls a package's route, or an operator cancels, as soon as that is possible."""
        if "cancel" in act:
            cancel = act["cancel"]
            await self._until(item, run, lambda detail: bool(detail["undoPlan"]))
            path, body, by, roles = f"/v1/sagas/{item.saga_id}/cancel", {"reason": cancel["reason"]}, cancel["by"], []
        elif "post" in act:
            await self._until_taken(item, act, run)
            return
        else:
            task = await self._task(item, act["task"], run)
            body = {"outcome": act["outcome"], "reason": act.get("reason", ""), "subjectHash": task["subjectHash"]}
            body |= {"form": act["form"]} if "form" in act else {}
            path, by, roles = f"/v1/tasks/{task['id']}/decide", act["by"], act.get("roles", [])
        answer = await self._client.post(path, json=body, headers={"X-Actor": by, "X-Actor-Roles": ",".join(roles)})
        wanted = act.get("refused", "")
        if wanted and (answer.is_success or answer.json().get("code") != wanted):
            raise RuntimeError(
                f"{path}: {by} must be refused as {wanted}, got {answer.status_code} {answer.text[:200]}"
            )
        if not wanted and not answer.is_success:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")

    async def _until_taken(self, item: Played, act: Mapping[str, Any], run: Run) -> None:
        """A package's own route, asked until it says yes: what it needs may not have happened yet."""
        detail = await self._until(item, run, lambda detail: True)
        path = act["post"].replace("{key}", detail["saga"]["businessKey"])
        headers = {"X-Actor": act["by"], "X-Actor-Roles": ",".join(act.get("roles", []))}
        while True:
            answer = await self._client.post(path, json=act.get("body", {}), headers=headers)
            if answer.is_success:
                return
            item.state = f"{act['by']} asks {path}: {answer.status_code} {answer.text[:200]}"
            await asyncio.sleep(POLL_SECONDS)

    async def _task(self, item: Played, name: str, run: Run) -> dict[str, Any]:
        """The open task of this name, once it is there."""
        while True:
            detail = await self._until(item, run, lambda detail: True)
            if detail["saga"]["phase"] in ENDED:
                raise RuntimeError(f"{detail['state']}, before anybody could decide {name}")
            found = (await self._get("/v1/tasks", saga=item.saga_id))["items"]
            for task in found:
                if task["activity"].rpartition("/")[2] == name:
                    shown: dict[str, Any] = task
                    return shown
            await asyncio.sleep(POLL_SECONDS)

    async def _until(self, item: Played, run: Run, there: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The saga's detail once `there` says so; keeps `item` up to date."""
        reference = item.saga_id or item.key
        while True:
            answer = await self._client.get(f"/v1/sagas/{reference}", headers={"X-Actor": "demo"})
            if answer.status_code == 200:
                detail: dict[str, Any] = answer.json()
                item.saga_id, item.phase = detail["saga"]["sagaId"], detail["saga"]["phase"]
                item.state, item.stuck = detail["state"], len(detail["stuckPlaces"])
                run.changed()
                if there(detail):
                    return detail
            elif answer.status_code != 404:
                raise RuntimeError(f"/v1/sagas/{reference}: {answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(POLL_SECONDS)

    async def _compare(self, expect: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
        """What is not as expected; "" where all is."""
        saga, failure = detail["saga"], detail["failure"] or {}
        if "waits" in expect:
            there = _waits_for(saga, expect["waits"])
            return "" if there else f"expected to wait for {expect['waits']}, it is {detail['state']}"
        if saga["phase"] != expect["phase"]:
            return f"expected {expect['phase']}, it is {saga['phase']}: {detail['state']}"
        if "reason" in expect and expect["reason"] not in failure.get("reason", ""):
            return f"expected the reason {expect['reason']!r}, it is {failure.get('reason', '')!r}"
        if "outcome" in expect and saga["outcome"] != expect["outcome"]:
            return f"expected the outcome {expect['outcome']!r}, it is {saga['outcome']!r}"
        if "records" in expect:
            records = (await self._get(f"/v1/sagas/{saga['sagaId']}/records"))["items"]
            missing = set(expect["records"]) - {record["type"] for record in records}
            if missing:
                return f"its records lack {', '.join(sorted(missing))}"
        return ""

    async def _clear_leftovers(self) -> None:
        """What an interrupted demonstration left under way holds money and goods: it is cancelled, and waited for.

        Its events may still lie on the broker, so nothing counts as cleared before it was quiet for a moment.
        """
        quiet, left = 0, set[str]()
        noted = set(self._journal.read_text().split()) if self._journal.exists() else set()
        async with asyncio.timeout(SAGA_SECONDS_MAX):
            while quiet < QUIET_POLLS:
                found = [saga for phase in LIVE for saga in await self._leftovers(phase, noted)]
                live = [saga for saga in found if saga["sagaId"] not in left]
                for saga in live:
                    body = {"reason": "left over from an earlier demonstration"}
                    path = f"/v1/sagas/{saga['sagaId']}/cancel"
                    # A saga past its pivot, or on its way back already, says no and goes on by itself. One that
                    # nobody may cancel, and that waits for people, holds nothing that this demonstration needs.
                    answer = await self._client.post(path, json=body, headers={"X-Actor": "demo"})
                    if not answer.is_success and saga["waitingFor"].startswith(WAITS_FOR_PEOPLE):
                        left.add(saga["sagaId"])
                quiet = 0 if live else quiet + 1
                await asyncio.sleep(POLL_SECONDS)
        self._journal.unlink(missing_ok=True)

    async def _leftovers(self, phase: str, noted: Set[str]) -> list[dict[str, Any]]:
        """Sagas of demonstrations in this phase that nobody must look after."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self._get("/v1/sagas", phase=phase, limit=500, stuck="false", **_given(cursor=cursor))
            keys = [(saga["businessKey"], saga) for saga in page["items"]]
            found += [saga for key, saga in keys if key in noted or _OURS.fullmatch(key)]
            cursor = page["next"]
            if not cursor:
                return found

    async def _get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = await self._client.get(path, params=params, headers={"X-Actor": "demo"})
        if not answer.is_success:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found

    def _own(self, sample: Sample, suffix: str, round_: int) -> Sample:
        """The sample with business keys of this run (and round)."""
        fields = {sent["type"]: self._event(sent["type"]).key_fields for sent in sample.events}
        return sample.with_keys(f"-{round_}{suffix}" if round_ else suffix, fields)

    def _key(self, sample: Sample) -> str:
        if not sample.events:
            return ""  # the answer to its post will say
        first = sample.events[0]
        return self._event(first["type"]).from_plain(first["data"]).key()

    def _event(self, type_: str) -> type[Event]:
        contract = named(self._catalog, type_)
        if not issubclass(contract, Event):
            raise RuntimeError(f"{type_} is not an event")
        return contract


def _rests(detail: Mapping[str, Any], waits: str) -> bool:
    """The saga is over, stuck, or waits for what it was left waiting for."""
    saga = detail["saga"]
    return saga["phase"] in ENDED or bool(detail["stuckPlaces"]) or (waits != "" and _waits_for(saga, waits))


def _waits_for(saga: Mapping[str, Any], waits: str) -> bool:
    """Kind and name agree; the name's place in the flow does not matter."""
    kind, _, name = saga["waitingFor"].partition(" ")
    return f"{kind} {name.rpartition('/')[2]}" == waits


def _mixed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with the areas in turn, so that a few of them show something of each."""
    numbers: dict[str, int] = {}
    order = []
    for sample in samples:
        numbers[sample.area] = numbers.get(sample.area, 0) + 1
        order.append((numbers[sample.area], sample.area, sample))
    return [sample for _, _, sample in sorted(order, key=lambda item: item[:2])]


def _given(**params: str) -> dict[str, str]:
    """The parameters that are not empty."""
    return {name: value for name, value in params.items() if value}

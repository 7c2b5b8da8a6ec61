"""What people see of versions and their activation, and how they ask that one becomes active.

Rules of this file
- A request holds what its maker saw: the changes in words with their hash, and how every live saga would fare. It is
  made here from what is stored, never from what a client says.
- What is true is read from the database, not from what this process believes.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from orchestrator.activation.definition import NAME, ActivateDefinition
from orchestrator.activation.settings import ActivationSettings
from orchestrator.api.engine import Engine
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RecordView, RefusedError, SagaView, Started
from orchestrator.definition.draw import difference
from orchestrator.identity.guard import ACTIVATE
from orchestrator.kernel.graph import Graph
from orchestrator.pages.drawing.history import History
from orchestrator.pages.preflight import Flight, flight, walk
from orchestrator.pages.reading import Office
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.activations import Activation, Activations, Origin

WALKED_MAX = 2_000
EXAMPLES_MAX = 5
CHANGES_MAX = 200
NEXT_MAX = 20


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `state`: active, registered (it never took new sagas) or retired. `lacking`: processes without it.

    `live` of the newest 10,000 sagas.
    """

    name: str
    version: int
    hash: str
    state: str
    installed: bool
    registered_at: datetime
    live: int
    build: str
    deployed_by: str
    lacking: Sequence[str]


@dataclass(frozen=True, slots=True)
class Since:
    """From when on a version took new sagas. `how`: baseline or approved; `saga_id`: whose records say so."""

    version: int
    replaces: int
    how: str
    saga_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One definition. `activation`: approval or deploy. `request`: the saga that waits for somebody to agree."""

    name: str
    activation: str
    active: int
    versions: Sequence[Version]
    history: Sequence[Since]
    request: SagaView | None


@dataclass(frozen=True, slots=True)
class Preflight:
    """How live sagas of one version would fare on another. `is_all`: no more are under way."""

    flight: Flight
    is_all: bool
    examples: Mapping[tuple[str, str], Sequence[str]]

    def sentence(self) -> str:
        """In one sentence."""
        return self.flight.sentence() + ("" if self.is_all else " (the newest; more are under way)")


class Asking:
    """What a process with pages and API knows of versions."""

    def __init__(
        self, engine: Engine, office: Office, catalog: Catalog, settings: ActivationSettings, store: Activations
    ) -> None:
        self._engine, self._office, self._catalog = engine, office, catalog
        self._settings, self._store = settings, store

    async def active(self) -> dict[str, int]:
        """What takes new sagas, by name: of definitions under approval as decided, of the others the newest here."""
        found = {name: saga.version for name, saga in self._catalog.newest.items()}
        return {**found, **await self._store.active()}

    async def standing(self, actor: Actor, name: str) -> Standing:
        """One definition with all that is known of its versions. Raises RefusedError `not_found`."""
        stored = [one for one in await self._office.definitions() if one.name == name]
        if not stored:
            raise RefusedError("not_found", f"There is no definition {name[:80]!r}.")
        history = [_since(row) for row in await self._store.history(name)]
        active = (await self.active()).get(name, 0)
        were = {row.version for row in history} | ({one.version for one in stored} if not history else set())
        origins, carriers = await self._store.origins(name), await self._store.carriers()
        live = Counter[int]()
        for facet in await self._office.facets(actor):
            live[facet.version] += facet.sagas if facet.name == name and not facet.ended else 0
        versions = []
        for one in sorted(stored, key=lambda found: -found.version):
            is_retired = one.version in were and (bool(history) or one.version < active)
            state = "active" if one.version == active else "retired" if is_retired else "registered"
            origin, lacking = origins.get(one.version, Origin()), _without(carriers, name, one.version)
            is_here = self._office.is_installed(name, one.version)
            versions.append(
                Version(name, one.version, one.hash, state, is_here, instant(one.registered_at), live[one.version],
                        origin.build, origin.deployed_by, lacking)
            )  # fmt: skip
        policy = "approval" if name in self._catalog.governed else "deploy"
        return Standing(name, policy, active, versions, history, await self.request(actor, name))

    async def request(self, actor: Actor, name: str) -> SagaView | None:
        """The request that waits for somebody to agree, or None."""
        home = replace(actor, tenant=self._engine.home)
        page = await self._engine.sagas(home, name=NAME, business_key=name, limit=1)
        return next((saga for saga in page.items if not saga.ended), None)

    async def graph(self, name: str, version: int) -> Graph:
        """A version as it was stored. Raises RefusedError `not_found`."""
        found = await self._office.graph(name, version)
        if found is None:
            raise RefusedError("not_found", f"There is no definition {name[:80]!r} v{version}.")
        return found

    async def preflight(
        self, actor: Actor, name: str, before: int, after: int, tenants: Sequence[str] = ()
    ) -> Preflight:
        """Every live saga of one version walked through another, of the actor's tenant or of these."""
        old, new = await self.graph(name, before), await self.graph(name, after)
        sagas: list[tuple[str, list[RecordView]]] = []
        is_all = True
        for tenant in tenants or (actor.tenant,):
            found, whole = await self._office.live(replace(actor, tenant=tenant), name, before, WALKED_MAX)
            sagas += found
            is_all = is_all and whole
        walks = await asyncio.to_thread(lambda: [(id_, walk(History.of(records), old, new)) for id_, records in sagas])
        examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        for saga_id, one in walks:
            if one.node and len(examples[one.verdict, one.node]) < EXAMPLES_MAX:
                examples[one.verdict, one.node].append(saga_id)
        return Preflight(flight([one for _, one in walks], old, new), is_all, examples)

    async def ask(self, actor: Actor, name: str, version: int, reason: str, *, message_id: str = "") -> Started:
        """Asks that a version takes new sagas; another person then agrees in their inbox, or does not.

        Raises RefusedError: not_found, by_deployment, active_already, not_everywhere, already_running, not_allowed.
        """
        if actor.tenant != self._engine.home:
            raise RefusedError(
                "not_allowed", "Versions are for all tenants: people of the product's own decide on them."
            )
        after = await self.graph(name, version)
        if name not in self._catalog.governed:
            raise RefusedError("by_deployment", f"New versions of {name} are active as soon as they are deployed.")
        standing = await self.standing(actor, name)
        wanted = next(one for one in standing.versions if one.version == version)
        if wanted.state == "active":
            raise RefusedError("active_already", f"{name} v{version} takes new sagas already.")
        if wanted.lacking or not wanted.installed:
            text = f"{len(wanted.lacking)} running processes have not got {name} v{version}: deploy it everywhere first"
            raise RefusedError("not_everywhere", text, {"processes": list(wanted.lacking)})
        changes: tuple[str, ...] = ()
        told = replaced = ""
        if standing.active:
            before = await self.graph(name, standing.active)
            changes, replaced = tuple(difference(before, after)), before.hash
            tenants = sorted(self._office.settings.tenants)
            told = (await self.preflight(actor, name, standing.active, version, tenants)).sentence()
        request = ActivateDefinition(
            definition=name, version=version, replaces=standing.active, hash=after.hash, replaces_hash=replaced,
            changes=_some(changes), changes_hash=sha256("\n".join(changes).encode()).hexdigest(), preflight=told,
            build=wanted.build, deployed_by=wanted.deployed_by, reason=reason, asked_by=actor.id,
            approvers=self._settings.activation_role, within_ms=self._settings.activation_wait_ms,
        )  # fmt: skip
        return await self._engine.start(NAME, request, actor, message_id=message_id, action=ACTIVATE)

    async def task(self, saga_id: str) -> Any:
        """The open task of a request, or None."""
        found = await self._engine.tasks(tenant=self._engine.home, saga_id=saga_id)
        return found[0] if found else None


def _since(row: Activation) -> Since:
    return Since(row.version, row.replaces, row.how, row.saga_id, instant(row.at))


def _without(carriers: Mapping[str, frozenset[str]], name: str, version: int) -> list[str]:
    return [who for who, sagas in carriers.items() if f"{name}/{version}" not in sagas]


def _some(changes: Sequence[str]) -> tuple[str, ...]:
    more = len(changes) - CHANGES_MAX
    return (*changes[:CHANGES_MAX], *((f"and {more} more: compare the versions",) if more > 0 else ()))

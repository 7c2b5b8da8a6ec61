"""What a running process does about versions under approval: it says what it has, and refuses to start without what it
needs.

Rules of this file
- First it says which versions it has, then it looks which are active, under the lock that whoever switches holds alone:
  so a version that it lacks is either seen here and stops the start, or the switch sees this process and is refused.
- What is under approval stays there: a setting that one person changes would be no control.
- What is believed here is for routing and for people to see; a batch that begins sagas asks again (`runtime.choosing`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from orchestrator.activation.definition import ACTIVATED, NAME
from orchestrator.activation.settings import ActivationSettings
from orchestrator.runtime.catalog import Catalog, CatalogError
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.activations import Activated, Activations
from orchestrator.store.contract import StoreError

LOOK_MS = 2_000

log = structlog.get_logger("orchestrator.activation")


class ActivationError(CatalogError):
    """This code cannot do what people have decided of versions; the text says what to do."""


class NotActiveHereError(ActivationError):
    """The version that takes new sagas is not in this code; the text names both, and what to do."""


class Keeping:
    """Of one process. `instance`: a name that no other running process has."""

    def __init__(self, catalog: Catalog, store: Activations, settings: ActivationSettings, instance: str) -> None:
        self._catalog, self._store, self._settings = catalog, store, settings
        self._instance = instance
        catalog.govern(all_of_them=settings.activation == "approval")

    async def settle(self) -> None:
        """Before definitions are stored. Raises ActivationError where this code cannot do what people have decided."""
        catalog, settings = self._catalog, self._settings
        versions: dict[str, list[int]] = defaultdict(list)
        for name, version in catalog.sagas:
            versions[name].append(version)
        loose = (await self._store.names() & set(versions)) - catalog.governed
        if loose:
            raise ActivationError(
                f"new versions of {', '.join(sorted(loose))} become active by approval in this database, and this "
                "process would start with its newest: set ORCHESTRATOR_ACTIVATION=approval, or write "
                'activation="approval" in the definition'
            )
        if settings.build or settings.deployed_by:
            await self._store.bring(list(catalog.sagas), settings.build, settings.deployed_by)
        if not catalog.governed:
            return
        await self._store.carry(self._instance, list(catalog.sagas))
        active = await self._store.settle({name: versions[name] for name in catalog.governed})
        gone = {name: active[name] for name in sorted(catalog.governed) if active[name]}
        gone = {name: version for name, version in gone.items() if version not in versions[name]}
        if gone:
            raise NotActiveHereError("\n".join(_missing(name, gone[name], versions[name]) for name in gone))
        for row, records in (await self._store.approved(sorted(catalog.governed))).items():
            if not agreed(row, records):
                raise ActivationError(
                    f"the activation of {row[0]} v{row[1]} is not what its records say: somebody wrote to the table"
                )
        catalog.believe(active)
        for name in sorted(catalog.governed):
            if max(versions[name]) != active[name]:
                log.info("a version waits for approval", saga=name, active=active[name], newest=max(versions[name]))

    async def close(self) -> None:
        """Says that this process has gone."""
        if self._catalog.governed:
            try:
                await self._store.carry_no_more(self._instance)
            except StoreError as error:
                log.info("could not say goodbye; it is forgotten by itself", error=str(error))

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Says what is here, and looks what is active, every two seconds."""
        while not stopping:
            try:
                await self._store.carry(self._instance, list(self._catalog.sagas))
                self._catalog.believe(await self._store.active())
                pulse.beat()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
            await stopping.sleep(LOOK_MS)


def agreed(row: Activated, records: Sequence[Mapping[str, Any]]) -> bool:
    """Do these records say that people agreed to what the row says?"""
    if not records or records[-1]["type"] != "saga.completed" or records[-1]["data"].get("outcome") != ACTIVATED:
        return False
    begun = records[0]["data"]
    asked = begun["data"]
    is_ours = begun["name"] == NAME and begun.get("parent") is None
    return is_ours and (asked["definition"], asked["version"], asked["replaces"]) == row


def _missing(name: str, active: int, here: list[int]) -> str:
    has = " and ".join(f"v{version}" for version in sorted(here))
    return (
        f"saga {name}: v{active} takes new sagas, and this code has {has} alone. Put v{active} back beside {has}: new "
        f"sagas go on with v{active} until one person has asked for another version and a second has agreed. Or "
        "activate a version that this code has, and deploy it after that"
    )

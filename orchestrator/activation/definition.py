"""The saga by which a version becomes active: asked for by one person, agreed to by another, in an ordinary task.

Rules of this file
- What both saw is in the request: hashes of the shapes, what changed, and how live sagas would fare. So the records of
  this saga are the evidence, and the batch that writes its end is the one in which the version begins to count.
- Whoever asked decides nothing, nor does whoever deployed the code, where that is known.
- It changes nothing by itself: the runtime switches with the record that says ACTIVATED, or not at all.
"""

from __future__ import annotations

from datetime import timedelta

from orchestrator.definition import Saga, end, task
from orchestrator.messages import Command, Contract, Done, Key, Person, Role

NAME = "definition-activation"
ACTIVATED, REJECTED, EXPIRED = "activated", "rejected", "expired"


class ActivateDefinition(Command[Done], name="orchestrator.ActivateDefinition", context="orchestrator"):
    """Asks that a version takes new sagas. `replaces`: the version that does now, 0: none; the hashes are of shapes.

    `changes`: what is different, in words; `changes_hash`: SHA-256 of these lines. `preflight`: how live sagas of the
    version that is replaced would fare.
    """

    definition: Key[str]
    version: int
    replaces: int
    hash: str
    replaces_hash: str = ""
    changes: tuple[str, ...] = ()
    changes_hash: str
    preflight: str = ""
    build: str = ""
    deployed_by: str = ""
    reason: str
    asked_by: str
    approvers: str
    within_ms: int


class VersionToActivate(Contract, name="orchestrator.VersionToActivate", context="orchestrator"):
    """What whoever agrees sees."""

    definition: str
    version: int
    replaces: int
    asked_by: str
    reason: str
    preflight: str
    changes: tuple[str, ...]
    changes_hash: str
    hash: str
    replaces_hash: str
    build: str
    deployed_by: str


def approvers(request: ActivateDefinition) -> Role:
    return Role(request.approvers)


def makers(request: ActivateDefinition) -> list[Person]:
    """Whoever asked and whoever deployed: neither agrees."""
    return [Person(name) for name in (request.asked_by, request.deployed_by) if name]


def in_time(request: ActivateDefinition) -> timedelta:
    return timedelta(milliseconds=request.within_ms)


@task(to=approvers, within=in_time, exclude=[makers])
def agree_to_version(request: ActivateDefinition) -> VersionToActivate:
    """Approve if you have read what changed, and new sagas shall run on this version from now on."""
    return VersionToActivate(
        definition=request.definition,
        version=request.version,
        replaces=request.replaces,
        asked_by=request.asked_by,
        reason=request.reason,
        preflight=request.preflight,
        changes=request.changes,
        changes_hash=request.changes_hash,
        hash=request.hash,
        replaces_hash=request.replaces_hash,
        build=request.build,
        deployed_by=request.deployed_by,
    )


definition_activation = Saga(
    NAME,
    version=1,
    starts_on=ActivateDefinition,
    rerun=True,
    flow=[agree_to_version.on_reject(end(REJECTED)).on_timeout(end(EXPIRED)), end(ACTIVATED)],
)

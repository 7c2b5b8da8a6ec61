"""May they? One table of actions, one function that answers, called by every route and again inside the write.

Rules of this file
- Pure: no clock, no I/O, no HTTP. What it needs to know of a thing is in `Thing`; the caller has loaded it.
- Whatever is not in the table may nobody. Nobody has a capacity that was not given by name.
- What belongs to another tenant is not there (`not_found`), in the same words as what does not exist.
- Rules of one task (who is asked, four eyes, quorum, limits) are the kernel's; this says who may work here at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.api.views import Actor

PUBLIC = "public"  # everybody, unknown people too: health, assets, the way in
SIGNED_IN = "own"  # whoever is known, for what is theirs alone

VIEWER, APPROVER, OPERATOR, AUDITOR, ADMIN, SERVICE = "viewer", "approver", "operator", "auditor", "admin", "service"
CAPACITIES = frozenset({VIEWER, APPROVER, OPERATOR, AUDITOR, ADMIN, SERVICE})
EVERYBODY_BUT_ADMIN = CAPACITIES - {ADMIN}  # whom development believes where no capacity is named

API_KEY, OIDC_CLIENT = "api-key", "oidc-client"  # how we know a service; whatever it may, it is no person
SERVICES = frozenset({API_KEY, OIDC_CLIENT})

LEND = "key.lend"  # an API key says after a colon to whom: key.lend:visits, key.lend:visits/caretest.PlanVisit

FRESH_SECONDS = 300  # how long ago somebody may have signed in who decides on a large amount


@dataclass(frozen=True, slots=True)
class Action:
    """Who may, by capacity, and what it is in words. `person`: never a service, whatever capacities it has."""

    capacities: Set[str]
    meaning: str
    person: bool = False


ACTIONS: Mapping[str, Action] = {
    PUBLIC: Action(frozenset(), "open to everybody"),
    SIGNED_IN: Action(CAPACITIES, "one's own: profile, sessions, requests made through a saga package's routes"),
    "saga.start": Action({SERVICE, OPERATOR}, "start a saga"),
    "saga.read": Action({VIEWER, OPERATOR, AUDITOR, SERVICE}, "see sagas, their records and undo plans"),
    "saga.cancel": Action({OPERATOR, SERVICE}, "ask a saga to turn back"),
    "saga.operate": Action({OPERATOR}, "act on a stuck place", person=True),
    "task.read": Action({VIEWER, APPROVER, OPERATOR, AUDITOR}, "see tasks"),
    "task.decide": Action({APPROVER}, "decide a task that is asked of them", person=True),
    "task.work": Action(
        {APPROVER}, "claim, release, delegate, comment, attach, keep a draft, on a task asked of them", person=True
    ),
    "task.reassign": Action({OPERATOR}, "ask other people to decide a task", person=True),
    "letter.read": Action({OPERATOR, AUDITOR}, "see dead letters"),
    "letter.redrive": Action({OPERATOR}, "process a dead letter again"),
    "notice.read": Action({OPERATOR, AUDITOR}, "see which notices were sent, and which were not"),
    "notice.send": Action({OPERATOR}, "send a notice again that could not be sent"),
    "contact.manage": Action({OPERATOR, ADMIN}, "see and change where people and groups are told", person=True),
    "event.publish": Action({SERVICE, OPERATOR}, "publish a domain event"),
    "definition.read": Action(CAPACITIES, "see installed sagas, contracts and the API's description"),
    "definition.activate": Action({OPERATOR, ADMIN}, "ask that a version of a saga becomes active", person=True),
    "audit.read": Action({AUDITOR}, "search the audit trail"),
    "audit.export": Action({AUDITOR}, "take the audit trail away in files"),
    "audit.verify": Action({AUDITOR, OPERATOR}, "check that no record was altered"),
    "levels.read": Action({VIEWER, APPROVER, OPERATOR, AUDITOR, SERVICE}, "see service levels"),
    "metrics.read": Action({OPERATOR, AUDITOR, SERVICE}, "read this process's metrics"),
    "office.use": Action({VIEWER, APPROVER, OPERATOR, AUDITOR, ADMIN}, "open the back office"),
    "security.read": Action({ADMIN, AUDITOR}, "read the security log"),
    "key.manage": Action({ADMIN}, "make and revoke keys", person=True),
    LEND: Action({SERVICE}, "be lent the keys of the sagas that a participant has commands of"),
    "subject.read": Action({OPERATOR, AUDITOR, ADMIN}, "see requests to erase a person"),
    "subject.erase": Action({OPERATOR, ADMIN}, "erase a person, hold them or let them go", person=True),
    "user.manage": Action({ADMIN}, "bar people and let them in again", person=True),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not: a code of `orchestrator.api.problems`, a sentence, facts for the answer."""

    code: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Thing:
    """What is acted upon, as it was loaded. `fresh_since`: whoever acts must have signed in after this instant.

    `asked`, `involved` (of a task): candidates as `person:id` and `role:name`; people who voted or work on it.
    """

    tenant: str
    kind: str = ""
    id: str = ""
    fresh_since: datetime | None = None
    asked: frozenset[str] | None = None
    involved: frozenset[str] = frozenset()


def authorise(actor: Actor, action: str, thing: Thing | None = None) -> Refused | None:
    """None where the actor may do this (to this thing), else why not."""
    rule = ACTIONS.get(action)
    if rule is None:
        return Refused("not_allowed", f"nobody may do {action!r}: no rule allows it")
    if thing is not None and thing.tenant != actor.tenant:
        return Refused("not_found", f"There is no {thing.kind or 'such thing'} {thing.id[:80]!r}.")
    if action == PUBLIC:
        return None
    if not may(actor, action):
        names = sorted(rule.capacities)
        text = f"{actor.id} may not {rule.meaning}: it takes the capacity {' or '.join(names)}"
        return Refused("not_allowed", text, {"action": action, "capacities": names})
    if thing is None:
        return None
    if not _sees(actor, action, thing):
        return Refused("not_found", f"There is no {thing.kind or 'such thing'} {thing.id[:80]!r}.")
    return _fresh(actor, thing)


def may(actor: Actor, action: str) -> bool:
    """True where this actor may do this to some things; pages ask it to show only what can be done."""
    rule = ACTIONS.get(action)
    if rule is None or (rule.person and actor.authentication in SERVICES):
        return False
    if actor.actions and action not in map(action_of, actor.actions):
        return False  # a key for a few actions only
    return action == PUBLIC or bool(rule.capacities & actor.capacities)


def action_of(named: str) -> str:
    """The action in what a key names: `key.lend:visits` is `key.lend`, to one participant alone."""
    action, _, thing = named.partition(":")
    return action if action == LEND and thing else named


def objects_of(actor: Actor, action: str) -> frozenset[str]:
    """What an actor's key names an action for; nothing where it names none."""
    return frozenset(named.partition(":")[2] for named in actor.actions if named.startswith(f"{action}:")) - {""}


def sees_all_tasks(actor: Actor) -> bool:
    """False for those who may only see tasks that concern them."""
    return bool({VIEWER, OPERATOR, AUDITOR} & actor.capacities)


def _sees(actor: Actor, action: str, thing: Thing) -> bool:
    """An approver sees what is asked of them, and what they took part in; deciding is refused in the kernel's words."""
    if action != "task.read" or thing.asked is None or sees_all_tasks(actor):
        return True
    own = {f"person:{actor.id}", *(f"role:{role}" for role in actor.roles)}
    return bool(own & thing.asked) or actor.id in thing.involved


def _fresh(actor: Actor, thing: Thing) -> Refused | None:
    since = thing.fresh_since
    if since is None or (actor.authenticated_at is not None and actor.authenticated_at >= since):
        return None
    text = f"An amount as large as this takes a sign-in of the last {FRESH_SECONDS // 60} minutes: sign in again."
    return Refused("reauth", text, {"secondsMax": FRESH_SECONDS})

"""The desk: everything that a person may do with tasks. Routes, pages and saga packages reach it as `engine.desk`.

Rules of this file
- A task is asked for by the id that lists gave; who acts is the request's actor, never a body's.
- What counts is decided, authorised and committed when a method returns; the task is then read again and returned as
  this actor sees it. What may not be raises `RefusedError` with the kernel's code.
- A draft and an absence are no records of a saga: they stand in tables of their own.
- `message_id` identifies a request that may come again: it is done once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from orchestrator.api import acts, details
from orchestrator.api.problems import ProblemError
from orchestrator.api.reading import Reading
from orchestrator.api.task_views import Viewer
from orchestrator.api.times import instant, microseconds, optional_instant
from orchestrator.api.views import Actor, Draft, Page, RefusedError, Substitution, TaskView, Voted, task_of
from orchestrator.identity.rules import Thing, authorise, may
from orchestrator.kernel.inputs import StandIn, TaskAct, TaskVerb, Vote
from orchestrator.messages import NotCanonicalError, Person, Role, canonical_bytes
from orchestrator.runtime.app import Runtime
from orchestrator.store.desk import Desk, StoredSubstitution

Who: TypeAlias = "str | Person | Role"  # a text is a person's id, or `role:manager`

DRAFT_BYTES_MAX = 64_000
ABSENCE_DAYS_MAX = 190
REASON_CHARACTERS_MAX = 2_000
NAME_CHARACTERS_MAX = 200
# Open to whoever sees the task, which the kernel cannot know; the other verbs are refused by its own rules.
BY_SIGHT = frozenset({"comment", "attach", "release"})
TELLING = frozenset({"already_decided", "subject_changed", "expired", "withdrawn"})  # refusals that say how it stands


class TaskDesk:
    """What people do with tasks. One per engine; safe for concurrent use."""

    def __init__(self, runtime: Runtime, read: Reading) -> None:
        self._runtime = runtime
        self._read = read
        self._kept = Desk(runtime.store.pools)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def view(self, task_id: str, actor: Actor) -> TaskView:
        """One task, open or closed, as this actor sees it. Raises RefusedError `not_found`, also where it is hidden."""
        viewer = await self._viewer(actor)
        found = await self.find(task_id, viewer)
        if found is None or not _visible(found, viewer):
            raise _unknown(task_id)
        return found

    async def find(self, task_id: str, viewer: Viewer) -> TaskView | None:
        """One task, or None."""
        saga_id, activity = task_of(task_id)
        saga = await self._read.find(viewer.actor.tenant, saga_id, None) if activity else None
        if saga is None or saga.saga_id != saga_id:
            return None
        state, _ = await self._read.state(saga.tenant, saga_id)
        found = state.activities.get(activity)
        if found is not None and found.task is not None:
            viewer = await self._read.with_lenders(viewer, [{"delegations": found.task.delegations}])
        return details.task_view(saga, state, activity, viewer)

    async def page(
        self,
        actor: Actor,
        *,
        state: str | None = "open",
        saga_id: str | None = None,
        mine: bool = False,
        limit: int = 50,
        cursor: str = "",
    ) -> Page[TaskView]:
        """Tasks, the one due first first. `mine`: that this actor may decide. Raises ProblemError `bad_cursor`."""
        viewer = await self._viewer(actor)
        page = await self._read.tasks(viewer, state=state, saga_id=saga_id, mine=mine, limit=limit, cursor=cursor)
        return Page(tuple(task for task in page.items if _visible(task, viewer)), page.next)

    # --- deciding -----------------------------------------------------------------------------------------------------

    async def vote(
        self,
        task_id: str,
        answer: Mapping[str, Any],
        subject_hash: str,
        actor: Actor,
        *,
        reason: str = "",
        on_behalf_of: str = "",
        traceparent: str = "",
        message_id: str = "",
    ) -> Voted:
        """Votes on a task; see `Engine.vote`."""
        viewer = await self._viewer(actor)
        task = await self._loaded(task_id, viewer)
        vote = Vote(
            activity=task.activity,
            by=actor.id,
            roles=actor.roles,
            answer=dict(answer),
            subject_hash=subject_hash,
            received_at=viewer.now,
            reason=reason,
            on_behalf_of=on_behalf_of or actor.on_behalf_of,
            authentication=actor.authentication,
            stands_in=tuple(viewer.stands_in),
            **await self._lent(task, viewer),
        )
        request = f"vote/{task.activity}/{message_id}" if message_id else acts.new_id()
        cause = acts.cause_of(actor, f"/api/{self._runtime.alias(actor.id)}/{request}", traceparent)
        try:
            outcome = await acts.act(self._runtime, task.saga_id, vote, cause, self._read if message_id else None)
        except RefusedError as error:
            raise _told(error, task, viewer) from None
        if not any(record.type == "task.voted" for record in outcome.records):
            # What was recorded instead is that the time was over: the vote came first to find it out.
            raise RefusedError("expired", "The task expired before this vote.", {"due": task.due}, task.saga_id)
        decided = any(record.type == "task.decided" for record in outcome.records)
        await self._kept.drop_draft(actor.tenant, (task.saga_id, task.activity), actor.id)
        return Voted(task_id, task.saga_id, str(answer.get("outcome", "")), decided, outcome.version)

    # --- the life of a task -------------------------------------------------------------------------------------------

    async def claim(self, task_id: str, actor: Actor, *, message_id: str = "") -> TaskView:
        """Says who works on it: a courtesy with a visible holder. It keeps nobody else from deciding.

        Raises RefusedError: claimed_already, not_eligible, excluded, voted_already, and those of a closed task.
        """
        return await self._act(task_id, actor, "claim", message_id)

    async def release(self, task_id: str, actor: Actor, *, reason: str = "", message_id: str = "") -> TaskView:
        """Ends a claim: one's own, or an operator anybody's. Raises RefusedError: not_claimed, not_holder."""
        task = await self._loaded(task_id, await self._viewer(actor))
        steers = task.claimed_by not in ("", actor.id) and self.steers(actor)
        return await self._act(task_id, actor, "release", message_id, reason=reason, steers=steers)

    async def delegate(
        self,
        task_id: str,
        actor: Actor,
        to: str,
        until: datetime | None = None,
        reason: str = "",
        *,
        message_id: str = "",
    ) -> TaskView:
        """A substitute may decide this task for the actor, until then at most; `to` "" takes it back.

        They gain no right: what the actor may not, they may not, and who is excluded stays so. Raises RefusedError:
        not_eligible, excluded, voted_already, invalid.
        """
        people: tuple[dict[str, str], ...] = ({"person": to},) if to else ()
        due = _instant_of(until) if until is not None else 0
        return await self._act(task_id, actor, "delegate", message_id, to=people, until=due, reason=reason)

    async def reassign(
        self, task_id: str, actor: Actor, to: Who | Sequence[Who], reason: str, *, message_id: str = ""
    ) -> TaskView:
        """An operator asks other people instead, with a reason. They may not decide it themselves any more.

        Raises RefusedError: not_supervisor, excluded, invalid.
        """
        several = [to] if isinstance(to, (str, Person, Role)) else list(to)
        people = tuple(_entry(who) for who in several)
        steers = self.steers(actor)
        return await self._act(task_id, actor, "reassign", message_id, to=people, reason=reason, steers=steers)

    async def comment(
        self, task_id: str, actor: Actor, text: str, replaces: int | None = None, *, message_id: str = ""
    ) -> TaskView:
        """Says something about it; `replaces` rewrites an own comment, whose history stays. Raises RefusedError."""
        return await self._act(task_id, actor, "comment", message_id, text=text, replaces=replaces or 0)

    async def attach(self, task_id: str, actor: Actor, url: str, title: str, *, message_id: str = "") -> TaskView:
        """Attaches a link, https only, with a title. Raises RefusedError `invalid`, `too_much`."""
        return await self._act(task_id, actor, "attach", message_id, url=url, text=title)

    # --- drafts -------------------------------------------------------------------------------------------------------

    async def save_draft(
        self, task_id: str, actor: Actor, form: Mapping[str, Any], *, subject_hash: str = ""
    ) -> TaskView:
        """Keeps what this person has filled in, in place of the draft before; {} drops it.

        Raises RefusedError: not_found, withdrawn (the task is not open any more), invalid.
        """
        task = await self.view(task_id, actor)
        place = task.saga_id, task.activity
        try:
            size = len(canonical_bytes(dict(form)))
        except NotCanonicalError as error:
            raise RefusedError("invalid", f"A draft must be plain JSON: {error}") from error
        if size > DRAFT_BYTES_MAX:
            raise RefusedError("invalid", f"A draft has at most {DRAFT_BYTES_MAX} bytes, this one {size}.")
        vault = self._runtime.vault
        if vault is not None and form:
            form = await vault.seal_form(actor.tenant, task.saga_id, form)
        if not form:
            await self._kept.drop_draft(actor.tenant, place, actor.id)
        elif not await self._kept.save_draft(actor.tenant, place, actor.id, subject_hash or task.subject_hash, form):
            raise RefusedError("withdrawn", "The task is not open any more: nothing is to be decided.")
        return task

    async def draft(self, task_id: str, actor: Actor) -> Draft | None:
        """What this person saved and did not send, or None. Nobody else sees it."""
        stored = await self._kept.draft(actor.tenant, task_of(task_id), actor.id)
        if stored is None:
            return None
        vault = self._runtime.vault
        form = stored.form if vault is None else await vault.open_form(stored.form)
        return Draft(task_id, form, stored.subject_hash, instant(stored.saved_at))

    # --- absences -----------------------------------------------------------------------------------------------------

    async def substitute(
        self, actor: Actor, substitute: str, *, until: datetime, since: datetime | None = None, reason: str = ""
    ) -> Substitution:
        """While the actor is away somebody stands in on all tasks, with the actor's roles of now and no others.

        Raises RefusedError: not_allowed (who may not decide has nothing to lend), invalid, overlaps.
        """
        refused = authorise(actor, "task.work")
        if refused is not None:
            raise RefusedError(refused.code, refused.text, refused.facts)
        now = acts.received_at(self._runtime)
        begins, ends = max(now, _instant_of(since) if since is not None else now), _instant_of(until)
        _check({"to": ({"person": substitute},), "reason": reason})
        if not substitute or substitute == actor.id:
            raise RefusedError("invalid", "Name another person who stands in for you.")
        if ends <= begins or ends - now > timedelta(days=ABSENCE_DAYS_MAX) // timedelta(microseconds=1):
            raise RefusedError("invalid", f"An absence ends after it begins, within {ABSENCE_DAYS_MAX} days from now.")
        stored = await self._kept.substitute(
            actor.tenant, actor.id, substitute, actor.roles, since=begins, until=ends, reason=reason,
            made_by=acts.actor_text(actor),
        )  # fmt: skip
        if stored is None:
            raise RefusedError("overlaps", "Somebody stands in for you in that time already: take that back first.")
        acts.log.info("substitution", person=actor.id, substitute=substitute, until=instant(ends).isoformat())
        return _substitution(stored)

    async def end_substitution(self, actor: Actor, id: int) -> None:
        """Takes one's own back; an operator anybody's. Raises RefusedError `not_found`."""
        known = await self._kept.substitutions(actor.tenant, None if self.steers(actor) else actor.id)
        own = [one for one in known if one.id == id and (one.person == actor.id or self.steers(actor))]
        if not own or not await self._kept.end_substitution(actor.tenant, id, acts.actor_text(actor)):
            raise RefusedError("not_found", f"There is no substitution {id} of yours that is not over.")
        acts.log.info("substitution ended", id=id, by=actor.id)

    async def substitutions(self, actor: Actor, *, everybody: bool = False) -> Sequence[Substitution]:
        """Those in which this actor takes part, newest first; of everybody for those who may direct others' work."""
        person = None if everybody and self.steers(actor) else actor.id
        return [_substitution(one) for one in await self._kept.substitutions(actor.tenant, person)]

    # --- helpers ------------------------------------------------------------------------------------------------------

    def steers(self, actor: Actor) -> bool:
        """May this actor direct the work of others?"""
        return may(actor, "task.reassign")

    async def _act(self, task_id: str, actor: Actor, verb: TaskVerb, message_id: str, **facts: Any) -> TaskView:
        _check(facts)
        viewer = await self._viewer(actor)
        task = await self._loaded(task_id, viewer)
        if verb in BY_SIGHT and not _visible(task, viewer):
            raise _unknown(task_id)
        given = TaskAct(
            task.activity, verb, actor.id, actor.roles, viewer.now, authentication=actor.authentication,
            stands_in=tuple(viewer.stands_in), **await self._lent(task, viewer), **facts,
        )  # fmt: skip
        request = f"{verb}/{task.activity}/{message_id}" if message_id else acts.new_id()
        cause = acts.cause_of(actor, f"/api/{self._runtime.alias(actor.id)}/{request}", "")
        if not (message_id and await self._done(actor.tenant, task.saga_id, cause.causation_id)):
            try:
                await acts.act(self._runtime, task.saga_id, given, cause, self._read if message_id else None)
            except RefusedError as error:
                raise _told(error, task, viewer) from None
        return await self._loaded(task_id, viewer)

    async def _lent(self, task: TaskView, viewer: Viewer) -> dict[str, Any]:
        """What those hold now who have lent this actor a right on this task."""
        viewer = await self._read.with_lenders(viewer, [{"delegations": task.delegated}])
        return {"barred": tuple(viewer.barred), "holds": tuple(viewer.holds)}

    async def _loaded(self, task_id: str, viewer: Viewer) -> TaskView:
        """As `view`, for an act: whoever may not do it is told so by the rule that keeps them from it."""
        found = await self.find(task_id, viewer)
        if found is None:
            raise _unknown(task_id)
        return found

    async def _done(self, tenant: str, saga_id: str, causation_id: str) -> bool:
        """This very request has been carried out, in an attempt that nobody heard the end of."""
        return any(record.causation_id == causation_id for record in await self._read.records(tenant, saga_id))

    async def _viewer(self, actor: Actor) -> Viewer:
        now = acts.received_at(self._runtime)
        return Viewer(actor, now, await self._stands_in(actor, now))

    async def _stands_in(self, actor: Actor, now: int) -> tuple[StandIn, ...]:
        """For whom this person stands in now. The kernel decides what that is worth on a task."""
        if actor.id == "system":
            return ()
        found = await self._kept.stands_in(actor.tenant, actor.id, now)
        return tuple(StandIn(one.person, one.roles, one.since, one.until, f"substitution {one.id}") for one in found)


def _check(facts: Mapping[str, Any]) -> None:
    """What stands in records for ever is bounded and can be seen, whoever calls: a body, a form, a saga package."""
    if len(facts.get("reason", "")) > REASON_CHARACTERS_MAX:
        raise RefusedError("invalid", f"A reason has at most {REASON_CHARACTERS_MAX} characters.")
    for name in (name for entry in facts.get("to", ()) for name in entry.values()):
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            text = f"People and roles have ids of at most {NAME_CHARACTERS_MAX} characters that can be seen."
            raise RefusedError("invalid", text)


def _told(refusal: RefusedError, task: TaskView, viewer: Viewer) -> RefusedError:
    """A refusal as this person may hear it: who decided what is not told to those who do not see the task."""
    return refusal if refusal.code not in TELLING or _visible(task, viewer) else _unknown(task.id)


def _unknown(task_id: str) -> RefusedError:
    return RefusedError("not_found", f"There is no task {task_id[:80]!r}.")


def _visible(task: TaskView, viewer: Viewer) -> bool:
    """By the table of rules: some see all tasks, others those that were asked of them or that they took part in."""
    actor = viewer.actor
    asked = {f"{kind}:{name}" for entry in task.to for kind, name in entry.items()}
    for absent in viewer.stands_in:
        if asked & {f"person:{absent.person}", *(f"role:{role}" for role in absent.roles)}:
            return True
    involved = {str(one[name]) for one in task.votes for name in ("by", "on_behalf_of") if one.get(name)}
    involved |= {str(one["by"]) for one in (*task.comments, *task.attachments)} | {task.claimed_by} - {""}
    involved |= {str(one[name]) for one in task.delegated for name in ("by", "to")}
    thing = Thing(actor.tenant, "task", task.id, asked=frozenset(asked), involved=frozenset(involved))
    return authorise(actor, "task.read", thing) is None


def _entry(who: Who) -> dict[str, str]:
    if isinstance(who, Role):
        return {"role": who.name}
    if isinstance(who, Person):
        return {"person": who.id}
    kind, _, name = who.rpartition(":")
    return {"role": name} if kind == "role" else {"person": name if kind == "person" else who}


def _instant_of(at: datetime) -> int:
    try:
        return microseconds(at)
    except ValueError as error:
        raise ProblemError("invalid", "An instant needs a time zone, for example 2026-01-31T17:00:00Z.") from error


def _substitution(stored: StoredSubstitution) -> Substitution:
    return Substitution(
        id=stored.id,
        person=stored.person,
        substitute=stored.substitute,
        since=instant(stored.since),
        until=instant(stored.until),
        reason=stored.reason,
        made_at=instant(stored.made_at),
        made_by=stored.made_by,
        ended_at=optional_instant(stored.ended_at or 0),
        ended_by=stored.ended_by or "",
    )

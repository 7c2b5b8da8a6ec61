"""Placed words → nodes of the graph. A node carries what the kernel needs and what people read: names of functions,
never functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator.definition.draft import Draft, Settings
from orchestrator.definition.forks import Choose, Parallel, When
from orchestrator.definition.known import innermost_keeper
from orchestrator.definition.layout import BODY, Placed
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.results import reply_of
from orchestrator.definition.roles import excluding_functions
from orchestrator.definition.steps import Call, Step, ms_of
from orchestrator.definition.stored import with_data
from orchestrator.definition.tasks import Limit, Task, outcomes_of
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.walk import own_failures
from orchestrator.definition.words import (
    CONSTANT,
    Compute,
    Delay,
    End,
    Enter,
    Fail,
    Keep,
    Leave,
    Publish,
    WorkingTime,
    name_of,
    text_of,
)
from orchestrator.kernel import graph as g
from orchestrator.messages import Contract, Money, Person, Role


def emit(draft: Draft, contracts: Sequence[type[Contract]]) -> g.Graph:
    """The graph of a draft without findings."""
    returns = {use.key: use.signature.returns for use in draft.uses}
    nodes = {path: _Emitter(draft, returns, placed).node() for path, placed in draft.layout.nodes.items()}
    settings = draft.settings
    flow, failed = draft.layout.flow, draft.layout.on_failed
    graph = g.Graph(
        name=settings.name,
        version=settings.version,
        starts_on=tuple(start.wire_name for start in settings.starts_on),
        nodes=nodes,
        first=flow[0].path if flow else None,
        on_failed=failed[0].path if failed else None,
        has_on_failed=settings.has_on_failed,
        within_ms=ms_of(settings.within) if settings.within is not None else None,
        forward_only=settings.forward_only,
        rerun=settings.rerun,
        early_age_ms=ms_of(settings.early_age),
        initial_state=next((text_of(state) for state in settings.states), ""),
        transitions=_transitions(settings),
        has_pivot=any(getattr(node, "pivot", False) for node in nodes.values()),
    )
    return with_data(graph, contracts)


def _transitions(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    return {text_of(state): tuple(text_of(after) for after in nexts) for state, nexts in settings.states.items()}


class _Emitter:
    """One placed word. `base` is what every node has."""

    def __init__(self, draft: Draft, returns: Mapping[str, Any], placed: Placed) -> None:
        self._draft = draft
        self._returns = returns
        self._placed = placed
        self._word: Any = placed.word
        self._base: dict[str, Any] = {
            "path": placed.path,
            "name": placed.name,
            "next": placed.next.path if placed.next else None,
            "parent": placed.parent.path if placed.parent else None,
            "block": "" if placed.block == BODY else placed.block,
            "blocks": {key: nodes[0].path if nodes else None for key, nodes in placed.blocks.items()},
        }

    def node(self) -> g.Node:
        """The node of this word's kind."""
        make = _KINDS[type(self._word)]
        return make(self)

    def _returned(self, role: str) -> Any:
        return self._returns[f"{self._placed.path}#{role}"]

    def step(self) -> g.Node:
        word, command = self._word, self._returned("build")
        undo = word.undos[0] if word.undos else None
        node = g.StepNode(
            **self._base, build=name_of(word), command=command.wire_name, participant=command.participant,
            reply=command.reply_type.wire_name, retry=word.retry.policy(), within_ms=ms_of(word.within),
            reads=word.reads, pivot=word.is_pivot,
        )  # fmt: skip
        if undo is None:
            return node
        command = self._returned("undo")
        return replace(
            node, undo=name_of(undo), undo_command=command.wire_name, undo_participant=command.participant,
            undo_reply=command.reply_type.wire_name, undo_retry=undo.retry.policy(), undo_within_ms=ms_of(undo.within),
        )  # fmt: skip

    def call(self) -> g.Node:
        word, command = self._word, self._returned("build")
        reply = reply_of(command)
        return g.CallNode(
            **self._base, build=name_of(word), child=word.child.name, child_version=word.child.version,
            command=command.wire_name, reply=reply.wire_name if reply else "", within=limit(word.within),
            pivot=word.is_pivot,
        )  # fmt: skip

    def task(self) -> g.Node:
        word, shown = self._word, self._returned("shown")
        excluded = [item.name for item in word.exclude if isinstance(item, Task)]
        return g.TaskNode(
            **self._base, shown=name_of(word), shown_type=getattr(shown, "wire_name", "") or shown.__qualname__,
            help=(word.function.__doc__ or "").strip(), form=word.answer.wire_name,
            form_schema=word.answer.model_json_schema(), outcomes=outcomes_of(word.answer),
            rejects=tuple(text_of(outcome) for outcome in word.rejects),
            to={"function": name_of(word.to)} if callable(word.to) else people(word.to),
            within=limit(word.within) or g.Limit(), votes=word.votes,
            exclude=tuple(name_of(function) for function in excluding_functions(word)),
            exclude_tasks=tuple(
                path for path, other in self._draft.layout.nodes.items()
                if isinstance(other.word, Task) and other.name in excluded
            ),
            escalate=tuple(
                g.Escalation(*span(level.after)[:1], people(level.to), level.reset_sla, span(level.after)[1])
                for level in word.escalate
            ),
            amend_on=word.amends.wire_name if word.amends else "",
            remind=tuple(g.Reminder(*span(after)) for after in word.remind), catch_up=word.catch_up,
            amount=name_of(word.amount) if word.amount else "", limits=tuple(map(authority, word.limits)),
            confirm=tuple(money(one) if isinstance(one, Money) else {} for one in word.confirm),
        )  # fmt: skip

    def wait(self) -> g.Node:
        word = self._word
        asked = [path for path, other in self._draft.layout.nodes.items() if _is_same(other.word, word.since)]
        return g.WaitNode(
            **self._base, event=word.event.wire_name, match=name_of(word.match) if word.match else None,
            within=limit(word.within), early=word.early is not False,
            since=asked[0] if asked else None,
        )  # fmt: skip

    def delay(self) -> g.Node:
        return g.DelayNode(**self._base, within=limit(self._word.within) or g.Limit())

    def compute(self) -> g.Node:
        return g.ComputeNode(**self._base, function=name_of(self._word.function))

    def choose(self) -> g.Node:
        word = self._word
        if isinstance(word, When):
            return g.ChooseNode(**self._base, test=name_of(word.condition), present=isinstance(word.condition, type))
        return g.ChooseNode(**self._base, test=name_of(word.function))

    def parallel(self) -> g.Node:
        return g.ParallelNode(**self._base, branches=tuple(self._placed.blocks))

    def for_each(self) -> g.Node:
        return g.ForEachNode(**self._base, items=name_of(self._word.function), at_once=self._word.at_once)

    def repeat(self) -> g.Node:
        return g.RepeatNode(**self._base, at_most=self._word.at_most)

    def scope(self) -> g.Node:
        events = tuple(on_event.event.wire_name for on_event in self._word.events)
        fresh = tuple(on_event.event.wire_name for on_event in self._word.events if not on_event.early)
        own = own_failures(self._placed)
        within = limit(self._word.within)
        return g.ScopeNode(**self._base, within=within, events=events, fresh=fresh, own_failures=own)

    def publish(self) -> g.Node:
        event = self._returned("event")
        topic = f"{event.context}.events"
        return g.PublishNode(**self._base, function=name_of(self._word.function), event=event.wire_name, topic=topic)

    def enter(self) -> g.Node:
        return g.EnterNode(**self._base, state=text_of(self._word.state))

    def end(self) -> g.Node:
        result = self._word.result
        return g.EndNode(**self._base, outcome=self._word.outcome, result=name_of(result) if result else None)

    def fail(self) -> g.Node:
        function = self._word.function
        return g.FailNode(**self._base, reason=self._word.reason, function=name_of(function) if function else None)

    def leave(self) -> g.Node:
        loop = next(
            parent.path
            for parent, block in self._placed.ancestors()
            if block == BODY and isinstance(parent.word, Repeat)
        )
        return g.LeaveNode(**self._base, loop=loop)

    def keep(self) -> g.Node:
        around = innermost_keeper(self._placed)
        return g.KeepNode(**self._base, within_node=around.path if around else "")


_KINDS = {
    Step: _Emitter.step, Call: _Emitter.call, Task: _Emitter.task, Wait: _Emitter.wait, Delay: _Emitter.delay,
    Compute: _Emitter.compute, When: _Emitter.choose, Choose: _Emitter.choose, Parallel: _Emitter.parallel,
    ForEach: _Emitter.for_each, Repeat: _Emitter.repeat, Scope: _Emitter.scope, Publish: _Emitter.publish,
    Enter: _Emitter.enter, End: _Emitter.end, Fail: _Emitter.fail, Leave: _Emitter.leave, Keep: _Emitter.keep,
}  # fmt: skip


def limit(within: Any) -> g.Limit | None:
    """A time limit in the graph's form."""
    if within is None:
        return None
    if not isinstance(within, CONSTANT):
        return g.Limit(function=name_of(within))
    ms, calendar = span(within)
    return g.Limit(ms=ms, calendar=calendar)


def span(after: timedelta | WorkingTime) -> tuple[int, str]:
    """A constant duration in milliseconds, and the calendar whose working time it is ("": every hour counts)."""
    return (ms_of(after.time), after.calendar) if isinstance(after, WorkingTime) else (ms_of(after), "")


def authority(limit: Limit) -> dict[str, str]:
    """A limit of authority in the graph's form."""
    return people(limit.to)[0] | ({} if limit.up_to is None else money(limit.up_to))


def money(amount: Money) -> dict[str, str]:
    """An amount in the graph's form."""
    return {"amount": f"{amount.amount:f}", "currency": amount.currency}


def people(to: Any) -> list[dict[str, str]]:
    """Who may decide, as `[{"role": …}]` or `[{"person": …}]`."""
    if isinstance(to, Role):
        return [{"role": to.name}]
    if isinstance(to, Person):
        return [{"person": to.id}]
    return [entry for one in to for entry in people(one)]


def _is_same(word: Any, since: Any) -> bool:
    return since is not None and isinstance(word, (Step, Call)) and word.name == since.name

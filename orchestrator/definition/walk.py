"""The abstract walk: which states can each node be reached in, and by which path?

Rules of this file
- A walk answers one question. Its state is whatever the question tracks (a set of results, a life-cycle state, nothing)
  together with one bit that every walk needs: has the pivot been passed?
- States are few, so the walk is exhaustive: every branch, refusal, timeout, interruption and failure is taken.
- With each state goes the trail of forks that first led there, for messages. A fork that makes no difference to a state
  leaves no mark on its trail.
- What may happen at any time (interruption of a scope, cancel, deadline) is taken before every node that can stay: one
  that waits, or whose function may be stuck.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from typing import Generic, TypeVar

from orchestrator.definition.forks import Choose, Parallel, When
from orchestrator.definition.layout import BODY, Layout, Placed
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task, outcomes_of
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.words import Compute, Delay, End, Fail, Keep, Leave, Publish, Word, text_of

S = TypeVar("S", bound=Hashable)
Trail = tuple[str, ...]
Key = tuple[S, bool]  # (what the question tracks, pivot passed)
States = dict[Key[S], Trail]
Way = tuple[str, str, str, Key[S]]  # label, block, how it fails where that block is unwritten, state


class Question(Generic[S]):
    """What a walk asks about. Every hook gives the state after something happened; the defaults change nothing."""

    def done(self, node: Placed, state: S) -> S:
        """The node did what it is for."""
        return state

    def interrupted(self, node: Placed, event: str, state: S) -> S:
        """An event (wire name) ended the scope."""
        return state

    def holds(self, node: Placed, state: S) -> bool | None:
        """Whether the condition of a `when` holds in this state; None where both are possible."""
        return None

    def enter_loop(self, node: Placed, state: S) -> S:
        """An item or a round begins."""
        return state

    def after_items(self, node: Placed, before: S, outs: Sequence[S]) -> Iterable[S]:
        """All items are over, given the states in which one can end."""
        return (before, *outs)

    def branch_starts(self, node: Placed, branch: str, state: S) -> Iterable[S]:
        """The states in which a branch may begin or be continued."""
        return (state,)

    def join(self, one: S, other: S) -> Iterable[S]:
        """Two branches are over, each in its state."""
        return (one, other)

    def merged(self, states: States[S]) -> States[S]:
        """Fewer states that answer the question as well."""
        return states

    def undone(self, node: Placed | None, state: S) -> S:
        """The scope (None: the saga) failed, and what was done inside is undone."""
        return state

    def kept(self, node: Placed, state: S) -> S:
        """`keep()`: what was done so far stays."""
        return state


@dataclass(eq=False, slots=True)
class _Frame(Generic[S]):
    """One open scope, or the saga: where failures and interruptions inside it are gathered."""

    takes_failures: bool
    failing: States[S] = field(default_factory=dict)
    interrupted: States[S] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure(Generic[S]):
    """A place where the saga can turn back: kind is refused, exhausted, rejected, expired, count or fail.

    caught: by a scope's `on_failed`, so that the saga goes on.
    """

    node: Placed
    kind: str
    state: Key[S]
    trail: Trail
    caught: bool


def own_failures(node: Placed) -> tuple[str, ...]:
    """The interruptions of a scope that are its own failure: nothing but `fail(…)`, on a scope with `on_failed`."""
    if "on_failed" not in node.blocks:
        return ()
    keys = [key for key in node.blocks if key == "on_timeout" or key.startswith("on/")]
    return tuple(key for key in keys if len(node.blocks[key]) == 1 and isinstance(node.blocks[key][0].word, Fail))


class Walk(Generic[S]):
    """One walk. After it: `seen` (states before each node), `ends` and `out` (how it ends well), `failures`."""

    def __init__(self, layout: Layout, question: Question[S], starts: Mapping[S, Trail], forward_only: bool) -> None:
        self.seen: dict[str, States[S]] = {}
        self.ends: dict[str, States[S]] = {}
        self.failures: list[Failure[S]] = []
        self.failing: set[str] = set()  # scopes with on_failed that can fail
        self._question = question
        self._leaves: list[States[S]] = []
        saga: _Frame[S] = _Frame(takes_failures=True)
        self._frames = [saga]
        self.out = self._block(layout.flow, {(state, forward_only): trail for state, trail in starts.items()})
        self._frames = [_Frame(takes_failures=True)]
        back: States[S] = {}
        for (state, passed), trail in [*saga.failing.items(), *saga.interrupted.items()]:
            if not passed:
                _add(back, (question.undone(None, state), True), trail)
        self.turned = dict(back)
        self.failed_out = self._block(layout.on_failed, back)

    # --- blocks and bookkeeping -------------------------------------------------------------------------------------

    def _block(self, nodes: Sequence[Placed], states: States[S]) -> States[S]:
        for node in nodes:
            seen = self.seen.setdefault(node.path, {})
            for key, trail in states.items():
                _add(seen, key, trail)
            if _can_stay(node.word):
                for frame in self._frames:
                    _merge(frame.interrupted, states)
            states = self._question.merged(self._node(node, states))
        return states

    def _node(self, node: Placed, states: States[S]) -> States[S]:
        word = node.word
        if isinstance(word, (Scope, Repeat, ForEach, Parallel)):
            composite = {Scope: self._scope, Repeat: self._repeat, ForEach: self._for_each, Parallel: self._parallel}
            return composite[type(word)](node, states) if states else self._unreached(node)
        if isinstance(word, (End, Leave, Fail)):
            return self._stop(node, states)
        if isinstance(word, (Step, Call, Task, Wait, When, Choose)):
            return self._fork(node, states)
        change = self._question.kept if isinstance(word, Keep) else self._question.done
        out: States[S] = {}
        for (state, passed), trail in states.items():
            _add(out, (change(node, state), passed), trail)
        return out

    def _unreached(self, node: Placed) -> States[S]:
        for block in node.blocks.values():
            self._block(block, {})
        return {}

    def _stop(self, node: Placed, states: States[S]) -> States[S]:
        if isinstance(node.word, End):
            _merge(self.ends.setdefault(node.path, {}), states)
        elif isinstance(node.word, Leave) and self._leaves:
            _merge(self._leaves[-1], states)
        elif isinstance(node.word, Fail):
            self._fail(node, "fail", states)
        return {}

    def _fail(self, node: Placed, kind: str, states: States[S]) -> None:
        frame = next(frame for frame in reversed(self._frames) if frame.takes_failures)
        caught = frame is not self._frames[0]
        self.failures += [Failure(node, kind, key, trail, caught) for key, trail in states.items()]
        _merge(frame.failing, states)

    # --- forks ------------------------------------------------------------------------------------------------------

    def _fork(self, node: Placed, states: States[S]) -> States[S]:
        if not states:
            return self._unreached(node)
        out: States[S] = {}
        for key, trail in states.items():
            ways: list[States[S]] = []
            for label, block, failure, after in self._ways(node, key):
                start = {after: (*trail, label) if label else trail}
                if block in node.blocks:
                    ways.append(self._block(node.blocks[block], start))
                elif failure:
                    self._fail(node, failure, start)
                else:
                    ways.append(start)
            for way in ways:
                for end, marked in way.items():
                    _add(out, end, trail if all(end in other for other in ways) else marked)
        return out

    def _ways(self, node: Placed, key: Key[S]) -> list[Way[S]]:
        """Every way on from a fork."""
        word, (state, passed) = node.word, key
        if isinstance(word, When):
            holds = self._question.holds(node, state)
            ways = [(f"{node.label} taken", "true", "", key), (f"{node.label} not taken", "otherwise", "", key)]
            return ways if holds is None else ways[:1] if holds else ways[1:]
        if isinstance(word, Choose):
            return [(f"{node.label} = {value}", block, "", key) for value, block in choices(node)]
        done = (self._question.done(node, state), passed or getattr(word, "is_pivot", False))
        if isinstance(word, Task):
            rejects = {text_of(outcome) for outcome in word.rejects}
            ways = [
                (f"{node.name}: {value}", block, "rejected" if value in rejects else "", done)
                for value, block in choices(node)
            ]
            return [*ways, (f"{node.name} not decided in time", "on_timeout", "expired", key)]
        if isinstance(word, Wait):
            late = (f"no {word.event.__name__} in time", "on_timeout", "expired", key)
            return [("", "then", "", done), late]
        ways = [("", "then", "", done), (f"{node.name} refused", "on_refused", "refused", key)]
        if isinstance(word, Step):
            return [*ways, (f"{node.name} gave up", "on_exhausted", "exhausted", key)]
        assert isinstance(word, Call)
        if not word.child.may_fail and "on_refused" not in node.blocks:
            ways.pop()
        return [*ways, (f"{node.name} not in time", "on_timeout", "expired", key)] if word.within is not None else ways

    # --- composites -------------------------------------------------------------------------------------------------

    def _scope(self, node: Placed, states: States[S]) -> States[S]:
        frame: _Frame[S] = _Frame(takes_failures="on_failed" in node.blocks)
        self._frames.append(frame)
        inside = self._block(node.blocks[BODY], states)
        self._frames.pop()
        out = self._block(node.blocks.get("then", ()), inside)
        own = own_failures(node)
        if isinstance(node.word, Scope) and node.word.within is not None and "on_timeout" not in node.blocks:
            late = {key: (*trail, f"{node.label} took too long") for key, trail in frame.interrupted.items()}
            if frame.takes_failures:
                _merge(frame.failing, late)
            else:
                self._fail(node, "expired", late)
        for key in [key for key in node.blocks if key == "on_timeout" or key.startswith("on/")]:
            ended: States[S] = {}
            for (state, passed), trail in frame.interrupted.items():
                if key == "on_timeout":
                    _add(ended, (state, passed), (*trail, f"{node.label} took too long"))
                else:
                    after = self._question.interrupted(node, key.removeprefix("on/"), state)
                    _add(ended, (after, passed), (*trail, f"{key.removeprefix('on/')} arrived"))
            if key in own:
                self._block(node.blocks[key], {})
                _merge(self.seen[node.blocks[key][0].path], ended)
                _merge(frame.failing, ended)
            else:
                _merge(out, self._block(node.blocks[key], ended))
        if frame.failing:
            self.failing.add(node.path)
        back: States[S] = {}
        for (state, passed), trail in frame.failing.items():
            _add(back, (self._question.undone(node, state), passed), (*trail, f"{node.label} failed"))
        _merge(out, self._block(node.blocks.get("on_failed", ()), back))
        return out

    def _repeat(self, node: Placed, states: States[S]) -> States[S]:
        left: States[S] = {}
        self._leaves.append(left)
        begun: States[S] = {}
        counted: States[S] = {}
        todo = states
        while todo:
            begin: States[S] = {}
            for (state, passed), trail in todo.items():
                key = (self._question.enter_loop(node, state), passed)
                if key not in begun:
                    _add(begin, key, trail)
            if not begin:
                break
            _merge(begun, begin)
            todo = self._block(node.blocks[BODY], begin)
            _merge(counted, todo)
        self._leaves.pop()
        never = {key: (*trail, f"{node.label} never left") for key, trail in counted.items()}
        if "otherwise" in node.blocks:
            _merge(left, self._block(node.blocks["otherwise"], never))
        else:
            self._fail(node, "count", never)
        return left

    def _for_each(self, node: Placed, states: States[S]) -> States[S]:
        out: States[S] = {}
        todo = dict(states)
        while todo:
            (state, passed), trail = todo.popitem()
            _add(out, (state, passed), trail)
            ends = self._block(node.blocks[BODY], {(self._question.enter_loop(node, state), passed): trail})
            for after in self._question.after_items(node, state, [end for end, _ in ends]):
                if (after, passed) not in out:
                    todo[after, passed] = trail
        return out

    def _parallel(self, node: Placed, states: States[S]) -> States[S]:
        out: States[S] = {}
        for (state, passed), trail in states.items():
            ends = [
                self._block(
                    branch, {(start, passed): trail for start in self._question.branch_starts(node, name, state)}
                )
                for name, branch in node.blocks.items()
            ]
            start: States[S] = {(state, passed): trail}
            _merge(out, reduce(lambda one, other: self._joined(one, other, len(trail)), ends) if ends else start)
        return out

    def _joined(self, one: States[S], other: States[S], common: int) -> States[S]:
        """The states after two branches; `common` is the length of the trail before they parted."""
        joined: States[S] = {}
        for ((left, left_passed), left_trail), ((right, right_passed), right_trail) in product(
            one.items(), other.items()
        ):
            for state in self._question.join(left, right):
                _add(joined, (state, left_passed or right_passed), left_trail + right_trail[common:])
        return joined


def choices(node: Placed) -> list[tuple[str, str]]:
    """(value, block) of every value of a choose, or outcome of a task: its own block, else `otherwise`."""
    word = node.word
    prefix = "on/" if isinstance(word, Task) else ""
    written = [key for key in node.blocks if key != "otherwise"]
    values = outcomes_of(word.answer) if isinstance(word, Task) else written
    found = [(value, prefix + value if prefix + value in node.blocks else "otherwise") for value in values]
    if isinstance(word, Choose) and "otherwise" in node.blocks:
        found.append(("another value", "otherwise"))
    return found


_STAYS = (Step, Call, Task, Wait, Delay, Compute, Publish, When, Choose, ForEach)


def _can_stay(word: Word) -> bool:
    """Time may pass before or in it: it waits, or a function of the author's may be stuck."""
    return isinstance(word, _STAYS) or (isinstance(word, (Fail, End)) and _has_function(word))


def _has_function(word: Fail | End) -> bool:
    return (word.function if isinstance(word, Fail) else word.result) is not None


def _add(states: States[S], key: Key[S], trail: Trail) -> None:
    if key not in states or len(trail) < len(states[key]):
        states[key] = trail


def _merge(into: States[S], states: States[S]) -> None:
    for key, trail in states.items():
        _add(into, key, trail)

"""Checks of the way back: what a closing takes, that all is settled before a plan, plans, order, ends (rules 13-22)."""

from __future__ import annotations

from orchestrator.kernel.graph import CallNode, KeepNode, ScopeNode, StepNode
from orchestrator.kernel.inputs import SendRefused, TimerDue
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.story import BODY, HELD, Seen, Story


def check_back(seen: Seen, record: Record) -> None:
    """Before the record is learned."""
    if check := CHECKS.get(record.type):
        check(seen, record)


def _started(seen: Seen, record: Record) -> None:
    story = seen.story
    again = story.terminal == "completed" and "by_parent" in record.data
    seen.demand(story.phase == "forward" or again, f"a second compensation, in phase {story.phase} (rule 20)")
    seen.demand(story.pivot != "passed" and not story.forward_only, "compensation after the pivot (rule 16a)")
    pivot = story.facts.get(story.pivot_at)
    in_flight = story.pivot == "open" and pivot is not None and pivot.unknown
    seen.demand(not in_flight, f"compensation while the pivot {story.pivot_at} is in flight (rule 16b)")
    _closing(seen, record)


def _failing(seen: Seen, record: Record) -> None:
    story = seen.story
    pivot = story.facts.get(story.pivot_at)
    in_flight = story.pivot == "open" and pivot is not None and pivot.unknown
    seen.demand(in_flight and not story.pending, "saga.failing, but no pivot is in flight, or a failure waits already")


def _closing(seen: Seen, record: Record) -> None:
    """What the record withdraws is exactly what is open inside (S2)."""
    story, scope = seen.story, record.activity
    if scope:
        mode = story.facts[scope].mode
        seen.demand(mode == "open", f"{record.type} {scope}, which is {mode or 'not entered'} (S1)")
    takes = {
        key
        for key, fact in story.within(scope)
        if key != scope and (fact.state == "open" or (fact.unknown and fact.reads))
    }
    listed = set(record.data["withdrawn"])
    seen.demand(takes == listed, f"{record.type} {scope}: open inside {takes}, withdrawn {listed} (S2)")
    _fences_follow(seen, record, scope)


def _fences_follow(seen: Seen, record: Record, scope: str) -> None:
    """In the same turn, newest first, every unknown outcome inside is settled (S3)."""
    story = seen.story
    mine = [
        key
        for key, fact in story.within(scope)
        if fact.unknown
        and not fact.reads
        and (record.type != "scope.interrupted" or story.closing_around(key) is None)  # those settle already
    ]
    mine.sort(key=lambda key: -story.facts[key].opened)
    following = seen.records[seen.index + 1 : seen.index + 1 + len(mine) + len(story.facts)]
    fences = []
    for later in following:
        if later.type != "fence.requested":
            break
        fences.append(later.activity)
    text = f"{record.type} {scope}: unknown inside {mine}, newest first, but settled {fences} (S3)"
    seen.demand(fences == mine, text)


def _plan(seen: Seen, record: Record) -> None:
    story, scope = seen.story, record.activity
    expected = story.plannable(scope)
    plan = record.data["plan"]
    seen.demand(plan == expected, f"plan of {scope or 'the saga'} is {plan}, must be {expected} (rule 17)")
    seen.demand(not plan or story.pivot != "passed", f"{plan} is to be undone although the pivot is passed (rule 16)")
    unknown = [key for key, fact in story.within(scope) if fact.unknown and not fact.reads and story.undoable(key)]
    seen.demand(not unknown, f"planned while {unknown} are not settled (rule 17)")
    if scope:
        seen.demand(story.facts[scope].mode == "failing", f"{scope} plans, but it is {story.facts[scope].mode}")
        flying = [key for key, fact in story.within(scope) if fact.undo == "open"]
        seen.demand(not flying, f"{scope} plans while {flying} are being undone")
    else:
        seen.demand(story.phase == "compensating", f"planned in phase {story.phase}")


def _undo(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    fact = story.facts[activity]
    seen.demand(fact.state == "done", f"undo of {activity}, which is {fact.state} (rule 21)")
    seen.demand(not fact.kept, f"undo of {activity}, which is kept (S5a)")
    again = fact.undo == "open"
    round_ = record.data["round"]
    fits = round_ > fact.undo_round if fact.undo_no else round_ == fact.undo_round
    seen.demand(fits, f"undo of {activity} in round {round_} after {fact.undo_round}: a no is for ever (rules 4, 19)")
    seen.demand(fact.undo in ("", "open"), f"undo of {activity} asked, but its undo is {fact.undo} already")
    _undo_attempts(seen, record)
    if again:
        seen.demand(record.data["attempt"] == fact.undo_attempt + 1, f"undo of {activity}: attempts jump")
        return
    plan = next((name for name, plan in story.plans.items() if activity in plan), None)
    seen.demand(plan is not None, f"undo of {activity} asked, but no plan holds it")
    assert plan is not None
    flying = [key for key, other in story.within(plan) if other.undo == "open"]
    seen.demand(not flying, f"undo of {activity} asked while {flying} are in flight (rule 18)")
    held = [key for key, other in story.within(plan) if other.undo in HELD]
    for earlier in story.plans[plan][: story.plans[plan].index(activity)]:
        why = any(not story.apart(earlier, other) for other in held)
        seen.demand(why, f"undo of {activity} asked before {earlier}, which nothing holds back (V9)")
    seen.demand(
        all(story.apart(activity, other) for other in held), f"undo of {activity} overtakes a stuck one of {held}"
    )


def _undo_attempts(seen: Seen, record: Record) -> None:
    node = seen.story.node(record.activity)
    if isinstance(node, StepNode) and node.undo_retry.attempts:
        tries = record.data["attempt"] - record.data.get("base", 0)
        seen.demand(tries <= node.undo_retry.attempts, f"undo of {record.activity}: {tries} tries, more than allowed")


def _undo_failed(seen: Seen, record: Record) -> None:
    if not record.data.get("due"):
        _stuck_follows(seen, f"~{record.activity}")


def _fence_failed(seen: Seen, record: Record) -> None:
    if record.data.get("due"):
        return
    _stuck_follows(seen, f"?{record.activity}")
    node, fact = seen.story.node(record.activity), seen.story.facts[record.activity]
    tries = fact.fence_attempt - fact.fence_base
    early = isinstance(node, StepNode) and tries < node.undo_retry.attempts
    known = record.data.get("never") or isinstance(seen.given, SendRefused)
    seen.demand(known or not early, f"the fence of {record.activity} gives up after {tries} tries (rule 15)")


def _stuck_follows(seen: Seen, place: str) -> None:
    later = seen.records[seen.index + 1] if seen.index + 1 < len(seen.records) else None
    stuck = later is not None and later.type == "saga.stuck" and later.data["place"] == place
    seen.demand(stuck, f"{place} gives up, and no stuck place says so (rules 15, 19)")


def _all_settled(seen: Seen, record: Record) -> None:
    """Nothing inside waits for an outcome, an undo or a person (S4, rule 18)."""
    story, scope = seen.story, record.activity
    what = f"{record.type} {scope}"
    for key, fact in story.within(scope):
        if key == scope:
            continue
        seen.demand(not fact.unknown or fact.reads, f"{what}, but {key} is not settled")
        seen.demand(fact.undo != "open", f"{what}, but {key} is being undone")
        seen.demand(fact.undo not in HELD, f"{what}, but the undo of {key} is {fact.undo}")
        seen.demand(fact.mode in ("", "open"), f"{what}, but scope {key} inside is {fact.mode}")
    if record.type != "scope.closed":
        left = story.plans.get(scope, [])
        seen.demand(not left, f"{what}, but {left} are still planned")
        rest = story.plannable(scope)
        seen.demand(not rest, f"{what}, but {rest} are done and not undone (V9)")
    if scope:
        modes = {"scope.closed": "interrupted", "scope.undone": "undoing"}
        seen.demand(story.facts[scope].mode == modes[record.type], f"{what}: it is {story.facts[scope].mode}")


def _ended(seen: Seen, record: Record) -> None:
    story = seen.story
    if story.phase != "on_failed":
        seen.demand("" in story.plans, "compensated without a plan")
        _all_settled(seen, record)


def _kept(seen: Seen, record: Record) -> None:
    """keep() is about the innermost scope or item (S5a), and not about a nested scope that goes back."""
    story, activity = seen.story, record.activity
    node = story.node(activity)
    assert isinstance(node, KeepNode)
    owner, index = _keeper(story, activity, node.within_node)
    expected = {
        key
        for key, fact in story.facts.items()
        if fact.state == "done" and fact.undo not in ("done", "by_hand", "skipped") and _undoable(story, key)
        and _lies(story, key, owner, index) and not _inner_closing(story, key, owner)
    }  # fmt: skip
    kept = {key for key in record.data["kept"] if _undoable(story, key)}
    seen.demand(kept == expected, f"{activity} keeps {kept}, must keep {expected} (S5a)")


def _undoable(story: Story, key: str) -> bool:
    return story.facts[key].kind in ("step", "call") and story.undoable(key)


def _keeper(story: Story, activity: str, path: str) -> tuple[str, int | None]:
    for place in story.around(activity):
        if place.node.path == path and place.block in BODY:
            return place.owner, place.number
    return "", None


def _lies(story: Story, key: str, owner: str, index: int | None) -> bool:
    return any(p.owner == owner and p.block in BODY and p.number == index for p in story.around(key))


def _inner_closing(story: Story, key: str, owner: str) -> bool:
    closing = story.closing_around(key)
    return closing is not None and closing != owner


def _fence(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    fact = story.facts[activity]
    seen.demand(fact.unknown, f"{activity} is fenced, but its outcome is {fact.state}")
    seen.demand(not fact.reads, f"{activity} only reads: it is never fenced")
    node = story.node(activity)
    by_timer = isinstance(seen.given, TimerDue) and seen.given.activity == activity and not seen.index
    if isinstance(node, StepNode) and node.undo_retry.attempts and by_timer:
        tries = fact.fence_attempt - record.data.get("base", 0)
        silent = not any(r.type == "fence.failed" and "doubt" in r.data["reason"] for r in story.records)
        seen.demand(not silent or tries < node.undo_retry.attempts, f"{activity} is fenced {tries + 1} times")


def settled_at_rest(seen: Seen) -> None:
    """After a turn: what closes has asked for every unknown outcome inside, and no failure is lost."""
    story = seen.story
    seen.demand(story.expect is None, f"{story.expect_of} failed, and nothing follows")
    for key, fact in story.facts.items():
        if not fact.unknown or fact.reads:
            continue
        closing = story.phase == "compensating" or story.closing_around(key) is not None
        closing = closing or (story.pending and key == story.pivot_at)
        seen.demand(not closing or fact.fence, f"{key} is not settled, its surroundings close, nothing asks (rule 16)")
        gave_up = fact.due == 0 and not fact.fence and not isinstance(story.node(key), CallNode)
        stuck = f"!{key}" in story.stuck
        seen.demand(not gave_up or stuck, f"{key} waits for nothing: no timer, no fence, not stuck (V30)")


def goes_on(seen: Seen) -> None:
    """After a turn that was not cut short: the way back goes on as soon as it may, and asks what nothing holds."""
    story = seen.story
    if story.more or story.phase not in ("forward", "compensating", "on_failed"):
        return
    if story.phase == "compensating" and "" not in story.plans:
        waits = [key for key, fact in story.facts.items() if fact.unknown and story.undoable(key) and not fact.reads]
        seen.demand(waits, "nothing undoable is unknown, and nothing is planned (rule 17)")
    for scope, plan in story.plans.items():
        inside = list(story.within(scope))
        nested = [k for k, f in inside if k != scope and f.mode not in ("", "open")]
        if not plan or nested or any(fact.undo == "open" for _, fact in inside):
            continue
        held = [key for key, fact in inside if fact.undo in HELD]
        free = [key for key in plan if all(story.apart(key, other) for other in held)]
        seen.demand(not free, f"{free} wait for their undo, and nothing holds them back (rule 18)")


def _interrupted(seen: Seen, record: Record) -> None:
    story, scope = seen.story, record.activity
    node = story.node(scope)
    block = f"on/{record.data['type']}" if "event" in record.data else "on_timeout"
    own = isinstance(node, ScopeNode) and block in node.own_failures
    seen.demand(not own, f"{block} of {scope} is its own failure (S5)")
    _closing(seen, record)


CHECKS = {
    "compensation.started": _started,
    "saga.failing": _failing,
    "scope.interrupted": _interrupted,
    "scope.failing": _closing,
    "undo.planned": _plan,
    "scope.undo_planned": _plan,
    "undo.requested": _undo,
    "undo.failed": _undo_failed,
    "fence.failed": _fence_failed,
    "fence.requested": _fence,
    "scope.closed": _all_settled,
    "scope.undone": _all_settled,
    "compensation.finished": _all_settled,
    "saga.compensated": _ended,
    "scope.kept": _kept,
}

"""Planted bugs of settling, turning back, undoing and people who step in."""

# ruff: noqa: E501 - a planted text stands here as it stands in the file

from tests.kernel.mutations.mutation import Mutation, mutation

BUGS: tuple[Mutation, ...] = (
    mutation("undos in parallel", "turning", '    if in_flight(state, ""):\n        return False\n', ""),
    mutation(
        "forward undo order",
        "turning",
        "return sorted(keys, key=lambda key: -state.activities[key].settled)",
        "return sorted(keys, key=lambda key: state.activities[key].settled)",
    ),
    mutation(
        "sets instead of order",
        "turning",
        "return sorted(keys, key=lambda key: -state.activities[key].settled)",
        "return list(set(keys))",
    ),
    mutation(
        "plan in order of opening",
        "turning",
        "return sorted(keys, key=lambda key: -state.activities[key].settled)",
        "return sorted(keys, key=lambda key: -state.activities[key].opened)",
    ),
    mutation(
        "plan before settled",
        "turning",
        '        if unsettled_inside(state, "", undoable_only=True):\n            return False\n',
        "",
    ),
    mutation(
        "step without undo holds the plan",
        "turning",
        '        if unsettled_inside(state, "", undoable_only=True):',
        '        if unsettled_inside(state, "", undoable_only=False):',
    ),
    mutation(
        "undo gives up silently",
        "turning",
        '        _undo_stuck(turn, activity, "undo", f"the undo failed {tries} times: {reason}")\n',
        "",
    ),
    mutation(
        "undo that gave up counts as done",
        "turning",
        '        turn.emit("undo.failed", activity, attempt=undo.attempt, reason=reason)\n        _undo_stuck',
        '        turn.emit("undo.succeeded", activity)\n        return\n        _undo_stuck',
    ),
    mutation(
        "refused undo counts as done",
        "turning",
        '    if outcome == "ok":\n        turn.emit("undo.succeeded", activity)\n    elif',
        '    if outcome in ("ok", "refused"):\n        turn.emit("undo.succeeded", activity)\n    elif',
    ),
    mutation(
        "fence gives up silently",
        "fences",
        '        turn.stick(f"?{activity}", "unknown", f"the outcome is unknown, and {tries} fences brought none: {reason}")\n',
        "",
    ),
    mutation(
        "fence that gave up means not done",
        "fences",
        '        turn.emit("fence.failed", activity, attempt=found.fence_attempt, reason=reason)\n',
        '        turn.emit("step.refused", activity, reason=reason, not_done=True, gives=[])\n        return\n',
    ),
    mutation(
        "in doubt means not done",
        "steps",
        'elif answer.outcome in ("ok", "refused", "not_done"):',
        'elif answer.outcome in ("ok", "refused", "not_done", "in_doubt"):',
    ),
    mutation(
        "abandoned step not settled",
        "fences",
        "    for activity in sorted(unknown, key=lambda key: -turn.state.activities[key].opened):",
        "    for activity in sorted(unknown, key=lambda key: -turn.state.activities[key].opened)[1:]:",
    ),
    mutation(
        "settled oldest first",
        "fences",
        "sorted(unknown, key=lambda key: -turn.state.activities[key].opened)",
        "sorted(unknown, key=lambda key: turn.state.activities[key].opened)",
    ),
    mutation(
        "only undoable steps fenced",
        "fences",
        "        if found.unsettled and not any(",
        "        if found.unsettled and found.undoable and not any(",
    ),
    mutation(
        "running child forgotten",
        "fences",
        "        if found.unsettled and not any(",
        '        if found.unsettled and found.kind != "call" and not any(',
        theme="children",
    ),
    mutation(
        "second compensation",
        "decide",
        '    elif state.phase != "forward" or state.pending is not None:\n        turn.refuse("already_turning"',
        '    elif state.phase not in ("forward", "compensating") or state.pending is not None:\n        turn.refuse("already_turning"',
    ),
    mutation(
        "cancel accepted on the on_failed path",
        "decide",
        '    elif state.phase != "forward" or state.pending is not None:\n        turn.refuse("already_turning"',
        '    elif state.phase not in ("forward", "on_failed") or state.pending is not None:\n        turn.refuse("already_turning"',
    ),
    mutation(
        "compensation after the pivot",
        "turning",
        '    return turn.state.pivot == "passed" or turn.state',
        "    return turn.state",
    ),
    mutation(
        "pivot in flight ignored",
        "turning",
        '    if turn.state.pivot == "open" and pivot is not None and pivot.unsettled:',
        "    if False and pivot is not None:",
    ),
    mutation(
        "accepted cancel forgotten",
        "evolve",
        '    found = settle(state, activity, "refused")\n    if found.pivot',
        '    found = settle(state, activity, "refused")\n    state.pending = None\n    if found.pivot',
    ),
    mutation(
        "cancel waits although the pivot passed", "turning", '    turn.emit("cancel.refused", failure=failure)\n', ""
    ),
    mutation(
        "on_failed path skipped",
        "turning",
        "    if turn.program.graph.has_on_failed and first:",
        "    if False and first:",
    ),
    mutation(
        "on_failed before the last undo",
        "turning",
        '    if in_flight(state, ""):\n        return False\n',
        '    if state.plan and in_flight(state, ""):\n        return False\n',
        (
            "turning",
            '        if found.unsettled or found.undo_status in ("stuck", "taken", "handed", "asked", "backoff"):\n            return False\n    if state.stuck:',
            '        if found.unsettled or found.undo_status in ("stuck", "taken", "handed"):\n            return False\n    if state.stuck:',
        ),
    ),
    mutation(
        "end not held by an unknown step",
        "turning",
        '        if found.unsettled or found.undo_status in ("stuck", "taken", "handed", "asked", "backoff"):\n            return False\n    if state.stuck:',
        '        if found.undo_status in ("stuck", "taken", "handed", "asked", "backoff"):\n            return False\n    if state.stuck and not any(p[0] == "?" for p in state.stuck):',
    ),
    mutation(
        "end not held by a stuck undo",
        "turning",
        '        if found.unsettled or found.undo_status in ("stuck", "taken", "handed", "asked", "backoff"):\n            return False\n    if state.stuck:',
        '        if found.unsettled or found.undo_status in ("taken", "handed", "asked", "backoff"):\n            return False\n    if False:',
    ),
    mutation(
        "undone twice",
        "turning",
        'and found.undo_status in ("", "stuck")',
        'and found.undo_status in ("", "stuck", "done")',
    ),
    mutation(
        "kept out of plans only until the fence",
        "turning",
        'and found.undo_status in ("", "stuck")',
        'and found.undo_status in ("", "stuck", "handed")',
    ),
    mutation(
        "stuck undo holds nothing",
        "turning",
        "        if all(siblings_apart(turn.program.graph, activity, held) for held in stuck):",
        "        if True:",
    ),
    mutation(
        "stuck undo holds all",
        "turning",
        "        if all(siblings_apart(turn.program.graph, activity, held) for held in stuck):",
        "        if not stuck:",
        theme="forks",
    ),
    mutation(
        "retried at once instead of in turn",
        "operators",
        '    if not _is_taken(turn, act):\n        turn.emit("operator.retried", act.place[1:], **_by(act))\n',
        '    if not _is_taken(turn, act):\n        turn.emit("operator.retried", act.place[1:], **_by(act))\n        request_undo(turn, act.place[1:])\n',
        (
            "operators",
            "from orchestrator.kernel.turning import fail, go_forward",
            "from orchestrator.kernel.turning import fail, go_forward, request_undo",
        ),
    ),
    mutation(
        "undo by hand without a fence",
        "operators",
        '    if undo.command is None:\n        turn.emit("undo.handed", activity)\n',
        '    turn.emit("undo.handed", activity)\n',
    ),
    mutation(
        "closing drops the take-over",
        "evolve",
        '    if found.undo_status == "stuck":\n        undo',
        '    if found.undo_status in ("stuck", "taken", "handed"):\n        undo',
        theme="parts",
    ),
    mutation(
        "take-over fences only the undo's key",
        "effects",
        '{"undoes": found.command["key"], "purpose": "fence_undo"}',
        '{"purpose": "fence_undo"}',
    ),
    mutation(
        "take-over of another version counts", "operators", "    if act.version != undo.taken_at:", "    if False:"
    ),
    mutation("one person's evidence is enough", "operators", '    if first["by"] == act.by:', "    if False:"),
    mutation(
        "evidence needs no proposal",
        "operators",
        '    if first is None or first["outcome"] != act.outcome or first.get("result") != result:\n',
        '    if first is None:\n        return {"by": act.by}\n    if first["outcome"] != act.outcome or first.get("result") != result:\n',
    ),
    mutation(
        "evidence settles the key",
        "operators",
        '    owed = turn.state.stuck[act.place].cause != "never"',
        "    owed = False",
    ),
    mutation(
        "never keeps the key in the list",
        "operators",
        '    owed = turn.state.stuck[act.place].cause != "never"',
        "    owed = True",
    ),
    mutation(
        "old proposal still counts",
        "evolve",
        '    found.proposal = None\n    state.stuck.pop(f"!{activity}", None)',
        '    state.stuck.pop(f"!{activity}", None)',
        (
            "evolve_people",
            "        found.proposal, found.fence_base = None, found.fence_attempt",
            "        found.fence_base = found.fence_attempt",
        ),
    ),
    mutation("found effect not planned", "steps", "result=answer.data, plans=plans", "result=answer.data, plans=False"),
    mutation(
        "no work item after the end", "steps", '        turn.stick(f"!{answer.activity}", "effect_found", text)\n', ""
    ),
    mutation(
        "operator's stale version counts",
        "operators",
        "    if act.version not in (stuck.version, proposal):",
        "    if False:",
    ),
    mutation(
        "completed child is final",
        "children",
        "    elif past_return(turn):\n        ended",
        '    elif past_return(turn) or state.phase == "completed":\n        ended',
        theme="children",
    ),
    mutation(
        "child not answered again",
        "children",
        '        turn.emit("parent.answered", outcome="undone")\n',
        '        turn.refuse("ended", "undone already")\n',
        theme="children",
    ),
    mutation(
        "tombstone forgotten",
        "decide",
        '    if state.phase == "tombstoned":\n        turn.refuse',
        "    if False:\n        turn.refuse",
        (
            "decide",
            '    if state.phase != "new":\n        same',
            '    if state.phase not in ("new", "tombstoned"):\n        same',
        ),
        theme="children",
    ),
    mutation(
        "parent answered too early",
        "effects",
        '    "saga.compensated": _answer,\n',
        '    "compensation.finished": lambda after, record, version: _answer(after, Record("saga.compensated", "", {"outcome": ""}), version),\n    "saga.compensated": _answer,\n',
        theme="children",
    ),
    mutation(
        "completed child counts although it was asked to undo",
        "children",
        "    if found.fence and not found.pivot:",
        "    if False:",
        theme="children",
    ),
    mutation(
        "deadline swallowed by a waiting cancel",
        "evolve",
        '    if data["failure"]["kind"] == "deadline":\n        state.deadline = 0\n',
        "    state.deadline = 0\n",
    ),
)

"""Planted bugs of asking, answering, limits and control."""

# ruff: noqa: E501 - a planted text stands here as it stands in the file

from tests.kernel.mutations.mutation import Mutation, mutation

BUGS: tuple[Mutation, ...] = (
    mutation(
        "key has the attempt",
        "effects",
        '"idempotencykey": command["key"],',
        "\"idempotencykey\": f\"{command['key']}.{record.data['attempt']}\",",
    ),
    mutation(
        "undo key has the attempt",
        "turning",
        'key = turn.key(activity, f"~{undo.round}")',
        'key = turn.key(activity, f"~{undo.round}.{undo.attempt}")',
        ("turning", "if undo.command is None and not is_child(turn, activity):", "if not is_child(turn, activity):"),
    ),
    mutation(
        "command rebuilt on retry",
        "steps",
        'extra = {} if base is None else {"base": base}',
        'fresh = turn.message(activity, turn.call(activity, "build"), node.participant, turn.key(activity, ":1"))\n'
        "    found.command = fresh\n"
        '    extra = {} if base is None else {"base": base}',
        (
            "steps",
            "    found = turn.state.activities[activity]\n    node = turn.node(activity)\n    assert isinstance"
            "(node, StepNode)\n    due",
            "    found = turn.state.touch(activity)\n    node = turn.node(activity)\n"
            "    assert isinstance(node, StepNode)\n    due",
        ),
    ),
    mutation("unknown step left out", "state", '{"requested", "backoff", "unknown"}', '{"requested", "backoff"}'),
    mutation("backoff not settled", "state", '{"requested", "backoff", "unknown"}', '{"requested", "unknown"}'),
    mutation(
        "decide changes the cached state",
        "decide",
        "turn = Turn(program, state.fork(), now,",
        "turn = Turn(program, state, now,",
    ),
    mutation(
        "no resume after the limit",
        "decide",
        "return turn.state.fork() is not None and _could_move(turn)",
        "return False",
    ),
    mutation(
        "random jitter",
        "turn",
        'draw = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest(), "big") / 2**32',
        "draw = __import__('random').random()",
    ),
    mutation("join on the first branch", "forks", "over = join.done + 1 == join.total", "over = True"),
    mutation(
        "join waits for one too few",
        "forks",
        "over = join.done + 1 == join.total",
        "over = join.done + 2 >= join.total",
    ),
    mutation(
        "at_once off by one",
        "forks",
        "started = min(len(items), node.at_once)",
        "started = min(len(items), node.at_once + 1)",
    ),
    mutation("loop off by one", "forks", "if done < node.at_most:", "if done <= node.at_most:"),
    mutation("loop ends a round early", "forks", "if done < node.at_most:", "if done + 1 < node.at_most:"),
    mutation(
        "node after a handler skipped",
        "places",
        "        if here.node.next:\n",
        "        if here.node.next and activity == first:\n",
        (
            "places",
            'through all transparent blocks."""\n',
            'through all transparent blocks."""\n    first = activity\n',
        ),
    ),
    mutation("stale timer acts", "decide", "or not found.due or found.armed != given.armed:", "or not found.due:"),
    mutation(
        "stale error counts",
        "steps",
        'elif found.status == "requested" and not found.fence and answer.attempt == found.attempt:',
        'elif found.status == "requested":',
    ),
    mutation(
        "error is a no",
        "steps",
        'elif answer.outcome in ("ok", "refused", "not_done"):',
        'elif answer.outcome in ("ok", "refused", "not_done", "error"):',
    ),
    mutation(
        "refused round retried as is",
        "operators",
        "round_ = found.round + 1\n        old",
        "round_ = found.round\n        old",
    ),
    mutation(
        "stuck saga drops replies",
        "steps",
        '    if answer.purpose == "undo":\n',
        '    if turn.state.stuck:\n        return\n    if answer.purpose == "undo":\n',
    ),
    mutation(
        "one attempt too many",
        "steps",
        "if not patient and policy.attempts and tries >= policy.attempts:",
        "if not patient and policy.attempts and tries > policy.attempts:",
    ),
    mutation(
        "gives up after the pivot",
        "steps",
        'patient = past_return(turn) and "on_exhausted" not in node.blocks',
        "patient = False",
    ),
    mutation(
        "exhausted without a fence",
        "steps",
        'elif node.pivot or "on_exhausted" in node.blocks:\n        fence(turn, activity, after="exhausted")',
        'elif node.pivot or "on_exhausted" in node.blocks:\n        turn.emit("step.refused", activity, reason=reason, gives=turn.gives(activity, "on_exhausted"))',
    ),
    mutation(
        "late answers leave no record",
        "steps",
        '    done = answer.outcome == "ok"\n    contradicts',
        '    return\n    done = answer.outcome == "ok"\n    contradicts',
    ),
    mutation(
        "contradictions are not told",
        "steps",
        'contradicts = contradicts and done != (found.status == "succeeded")',
        "contradicts = False",
    ),
    mutation(
        "answer of another round counts",
        "steps",
        "elif not found.unsettled or answer.round != found.round:",
        "elif not found.unsettled:",
        theme="forward",
    ),
    mutation(
        "refusal takes the path of silence",
        "steps",
        'exhausted = found.after == "exhausted" and not_done',
        'exhausted = found.after == "exhausted"',
        theme="steps",
    ),
    mutation(
        "unsent message keeps its clock",
        "decide",
        'turn.emit("step.failed", key, attempt=found.attempt, reason=given.reason, unsent=True)',
        "pass",
    ),
    mutation(
        "function that raises is skipped",
        "forward",
        "        turn.stick(token, error.cause, error.reason, error)\n",
        '        turn.emit("branch.taken", activity, takes=token, label="", gives=[f"-{activity}"])\n',
    ),
    mutation("value by hand forgotten", "inject", "if by_hand in state.by_hand:", "if False:"),
    mutation(
        "second start with another body starts anew",
        "decide",
        '    if state.phase != "new":\n        same',
        '    if state.phase == "completed":\n        same',
    ),
    mutation(
        "completed with an open pivot",
        "decide",
        '        if state.pivot == "open" and pivot is not None and pivot.unsettled:',
        "        if False and pivot is not None:",
    ),
    mutation(
        "reads are fenced", "fences", "reading = found.unsettled and found.reads", "reading = False", theme="steps"
    ),
    mutation(
        "empty for_each stays open",
        "evolve",
        '    elif data["kind"] == "for_each":  # no items: it is over at once\n        settle(state, activity, "left")\n',
        "",
        theme="forks",
    ),
    mutation(
        "retry counts from the first attempt",
        "evolve",
        '    found.base = data.get("base", found.base)\n    set_timer(state, found, data.get("due"))\n\n\n@folds("step.succeeded"',
        '    set_timer(state, found, data.get("due"))\n\n\n@folds("step.succeeded"',
    ),
)

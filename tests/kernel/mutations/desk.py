"""Planted bugs of the desk: claims, substitutes, reassignments, comments, limits, ladders."""

# ruff: noqa: E501 - a planted text stands here as it stands in the file

from tests.kernel.mutations.mutation import Mutation, mutation


def _bug(name: str, file: str, old: str, new: str, *more: tuple[str, str, str]) -> Mutation:
    return mutation(name, file, old, new, *more, theme="desk")


BUGS: tuple[Mutation, ...] = (
    # --- whose right -------------------------------------------------------------------------------------------------
    _bug(
        "substitute brings their own roles",
        "voices",
        'yield Voice(given.by, known["by"], still_held(known, given.holds), "delegated")',
        'yield Voice(given.by, known["by"], still_held(known, given.holds) + given.roles, "delegated")',
    ),
    _bug(
        "substitute keeps what the other has lost",
        "voices",
        "if now is None or role in now)",
        ")",
    ),
    _bug(
        "substitute gets what the other was given later",
        "voices",
        "return tuple(role for role in lent",
        "return now if now is not None else tuple(role for role in lent",
    ),
    _bug(
        "who votes for themselves alone votes for others too",
        "voices",
        'and on_behalf_of in ("", known["by"]):',
        'and on_behalf_of in ("", given.by, known["by"]):',
    ),
    _bug("delegation never ends", "voices", 'and given.received_at < known["until"] and', "and"),
    _bug(
        "absence never ends",
        "voices",
        "absent.since <= given.received_at < absent.until",
        "absent.since <= given.received_at",
    ),
    _bug("barred lender lends", "voices", '        if known["by"] in given.barred:\n            continue\n', ""),
    _bug("delegation is for everybody", "voices", 'if known["to"] == given.by and given', "if given"),
    _bug(
        "one may say for whom one votes",
        "voices",
        '    if on_behalf_of in ("", given.by):\n        yield Voice(given.by, "", given.roles)',
        "    yield Voice(given.by, on_behalf_of, given.roles)",
    ),
    _bug(
        "substitute votes although the other has voted",
        "voices",
        '        again = heads & {cast["by"], cast["on_behalf_of"]}',
        '        again = {voice.by} & {cast["by"], cast["on_behalf_of"]}',
    ),
    _bug(
        "who was stood in for votes again",
        "voices",
        '        again = heads & {cast["by"], cast["on_behalf_of"]}',
        '        again = heads & {cast["by"]}',
    ),
    _bug(
        "excluded person is stood in for",
        "voices",
        "for name in (voice.by, voice.right_of) if name in",
        "for name in (voice.by,) if name in",
    ),
    _bug(
        "excluded person stands in",
        "voices",
        "for name in (voice.by, voice.right_of) if name in",
        "for name in (voice.right_of,) if name in",
    ),
    _bug(
        "substitute is not told in the evidence",
        "tasks",
        '        "on_behalf_of": voice.behalf,',
        '        "on_behalf_of": "",',
    ),
    _bug(
        "voided voter is forgotten",
        "voices",
        "for cast in (*found.task.votes, *found.task.void):",
        "for cast in found.task.votes:",
    ),
    _bug(
        "who was stood in for is no earlier voter",
        "voices",
        'voters.update({cast["by"], cast["on_behalf_of"]} - {""})',
        'voters.update({cast["by"]})',
    ),
    _bug("who chose who decides, decides", "voices", "    if heads & set(task.steered):", "    if False:"),
    # --- limits ------------------------------------------------------------------------------------------------------
    _bug(
        "limit is ignored",
        "voices",
        "refusal = barred(turn, voice, task, node) or _over_limit(voice, task)",
        "refusal = barred(turn, voice, task, node)",
    ),
    _bug("limit ends below itself", "voices", '<= Decimal(limit["amount"]):', '< Decimal(limit["amount"]):'),
    _bug("currencies are one", "voices", 'if limit["currency"] == amount["currency"] and Decimal', "if Decimal"),
    _bug(
        "limit is anybody's",
        "voices",
        '        if limit.get("person") != voice.right_of and limit.get("role") not in voice.roles:\n            continue\n',
        "",
    ),
    _bug(
        "amounts are compared as texts",
        "voices",
        'Decimal(amount["amount"]) <= Decimal(limit["amount"])',
        'amount["amount"] <= limit["amount"]',
    ),
    _bug(
        "amended amount is not measured",
        "tasks",
        '    if amount != task.amount:\n        found["amount"] = amount\n',
        "",
    ),
    # --- the ladder --------------------------------------------------------------------------------------------------
    _bug(
        "reset of the clock is ignored", "ladder", '    if any(one.get("reset") for one in due_now):', "    if False:"
    ),
    _bug(
        "every level sets the clock anew", "ladder", '    if any(one.get("reset") for one in due_now):', "    if True:"
    ),
    _bug(
        "clock is not set anew in the state",
        "evolve_tasks",
        '    task.expires = data.get("expires", task.expires)\n',
        "",
    ),
    _bug(
        "level fires twice",
        "evolve_tasks",
        '    task.levels = task.levels[1 + len(data.get("missed", ())) :]\n',
        '    again = [{**task.levels[0], "at": data["at"] + 60_000_000}] if data["level"] < 9 else []\n    task.levels = again + task.levels[1 + len(data.get("missed", ())) :]\n',
    ),
    _bug(
        "missed levels come again",
        "evolve_tasks",
        '    task.levels = task.levels[1 + len(data.get("missed", ())) :]\n',
        "    task.levels = task.levels[1:]\n",
    ),
    _bug(
        "only the last level always",
        "ladder",
        'if task.catch_up == "last" else task.levels[:1]',
        "if True else task.levels[:1]",
    ),
    _bug(
        "each level always",
        "ladder",
        'if task.catch_up == "last" else task.levels[:1]',
        "if False else task.levels[:1]",
    ),
    _bug(
        "late vote forgets the level that was due",
        "tasks",
        " and not extended(turn, vote.activity, vote.received_at):",
        ":",
    ),
    _bug(
        "late event forgets the level that was due",
        "waiting",
        "        if not extended(turn, activity, at or turn.now):\n            expire(turn, activity)",
        "        expire(turn, activity)",
    ),
    _bug(
        "levels after the end of the time",
        "ladder",
        "level if level <= now and level < task.expires else None",
        "level if level <= now else None",
    ),
    _bug("levels before reminders that were due earlier", "ladder", "(reminder is None or level <= reminder)", "True"),
    _bug(
        "reminder closes the task",
        "evolve_tasks",
        '    task.reminded = [*task.reminded, data["at"]]\n',
        '    task.reminded = [*task.reminded, data["at"]]\n    settle(state, activity, "expired")\n',
    ),
    _bug(
        "reminder comes again",
        "evolve_tasks",
        '    task.reminders = task.reminders[1 + data.get("missed", 0) :]\n',
        '    task.reminders = task.reminders[1 + data.get("missed", 0) :] + [data["at"] + 60_000_000]\n',
    ),
    _bug("first reminder waits for a level", "tasks", "for level in levels), *reminders]),", "for level in levels)]),"),
    _bug(
        "second reminder waits for a level",
        "ladder",
        'due = min([task.expires, *(level["at"] for level in task.levels), *rest])',
        'due = min([task.expires, *(level["at"] for level in task.levels)])',
    ),
    _bug("level forgets the reminders", "ladder", "for later in rest), *task.reminders])", "for later in rest)])"),
    _bug(
        "reminder sets the clock anew",
        "evolve_tasks",
        '    task.reminded = [*task.reminded, data["at"]]\n',
        '    task.reminded = [*task.reminded, data["at"]]\n    task.expires += 1\n',
    ),
    # --- acts --------------------------------------------------------------------------------------------------------
    _bug("anybody claims", "task_acts", "    if not _may(turn, act, task):\n        return\n", ""),
    _bug(
        "claim takes the claim of another",
        "task_acts",
        '    if task.claim is None:\n        turn.emit("task.claimed"',
        '    if task.claim is None or task.claim["by"] != act.by:\n        turn.emit("task.claimed"',
    ),
    _bug(
        "claim keeps others from deciding",
        "tasks",
        "    voice = _may_vote(turn, vote, task)\n",
        '    voice = _may_vote(turn, vote, task)\n    if voice is not None and task.claim is not None and task.claim["by"] != vote.by:\n        turn.refuse("claimed_already", "claimed")\n        return\n',
    ),
    _bug("anybody releases", "task_acts", '    elif task.claim["by"] != act.by and not act.steers:', "    elif False:"),
    _bug(
        "operator cannot release",
        "task_acts",
        '    elif task.claim["by"] != act.by and not act.steers:',
        '    elif task.claim["by"] != act.by:',
    ),
    _bug(
        "claim survives its release",
        "evolve_tasks",
        "    _task(state, activity).claim = None\n",
        "    _task(state, activity)\n",
    ),
    _bug(
        "claim survives the vote of its holder",
        "evolve_tasks",
        '    if task.claim is not None and task.claim["by"] == data["vote"]["by"]:\n        task.claim = None\n',
        "",
    ),
    _bug(
        "anybody delegates",
        "task_acts",
        "    if refusal is not None:\n        turn.refusal = refusal\n    elif to == act.by:",
        "    if to == act.by:",
    ),
    _bug(
        "delegation to who is excluded",
        "task_acts",
        "    elif to in task.excluded or to in task.steered or to in earlier_voters(turn, node):",
        "    elif False:",
    ),
    _bug("delegation into the past", "task_acts", "    elif until <= act.received_at:", "    elif False:"),
    _bug(
        "delegation without an end",
        "task_acts",
        "    until = act.until or task.expires\n",
        "    until = act.until or 1 << 62\n",
    ),
    _bug(
        "first delegation stays",
        "evolve_tasks",
        '    others = [known for known in task.delegations if known["by"] != data["by"]]\n',
        "    others = list(task.delegations)\n",
    ),
    _bug(
        "delegation is not taken back",
        "evolve_tasks",
        '    task.delegations = [*others, data] if data["to"] else others\n',
        '    task.delegations = [*others, data] if data["to"] else task.delegations\n',
    ),
    _bug(
        "anybody reassigns",
        "task_acts",
        '    if not act.steers:\n        turn.refuse("not_supervisor"',
        '    if False:\n        turn.refuse("not_supervisor"',
    ),
    _bug("reassigned without a reason", "task_acts", "    elif not act.reason.strip():", "    elif False:"),
    _bug("reassigned to who is excluded", "task_acts", "    elif out:\n", "    elif False:\n"),
    _bug(
        "reassigned to oneself",
        "task_acts",
        "    elif act.by in names or any(name in task.steered for name in names):",
        "    elif False:",
    ),
    _bug(
        "reassigned task is asked of both",
        "evolve_tasks",
        '    task.to, task.claim = list(data["to"]), None\n',
        '    task.to, task.claim = task.to + list(data["to"]), None\n',
    ),
    _bug("who reassigned is forgotten", "evolve_tasks", '    task.steered = [*task.steered, data["by"]]\n', ""),
    _bug(
        "anybody rewrites a comment",
        "task_acts",
        '        elif known["by"] != act.by:\n            turn.refuse("not_author"',
        '        elif False:\n            turn.refuse("not_author"',
    ),
    _bug(
        "rewritten comment stays as it was",
        "evolve_tasks",
        '        else {**known, **said, "edits"',
        '        else {**known, "edits"',
    ),
    _bug("rewritten comment is a new one", "evolve_tasks", '    if not data["replaces"]:\n', "    if True:\n"),
    _bug(
        "reassigned by who may not decide",
        "task_acts",
        "    elif act.by in _takes_part(turn, task, node):",
        "    elif False:",
    ),
    _bug(
        "acts after the end of the time",
        "task_acts",
        "    if act.received_at >= found.task.expires and not extended(turn, act.activity, act.received_at):",
        "    if False:",
    ),
    _bug(
        "acts on a closed task",
        "tasks",
        '    if found.status != "open":\n        _refuse_closed(turn, found)\n        return None\n',
        "",
    ),
    _bug("any link", "task_acts", "    if not is_link(act.url):", "    if not act.url:"),
)

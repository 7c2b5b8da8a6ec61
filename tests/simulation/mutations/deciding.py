"""Planted bugs of the coordinator, its turns, its cache and the acts of people.

Not here, since nothing can tell them from the product: rows of handled timers that stay (the turn's own effects clear
them), states kept before their commit (every failure clears the cache), a cache that is kept after a conflict (an entry
counts only for exactly the head that was locked).
"""

from __future__ import annotations

from tests.kernel.mutations.mutation import Mutation, mutation

COORDINATOR, TURNS, WAITS, MERGE = "runtime/coordinator", "runtime/turns", "runtime/waits", "runtime/merge"
STATES, SUBMIT, OUTGOING, STREAM = "runtime/states", "runtime/submit", "runtime/outgoing", "runtime/stream"
ASKED_AFTER_COMMIT = (
    "            if not await self._store.committed("
    "write.appends, messages, used.late_until if used is not None else 0):\n"
    "                return None\n"
)

BUGS: tuple[Mutation, ...] = (
    mutation(
        "publish before commit", COORDINATOR,
        "                        await batch.write(write)\n                        break\n",
        "                        await batch.write(write)\n                        for append in write.appends:\n"
        "                            if append.outbox and self.outlet is not None:\n"
        "                                self.outlet.accept(append.saga_id, append.outbox, False)\n"
        "                        break\n",
    ),
    mutation(
        "retry on an unknown commit without asking", COORDINATOR,
        ASKED_AFTER_COMMIT, "            return None\n",
    ),
    mutation(
        "an unknown commit is believed", COORDINATOR,
        ASKED_AFTER_COMMIT, "",
    ),
    mutation(
        "the inbox is not asked", TURNS,
        '            if fate == "seen":\n', '            if fate == "nobody":\n',
    ),
    mutation(
        "the same id with another body is a duplicate", TURNS,
        '            if fate == "seen":\n', '            if fate in ("seen", "other_body"):\n',
    ),
    mutation(
        "dead letters are not kept", TURNS,
        "            dead_letters=letters,\n", "            dead_letters=[],\n",
    ),
    mutation(
        "a cached state of another version counts", STATES,
        "        if entry.head.version != head.version or entry.head.hash != head.hash:\n",
        "        if entry.head.hash != head.hash and entry.head.version == head.version:\n",
    ),
    mutation(
        "a saga that was taken over counts as one's own at once", COORDINATOR,
        "                foreign = stream.foreign and not append.outbox\n", "                foreign = False\n",
    ),
    mutation(
        "an event is decided from memory, without its keys", COORDINATOR,
        "        return not self.keys and not self._timed and", "        return not self._timed and",
    ),
    mutation(
        "a lost call is asked about before it can have got lost", COORDINATOR,
        "messages, used.late_until if used is not None else 0)", "messages, 0)",
    ),
    mutation(
        "what is believed of one saga is believed of all", STATES,
        "            if entry is None:\n                return None\n            found[saga_id] = entry\n",
        "            if entry is not None:\n                found[saga_id] = entry\n",
    ),
    mutation(
        "an early check looks without the lock", COORDINATOR,
        "            self.keys.update((tenant, waiting.type, waiting.key) for tenant in self._tenants)\n",
        "            self.keys.update(())\n",
    ),
    mutation(
        "an event wakes the first that waits alone", TURNS,
        "        for saga_id in self._keys.waiting(key):\n", "        for saga_id in self._keys.waiting(key)[:1]:\n",
    ),
    mutation(
        "an event that nobody waits for is not kept", WAITS,
        "        self._kept.setdefault(key, []).append(event)\n", "",
    ),
    mutation(
        "a resume that was handled stays", TURNS,
        "            resumes_done=self._resumes,\n", "            resumes_done=(),\n",
    ),
    mutation(
        "timers are cleared outside the transaction", MERGE,
        "        timers_cleared=result.timers_cleared,\n", "        timers_cleared=[],\n",
    ),
    mutation(
        "of several turns the first says whether more is to be done", MERGE,
        "        resume=turns[-1].resume,\n", "        resume=turns[0].resume,\n",
    ),
    mutation(
        "what one turn closed and the next opened is lost", MERGE,
        "        waits_opened=result.waits_opened,\n", "        waits_opened=turns[0].waits_opened,\n",
    ),
    mutation(
        "answers go to the wrong callers", SUBMIT,
        "        for (_, future), outcome in zip(batch, outcomes, strict=True):\n",
        "        for (_, future), outcome in zip(batch, outcomes[::-1], strict=True):\n",
    ),
    mutation(
        "an act that cannot be decided is never answered", SUBMIT,
        "                    future.set_exception(error)\n                    future.exception()  #",
        "                    pass  #",
    ),
    mutation(
        "a message's id is drawn anew each time", OUTGOING,
        '        message_id = f"{saga_id}/{out.version}"\n', '        message_id = f"{saga_id}/{now}"\n',
    ),
    mutation(
        "the outbox of the last turn alone is written", STREAM,
        "    stream.outbox += rows\n", "    stream.outbox = rows\n",
    ),
)  # fmt: skip

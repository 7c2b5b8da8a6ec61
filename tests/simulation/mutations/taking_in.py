"""Planted bugs of intake, progress, timers and the reconciler.

Not here, since nothing can tell it from the product: positions that are one too short (the heartbeat stores the right
one, and what comes twice is known), messages under way that are never counted down (that matters only in a log with
markers of transactions, which this one has not).

Not found yet, so not counted: the heartbeat's instant taken after the ends were asked for. A message must be appended,
and a timer run out, within the one answer of the broker, and the message be read later than the timer acts.
"""

from __future__ import annotations

from tests.kernel.mutations.mutation import Mutation, mutation

INTAKE, PROGRESS, TIMERS, RECONCILER = "runtime/intake", "runtime/progress", "runtime/timers", "runtime/reconciler"

BUGS: tuple[Mutation, ...] = (
    mutation(
        "positions are stored on fetch", INTAKE,
        "        self.progress.fetched(messages)\n",
        "        self.progress.fetched(messages)\n"
        "        await self._coordinator.process([], self._positions(_next_offsets(messages)))\n",
    ),
    mutation(
        "catch and continue: a batch that was not stored is dropped", INTAKE,
        "                await stopping.sleep(retry_ms)\n                if stopping:\n                    return\n"
        "                retry_ms = min(retry_ms * 2, RETRY_MS_MAX)\n                continue\n",
        "                return\n",
    ),
    mutation(
        "positions are one too far", INTAKE,
        "(message.topic, message.partition): message.offset + 1 for",
        "(message.topic, message.partition): message.offset + 2 for",
    ),
    mutation(
        "one partition in two lanes", INTAKE,
        "lanes[message.partition % len(lanes)]", "lanes[message.offset % len(lanes)]",
    ),
    mutation(
        "an idle partition's position passes what is under way", PROGRESS,
        "            if not partition.under_way:\n", "            if True:\n",
    ),
    mutation(
        "an instant counts before its end is reached", PROGRESS,
        "        reached = 0 <= partition.mark_end <= offset\n", "        reached = 0 <= partition.mark_end\n",
    ),
    mutation(
        "timers do not wait for intake", TIMERS,
        "self._store.due_timers(until, self", "self._store.due_timers(None, self",
    ),
    mutation(
        "a partition that was never read does not count", TIMERS,
        "and (behind or not self._all_read)", "and behind",
    ),
    mutation(
        "an error of the store ends the timers", TIMERS,
        "                if not error.retriable:\n                    raise\n", "                raise\n",
    ),
    mutation(
        "resumes are not looked for", RECONCILER,
        "        sagas = await self._store.due_resumes(self._batch_rows)\n", "        sagas: list[str] = []\n",
    ),
    mutation(
        "checks are not looked for", RECONCILER,
        "        waiting = await self._store.due_checks(self._batch_rows)\n",
        "        waiting = (await self._store.due_checks(self._batch_rows))[:0]\n",
    ),
)  # fmt: skip

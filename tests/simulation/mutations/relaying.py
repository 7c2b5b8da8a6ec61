"""Planted bugs of the relay: order, marks, refusals.

Not here, since nothing can tell it from the product: `accept` that does not look at the sagas that go by the table (the
queue is looked through once more before it is sent). Two relays that send the same row make duplicates, which are
allowed.
"""

from __future__ import annotations

from tests.kernel.mutations.mutation import Mutation, mutation

RELAY = "runtime/relay"

BUGS: tuple[Mutation, ...] = (
    mutation(
        "marked as sent before the broker has it", RELAY,
        "        try:\n            results = await self._producer.send(messages)",
        "        for row in rows:\n            self._note_sent((row.saga_id, row.version))\n"
        "        try:\n            results = await self._producer.send(messages)",
    ),
    mutation(
        "rows of a saga taken over overtake what was left behind", RELAY,
        "        if foreign or saga_id in self._by_table or len",
        "        if saga_id in self._by_table or len",
    ),
    mutation(
        "what lies in the queue is not held back for the table", RELAY,
        "                if row.saga_id in by_table:\n", "                if not row.saga_id:\n",
    ),
    mutation(
        "a row that was not taken is forgotten, later ones go", RELAY,
        "                trouble = error\n                failed.add(row.saga_id)\n"
        "                self._to_table(row.saga_id, row.version)\n",
        "                trouble = error\n                failed.add(row.saga_id)\n",
    ),
    mutation(
        "a broker that is away loses the rows of this batch", RELAY,
        "                failed.add(row.saga_id)\n                self._to_table(row.saga_id, row.version)\n"
        "            return unsendable, failed",
        "                failed.add(row.saga_id)\n            return unsendable, failed",
    ),
    mutation(
        "marks are lost when the store is away", RELAY,
        "            self._sent = places + self._sent\n", "            self._sent = self._sent\n",
    ),
    mutation(
        "a refused message is given up, and its saga not told", RELAY,
        "            await self._process([SagaInput(row.saga_id, given, cause)])\n",
        "            await self._process([])\n",
    ),
    mutation(
        "the newest goes first", RELAY,
        "taken = [queue.popleft() for _", "taken = [queue.pop() for _",
    ),
    mutation(
        "nobody looks for what a crash left behind", RELAY,
        "            search = self._owner or now_ms - searched_ms >= self._sweep_ms\n",
        "            search = self._owner\n",
    ),
    mutation(
        "a saga may go from memory before the table is read past it", RELAY,
        "            if newest is not None and (newest <= sent or elsewhere):\n",
        "            if newest is not None:\n",
    ),
)  # fmt: skip

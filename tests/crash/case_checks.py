"""What must be true of a dispute and a payment after a kill at a line, and again once the next process is done.

Rules of this file
- As in line_checks.py: streams, participants' own tables and the log of messages, never the product's word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from json import loads
from typing import Any

from orchestrator.store.chain import verify
from orchestrator.store.contract import StoredRecord
from orchestrator.store.sql import load_queries
from tests.crash import cases
from tests.crash.case_units import CASE, VOTES
from tests.crash.case_units import keys as keys_of
from tests.crash.line_checks import SQL, Checks, header

HISTORY = load_queries("tests.crash", "history.sql")


class CaseChecks(Checks):
    """The same questions, of other sagas."""

    @staticmethod
    def keys(run: str) -> list[str]:
        return keys_of(run)

    async def _judged(self, run: str, heads: Sequence[Any], streams: Mapping[str, list[StoredRecord]]) -> list[str]:
        """Both have ended well: every decision once, the refund and the release once, told once."""
        flaws: list[str] = []
        decided: list[str] = []
        for head in heads:
            stream = streams[head["saga_id"]]
            if (flaw := verify(stream, head_version=head["version"], head_hash=head["hash"])) is not None:
                flaws.append(f"{head['business_key']}: {flaw}")
            if head["phase"] != "completed":
                flaws.append(f"{head['business_key']}: it is {head['phase']}")
            for type_ in ("task.decided", "task.voted"):
                found = [record.activity.rpartition("/")[2] for record in stream if record.type == type_]
                decided += found if type_ == "task.decided" else []
                if len(found) != len(set(found)):
                    flaws.append(f"{head['business_key']}: {type_} more than once: {found}")
        if sorted(decided) != sorted(VOTES):
            flaws.append(f"decided was {decided}")
        return [*flaws, *await self._effects(run, {h["business_key"]: streams[h["saga_id"]] for h in heads})]

    async def _effects(self, run: str, streams: dict[str, list[StoredRecord]]) -> list[str]:
        case, payment = self.keys(run)
        rows = {row["doc_id"]: dict(row) for row in await self._connection.fetch(HISTORY["cases"])}
        holds = await self._connection.fetch(HISTORY["per_payment"])
        became = [row["became"] for row in holds if row["payment_id"] == payment]
        log = [message for messages in self._witness.messages.values() for message in messages]
        events = [one for one in log if one.topic == "disputes.events"]
        ours = {header(one, "ce_id"): one for one in events if header(one, "ce_source").startswith("/sagas/")}
        ends = Counter((header(one, "ce_type"), str(loads(one.value or b"{}")["doc_id"])) for one in ours.values())
        flaws = list(cases.flaws({case: rows[case]} if case in rows else {}, {case: streams[case]}, ends))
        if became != ["released"]:
            flaws.append(f"{payment}: what was held is {became}")
        unbalanced = await self._connection.fetch(HISTORY["prove_clearing"])
        dead = await self._connection.fetch(SQL["participants_dead_letters"])
        letters = await self._connection.fetch(SQL["dead_letters"])
        strange = [row for row in letters if CASE.encode() in (row["key"] or b"")]
        return [*flaws, *(f"{dict(row)}" for row in (*unbalanced, *dead, *strange))]

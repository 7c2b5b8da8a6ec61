"""Answers of the HTTP API by idempotency key: a repeated request gets the first one's answer, also after a crash.

Rules of this file
- A key is claimed before its request is carried out and finished with the answer. A claim lasts CLAIM_SECONDS: if the
  process died meanwhile, the next request with the key carries it out anew, which must therefore be safe to do twice.
- Scope = tenant + principal + route: nobody sees another one's answers.
Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

CLAIM_SECONDS = 15.0
KEPT_SECONDS = 7 * 24 * 3600.0  # the published lifetime of a key
FORGOTTEN_ROWS_MAX = 100  # old rows removed with each new claim, so that no other job is needed


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An HTTP answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What asking for a key gave.

    `mine`: carry the request out (`again`: an earlier attempt may have done it already). `running`: another request
    has it, for `seconds_left` at most. `reused`: the key belongs to a different request. `done`: `answer` is there.
    """

    fate: Literal["mine", "running", "reused", "done"]
    number: int = 0
    seconds_left: float = 0.0
    answer: StoredAnswer | None = None

    @property
    def again(self) -> bool:
        """A process died (or hung) with this key, so the request may have been carried out."""
        return self.number > 1


class Answers:
    """The stored answers. Methods raise StoreError."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._sql = load_queries("orchestrator.store", "answers.sql")

    async def claim(self, scope: str, key: str, fingerprint: bytes) -> Claim:
        """Takes the key for a request with this fingerprint, or says why not."""
        async with self._pools.connection("read") as connection:
            await connection.execute(self._sql["forget_old"], KEPT_SECONDS, FORGOTTEN_ROWS_MAX)
            claimed = await connection.fetch(self._sql["claim"], scope, key, fingerprint, CLAIM_SECONDS)
            if claimed:
                return Claim("mine", claimed[0]["claims"])
            rows = await connection.fetch(self._sql["read_answer"], scope, key)
        if not rows:  # released between the two statements
            return Claim("running")
        row = rows[0]
        if row["fingerprint"] != fingerprint:
            return Claim("reused")
        if row["status"] is None:
            return Claim("running", seconds_left=row["seconds_left"])
        return Claim("done", answer=StoredAnswer(row["status"], orjson.loads(row["headers"]), row["body"]))

    async def finish(self, scope: str, key: str, claim: Claim, answer: StoredAnswer) -> None:
        """Stores the answer of a claimed request; does nothing where the claim was lost."""
        headers = orjson.dumps(answer.headers)
        async with self._pools.connection("read") as connection:
            await connection.execute(self._sql["finish"], scope, key, claim.number, answer.status, headers, answer.body)

    async def release(self, scope: str, key: str, claim: Claim) -> None:
        """Gives a key back whose request was not carried out, so that the next attempt need not wait."""
        async with self._pools.connection("read") as connection:
            await connection.execute(self._sql["release"], scope, key, claim.number)

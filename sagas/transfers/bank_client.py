"""The banking backend as the participant accounts sees it: four questions over HTTP.

Rules of this file
- What the bank answered is an answer; a business no becomes `Refused`. Whatever else comes (5xx, time-out, a connection
  that broke) leaves open what happened and is raised as it is.
- Only a connection that was never made is `NotSent`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from weakref import WeakKeyDictionary

import httpx2

from orchestrator import Refused
from orchestrator.participants import NotSent, calling

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class BankError(Exception):
    """The bank gave an answer that says nothing about what happened."""


class BankClient:
    """Calls the bank at `url`. `transport`: another way to it than the network, for tests and demonstrations."""

    def __init__(self, url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.url = url
        self.transport = transport
        # A client belongs to the event loop that made its connections.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()

    async def account(self, name: str, seconds: float) -> Mapping[str, Any] | None:
        """One account, or None. `seconds`: how long it may take."""
        response = await self._client().get(f"/api/accounts/{name}", timeout=seconds)
        return None if response.status_code == 404 else _ok(response)

    async def accounts_of(self, owner: str, seconds: float) -> list[Mapping[str, Any]]:
        """The accounts of a person, by name."""
        response = await self._client().get("/api/accounts", params={"owner": owner}, timeout=seconds)
        found: list[Mapping[str, Any]] = _ok(response)
        return found

    async def transfer(self, key: str, order: Mapping[str, Any], traceparent: str, seconds: float) -> str:
        """Moves money; gives the bank's reference. Raises Refused, NotSent, and whatever leaves the outcome open."""
        headers = {"Idempotency-Key": f'"{key}"'} | ({"traceparent": traceparent} if traceparent else {})
        try:
            with calling("POST", self.url) as call:
                headers |= call.headers
                response = await self._client().post("/api/transfer", json=order, headers=headers, timeout=seconds)
                call.status = response.status_code
        except _NEVER_SENT as error:
            raise NotSent(f"the bank cannot be reached: {error}") from error
        if response.status_code == 422:
            refusal = response.json()
            raise Refused(str(refusal["code"]), str(refusal["detail"]))
        return str(_ok(response)["reference"])

    async def find(self, key: str, seconds: float) -> str | None:
        """The reference of the transfer under this key, or None where the bank knows nothing of it. Raises Refused."""
        with calling("GET", self.url) as call:
            params = {"key": key}
            response = await self._client().get("/api/transfers", params=params, headers=call.headers, timeout=seconds)
            call.status = response.status_code
        if response.status_code == 404 and response.json().get("code") == "unknown_key":
            return None
        found = _ok(response)
        if found["outcome"] == "refused":
            raise Refused(str(found["code"]), str(found["detail"]))
        return str(found["reference"])

    def _client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx2.AsyncClient(base_url=self.url, transport=self.transport, trust_env=False)
        return self._clients[loop]


def amount_text(amount: Decimal) -> str:
    """An amount as the bank takes it: a string, so that no parser rounds it."""
    return f"{amount:.2f}"


def _ok(response: httpx2.Response) -> Any:
    if response.status_code != 200:
        raise BankError(
            f"the bank answered {response.status_code} to {response.request.method} {response.request.url.path}"
        )
    return response.json()

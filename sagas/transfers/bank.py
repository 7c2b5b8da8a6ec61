"""The banking backend: a small service of its own, with accounts, balances and an API that may be called again.

    python -m sagas.transfers.bank --port 8090            # database: BANK_DATABASE_URL, else ORCHESTRATOR_DATABASE_URL

Rules of this file
- A transfer is identified by its `Idempotency-Key`. Asked again with the same key and request, it answers what it
  answered; with another request it refuses (`key_reused`). Keys are remembered for ever, refusals too.
- `GET /api/transfers?key=` says what became of a key; 404 means that nothing did, and that only.
- A business no is 422 with a code, as `application/problem+json` (RFC 9457). Nothing moves then.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.participants import Connection, OwnSchema, load_queries, open_pool

SQL = load_queries("sagas.transfers", "bank.sql")
SCHEMA = OwnSchema("bank", Path(__file__).parent / "migrations" / "bank")
KEY_CHARACTERS_MAX = 500
CONNECTIONS_MAX = 8

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=KEY_CHARACTERS_MAX)]


class TransferOrder(BaseModel):
    """Move this much from one account to another."""

    model_config = ConfigDict(frozen=True)

    from_account: str = Field(alias="fromAccount", min_length=1, max_length=100)
    to_account: str = Field(alias="toAccount", min_length=1, max_length=100)
    amount: Decimal = Field(gt=0, max_digits=15, decimal_places=2)
    currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")  # empty: that of the sender's account

    def fingerprint(self) -> bytes:
        """What must be the same when a key comes again."""
        text = "\n".join([self.from_account, self.to_account, f"{self.amount:.2f}", self.currency])
        return hashlib.sha256(text.encode()).digest()


class BankRefusal(Exception):
    """A business no: nothing has moved."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(code, detail)
        self.code, self.detail, self.status = code, detail, status


def create_bank(database_url: str) -> FastAPI:
    """The application; `database_url` logs in as the application's role, to a database with the schema `bank`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_pool(database_url, CONNECTIONS_MAX) as pool:
            await SCHEMA.check(pool)
            app.state.pool = pool
            yield

    app = FastAPI(title="Banking backend", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.exception_handler(BankRefusal)
    async def refused(request: Request, error: BankRefusal) -> JSONResponse:
        return _problem(error.status, error.code, error.detail)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        missing = any(item["loc"] == ("header", "Idempotency-Key") for item in error.errors())
        return _problem(400, "key_missing" if missing else "invalid", found)

    @app.post("/api/transfer")
    async def transfer(order: TransferOrder, key: Key) -> dict[str, Any]:
        """Moves money, once per key."""
        return await _transfer(app, order, key.strip('"'))

    @app.get("/api/transfers")
    async def find(key: Annotated[str, Query(min_length=1, max_length=KEY_CHARACTERS_MAX)]) -> dict[str, Any]:
        """What became of a key."""
        async with SCHEMA.transaction(app.state.pool) as connection:
            row = await connection.fetchrow(SQL["find"], key)
        if row is None:
            raise BankRefusal("unknown_key", "nothing was ever answered under this key", 404)
        said = {"reference": row["reference"], "code": row["refusal_code"], "detail": row["refusal"]}
        return {"outcome": "done" if row["reference"] else "refused"} | said

    @app.get("/api/accounts/{account}")
    async def account(account: str) -> dict[str, Any]:
        """One account."""
        async with SCHEMA.transaction(app.state.pool) as connection:
            row = await connection.fetchrow(SQL["account"], account)
        if row is None:
            raise BankRefusal("unknown_account", account, 404)
        return _shown(dict(row))

    @app.get("/api/accounts")
    async def accounts(owner: Annotated[str, Query(min_length=1, max_length=100)]) -> list[dict[str, Any]]:
        """The accounts of a person, by name."""
        async with SCHEMA.transaction(app.state.pool) as connection:
            return [_shown(dict(row)) for row in await connection.fetch(SQL["accounts_of"], owner)]

    return app


async def _transfer(app: FastAPI, order: TransferOrder, key: str) -> dict[str, Any]:
    """One transaction: key, balances and postings, or key and refusal. The answer is what is stored."""
    async with SCHEMA.transaction(app.state.pool) as connection:
        if await connection.fetchrow(SQL["find"], key) is None:
            await _carry_out(connection, order, key)
        found = await connection.fetchrow(SQL["find"], key)
    assert found is not None
    if found["fingerprint"] != order.fingerprint():
        raise BankRefusal("key_reused", "this key belongs to another request", 409)
    if found["refusal_code"]:
        raise BankRefusal(found["refusal_code"], found["refusal"])
    return {"success": True, "reference": found["reference"]}


async def _carry_out(connection: Connection, order: TransferOrder, key: str) -> None:
    """Moves the money, or notes why not; nothing where another request with this key is faster."""
    names = [order.from_account, order.to_account]
    rows = await connection.fetch(SQL["lock_accounts"], names)
    code, detail = _refusal(order, {row["account"]: dict(row) for row in rows})
    reference = "" if code else await connection.fetchval(SQL["next_reference"])
    answered = (key, order.fingerprint(), reference, code, detail)
    mine = await connection.fetchval(SQL["add_transfer"], *answered) is not None
    if mine and reference:
        amounts = [-order.amount, order.amount]
        await connection.execute(SQL["move"], names, amounts)
        await connection.execute(SQL["post"], reference, names, amounts)


def _refusal(order: TransferOrder, accounts: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Why not, as code and detail; two empty texts where nothing is against it."""
    for name in (order.from_account, order.to_account):
        if name not in accounts:
            return "unknown_account", name
    if order.from_account == order.to_account:
        return "same_account", order.from_account
    sender, receiver = accounts[order.from_account], accounts[order.to_account]
    wanted = order.currency or sender["currency"]
    for found in (sender, receiver):
        if found["currency"] != wanted:
            return "currency_differs", f"{found['account']} is kept in {found['currency']}, not in {wanted}"
    if sender["balance"] < order.amount:
        return "insufficient_funds", f"{sender['balance']} {sender['currency']} is there, {order.amount} was asked"
    return "", ""


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(row[name]) for name in ("account", "owner", "currency", "balance")}


def _problem(status: int, code: str, detail: str) -> JSONResponse:
    title = code.replace("_", " ")
    body = {"type": f"urn:bank:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, media_type="application/problem+json")


def main() -> None:
    """Serves the bank on the loopback interface until it is stopped."""
    parser = argparse.ArgumentParser(description=create_bank.__doc__)
    parser.add_argument("--port", type=int, default=8090)
    url = os.environ.get("BANK_DATABASE_URL") or os.environ["ORCHESTRATOR_DATABASE_URL"]
    uvicorn.run(create_bank(url), host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()

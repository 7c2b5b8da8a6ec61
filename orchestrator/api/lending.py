"""The route of the key service: participants that hold no key file ask here for the keys of their commands (ADR 72).

Rules of this file
- An API key names whom it speaks for: `--action key.lend:visits`, or `key.lend:visits/caretest.PlanVisit` for one type.
  One that names nobody is lent nothing.
- Keys leave in boxes that only the asking process opens. A refused command makes a refusal of the security log.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import RefusedError
from orchestrator.identity.rules import LEND, objects_of
from orchestrator.vault.boxes import BoxError, Pair
from orchestrator.vault.lending import COMMANDS_MAX, KEYS_MAX, Asked, Lending, Lent

router = APIRouter(prefix="/v1/keys", tags=["keys"])

Text = Annotated[str, Field(min_length=1, max_length=500)]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16}$")]


class CommandBody(BaseModel):
    """A command that the asker has to obey: what its proof covers, and the keys that it names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    source: Text
    type: Text
    saga: Text
    participant: Annotated[str, Field(min_length=1, max_length=63)]
    key: Annotated[str, Field(max_length=500)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    proof: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]
    keys: Annotated[list[KeyId], Field(max_length=KEYS_MAX)]


class LendBody(BaseModel):
    """Commands, and the public key to which boxes are closed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    public_key: Annotated[str, Field(alias="publicKey", pattern=r"^[A-Za-z0-9+/]{43}=$")]
    commands: Annotated[list[CommandBody], Field(min_length=1, max_length=COMMANDS_MAX)]


@router.post("/lend", dependencies=[may(LEND)])
async def lend(body: LendBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """The keys of these commands, for less than a minute; command by command, in the order in which they were asked."""
    if engine.vault is None:
        raise RefusedError("not_found", "No vault is set up here: ORCHESTRATOR_VAULT_KEY_FILE names its keys.")
    asked = [
        Asked(
            one.id, one.source, one.type, one.saga, one.participant, one.key, bytes.fromhex(one.digest), one.proof,
            tuple(dict.fromkeys(one.keys)),
        )
        for one in body.commands
    ]  # fmt: skip
    found = await Lending(engine.vault).lend(actor.tenant, objects_of(actor, LEND), asked)
    pair = Pair()
    try:
        shared = pair.with_asker(b64decode(body.public_key))
    except BoxError as error:
        raise ProblemError("invalid", f"publicKey: {error}.") from error
    refused = next((lent.refused for lent in found if lent.refused), "")
    if refused:
        request.state.problem = refused  # the answer is 200 for the others' sake; the security log says refused

    def box(key: bytes, bound: str) -> str:
        return b64encode(shared.put(key, bound)).decode()

    def shown(one: Asked, lent: Lent) -> dict[str, object]:
        return {
            "refused": lent.refused,
            "sender": box(lent.sender, f"sender {one.participant} {one.saga_id}") if lent.sender else "",
            "keys": [
                {
                    "id": loan.key_id,
                    "seconds": round(loan.seconds, 3),
                    "box": box(loan.key.raw, f"key {loan.key_id} {loan.key.scope}") if loan.key is not None else "",
                    "why": loan.why,
                }
                for loan in lent.loans
            ],
        }

    answers = [shown(one, lent) for one, lent in zip(asked, found, strict=True)]
    return respond({"publicKey": b64encode(pair.public).decode(), "commands": answers})

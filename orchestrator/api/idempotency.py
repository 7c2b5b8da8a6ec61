"""`Idempotency-Key`: the same request twice is carried out once, and answered alike.

Rules of this file
- Missing where it is required: 400. Same key, other request: 422. The first one still running: 409 with Retry-After.
  Finished: the stored answer, with `Idempotency-Replayed: true`. A key lives seven days.
- An answer of 5xx is not kept: the outcome may be unknown, so the next attempt carries the request out again. Nor is
  429, which says "later". What a route does must therefore be safe to do twice; that is the kernel's own promise for
  starts and votes.
Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import Response

from orchestrator.api.problems import ProblemError, answer, from_exception
from orchestrator.api.views import Actor, RefusedError
from orchestrator.store.answers import Answers, StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
TOO_MANY = 429
KEPT_HEADERS = ("content-type", "location", "cache-control")

_QUOTED = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,255})"')  # a structured-field String without escapes
_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}")


def key_of(request: Request) -> str | None:
    """The key of a request, quoted or bare, or None. Raises ProblemError for one that is no key."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    found = _QUOTED.fullmatch(given[0].strip()) or _TOKEN.fullmatch(given[0].strip())
    if len(given) > 1 or found is None:
        raise ProblemError("bad_request", f"{HEADER} must be one text of 1 to 255 printable characters, best a UUID.")
    return found[found.lastindex or 0]


async def once(
    request: Request,
    actor: Actor,
    answers: Answers,
    work: Callable[[], Awaitable[Response]],
    *,
    required: bool = False,
) -> Response:
    """Carries out `work` once per key of this actor and route; without a key (where it may be missing) plainly."""
    key = key_of(request)
    if key is None:
        if required:
            raise ProblemError("key_missing", f"Send the header {HEADER} with a new UUID for each new request.")
        return await work()
    engine = (
        request.app.state.engine
    )  # with a vault, neither who asked nor what is kept in a form that anybody can read
    scope = "\n".join((actor.tenant, engine.alias(actor.id), request.method, request.url.path))
    fingerprint = engine.fingerprint(request.url.query.encode() + b"\n" + await request.body())
    claim = await answers.claim(scope, key, fingerprint)
    if claim.answer is not None:
        headers = {**claim.answer.headers, REPLAYED: "true"}
        return Response(claim.answer.body, claim.answer.status, headers=headers)
    if claim.fate == "reused":
        raise ProblemError("key_reused", f"This {HEADER} was used for a request with another content.")
    if claim.fate == "running":
        wait = str(max(1, math.ceil(claim.seconds_left)))
        raise ProblemError("key_running", "The first request with this key still runs.", headers={"Retry-After": wait})
    try:
        response = await _answered(request, work)
    except BaseException:
        await answers.release(scope, key, claim)
        raise
    if response.status_code >= 500 or response.status_code == TOO_MANY:
        await answers.release(scope, key, claim)
    else:
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        await answers.finish(scope, key, claim, StoredAnswer(response.status_code, kept, bytes(response.body)))
    return response


async def _answered(request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
    """What work answers, refusals included: they are answers too, and must be the same when asked again."""
    try:
        return await work()
    except RefusedError as error:
        return answer(request, ProblemError(error.code, error.text, facts=error.facts, saga_id=error.saga_id))
    except ProblemError as error:
        return answer(request, error)
    except Exception as error:
        if from_exception(error).code == "internal":
            raise
        return answer(request, from_exception(error))

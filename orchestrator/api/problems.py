"""Every way in which the API says no: one table, one form (RFC 9457, `application/problem+json`).

Rules of this file
- `PROBLEMS` is the only place where a code meets an HTTP status. The kernel's refusals are in it under their own codes;
  a code that is missing here is a bug, and answers 500.
- `type` is `/problems/<code>`, a page of this application that says what the code means and what to do.
- An answer never holds a stack trace, SQL or a host's path; what a log needs goes to the log, under the trace id.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from orchestrator.api.activation_problems import ACTIVATION_PROBLEMS
from orchestrator.api.pack_problems import PACK_PROBLEMS
from orchestrator.api.shapes import shape
from orchestrator.api.tracing import trace_id_of
from orchestrator.api.views import RefusedError
from orchestrator.messages import canonical_bytes

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
OFFICE = "/office"  # below it are people's pages
WAY_BACK_CHARACTERS_MAX = 1_000  # what the sign-in takes
ERRORS_MAX = 20  # of one answer's `errors`


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem: HTTP status, a title that never changes, what it means, what to do."""

    status: int
    title: str
    meaning: str
    remedy: str


PROBLEMS: Mapping[str, Problem] = {
    # --- what the kernel refuses ---
    "not_found": Problem(404, "Not found", "Nothing here has this id.", "Check the id; list what there is."),
    "already_decided": Problem(
        409,
        "Already decided",
        "Somebody has decided this task.",
        "Read the decision in `facts`; nothing is left to do.",
    ),
    "expired": Problem(
        410, "Expired", "The task's time was over before this vote came.", "Read what the saga did when it expired."
    ),
    "withdrawn": Problem(
        410,
        "Withdrawn",
        "The saga no longer asks for this decision.",
        "Look at the saga: it has turned back or gone on.",
    ),
    "not_eligible": Problem(
        403, "Not eligible", "This task is asked of other people.", "`facts` names who may decide it; ask one of them."
    ),
    "excluded": Problem(
        403, "Excluded", "A four-eyes rule keeps this person from deciding.", "Ask another eligible person."
    ),
    "voted_already": Problem(
        409, "Voted already", "This person's vote is recorded; a task wants distinct people.", "Ask another person."
    ),
    "over_limit": Problem(
        403,
        "Above the limit",
        "The amount is above this person's authority, or in a currency in which they have none.",
        "Ask somebody whose limit covers it; `facts` names the amount and the limit.",
    ),
    "not_substitute": Problem(
        403,
        "Not a substitute",
        "This person does not stand in for the other one now.",
        "Ask for a delegation, or decide by your own right.",
    ),
    "claimed_already": Problem(
        409,
        "Claimed already",
        "Somebody works on this task; a claim keeps nobody from deciding it.",
        "Ask the holder named in `facts`, or decide it all the same.",
    ),
    "not_claimed": Problem(409, "Not claimed", "Nobody has claimed this task.", "Read the task again."),
    "not_holder": Problem(
        403, "Not the holder", "Only the holder or an operator may release a claim.", "Ask the holder in `facts`."
    ),
    "not_supervisor": Problem(
        403, "Not for this person", "Only an operator may give a task to other people.", "Ask an operator."
    ),
    "not_author": Problem(
        403, "Not the author", "Only its author may rewrite a comment.", "Write a comment of your own."
    ),
    "too_much": Problem(409, "Too much of it", "A task takes a limited number of these.", "Decide it, or shorten it."),
    "overlaps": Problem(
        409, "Overlaps", "Somebody stands in for this person in that time already.", "Take that back first."
    ),
    "subject_changed": Problem(
        409,
        "The subject has changed",
        "What is to be decided is not what was shown.",
        "Read the task again, then decide.",
    ),
    "subject_missing": Problem(
        422, "No subject hash", "A decision must name what was shown.", "Send `subjectHash` of the task as it was read."
    ),
    "cancel_refused": Problem(
        409,
        "Cannot be cancelled",
        "The saga has passed its point of no return.",
        "Wait for its end; correct it by a new saga.",
    ),
    "already_turning": Problem(
        409, "Already turning back", "The saga is already compensating.", "Follow its timeline; nothing is left to do."
    ),
    "ended": Problem(409, "Already ended", "The saga has ended.", "Read its outcome."),
    "not_failed": Problem(
        409,
        "Not failed",
        "This notice waits, was sent, or is not needed any more.",
        "Read it again; nothing is left to do.",
    ),
    "not_stuck": Problem(
        409, "Not stuck", "Nothing is stuck at this place.", "Read the saga again: somebody may have been faster."
    ),
    "version_moved": Problem(
        409,
        "Moved on",
        "The stuck place has changed since it was read.",
        "Read the saga again, then act on what it says now.",
    ),
    "second_person": Problem(
        403,
        "A second person is needed",
        "Evidence and dangerous acts must be confirmed by somebody else.",
        "Ask another operator to do the same.",
    ),
    "invalid": Problem(
        422,
        "Does not fit its contract",
        "The data is readable but does not fit.",
        "`errors` or `detail` names the fields.",
    ),
    "same_id_other_body": Problem(
        409,
        "Same key, other content",
        "The business key is taken by a different message.",
        "Use a new key, or the same content.",
    ),
    "already_running": Problem(
        409,
        "Already running",
        "A live run of this saga has this business key.",
        "Wait for its end, or use another key.",
    ),
    "redriven_already": Problem(
        409, "Processed already", "This dead letter was processed again before.", "Nothing is left to do."
    ),
    "in_use": Problem(409, "Still in use", "Something of this person still runs or is held.", "Wait until it is over."),
    "tombstoned": Problem(409, "Never starts", "Its parent undid this saga before it began.", "Nothing is left to do."),
    # --- what the API itself refuses ---
    "unreadable": Problem(
        400, "Unreadable", "The request's body is not strict JSON.", "`detail` says where it goes wrong."
    ),
    "bad_request": Problem(400, "Bad request", "A header or parameter is wrong.", "`detail` names it."),
    "bad_cursor": Problem(400, "Bad cursor", "This cursor is not one of ours.", "Start again without a cursor."),
    "not_an_event": Problem(
        400,
        "Not a CloudEvent",
        "A required attribute is missing or wrong.",
        "Send CloudEvents 1.0, binary or structured.",
    ),
    "key_missing": Problem(
        400,
        "Idempotency-Key missing",
        "Starting a saga needs a key, so that a retry is safe.",
        "Send `Idempotency-Key`.",
    ),
    "key_reused": Problem(
        422, "Idempotency-Key reused", "The key was used for another request.", "Use a new key for a new request."
    ),
    "key_running": Problem(
        409,
        "Still running",
        "The first request with this key has no answer yet.",
        "Try again after `Retry-After` seconds.",
    ),
    "unauthenticated": Problem(
        401,
        "Who are you?",
        "The API must know who acts.",
        "Sign in, or send a token or key: `Authorization: Bearer ...`; in development the header `X-Actor`.",
    ),
    "reauth": Problem(
        401,
        "Sign in again",
        "What you decide on is large, and your sign-in is too old for it.",
        "Sign in again, then decide.",
    ),
    "cross_site": Problem(
        403,
        "Not from one of our pages",
        "A browser's session writes only from our own pages, with their token.",
        "Open the page again and send it from there.",
    ),
    "too_many_attempts": Problem(
        429,
        "Too many attempts",
        "Too many credentials from here did not hold. A good one is let in at any time.",
        "Wait `Retry-After` seconds, then try again.",
    ),
    "not_allowed": Problem(
        403,
        "Not allowed",
        "This takes a capacity that you do not have.",
        "`facts` names the capacities that may; ask an administrator.",
    ),
    "unknown_saga": Problem(
        404, "Unknown saga", "No saga of this name is installed.", "GET /v1/definitions lists them."
    ),
    "unknown_type": Problem(
        422,
        "Unknown type",
        "No installed saga uses this message type.",
        "Check the type, or install the saga that wants it.",
    ),
    "no_route": Problem(404, "No such address", "The API has no such address.", "See /docs for what there is."),
    "method_not_allowed": Problem(
        405, "Method not allowed", "The address exists, the method does not.", "See `Allow`."
    ),
    "too_large": Problem(413, "Too large", "The body is over the limit.", "Send less, or a reference to the data."),
    "media_type": Problem(415, "Unsupported media type", "The body must be plain JSON.", "Send `application/json`."),
    "too_many": Problem(
        429,
        "Too much is under way",
        "New sagas are not begun until there is less under way. Nothing was done for this request.",
        "Wait `Retry-After` seconds, longer each time, then send the same request with the same Idempotency-Key or id.",
    ),
    "unavailable": Problem(
        503, "Not available", "The database or the broker does not answer.", "Try again with the same Idempotency-Key."
    ),
    "not_ready": Problem(503, "Not ready", "A part makes no progress.", "`errors` names each; look at its log."),
    **{code: Problem(*facts) for code, facts in {**PACK_PROBLEMS, **ACTIVATION_PROBLEMS}.items()},
    "internal": Problem(500, "Internal error", "A bug, or a failure nobody foresaw.", "Report it with the trace id."),
}

_BY_STATUS = {
    400: "bad_request", 401: "unauthenticated", 403: "not_allowed", 404: "no_route", 405: "method_not_allowed",
    413: "too_large", 415: "media_type", 422: "invalid", 429: "too_many", 503: "unavailable",
}  # fmt: skip


class ProblemError(Exception):
    """Raised by a route to answer with a problem. `errors`: {"detail", "pointer"} each; `facts` become members."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        facts: Mapping[str, Any] | None = None,
        saga_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.saga_id = code, detail, saga_id
        self.errors, self.facts, self.headers = list(errors), dict(facts or {}), dict(headers or {})


def answer(request: Request, error: ProblemError) -> Response:
    """The HTTP answer for a problem."""
    code = request.state.problem = error.code if error.code in PROBLEMS else "internal"
    if code != error.code:
        logger.error("problem code %s has no entry in the table", error.code)
    problem = PROBLEMS[code]
    page = _for_people(request, code, error)
    if page is not None:
        return page
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": error.detail,
        "instance": request.url.path,
        "code": code,
        "traceId": trace_id_of(request),
    }
    if error.saga_id:
        body["sagaId"] = error.saga_id
    if error.errors:
        body["errors"] = error.errors[:ERRORS_MAX]
    if error.facts:
        body["facts"] = shape(error.facts)
    return Response(canonical_bytes(body), problem.status, media_type=MEDIA_TYPE, headers=error.headers)


def _for_people(request: Request, code: str, error: ProblemError) -> Response | None:
    """What a browser in the back office gets instead: the way in, or a page (`app.state.problem_page` makes it); None
    for everybody else."""
    app = request.scope.get("app")
    if app is None or not request.url.path.startswith(OFFICE) or "text/html" not in request.headers.get("accept", ""):
        return None
    if code == "unauthenticated" and request.method == "GET":
        target = f"{OFFICE}/login?{urlencode({'next': _way_back(request)})}"
        if request.headers.get("hx-request"):  # a part of a page: the whole of it must go there
            return Response(status_code=401, headers={"HX-Redirect": target, "Cache-Control": "no-store"})
        return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
    make = getattr(app.state, "problem_page", None)
    made: Response | None = make(request, code, error) if make is not None else None
    return made


def _way_back(request: Request) -> str:
    """The page to come back to after the sign-in, which checks it: for a part of a page, the page that it is of."""
    path, query = request.url.path, request.url.query
    if request.headers.get("hx-request"):
        try:
            page_of = urlsplit(request.headers.get("hx-current-url", ""))
        except ValueError:
            return OFFICE
        path, query = page_of.path or OFFICE, page_of.query
    here = f"{path}?{query}" if query else path
    return next(each for each in (here, path, OFFICE) if len(each) <= WAY_BACK_CHARACTERS_MAX)


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> Response:
        return answer(request, error)

    @app.exception_handler(RefusedError)
    async def on_refusal(request: Request, error: RefusedError) -> Response:
        return answer(request, ProblemError(error.code, error.text, facts=error.facts, saga_id=error.saga_id))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, _from_validation(error))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = _BY_STATUS.get(error.status_code, "internal")
        detail = PROBLEMS[code].meaning if error.status_code in (404, 405) else str(error.detail)
        return answer(request, ProblemError(code, detail, headers=error.headers))

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        logger.error("unforeseen error in %s %s", request.method, request.url.path, exc_info=error)
        return answer(request, from_exception(error))


def page(code: str) -> HTMLResponse:
    """The page of a problem type. Raises ProblemError `no_route` where there is none of this code."""
    if code not in PROBLEMS:
        raise ProblemError("no_route", "There is no such problem type.")
    return HTMLResponse(_page(code, PROBLEMS[code]))


def from_exception(error: BaseException) -> ProblemError:
    """The problem that an unforeseen exception becomes: unavailable where trying again helps, else internal."""
    if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "retriable", False):
        return ProblemError("unavailable", PROBLEMS["unavailable"].meaning, headers={"Retry-After": "1"})
    return ProblemError("internal", PROBLEMS["internal"].meaning)


def _from_validation(error: RequestValidationError) -> ProblemError:
    """FastAPI's validation errors with JSON Pointers into the body; a wrong parameter is a bad request."""
    found = error.errors()
    errors = [
        {
            "detail": str(item["msg"]),
            "pointer": "#/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in item["loc"][1:]),
        }
        for item in found[:ERRORS_MAX]
    ]
    in_body = any(item["loc"] and item["loc"][0] == "body" for item in found)
    where = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:3])
    return ProblemError("invalid" if in_body else "bad_request", where, errors=errors)


def _page(code: str, problem: Problem) -> str:
    text = [html.escape(part) for part in (problem.title, problem.meaning, problem.remedy)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{text[0]}</title><main><h1>{text[0]}</h1>'
        f"<p>HTTP {problem.status}, code <code>{html.escape(code)}</code></p><p>{text[1]}</p>"
        f"<p>What to do: {text[2]}</p></main></html>"
    )

"""The way in and out of the back office: at the identity provider, or as a local user of a demonstration.

Rules of this file
- A sign-in is bound to the browser that began it (a cookie whose hash is kept beside state, nonce and verifier), and is
  used once. A session gets a new token when it begins; what a browser held before is worth nothing afterwards.
- Afterwards a browser is sent to a path of our own back office, never to another site.
- Who gets it wrong hears that it did not work, not why: the reason is in the log.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from orchestrator.api.identity import Acting, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import Actor
from orchestrator.identity.addresses import is_local, own_origin
from orchestrator.identity.csrf import check, check_origin
from orchestrator.identity.gate import Identity, identity_of
from orchestrator.identity.keeping import SIGN_IN_SECONDS, LocalUser, SignIn
from orchestrator.identity.local import BusyError, actor_of_user
from orchestrator.identity.provider import ProviderError
from orchestrator.identity.secrets import new_token, same
from orchestrator.identity.tokens import TokenError

router = APIRouter(tags=["sign-in"])

HOME = "/office"
LOGIN = "/office/login"
CALLBACK = "/office/callback"
_OWN_PATH = re.compile(r"/office(?:[/?][\x21-\x5b\x5d-\x7e]*)?")  # printable ASCII, no backslash
NEXT_CHARACTERS_MAX = 1_000

log = structlog.get_logger("orchestrator.security")

Next = Annotated[str, Query(max_length=NEXT_CHARACTERS_MAX)]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a sign-in page offers. `provider`: address that leads to the identity provider, "" where there is none.

    `users`: local people; those without a password sign in by a button. `error`: what went wrong last time.
    """

    provider: str
    users: Sequence[LocalUser]
    next: str
    error: str = ""
    local_action: str = LOGIN


SignInPage = Callable[[Request, Choices, int], Response]


@router.get(LOGIN, dependencies=[may("public")])
async def login(request: Request, next: Next = HOME) -> Response:
    """The sign-in page."""
    return await _page(request, own_path(next))


@router.get(f"{LOGIN}/provider", dependencies=[may("public")])
async def leave(request: Request, next: Next = HOME, fresh: bool = False) -> Response:
    """Sends the browser to the identity provider. `fresh`: also whom it knows already must show who they are."""
    identity = identity_of(request)
    request.state.action = "sign_in"
    if identity.provider is None:
        raise ProblemError("no_route", "No identity provider is configured.")
    _may_begin(request, identity)
    verifier = new_token() + new_token()  # 86 characters; PKCE takes 43 to 128
    sign_in = SignIn(new_token(), new_token(), verifier, own_path(next), fresh)
    try:
        url = await identity.provider.sign_in_url(
            redirect=_redirect(request, identity),
            state=sign_in.state,
            nonce=sign_in.nonce,
            verifier=verifier,
            fresh=fresh,
        )
    except ProviderError as error:
        raise _away(error) from error
    response = RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
    _set(response, identity, identity.sign_in_cookie, await identity.kept.begin_sign_in(sign_in), SIGN_IN_SECONDS)
    return response


@router.get(CALLBACK, dependencies=[may("public")])
async def callback(request: Request) -> Response:
    """Where the identity provider sends the browser back to."""
    identity = identity_of(request)
    request.state.action = "sign_in"
    binding = request.cookies.get(identity.sign_in_cookie, "")
    sign_in = await identity.kept.take_sign_in(binding) if binding else None
    if identity.provider is None or sign_in is None:
        return await _failed(request, HOME, "no sign-in was begun in this browser, or it took too long")
    try:
        code = _code(request, identity.provider.issuer, sign_in.state)
        redirect = _redirect(request, identity)
        token = await identity.provider.id_token(code=code, verifier=sign_in.verifier, redirect=redirect)
        actor = await identity.signed_in(token, nonce=sign_in.nonce, fresh=sign_in.fresh)
    except TokenError as error:
        return await _failed(request, sign_in.next, str(error))
    except ProviderError as error:
        raise _away(error) from error
    response = await _begin(request, identity, actor, sign_in.next)
    response.delete_cookie(identity.sign_in_cookie, path="/", secure=identity.settings.is_https, httponly=True)
    return response


@router.post(LOGIN, dependencies=[may("public")])
async def login_locally(
    request: Request,
    user: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=500)] = "",
    next: Annotated[str, Form(max_length=NEXT_CHARACTERS_MAX)] = HOME,
) -> Response:
    """Signs a local user in: from this machine alone, never in production."""
    identity = identity_of(request)
    request.state.action = "sign_in"
    if not identity.settings.has_local_users or not is_local(request):
        raise ProblemError("no_route", "There are no local users here.")
    check_origin(request, identity.settings.public_url)
    _may_begin(request, identity)
    if refused := identity.too_many(identity.attempts.wait_seconds(identity.address(request), user)):
        raise refused
    found = await identity.kept.local_user(user)
    free = found is not None and not found.password_hash and identity.settings.environment == "development"
    try:
        good = free or await identity.passwords.fits(found, password)
    except BusyError as error:
        raise identity.too_many(2) or ProblemError("internal", "") from error
    if not good or found is None:
        identity.attempts.failed(identity.address(request), user)
        return await _failed(request, own_path(next), f"local user {user[:80]!r}: wrong name or password")
    return await _begin(request, identity, actor_of_user(found), own_path(next))


@router.post("/office/logout", dependencies=[may("public")])
async def logout(request: Request) -> Response:
    """Ends the session, here and for every browser that holds its token; then at the provider, where it offers that."""
    identity = identity_of(request)
    request.state.action = "sign_out"
    session = await identity.session(request)
    target = LOGIN
    if session is not None:
        request.state.actor = session.actor
        token = request.cookies[identity.cookie]
        await check(request, token, identity.settings.public_url)
        await identity.kept.end_session(token)
        if identity.provider is not None and session.actor.authentication == "oidc":
            try:
                back = own_origin(request, identity.settings.public_url) + LOGIN
                target = await identity.provider.sign_out_url(back) or LOGIN
            except ProviderError as error:
                log.warning("signed out here, not at the provider", error=str(error))
    response = RedirectResponse(target, 303, headers={"Cache-Control": "no-store", "Clear-Site-Data": '"cache"'})
    response.delete_cookie(identity.cookie, path="/", secure=identity.settings.is_https, httponly=True)
    return response


@router.get("/v1/me", dependencies=[may("own")])
async def me(actor: Acting) -> Response:
    """Who asks, as this product sees them."""
    return respond(
        {
            "id": actor.id,
            "name": actor.name,
            "tenant": actor.tenant,
            "roles": actor.roles,
            "capacities": tuple(sorted(actor.capacities)),
            "actions": tuple(sorted(actor.actions)),
            "authentication": actor.authentication,
            "authenticatedAt": actor.authenticated_at,
        }
    )


def own_path(next_: str) -> str:
    """The path of our back office that is asked for; its start where it is none."""
    return next_ if _OWN_PATH.fullmatch(next_) and "//" not in next_.partition("?")[0] else HOME


# --- helpers ----------------------------------------------------------------------------------------------------------


async def _begin(request: Request, identity: Identity, actor: Actor, next_: str) -> RedirectResponse:
    """A new session with a new token; the one that this browser had is over."""
    request.state.actor = actor
    old = request.cookies.get(identity.cookie, "")
    if old:
        await identity.kept.end_session(old)
    seconds = identity.settings.session_ms_max / 1000
    response = RedirectResponse(next_, 303, headers={"Cache-Control": "no-store"})
    _set(response, identity, identity.cookie, await identity.kept.begin_session(actor, seconds=seconds), seconds)
    return response


def _set(response: Response, identity: Identity, name: str, token: str, seconds: float) -> None:
    response.set_cookie(
        name, token, max_age=int(seconds), path="/", secure=identity.settings.is_https, httponly=True, samesite="lax"
    )


def _code(request: Request, issuer: str, state: str) -> str:
    """The code that the provider gives. Raises TokenError for an answer that is not to our question."""
    given = request.query_params
    if any(len(given.getlist(name)) > 1 for name in ("code", "state", "iss", "error")):
        raise TokenError("the provider's answer names something twice")
    if not same(given.get("state", ""), state):
        raise TokenError("the state is not that of this sign-in")
    if given.get("iss", issuer) != issuer:
        raise TokenError("another issuer answers")
    if given.get("error") or not given.get("code"):
        raise TokenError(f"the provider says {given.get('error', 'nothing')[:80]}")
    return given["code"]


def _redirect(request: Request, identity: Identity) -> str:
    """Where the provider sends browsers back to; without a public address only this machine may be that."""
    if not identity.settings.public_url and not is_local(request):
        raise ProblemError("bad_request", "Set ORCHESTRATOR_PUBLIC_URL: people sign in from other machines.")
    return own_origin(request, identity.settings.public_url) + CALLBACK


def _may_begin(request: Request, identity: Identity) -> None:
    refused = identity.too_many(identity.attempts.begun(identity.address(request)))
    if refused is not None:
        raise refused


def _away(error: ProviderError) -> ProblemError:
    log.warning("the identity provider does not answer", error=str(error))
    return ProblemError("unavailable", "The identity provider does not answer.", headers={"Retry-After": "2"})


async def _failed(request: Request, next_: str, reason: str) -> Response:
    """The sign-in page once more; the reason goes to the log alone."""
    log.warning("sign-in failed", reason=reason, address=identity_of(request).address(request))
    request.state.problem = "unauthenticated"
    return await _page(request, next_, "That did not work. Try again, or ask whoever runs this.", 401)


async def _page(request: Request, next_: str, error: str = "", status: int = 200) -> Response:
    identity = identity_of(request)
    local = identity.settings.has_local_users and is_local(request)
    users = await identity.kept.local_users() if local else []
    provider = f"{LOGIN}/provider?{urlencode({'next': next_})}" if identity.provider is not None else ""
    # A page learns whether a password is asked for, never its hash.
    shown = tuple(replace(user, password_hash="asked for" if user.password_hash else "") for user in users)
    choices = Choices(provider, shown, next_, error)
    dressed: SignInPage = getattr(request.app.state, "sign_in_page", None) or plain_page
    return dressed(request, choices, status)


def plain_page(request: Request, choices: Choices, status: int) -> Response:
    """A sign-in page without clothes, for an application that has no pages."""
    parts = [f"<p role=alert>{html.escape(choices.error)}</p>"] if choices.error else []
    if choices.provider:
        parts.append(f'<p><a href="{html.escape(choices.provider)}">Sign in</a></p>')
    for user in choices.users:
        parts.append(
            f'<form method="post" action="{LOGIN}"><input type="hidden" name="user" value="{html.escape(user.id)}">'
            f'<input type="hidden" name="next" value="{html.escape(choices.next)}">'
            f'<input type="password" name="password" aria-label="Password of {html.escape(user.name)}">'
            f"<button>Sign in as {html.escape(user.name)}, {', '.join(sorted(user.capacities))}</button></form>"
        )
    if not choices.provider and not choices.users:
        parts.append("<p>Nobody can sign in here: no identity provider is configured.</p>")
    text = "".join(parts)
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>'
        f"<main><h1>Sign in</h1>{text}</main></html>",
        status,
        headers={"Cache-Control": "no-store"},
    )

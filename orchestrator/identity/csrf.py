"""What writes with a cookie must come from a page of ours: where the browser says it comes from, and a token beside it.

Rules of this file
- Both are asked. `Sec-Fetch-Site` and `Origin` are written by the browser, out of reach of another site's page; one of
  them must be there. The token is in a form's field `csrf_token`, or in the header `X-CSRF-Token`.
- What reads never writes, so that a link, an image or a prefetch can do nothing.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.multipart import parse_options_header

from orchestrator.api.problems import ProblemError
from orchestrator.identity.addresses import own_origin
from orchestrator.identity.secrets import csrf_token, same

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADER = "X-CSRF-Token"
FIELD = "csrf_token"
FIELDS_MAX = 1_000


async def check(request: Request, session: str, public_url: str) -> None:
    """Raises ProblemError `cross_site` unless this comes from a page of this session."""
    check_origin(request, public_url)
    given = request.headers.get(HEADER) or await _field(request)
    if not same(given, csrf_token(session)):
        raise _refused("The form has no token of this session, or an old one: open the page again.")


def check_origin(request: Request, public_url: str) -> None:
    """Raises ProblemError `cross_site` where another site asks, or nobody says who does."""
    sites, origins = request.headers.getlist("sec-fetch-site"), request.headers.getlist("origin")
    if not sites and not origins:
        raise _refused("The browser does not say which page asks (Origin, Sec-Fetch-Site).")
    if any(site.lower() != "same-origin" for site in sites):
        raise _refused("Another site asks for this.")
    if any(origin.lower() != own_origin(request, public_url) for origin in origins):
        raise _refused("Another site asks for this.")


async def _field(request: Request) -> str:
    """The token in a form; "" where the body is none."""
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    body = await request.body()  # kept by the request, so that the route can read it again
    if kind == b"application/x-www-form-urlencoded":
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
        except ValueError:
            return ""
        found = [value for name, value in fields if name == FIELD]
        return found[0] if len(found) == 1 else ""
    if kind == b"multipart/form-data":
        form = await request.form(max_files=0, max_fields=FIELDS_MAX)
        value = form.get(FIELD)
        return value if isinstance(value, str) else ""
    return ""


def _refused(detail: str) -> ProblemError:
    return ProblemError("cross_site", detail)

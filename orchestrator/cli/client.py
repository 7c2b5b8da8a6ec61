"""The command line's way to the product: its own HTTP API, so that a verb and a page do the same thing.

Rules of this file
- Every failure becomes a CliError with an exit code and the next step; nothing here prints.
- With `ORCHESTRATOR_API_TOKEN` (a key, or an access token of the identity provider) it says who acts. Else, on a
  developer's machine, it is `ORCHESTRATOR_ACTOR`, else the name of the login; roles are `ORCHESTRATOR_ACTOR_ROLES`.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from orchestrator.cli.output import CliError, ExitCode

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 30.0
DEFAULT_ROLES = ""  # in development: all capacities but admin

# Statuses by which exit code they become; the rest of 4xx is wrong usage, of 5xx a failure.
_EXIT_BY_STATUS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    410: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    429: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
}


def segment(text: str) -> str:
    """A text as one part of a URL's path."""
    return quote(text, safe="")


class Api:
    """Calls the API at `url` (default: ORCHESTRATOR_API_URL) as one person with some roles."""

    def __init__(self, url: str = "", actor: str = "", roles: str | None = None) -> None:
        self.url = (url or os.environ.get("ORCHESTRATOR_API_URL", "") or DEFAULT_URL).rstrip("/")
        self.actor = actor or os.environ.get("ORCHESTRATOR_ACTOR", "") or login_name()
        self.roles = os.environ.get("ORCHESTRATOR_ACTOR_ROLES", DEFAULT_ROLES) if roles is None else roles
        self.token = os.environ.get("ORCHESTRATOR_API_TOKEN", "")

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The JSON object at a path. Parameters that are None are left out. Raises CliError."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Posts a JSON object and gives the answer. Raises CliError."""
        return self._call("POST", path, body=body, headers=headers)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Puts a JSON object in the place of what is there. Raises CliError."""
        return self._call("PUT", path, body=body)

    @property
    def headers(self) -> dict[str, str]:
        """Who asks, as each request says it."""
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        return {"X-Actor": self.actor, "X-Actor-Roles": self.roles}

    def problem(self, answer: httpx2.Response) -> CliError:
        """What an answer that says no means at the keyboard."""
        try:
            self._read(answer)
        except CliError as error:
            return error
        return CliError(ExitCode.FAILED, f"{self.url} answered {answer.status_code}")

    def pages(self, path: str, limit: int | None, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page, at most `limit` (None: all)."""
        cursor, given = None, 0
        while True:
            page = self.get(path, cursor=cursor, **params)
            for item in page["items"]:
                if limit is not None and given >= limit:
                    return
                given += 1
                yield item
            cursor = page.get("next")
            if not cursor:
                return

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        sent = {**self.headers, **(headers or {})}
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        times = httpx2.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
        try:
            # trust_env off: a proxy meant for the internet must not see or forge what is said on loopback.
            with httpx2.Client(base_url=self.url, timeout=times, trust_env=False) as client:
                answer = client.request(method, path, params=wanted, json=body, headers=sent)
        except httpx2.ConnectError as error:
            raise CliError(
                ExitCode.UNREACHABLE,
                f"no orchestrator answers at {self.url}",
                "start one with `orchestrator serve` (or `orchestrator demo`), or set ORCHESTRATOR_API_URL",
            ) from error
        except httpx2.TimeoutException as error:
            raise CliError(
                ExitCode.TIME_OUT,
                f"{self.url} did not answer in time; what you asked for may have happened",
                "look before you try again, for example with `orchestrator saga show ID`",
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise CliError(
                ExitCode.UNREACHABLE, f"{self.url}: {type(error).__name__}: {error}", "check ORCHESTRATOR_API_URL"
            ) from error
        return self._read(answer)

    def _read(self, answer: httpx2.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise CliError(
                ExitCode.UNREACHABLE,
                f"{self.url} answered {answer.status_code}, but not as an orchestrator does",
                "check ORCHESTRATOR_API_URL: another program seems to listen there",
            )
        if answer.is_success:
            return body
        raise _problem(answer.status_code, body, answer.headers.get("retry-after", ""))


def _problem(status: int, body: Mapping[str, Any], retry_after: str) -> CliError:
    """The error that a problem document becomes."""
    default = ExitCode.USAGE if 400 <= status < 500 else ExitCode.FAILED
    facts = {name: body[name] for name in ("code", "status", "sagaId", "traceId", "errors", "facts") if name in body}
    what = f"{body.get('title', 'failed')}: {body.get('detail', status)}"
    for item in body.get("errors", ())[:5]:
        if isinstance(item, Mapping) and str(item.get("detail", "")) not in what:
            what += f"\n  {item.get('pointer', '')} {item.get('detail', '')}"
    code = str(body.get("code", ""))
    do = f"orchestrator explain {code}" if code else ""
    if retry_after.isdecimal():
        facts["retryAfter"] = int(retry_after)
        do = f"wait {retry_after} s, then do the same again" + (f"; {do}" if do else "")
    return CliError(_EXIT_BY_STATUS.get(status, default), what, do, facts)


def login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"

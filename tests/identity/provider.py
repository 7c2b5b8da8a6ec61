"""An identity provider for tests: a real OpenID Connect server on loopback, made stricter than the package is.

The package hands out codes and ID tokens but takes no notice of PKCE; here a code is worth nothing without the verifier
that belongs to its challenge. It also publishes a key of ours, so that tests can sign access tokens of every kind.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
import warnings
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock  # type: ignore[import-untyped]

CLIENT_ID = "orchestrator-office"
CLIENT_SECRET = "a secret of sixteen and more characters"
AUDIENCE = "https://api.orchestrator.test"

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class StrictProvider:
    """WSGI around the package's application: checks PKCE, publishes our key, counts what was asked."""

    def __init__(self, app: Any, keys: Sequence[Key]) -> None:
        self._app, self._keys = app, keys
        self._challenges: dict[str, str] = {}
        self.asked: list[str] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append(path)
        if path == "/oauth2/token" and not self._verified(environ):
            start_response("400 BAD REQUEST", [("Content-Type", "application/json")])
            return [b'{"error": "invalid_grant", "error_description": "the verifier is not that of the code"}']
        if path == "/jwks":
            return self._with_our_keys(environ, start_response)
        challenge = dict(parse_qsl(environ.get("QUERY_STRING", ""))).get("code_challenge", "")

        def noting(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            location = dict(headers).get("Location", "")
            for code in parse_qs(urlsplit(location).query).get("code", ()):
                self._challenges[code] = challenge
            return start_response(status, headers, error)

        return list(self._app(environ, noting))

    def _verified(self, environ: Environ) -> bool:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form = dict(parse_qsl(body.decode()))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = self._challenges.pop(form.get("code", ""), None)
        return challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _with_our_keys(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        published = json.loads(b"".join(self._app(environ, lambda *_: None)))
        published["keys"] += [dict(key.as_dict(private=False)) for key in self._keys]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(published).encode()]


class _Server(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """One thread for each request."""

    daemon_threads = True


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: Any) -> None: ...


class TestProvider:
    """A running provider. `users`: subject to claims."""

    __test__ = False

    def __init__(self, issuer: str, strict: StrictProvider, key: ECKey, other: RSAKey) -> None:
        self.issuer, self.strict, self.key = issuer, strict, key
        unbound = {name: part for name, part in other.as_dict(private=True).items() if name != "alg"}
        self.other_key = RSAKey.import_key(unbound)  # published as bound to PS256, and able to sign with others too

    def access_token(self, sub: str, groups: Any = (), /, **changed: Any) -> str:
        """An access token for our API as a provider makes it; `changed` claims replace or (None) remove."""
        header = changed.pop("header", {})
        key = changed.pop("key", self.key)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": sub,
            "client_id": "some-client",
            "iat": now,
            "exp": now + 600,
            "auth_time": now,
            "groups": list(groups) if isinstance(groups, tuple) else groups,
            "tenant": "main",
            **changed,
        }
        said = {"alg": "ES256", "kid": "ours", "typ": "at+jwt", **header}
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(said, kept, key, algorithms=[said["alg"]])

    async def agree(self, url: str, sub: str, *, action: str = "") -> str:
        """Signs somebody in at the provider; gives the address that it sends the browser back to."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.post(url, data={"sub": sub, "action": action})
        assert answer.status_code in (302, 303), answer.text
        return answer.headers["location"]


@contextmanager
def running_provider(users: Mapping[str, Mapping[str, Any]]) -> Iterator[TestProvider]:
    """The provider on a free port of this machine, until the block ends."""
    key = ECKey.generate_key("P-256", {"kid": "ours", "use": "sig"})
    other = RSAKey.generate_key(2048, {"kid": "bound", "use": "sig", "alg": "PS256"})
    people = [oidc_provider_mock.User(sub=sub, claims=dict(claims)) for sub, claims in users.items()]
    strict = StrictProvider(oidc_provider_mock.app(require_nonce=True, user_claims=people), [key, other])
    server = wsgiref.simple_server.make_server("localhost", 0, strict, _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield TestProvider(f"http://localhost:{server.server_port}", strict, key, other)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

"""Notices to other people's systems over HTTPS, signed, and sent only where the guard lets them go.

Rules of this file
- Signed as Standard Webhooks has it: HMAC-SHA256 over `id.timestamp.body`, in `webhook-signature: v1,<base64>`. While a
  secret is being changed, both stand there. The id stays, the timestamp is that of the attempt.
- One request: no redirects, no proxy of the environment, no cookies, no more of the answer than a few bytes.
- 2xx is taken. 410 and other 4xx are final; 408, 425, 429 and 5xx are tried again.
Source: Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable, Sequence

import httpx2
import orjson

from orchestrator.notices.contract import Notice, NotSentError
from orchestrator.notices.guard import Guard, NotAllowedError, NotFoundError, Target

BODY_BYTES_MAX = 65_536
ANSWER_BYTES_MAX = 4_096
SECRET_BYTES_MIN = 24
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix, not a secret
_AGAIN = frozenset({408, 425, 429})


class SecretError(ValueError):
    """The signing secret is none; the text says what one looks like and shows nothing of it."""


def secrets_of(text: str) -> list[bytes]:
    """Keys from `whsec_<base64> whsec_<base64>` (the newest first). Raises SecretError."""
    keys = []
    for word in text.split():
        try:
            key = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < SECRET_BYTES_MIN:
            raise SecretError(
                f"a webhook secret is {SECRET_PREFIX} and at least {SECRET_BYTES_MIN} random bytes in base64"
            )
        keys.append(key)
    if not keys:
        raise SecretError("webhooks need a secret to sign with")
    return keys


def signature(keys: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)


def body_of(notice: Notice) -> bytes:
    """What is posted: type, timestamp and data. Raises NotSentError where it is too large."""
    type_ = notice.kind if notice.kind == "digest" else f"task.{notice.kind}"
    body = orjson.dumps({"type": type_, "id": notice.id, "tenant": notice.tenant, "data": dict(notice.facts)})
    if len(body) > BODY_BYTES_MAX:
        raise NotSentError(f"the body has {len(body)} bytes, more than {BODY_BYTES_MAX}", retriable=False)
    return body


class Webhook:
    """The webhook channel. `clock` gives seconds since the epoch, for the signature's timestamp."""

    def __init__(
        self,
        guard: Guard,
        keys: Sequence[bytes],
        *,
        timeout_ms: int = 10_000,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guard, self._keys, self._clock = guard, keys, clock
        self._timeout = timeout_ms / 1000
        self._tls = tls or ssl.create_default_context()
        self._client: httpx2.AsyncClient | None = None

    async def send(self, notice: Notice) -> None:
        """Posts one notice. Raises NotSentError."""
        body = body_of(notice)
        try:
            async with asyncio.timeout(self._timeout):
                target = await self._guard.target(notice.address)
                status = await self._post(target, notice.id, body)
        except NotAllowedError as error:
            raise NotSentError(f"the webhook's URL is refused: {error}", retriable=False) from error
        except NotFoundError as error:
            raise NotSentError(str(error), retriable=True) from error
        except TimeoutError as error:
            raise NotSentError(f"no answer within {self._timeout:.0f} s", retriable=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NotSentError(f"{type(error).__name__}: {str(error)[:200]}", retriable=True) from error
        if not 200 <= status < 300:
            again = status in _AGAIN or status >= 500
            raise NotSentError(f"the receiver answered {status}", retriable=again)

    async def rest(self) -> None:
        """Closes what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, target: Target, id_: str, body: bytes) -> int:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._timeout,
                limits=httpx2.Limits(max_keepalive_connections=0),  # the next request may go to another address
            )  # fmt: skip
        at = int(self._clock())
        headers = {
            "Host": target.host_header,
            "Content-Type": "application/json",
            "User-Agent": "saga-orchestrator-notices/1",
            "Accept-Encoding": "identity",
            "webhook-id": id_,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._keys, id_, at, body),
        }
        shown = f"[{target.address}]" if ":" in target.address else target.address
        request = self._client.build_request(
            "POST",
            f"{target.scheme}://{shown}:{target.port}{target.path}",
            content=body,
            headers=headers,
            extensions={"sni_hostname": target.host} if target.scheme == "https" else {},
        )
        answer = await self._client.send(request, stream=True)
        try:
            read = 0
            async for part in answer.aiter_raw():
                read += len(part)
                if read > ANSWER_BYTES_MAX:  # the status is what counts; nobody makes us read a gigabyte
                    break
        finally:
            await answer.aclose()
        return answer.status_code

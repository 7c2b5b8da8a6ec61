"""Keys that are lent by the product's key service, to participants that hold no key file (ADR 72).

Rules of this file
- A key is remembered as long as the service says, which is less than a minute, counted from before it was asked.
- A command counts only with its proof: the first of a saga is checked by the service, which then lends the key by which
  further ones are checked here. What fails here is shown to the service all the same: its log is where refusals belong.
- While the service is away, or lets nobody in, or our API key names other participants, `ask` raises and commands wait;
  what it refuses for itself is an invalid command.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx2
import orjson

from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages.personal import PREFIX, TOKEN, key_ids, subject_key
from orchestrator.metrics.figures import Reading
from orchestrator.metrics.names import KEYS_ASKED, KEYS_AWAY
from orchestrator.runtime.work import Opened
from orchestrator.vault import proofs
from orchestrator.vault.boxes import BoxError, Pair
from orchestrator.vault.sealer import Person, Sealer, opened
from orchestrator.vault.tokens import ScopeKey, SealedError, saga_scope

SECONDS_LEFT_MIN = 10.0  # who has asked for a key finds it at hand for so long
ANSWER_SECONDS_MAX = 10.0
COMMANDS_MAX = 200  # of one request
KEYS_MAX = 16  # of one command
REMEMBERED_MAX = 50_000
PATH = "/v1/keys/lend"
NOT_NAMED = "not_named"
_BYTES = PREFIX.encode()
_TEXT, _PROOF, _KEY = (
    re.compile(p) for p in (r"[A-Za-z0-9._:/~+-]{1,500}", r"[A-Za-z0-9_-]{0,64}", r"[A-Za-z0-9_-]{16}")
)

Place = tuple[str, int, int]
Saga = tuple[str, str, str]  # tenant, id, the participant that is asked


class KeyServiceError(Exception):
    """The key service cannot be asked now. The text says what to do."""


@dataclass(frozen=True, slots=True)
class _Command:
    """What of a command the service is shown."""

    message: IncomingMessage
    headers: dict[str, bytes]
    saga: Saga
    digest: bytes
    keys: tuple[str, ...]

    @property
    def place(self) -> Place:
        return self.message.topic, self.message.partition, self.message.offset

    def is_ours(self) -> bool:
        """Are its headers written as our own coordinator writes them? Others are shown to nobody."""
        shown = self.shown()
        texts = [shown[name] for name in ("id", "source", "type", "saga", "participant", "key")]
        told = all(_TEXT.fullmatch(text) and PREFIX not in text for text in texts)
        return told and _PROOF.fullmatch(shown["proof"]) is not None

    def shown(self) -> dict[str, Any]:
        """As it is shown to the service."""
        text = {name: value.decode(errors="replace") for name, value in self.headers.items()}
        return {
            "id": text.get("ce_id", ""),
            "source": text.get("ce_source", ""),
            "type": text.get("ce_type", ""),
            "saga": self.saga[1],
            "participant": self.saga[2],
            "key": (self.message.key or b"").decode(errors="replace"),
            "digest": self.digest.hex(),
            "proof": text.get(proofs.HEADER, ""),
            "keys": self.keys[:KEYS_MAX],
        }


class LentKeys:
    """Keys on loan from the service at `url`; an `Opening`. `token`: an API key that names the participants here."""

    def __init__(self, url: str, token: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url.rstrip("/")
        self._client: httpx2.AsyncClient | None = None
        self._token = token
        self._clock = clock
        self._pair = Pair()
        self._keys: OrderedDict[tuple[str, str, str], tuple[float, ScopeKey | str]] = OrderedDict()  # tenant, id, scope
        self._senders: OrderedDict[Saga, tuple[float, bytes]] = OrderedDict()
        self._refused: OrderedDict[Place, str] = OrderedDict()
        self.counts: Counter[str] = Counter()  # requests, and commands by what was said: lent, refused, failed
        self.away = False

    async def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def readings(self) -> list[Reading]:
        """For the metrics of the process."""
        commands = [(KEYS_ASKED, (said,), self.counts[said]) for said in ("lent", "refused", "failed")]
        return [*commands, (KEYS_AWAY, (), int(self.away))]

    # --- an Opening ---------------------------------------------------------------------------------------------------

    async def ask(self, messages: Sequence[IncomingMessage]) -> None:
        """Has the keys of these commands at hand, where they can be had. Raises KeyServiceError to be asked again."""
        wanted = []
        for message in messages:
            found = _read(message)
            if found is None or self._has(found):
                continue
            if found.is_ours():
                wanted.append(found)
            else:  # the service would refuse the whole request for it
                _remember(self._refused, found.place, "it does not look like a command of this product's coordinator")
        for first in range(0, len(wanted), COMMANDS_MAX):
            await self._ask(wanted[first : first + COMMANDS_MAX])

    def refusal(self, message: IncomingMessage) -> str:
        """Why this command is not obeyed, "" where it is."""
        return self._refused.get((message.topic, message.partition, message.offset), "")

    def open_message(self, value: bytes, tenant: str) -> tuple[bytes, Opened]:
        """The data of a command with everything opened, and what that was. Raises SealedError."""
        found: list[str] = []
        matches = []

        def one(token: str) -> str:
            match = TOKEN.fullmatch(token)
            assert match is not None
            matches.append(match)
            key = self._at_hand(tenant, match[1], match[2])
            if isinstance(key, str):
                raise SealedError(key)
            found.append(key.open(token))
            return found[-1]

        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value, Opened()
        plain = opened(body, one)
        keys = tuple(dict.fromkeys(match[1] for match in matches))
        return orjson.dumps(plain), Opened(keys, frozenset(match[2] for match in matches), tuple(found))

    def is_of(self, about: Opened, saga_id: str) -> bool:
        """Was everything that was opened in a message sealed for this saga?"""
        return about.scopes <= {saga_scope(saga_id)}

    def sealer_of(self, key_id: str, saga_id: str, tenant: str) -> Sealer | None:
        """What seals for a saga under a key that was lent; None where it was not."""
        scope = saga_scope(saga_id)
        key = self._at_hand(tenant, key_id, scope)
        return Sealer(Person(key_id), key, scope) if isinstance(key, ScopeKey) else None

    # --- the service --------------------------------------------------------------------------------------------------

    async def _ask(self, wanted: Sequence[_Command]) -> None:
        began = self._clock()
        asked = {"publicKey": b64encode(self._pair.public).decode(), "commands": [one.shown() for one in wanted]}
        try:
            answer = await self._call(asked)
            self._take(wanted, answer, began)
        except (KeyServiceError, BoxError, LookupError, TypeError, ValueError) as error:
            self.counts["failed"] += len(wanted)
            self.away = True
            if isinstance(error, KeyServiceError):
                raise
            text = f"{self.url} does not answer as a key service: check ORCHESTRATOR_KEY_SERVICE_URL"
            raise KeyServiceError(text) from error
        self.away = False

    async def _call(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._client is None:
            # trust_env off: a proxy meant for the internet must not see what is said here.
            self._client = httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX, trust_env=False)
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            answer = await self._client.post(self.url + PATH, json=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise KeyServiceError(f"no key service answers at {self.url}: {type(error).__name__}") from error
        if answer.status_code in (401, 403):
            text = "does not let this process in: ORCHESTRATOR_KEY_SERVICE_TOKEN needs a key that holds, made with"
            raise KeyServiceError(f"{self.url} {text} `orchestrator key create NAME --action key.lend:PARTICIPANT`")
        if not answer.is_success:
            raise KeyServiceError(f"{self.url} answers {answer.status_code}")
        found: dict[str, Any] = answer.json()
        return found

    def _take(self, wanted: Sequence[_Command], answer: dict[str, Any], began: float) -> None:
        shared = self._pair.with_answerer(b64decode(answer["publicKey"]))
        answers = zip(wanted, answer["commands"], strict=True)
        unnamed = {one.saga[2] for one, given in answers if given["refused"] == NOT_NAMED}
        if unnamed:  # our settings are wrong, not the commands
            name = min(unnamed)
            text = f"{self.url} lends this process nothing for {name}: ORCHESTRATOR_KEY_SERVICE_TOKEN needs a key"
            raise KeyServiceError(f"{text} made with `orchestrator key create NAME --action key.lend:{name}`")
        for one, given in zip(wanted, answer["commands"], strict=True):
            self.counts["refused" if given["refused"] else "lent"] += 1
            if given["refused"]:
                _remember(self._refused, one.place, f"the key service refuses it: {given['refused']}")
                continue
            tenant, saga_id, participant = one.saga
            scope, until = saga_scope(saga_id), began
            self._refused.pop(one.place, None)
            for key in given["keys"]:
                until = began + float(key["seconds"])
                lent: ScopeKey | str = str(key["why"])
                if key["box"]:
                    raw = shared.take(b64decode(key["box"]), f"key {key['id']} {scope}")
                    lent = ScopeKey(key["id"], tenant, scope, raw)
                _remember(self._keys, (tenant, str(key["id"]), scope), (until, lent))
            sender = shared.take(b64decode(given["sender"]), f"sender {participant} {saga_id}")
            _remember(self._senders, one.saga, (until, sender))

    # --- what is at hand ----------------------------------------------------------------------------------------------

    def _has(self, one: _Command) -> bool:
        """Is all that this command needs here for a while, and the command proven?"""
        late = self._clock() + SECONDS_LEFT_MIN
        tenant, saga_id, _ = one.saga
        scope = saga_scope(saga_id)
        known = [self._keys.get((tenant, key, scope)) for key in one.keys]
        sender = self._senders.get(one.saga)
        if sender is None or sender[0] <= late or any(found is None or found[0] <= late for found in known):
            return False
        proven = proofs.holds(sender[1], one.headers, one.message.key or b"", one.digest)
        if proven:
            self._refused.pop(one.place, None)
        return proven

    def _at_hand(self, tenant: str, key_id: str, scope: str) -> ScopeKey | str:
        found = self._keys.get((tenant, key_id, scope))
        if found is None or found[0] <= self._clock():
            return "it is sealed under a key that was not lent"
        return found[1]


def _read(message: IncomingMessage) -> _Command | None:
    """What the service is to be shown; None for a message that needs no key."""
    value = message.value or b""
    named = subject_key(message.headers)
    keys = {named} - {""} | (key_ids(value.decode(errors="replace")) if _BYTES in value else set())
    if not keys:
        return None
    headers = {name: value or b"" for name, value in message.headers}
    tenant, saga_id = (headers.get(name, b"").decode(errors="replace") for name in ("ce_tenant", "ce_correlationid"))
    saga = (tenant, saga_id, message.topic.removesuffix(".commands"))
    return _Command(message, headers, saga, sha256(value).digest(), tuple(sorted(keys)))


def _remember(where: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    where[key] = value
    where.move_to_end(key)
    while len(where) > REMEMBERED_MAX:
        where.popitem(last=False)

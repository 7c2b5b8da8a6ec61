"""Routing: what is this message, and whom does it concern?

Rules of this file
- The topic says who may speak: a reply counts as the participant's on whose topic it came, whatever its headers claim.
- Nothing is guessed and nothing raises: what cannot be read becomes `Unprocessable` with a reason code and a sentence.
- Data is validated against its contract here, once; the kernel gets plain values in canonical normal form.
- This runs for every message, some ten thousand times a second: no loops over what is not needed, no logging.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, cast

import orjson

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    ChildAnswer,
    Purpose,
    Resume,
    Start,
    TimerDue,
    UndoAsked,
)
from orchestrator.messages.canonical import INTEGER_MAX, NotCanonicalError
from orchestrator.messages.contract import Command, Contract, ContractError, Event, Reply
from orchestrator.messages.envelope import STRUCTURED, EnvelopeError, read
from orchestrator.messages.personal import PREFIX as SEALED
from orchestrator.messages.protocol import (
    ANSWER_TYPE,
    SAGAS_TOPIC,
    START_TYPE,
    UNWIND_TYPE,
)
from orchestrator.runtime.before import SentBefore
from orchestrator.runtime.bodies import (
    Flaw,
    Texts,
    check_belongs,
    envelope_key,
    json_of,
    number_of,
    parent_of,
    reason_of,
    text_of,
    version_of,
)
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.choosing import begin, check_asked
from orchestrator.runtime.letters import INTERNAL_TOPIC, KEY_BROKEN, last_lines, letter_of
from orchestrator.runtime.work import Cause, DomainEvent, EarlyCheck, Item, SagaBegin, SagaInput, Unprocessable
from orchestrator.store.contract import MessageId, SagaStart, Waiting
from orchestrator.vault.keys import BrokenKeyError
from orchestrator.vault.tokens import SealedError, event_scope, saga_scope
from orchestrator.vault.vault import Vault

_STRUCTURED = STRUCTURED.encode()
_DEFINITE_OR_ERROR = frozenset({"ok", "refused", "error"})
_SETTLED = _DEFINITE_OR_ERROR | {"not_done", "in_doubt", "never"}
_OUTCOMES = {"do": _DEFINITE_OR_ERROR, "undo": _DEFINITE_OR_ERROR, "fence": _SETTLED, "fence_undo": _SETTLED}
_CHILD_OUTCOMES = frozenset({"completed", "failed", "refused", "undone", "pivot_passed"})


PREFIX = SEALED.encode()
TEXT_CHARACTERS_MAX = 500  # of ids, sources and keys: an index entry of PostgreSQL holds 2,700 bytes

_FLAT = (str, int, bool, str | None, int | None, bool | None)


class Router:
    """Turns messages into items. `tenant`: of messages that name none; `tenants`: those that are served here."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        tenant: str,
        tenants: frozenset[str],
        message_bytes_max: int,
        headers_max: int,
        vault: Vault | None = None,
        before: SentBefore | None = None,
    ) -> None:
        self._catalog = catalog
        self._routes = catalog.routes
        self._tenant, self._tenants = tenant, tenants
        self._bytes_max, self._headers_max = message_bytes_max, headers_max
        self._vault = vault
        self._before = before
        self._flat: dict[type[Contract], bool] = {}
        self._between: dict[str, Callable[[IncomingMessage, Texts, bytes, Cause], Item]] = {
            START_TYPE: self._child_start,
            ANSWER_TYPE: self._child_answer,
            UNWIND_TYPE: self._unwind,
        }

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics whose messages this router understands."""
        return self._routes.consumed

    async def learn(self, messages: Sequence[IncomingMessage]) -> None:
        """Asks for what is needed to read these messages. Raises StoreError where it cannot be had now."""
        if self._vault is not None:
            await self._vault.learn(message.value for message in messages)
            if self._before is not None:
                await self._before.learn([m for m in messages if m.value is not None and PREFIX in m.value])

    def route(self, raw: IncomingMessage, redriven: int = 0) -> Item | None:
        """What this message is; None for an event that is known here and that no saga starts on or waits for (what
        sagas publish comes by on the topics that they read). `redriven`: the dead letter's id, where it is processed
        again."""
        if redriven and raw.topic == INTERNAL_TOPIC:
            return self._internal(raw, redriven)
        cause = Cause(self._tenant, raw=raw, redriven=redriven)
        try:
            return self._read(raw, cause)
        except Flaw as flaw:
            return Unprocessable(letter_of(cause, flaw.reason, flaw.detail), cause)
        except UnicodeDecodeError as error:
            return Unprocessable(letter_of(cause, "unreadable", f"a header is not UTF-8: {error.reason}"), cause)
        except NotCanonicalError as error:
            return Unprocessable(letter_of(cause, "invalid", str(error)), cause)
        except Exception as error:  # whatever a contract's own code raises: one message must not stop its partition
            return Unprocessable(letter_of(cause, "poison", last_lines(error)), cause)

    def _read(self, raw: IncomingMessage, cause: Cause) -> Item | None:
        texts, value = self._envelope(raw)
        get = texts.get
        id_, source, type_ = get("ce_id", b"").decode(), get("ce_source", b"").decode(), get("ce_type", b"").decode()
        if not id_ or not source or not type_:
            missing = "id" if not id_ else "type" if source else "source"
            raise Flaw("unreadable", f"required attribute {missing} is missing: set header ce_{missing}")
        if len(id_) > TEXT_CHARACTERS_MAX or len(source) > TEXT_CHARACTERS_MAX:
            raise Flaw("oversized", f"ce_id or ce_source has more than {TEXT_CHARACTERS_MAX} characters")
        tenant = get("ce_tenant", b"").decode() or self._tenant
        cause.causation_id = id_
        cause.traceparent = (get("traceparent") or get("ce_traceparent", b"")).decode()
        if tenant not in self._tenants:
            raise Flaw("wrong_tenant", f"tenant {tenant!r} is not served here; ORCHESTRATOR_OTHER_TENANTS adds it")
        cause.tenant = tenant  # only now: a letter of a tenant that is not served must be seen by somebody
        if not cause.redriven:
            # A dead letter was taken in before; driving it again must not be stopped by the inbox. What it may do
            # twice is guarded by the kernel and by the store's own keys.
            cause.message = MessageId(tenant, source, id_, self._digest(value))
        if self._vault is not None and PREFIX in value:
            value = self._open(value, cause, self._vault)
        participant = self._routes.participants.get(raw.topic)
        if participant is not None:
            return self._reply(type_, texts, value, cause, participant)
        if raw.topic == SAGAS_TOPIC:
            handle = self._between.get(type_)
            if handle is None:
                raise Flaw("unknown_type", f"{type_} is not a message between sagas")
            self._check_sealed(raw, texts, cause)
            return handle(raw, texts, value, cause)
        return self._event(type_, f"{source}\n{id_}", raw, texts, value, cause)

    # --- the envelope -------------------------------------------------------------------------------------------------

    def _envelope(self, raw: IncomingMessage) -> tuple[Texts, bytes]:
        """Headers by name, and the data. Raises Flaw for what is no CloudEvent."""
        value = raw.value
        if value is None:
            raise Flaw("null_value", "a record without value: a tombstone carries no event")
        if len(value) > self._bytes_max:
            raise Flaw("oversized", f"{len(value)} bytes, the limit is {self._bytes_max}")
        if len(raw.headers) > self._headers_max:
            raise Flaw("oversized", f"{len(raw.headers)} headers, the limit is {self._headers_max}")
        texts = dict(raw.headers)
        # The short way for what we and our libraries send; anything unusual goes through the full reader. One look at
        # all names together is enough to see that none is in capitals, one at their number that none comes twice.
        doubled = len(texts) != len(raw.headers)
        unusual = doubled or texts.get("ce_specversion") != b"1.0" or not "".join(texts).islower()
        if unusual or texts.get("content-type", b"")[: len(_STRUCTURED)].lower() == _STRUCTURED:
            try:
                envelope, value = read(raw.headers, value)
            except EnvelopeError as error:
                raise Flaw("unreadable", str(error)) from None
            texts = dict(envelope.headers())
        return texts, value

    def _digest(self, value: bytes) -> bytes:
        return sha256(value).digest() if self._vault is None else self._vault.digest(value)

    def _open(self, value: bytes, cause: Cause, vault: Vault) -> bytes:
        """The data with everything that is sealed in it opened. Raises Flaw where that cannot be."""
        try:
            value, cause.opened = vault.open_message(value, cause.tenant)
        except BrokenKeyError as error:
            raise Flaw(KEY_BROKEN, str(error)) from None
        except SealedError as error:
            raise Flaw("invalid", f"a personal value cannot be read: {error}") from None
        return value

    def _check_sealed(self, raw: IncomingMessage, texts: Texts, cause: Cause, *scopes: str) -> None:
        """What is sealed in a message is of the event that it is, or of the saga that provably sent it. Raises Flaw."""
        if self._vault is None or cause.opened is None or cause.opened.scopes.issubset(scopes):
            return
        check_belongs(cause, *scopes, saga_scope(texts.get("ce_correlationid", b"").decode()))
        digest = sha256(raw.value or b"").digest()
        sent = self._vault.prover.holds(texts, raw.topic, raw.key or b"", digest)
        if not sent and not (self._before is not None and self._before.knows(raw)):
            raise Flaw("unauthorised_source", "it holds personal values of a saga, and nothing proves that it sent it")

    # --- kinds of messages --------------------------------------------------------------------------------------------

    def _event(
        self, type_: str, event_id: str, raw: IncomingMessage, texts: Texts, value: bytes, cause: Cause
    ) -> Item | None:
        starts = self._routes.starts.get(type_, ())
        awaited = type_ in self._routes.awaiters
        if not starts and not awaited:
            if type_ in self._catalog.registry:
                return None
            raise Flaw("unknown_type", f"no installed saga starts on or waits for {type_}")
        if raw.topic.endswith(".commands"):
            raise Flaw("unauthorised_source", f"{type_} came on {raw.topic}, where no events belong")
        check_asked(type_)
        message = self._contract(type_, value, version_of(texts))
        if not isinstance(message, Event | Command):
            raise Flaw("invalid", f"{type_} is neither an event nor a start")
        try:
            key = message.key()
        except ContractError as error:
            raise Flaw("invalid", str(error)) from None
        if len(key) > TEXT_CHARACTERS_MAX:
            raise Flaw("oversized", f"the business key has more than {TEXT_CHARACTERS_MAX} characters")
        self._check_sealed(raw, texts, cause, event_scope(type_, key))
        data = self._plain(message)
        begins = tuple([self.begin(name, cause, type_, key, data, event_id) for name in starts])
        return DomainEvent(Arrived(type_, key, data, event_id, raw.appended_at), cause, begins, awaited)

    def begin(self, name: str, cause: Cause, type_: str, key: str, data: Any, event_id: str) -> SagaBegin:
        """The start of a saga by this message, on the version for new ones. `event_id` tells runs of a key apart."""
        return begin(self._catalog, name, cause, type_, key, data, event_id)

    def _reply(self, type_: str, texts: Texts, value: bytes, cause: Cause, participant: str) -> Item:
        get = texts.get
        claimed = get("ce_participant", b"").decode()
        if claimed and claimed != participant:
            raise Flaw("unauthorised_source", f"{claimed} answers on the topic of {participant}")
        saga_id, activity = get("ce_correlationid", b"").decode(), get("ce_activity", b"").decode()
        purpose, outcome = get("ce_purpose", b"").decode(), get("ce_outcome", b"").decode()
        if not saga_id or not activity or not purpose or not outcome:
            wanted = ("ce_correlationid", "ce_activity", "ce_purpose", "ce_outcome")
            raise Flaw("invalid", f"a reply needs header {next(name for name in wanted if not get(name))}")
        check_belongs(cause, saga_scope(saga_id))
        if outcome not in _OUTCOMES.get(purpose, ()):
            raise Flaw("invalid", f"a {purpose} cannot be answered with {outcome}")
        cause.actor = f"participant:{participant}"
        data, reason, reply_type = None, "", ""
        if outcome == "ok":
            reply_type = type_
            reply = self._contract(reply_type, value, version_of(texts))
            if not isinstance(reply, Reply):
                raise Flaw("invalid", f"{reply_type} is no reply")
            data = self._plain(reply)
        else:
            reason = reason_of(value)
        until = get("ce_until")
        answer = Answer(
            cast("Purpose", purpose),
            activity,
            number_of(get("ce_round"), "round"),
            number_of(get("ce_attempt"), "attempt"),
            cast("Any", outcome),
            data,
            reason,
            number_of(until, "until") if until else 0,
            get("ce_donekey", b"").decode(),
            participant,
        )
        return SagaInput(saga_id, answer, cause, reply_type)

    def _child_start(self, raw: IncomingMessage, texts: Texts, value: bytes, cause: Cause) -> Item:
        body = json_of(value)
        name, version, parent = text_of(body, "saga"), number_of(body.get("version"), "version"), parent_of(body)
        saga_id = envelope_key(raw)
        cause.actor = f"saga:{parent.saga_id}"
        start = SagaStart(saga_id, cause.tenant, name, text_of(body, "business_key"))
        type_ = text_of(body, "type")
        check_asked(type_)
        program = self._catalog.program_for(name, version)
        if program is None:
            data = body.get("data")
        else:
            if type_ not in program.graph.starts_on:
                raise Flaw("invalid", f"saga {name} v{version} does not start on {type_}")
            data = self._contract(type_, orjson.dumps(body.get("data")), None).plain()
        forward_only = program.graph.forward_only if program is not None else False
        given = Start(saga_id, cause.tenant, start.business_key, type_, data, parent, forward_only)
        return SagaBegin(start, given, cause, version)

    def _unwind(self, raw: IncomingMessage, texts: Texts, value: bytes, cause: Cause) -> Item:
        body = json_of(value)
        parent, version = parent_of(body), number_of(body.get("version"), "version")
        cause.actor = f"saga:{parent.saga_id}"
        start = SagaStart(envelope_key(raw), cause.tenant, text_of(body, "saga"), text_of(body, "business_key"))
        return SagaBegin(start, UndoAsked(parent), cause, version)

    def _child_answer(self, raw: IncomingMessage, texts: Texts, value: bytes, cause: Cause) -> Item:
        body = json_of(value)
        outcome = body.get("outcome")
        if not isinstance(outcome, str) or outcome not in _CHILD_OUTCOMES:
            raise Flaw("invalid", f"a child cannot answer {outcome!r:.40}")
        cause.actor = f"saga:{texts.get('ce_correlationid', b'').decode()}"
        answer = ChildAnswer(
            text_of(body, "activity"),
            number_of(body.get("round"), "round"),
            cast("Any", outcome),
            body.get("data"),
            str(body.get("reason") or ""),
        )
        return SagaInput(envelope_key(raw), answer, cause)

    def _internal(self, raw: IncomingMessage, redriven: int) -> Item:
        """A timer, resume or check that became a dead letter, driven again."""
        cause = Cause(self._tenant, raw=raw, redriven=redriven)
        try:
            body = json_of(raw.value or b"")
            kind, saga_id = body.get("kind"), text_of(body, "saga_id")
            if kind == "timer":
                given = TimerDue(str(body.get("activity", "")), number_of(body.get("armed"), "armed"))
                return SagaInput(saga_id, given, cause)
            if kind == "resume":
                return SagaInput(saga_id, Resume(), cause)
            if kind == "check":
                accepts_from = number_of(body.get("accepts_from"), "accepts_from")
                waiting = Waiting(
                    saga_id, text_of(body, "activity"), text_of(body, "type"), text_of(body, "key"), accepts_from
                )
                return EarlyCheck(waiting, cause)
            raise Flaw("unreadable", f"{kind!r:.40} is no internal input that can be driven again")
        except Flaw as flaw:
            return Unprocessable(letter_of(cause, flaw.reason, flaw.detail), cause)

    def _plain(self, message: Contract) -> Any:
        """The message as plain values in normal form; one of texts, whole numbers and flags alone is that already."""
        kind = type(message)
        flat = self._flat.get(kind)
        if flat is None:
            flat = self._flat[kind] = all(field.annotation in _FLAT for field in kind.model_fields.values())
        if flat:
            values = message.__dict__
            for value in values.values():
                if type(value) is int and not -INTEGER_MAX < value < INTEGER_MAX:
                    break
            else:
                return dict(values)
        return message.plain()

    def _contract(self, type_: str, value: bytes, version: int | None) -> Contract:
        if type_ not in self._catalog.registry:
            raise Flaw("unknown_type", f"no installed saga uses {type_}")
        try:
            return self._catalog.registry.get(type_).from_bytes(value, version)
        except ContractError as error:
            raise Flaw("invalid", str(error)) from None
        except RecursionError:
            raise Flaw("unreadable", f"{type_}: nested too deeply") from None

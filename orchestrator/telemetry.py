"""Every name that leaves this product in a trace: spans, attributes, resources. One table, so a rename is one place.

Rules of this file
- Names of OpenTelemetry's semantic conventions 1.44.0 (messaging, HTTP, database) stand here as constants; what they
  have no name for begins with `saga.` and is ours (a convention for workflows is proposed and not decided).
- Span names hold few different values: topics, routes, steps of a definition; never an id, never an amount.
- No value of a payload is ever an attribute: ids, names, numbers and codes only.
- Nothing here imports anything of the project.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "saga-orchestrator"

# --- kinds, as OTLP numbers them -------------------------------------------------------------------------------------
INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
PRODUCER: Final = 4
CONSUMER: Final = 5

STATUS_UNSET: Final = 0
STATUS_ERROR: Final = 2

# --- resources -------------------------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
DEFAULT_SERVICE: Final = "saga-orchestrator"

# --- messaging -------------------------------------------------------------------------------------------------------
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION_ID: Final = "messaging.message.conversation_id"
MESSAGING_OFFSET: Final = "messaging.kafka.offset"
KAFKA: Final = "kafka"
OWN_LOG: Final = "postgresql"

# An operation: its name (the first word of the span's name), its type, the kind of its span.
SEND: Final = ("send", "send", PRODUCER)
PROCESS: Final = ("process", "process", CONSUMER)

# --- CloudEvents -----------------------------------------------------------------------------------------------------
CLOUDEVENTS_ID: Final = "cloudevents.event_id"
CLOUDEVENTS_SOURCE: Final = "cloudevents.event_source"
CLOUDEVENTS_TYPE: Final = "cloudevents.event_type"

# --- HTTP ------------------------------------------------------------------------------------------------------------
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_FULL: Final = "url.full"
HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
REDACTED: Final = "REDACTED"  # for what may name a customer
HTTP_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
OTHER: Final = "_OTHER"  # a method that the conventions do not know
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# --- database --------------------------------------------------------------------------------------------------------
DB_SYSTEM: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_SUMMARY: Final = "db.query.summary"
DB_STATUS: Final = "db.response.status_code"
POSTGRESQL: Final = "postgresql"

ERROR_TYPE: Final = "error.type"

# --- ours ------------------------------------------------------------------------------------------------------------
SAGA_ID: Final = "saga.id"
SAGA_NAME: Final = "saga.name"
SAGA_VERSION: Final = "saga.version"
SAGA_TENANT: Final = "saga.tenant"
SAGA_OUTCOME: Final = "saga.outcome"
SAGA_PARENT: Final = "saga.parent.id"
SAGA_RECORD: Final = "saga.record"
SAGA_RECORD_VERSION: Final = "saga.record.version"
SAGA_STEP_NAME: Final = "saga.step.name"
SAGA_STEP_ATTEMPT: Final = "saga.step.attempt"
SAGA_STEP_ROUND: Final = "saga.step.round"
SAGA_ACTIVITY: Final = "saga.activity"
SAGA_PURPOSE: Final = "saga.step.purpose"
SAGA_DUE: Final = "saga.due"
SAGA_STATE: Final = "saga.state"
SAGA_BRANCH_NEXT: Final = "saga.branch.next"
SAGA_LOOP_ITEMS: Final = "saga.loop.items"
SAGA_LOOP_ROUND: Final = "saga.loop.round"
SAGA_BRANCHES: Final = "saga.parallel.branches"
SAGA_UNDOS: Final = "saga.compensation.undos"
SAGA_ACTOR_KIND: Final = "saga.actor.kind"

# The first words of our span names; the name of the step, task or saga follows.
SPAN_SAGA: Final = "saga"
SPAN_STEP: Final = "saga.step"
SPAN_UNDO: Final = "saga.undo"
SPAN_FENCE: Final = "saga.fence"
SPAN_TASK: Final = "saga.task"
SPAN_WAIT: Final = "saga.wait"
SPAN_DELAY: Final = "saga.delay"
SPAN_SCOPE: Final = "saga.scope"
SPAN_CALL: Final = "saga.call"
SPAN_COMPENSATION: Final = "saga.compensation"
SPAN_OPERATOR: Final = "saga.operator"
SPAN_STUCK: Final = "saga.stuck"
SPAN_TIMEOUT: Final = "saga.timeout"
SPAN_START: Final = "saga.start"
SPAN_BRANCH: Final = "saga.branch"
SPAN_COMPUTE: Final = "saga.compute"
SPAN_STATE: Final = "saga.state"
SPAN_LOOP: Final = "saga.loop"
SPAN_ROUND: Final = "saga.loop.round"
SPAN_PARALLEL: Final = "saga.parallel"
SPAN_PLANNED: Final = "saga.compensation.planned"
OPENED: Final = ".opened"  # after one of them: the short span that says at once what is waited for

# What an error.type means, for the status of a red span: our words, never anybody's text.
ERROR_WORDS: Final = {
    "refused": "the participant said no",
    "failed": "the flow said fail, or an attempt failed",
    "timed_out": "no answer in time: the outcome is unknown until the participant is asked",
    "exhausted": "all attempts are used up",
    "not_done": "it was found out that it did not happen",
    "never": "the participant will never do this, whatever comes later",
    "contradicted": "the participant has answered differently before",
    "expired": "nobody decided, or nothing came, in time",
    "deadline": "the saga's own deadline passed",
    "cancelled": "somebody cancelled the saga",
    "parent": "the saga that called this one went back",
    "compensated": "the saga went back: what it had done was undone",
    "function": "a function of the saga raised: an operator moves it on",
    "size": "a message or a record would be too large: an operator moves it on",
    "transition": "a business state may not follow: an operator moves it on",
    "undo": "undoing did not succeed: an operator moves it on",
    "unknown": "the outcome cannot be found out: an operator moves it on",
    "effect_found": "an effect was found that should not be there: an operator moves it on",
    "error": "the handler raised, or the participant could not answer",
    "in_doubt": "the participant does not know yet whether it happened",
}


def system_of(broker_url: str) -> str:
    """What `messaging.system` is for this broker."""
    return KAFKA if broker_url.startswith("kafka://") else OWN_LOG


def operation_name(operation: tuple[str, str, int], destination: str) -> str:
    """The name of a messaging span: `send orders.events`."""
    return f"{operation[0]} {destination}"

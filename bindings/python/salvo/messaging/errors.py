# SPDX-License-Identifier: Apache-2.0
"""The exceptions: all of them are ``MessagingError``.

Where Python has a class for the kind of mistake (``TypeError``, ``ValueError``, ``LookupError``,
``TimeoutError``), the exception is that too, so that code which knows nothing of Salvo handles it.

    MessagingError
      ConfigurationError (ValueError)     an unknown key, a bad value, values that disagree
      SerializationError (TypeError)      a value that JSON cannot hold; has .index and .path
      SchemaError (ValueError)            a value against its topic's schema; .topic, .field
      InvalidSchema (ValueError)          no Avro schema, or a type that Avro cannot hold
      RegistryError                       the Schema Registry refused or did not answer; .status
        IncompatibleSchema                its rules for the subject forbid this schema; .reasons
      KeyTypeError (TypeError)            a message key of a type that is none
      UnknownTopic (LookupError)          get_topic() of an unknown name, something that is no topic
      InvalidMessage (ValueError)         a bad partition, timestamp, header or topic name
      BufferFull                          no room within send_timeout_ms, or at once
      MessageTooLarge (ValueError)        over max_message_bytes or over the broker's limit
      SendTimeout (TimeoutError)          wait=True with a timeout: no outcome yet
      BadMessage (ValueError)             read, and no JSON or against the handler's schema
      ProducerClosed                      the producer, or the consumer, was stopped
      Forked                              the message belongs to this process's parent
      LimitReached                        max_topics, max_threads or max_reports
      Unsupported                         this broker cannot do that
      OutOfMemory (MemoryError)           an allocation of the engine failed
      DeliveryError                       accepted, but not delivered; the subclasses say why:
        Expired, MaybeDelivered, Rejected, NoSuchPartition, Dropped
        BrokerError: Unreachable, AuthenticationError, TransientError, FatalError
"""

from __future__ import annotations

from typing import Any


class MessagingError(Exception):
    """The base of every exception of this package. ``code`` is the engine's number, or 0."""

    code: int = 0


class ConfigurationError(MessagingError, ValueError):
    """A setting that is unknown or has a bad value; the text names key, value and source."""


class SerializationError(MessagingError, TypeError):
    """A value that cannot be encoded.

    ``index`` is the place of the item in its batch (None: a single message), ``path`` the place
    inside the item, e.g. ``$.user.tags[2]``.
    """

    def __init__(self, reason: str, *, index: int | None = None, path: str = "$") -> None:
        self.reason = reason
        self.index = index
        self.path = path
        where = f"item {index}, {path}" if index is not None else path
        super().__init__(f"{where}: {reason}; nothing was sent")


class SchemaError(MessagingError, ValueError):
    """A message that its topic's schema refuses. Nothing was sent."""

    def __init__(
        self, topic: str, field: str, reason: str, *, index: int | None = None
    ) -> None:
        self.topic = topic
        self.field = field
        self.reason = reason
        self.index = index
        item = f" item {index}," if index is not None else ""
        super().__init__(f'topic "{topic}":{item} field "{field}": {reason}; nothing was sent')


class BadMessage(MessagingError, ValueError):
    """A message that was read and that no handler can take: no JSON, or against the schema.

    It is never retried. ``field`` is the place inside the message, ``$`` the whole of it.
    """

    def __init__(self, topic: str, partition: int, offset: int, field: str, reason: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.field = field
        self.reason = reason
        super().__init__(f'topic "{topic}", partition {partition}, offset {offset}: '
                         f'field "{field}": {reason}')


class InvalidSchema(MessagingError, ValueError):
    """Something that is no Avro schema, or a Python type that Avro has no place for."""


class RegistryError(MessagingError):
    """The Schema Registry refused a request, or none answered (``status`` 0).

    ``status`` is HTTP's, ``error_code`` the registry's own number (40401: no such subject).
    """

    def __init__(self, text: str, status: int = 0, error_code: int = 0) -> None:
        self.status = status
        self.error_code = error_code
        super().__init__(text)


class IncompatibleSchema(RegistryError, ValueError):
    """The registry's rules for a subject forbid this schema; ``reasons`` are its own words."""

    def __init__(self, subject: str, reasons: list[str], status: int = 409,
                 error_code: int = 409) -> None:
        self.subject = subject
        self.reasons = reasons
        why = "; ".join(reasons) or "the registry gave no reason"
        super().__init__(f'schema of subject "{subject}": not compatible with the one that is '
                         f"registered: {why}", status, error_code)


class KeyTypeError(MessagingError, TypeError):
    """A key that is not str, bytes, int, UUID or None. Nothing was sent."""


class UnknownTopic(MessagingError, LookupError):
    """No topic class of that name, or something that is no topic."""


class InvalidMessage(MessagingError, ValueError):
    """An argument of a send that no broker could take. Nothing was sent."""


class BufferFull(MessagingError):
    """There was no room; ``accepted`` tells how many of a batch had found some."""

    accepted: int = 0


class MessageTooLarge(MessagingError, ValueError):
    """Over ``max_message_bytes``, or over the broker's own limit."""


class SendTimeout(MessagingError, TimeoutError):
    """The outcome did not come in time. The message is still on its way."""


class ProducerClosed(MessagingError):
    """The producer was stopped while the call ran."""


class Forked(MessagingError):
    """This belongs to the parent of this process."""


class LimitReached(MessagingError):
    """``max_topics``, ``max_threads`` or ``max_reports`` is reached."""


class Unsupported(MessagingError):
    """This broker cannot do that."""


class OutOfMemory(MessagingError, MemoryError):
    """An allocation of the engine failed."""


class DeliveryError(MessagingError):
    """The message was accepted and not delivered."""


class Expired(DeliveryError):
    """Its time to live, or the delivery deadline, passed."""


class MaybeDelivered(DeliveryError):
    """Its fate is not known: the broker may have it."""


class Rejected(DeliveryError):
    """The broker refused it for good."""


class NoSuchPartition(DeliveryError, ValueError):
    """The topic has no such partition."""


class Dropped(DeliveryError):
    """It was given up when the producer was stopped."""


class BrokerError(DeliveryError):
    """Trouble with the broker itself."""


class Unreachable(BrokerError):
    """No broker answered."""


class AuthenticationError(BrokerError):
    """Credentials or rights."""


class TransientError(BrokerError):
    """Trouble that a retry may mend."""


class FatalError(BrokerError):
    """The connection's state was beyond repair and was made anew."""


_CLASSES: dict[int, type[MessagingError]] = {
    -1: InvalidMessage,
    -2: OutOfMemory,
    -3: BufferFull,
    -4: MessageTooLarge,
    -5: SendTimeout,
    -6: ProducerClosed,
    -7: Forked,
    -8: Rejected,
    -9: ConfigurationError,
    -10: LimitReached,
    -12: Unsupported,
    -13: NoSuchPartition,
    -14: Expired,
    -15: MaybeDelivered,
    -16: TransientError,
    -17: Rejected,
    -18: AuthenticationError,
    -19: Unreachable,
    -20: FatalError,
    -22: Dropped,
}

_WORDS: dict[int, str] = {
    -8: "the broker has no such topic",
    -13: "the topic has no such partition",
    -4: "the message is over the broker's own limit",
    -14: "it could not be delivered before its deadline (delivery_timeout_ms)",
    -15: "its fate is not known: the broker may have it",
    -22: "it was given up when the producer was stopped",
    -7: "it belongs to the parent of this process; send it again with this process's producer",
}


def error_of_code(code: int, text: str) -> MessagingError:
    """The exception for one of the engine's error numbers. Called by the extension."""
    error = _CLASSES.get(code, MessagingError)(text)
    error.code = code
    return error


def bad_message(message: Any, error: BaseException) -> BadMessage:
    """Why a message's value is no JSON. Called by the extension."""
    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return BadMessage(message.topic, message.partition, message.offset, "$",
                      f"no JSON: {reason}")


def delivery_error(delivery: Any) -> MessagingError:
    """The exception for a delivery whose outcome is a failure."""
    code: int = delivery.status
    words = _WORDS.get(code, "not delivered")
    return error_of_code(code, f'message to "{delivery.topic}": {words} (error {code})')

# SPDX-License-Identifier: Apache-2.0
"""Configuration: one store, and the engine's own checks and errors.

Layers, later wins: built-in, the ``Settings`` subclass's own values, ``core.toml`` (its
``[messaging]``), ``.env``, the environment, ``configure*()``. Files are looked for in the current
folder, when a producer opens. The engine reads defaults, file and environment itself; the other
layers are handed to it in their order, so every value is checked in one place.
"""

from __future__ import annotations

import difflib
import enum
import os
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import SecretStr, TypeAdapter, ValidationError

from salvo import _engine
from salvo.messaging.errors import ConfigurationError

_ALIASES = {"broker": "message_broker"}
_ADDRESSES = {
    "kafka": "kafka_bootstrap_servers",
    "redis": "redis_url",
    "rabbitmq": "rabbitmq_url",
}
_SCHEMES = {"redis": "redis", "rediss": "redis", "unix": "redis", "amqp": "rabbitmq",
            "amqps": "rabbitmq"}
_OURS = ("kafka", "redis", "rabbitmq", "memory", "null", "rdkafka", "message", "messaging")
_RANKS = {"Settings": 1, "core.toml": 2, ".env": 3, "environment": 4, "code": 5}

_types: dict[str, str] = {row[0]: row[3] for row in _engine.Config().entries()}
_lock = threading.RLock()
_code: dict[str, tuple[str, str]] = {}
_plain: dict[str, Any] = {}
_settings_class: type[Settings] | None = None
_application: str | None = None
generation = 0  # grows with every change
on_change: list[Callable[[], None]] = []  # called after every change


def _text(key: str, value: Any) -> str:
    """A value as the engine reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, enum.Enum):
        return _text(key, value.value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float, Path)):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    raise ConfigurationError(
        f"{key}: a {type(value).__name__} cannot be a value here; allowed: text, a number, "
        "true or false, a list of texts"
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Aliases resolved, ``rdkafka={...}`` spread out, None (not set) left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key == "rdkafka" and isinstance(value, Mapping):
            flat.update({f"rdkafka.{name}": part for name, part in value.items()})
        elif value is not None:
            flat[_ALIASES.get(key, key)] = value
    return flat


def _is_known(key: str) -> bool:
    return key in _types or key.startswith("rdkafka.")


def _looks_like_ours(key: str) -> bool:
    head = key.split("_", 1)[0].split(".", 1)[0]
    return head in _OURS or bool(difflib.get_close_matches(key, _types, 1, 0.85))


def _check(values: Mapping[str, Any], source: str) -> dict[str, tuple[str, str]]:
    """Each value as (text, source), after the engine has looked at it; nothing is stored."""
    scratch = _engine.Config()
    checked = {}
    for key, value in values.items():
        text = _text(key, value) if _is_known(key) else str(value)
        try:
            scratch.set(key, text, source)
        except ConfigurationError:
            raise
        except ValueError as error:  # a zero or a lone surrogate: no text for the engine
            raise ConfigurationError(f"{key!r}: {error}, from {source}") from None
        checked[key] = (text, source)
    return checked


def _split(values: Mapping[str, Any], source: str) -> tuple[dict[str, tuple[str, str]], Any]:
    """Messaging settings, checked, and the others."""
    flat = _flat(values)
    ours = {k: v for k, v in flat.items() if _is_known(k) or _looks_like_ours(k)}
    return _check(ours, source), {k: v for k, v in flat.items() if k not in ours}


def _store(checked: dict[str, tuple[str, str]]) -> None:
    """Merge a call into the store: a later ``bootstrap_servers`` wins over an earlier address."""
    if "bootstrap_servers" in checked:
        named = checked.get("message_broker") or _code.get("message_broker") or ("", "")
        broker = named[0] or _broker_of(checked["bootstrap_servers"][0])
        _code.pop(_ADDRESSES.get(broker, ""), None)
    _code.update(checked)
    _changed()


def _broker_of(address: str) -> str:
    """Which broker an address without a name belongs to."""
    scheme = address.partition("://")[0] if "://" in address else ""
    return _SCHEMES.get(scheme, "kafka")


def _changed() -> None:
    global generation
    generation += 1
    for told in on_change:
        told()


def configure_messaging(**settings: Any) -> None:
    """Set messaging settings from code; calls merge, later wins.

    ``broker`` is short for ``message_broker``; ``bootstrap_servers`` is the address of the chosen
    broker, whichever it is; ``rdkafka={...}`` passes librdkafka's own properties through. None
    means not set. Raises ConfigurationError, and then nothing has changed.
    """
    checked = _check(_flat(settings), "configure_messaging")
    with _lock:
        _store(checked)


def configure(**settings: Any) -> None:
    """As ``configure_messaging``, for a whole application: what does not look like messaging
    (``database_url``) is kept as a plain setting."""
    checked, others = _split(settings, "configure")
    with _lock:
        _plain.update(others)
        _store(checked)


def reset() -> None:
    """Forget what ``configure*()`` and a ``Settings`` subclass have set. For tests."""
    global _settings_class
    with _lock:
        _code.clear()
        _plain.clear()
        _settings_class = None
        _changed()


def read_dotenv(path: str = ".env") -> dict[str, tuple[str, str]]:
    """``NAME=value`` lines: (value, "file:line") by name. No file: nothing."""
    found: dict[str, tuple[str, str]] = {}
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        value = value.strip()
        if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
            value = value[1 : value.find(value[0], 1)]
        else:
            value = value.split(" #", 1)[0].rstrip()
        found[name.strip()] = (value, f"{path}:{number}")
    return found


def _file_keys() -> set[str]:
    """Keys that core.toml sets. The engine has read it before and told what is wrong with it, but
    for what stands outside ``[messaging]``: it looks at nothing else."""
    try:
        document = tomllib.loads(Path("core.toml").read_text("utf-8"))
    except OSError:
        return set()
    for key, value in document.items():
        if isinstance(value, dict):
            near = difflib.get_close_matches(key, ["messaging"], 1, 0.85)
            wrong = key != "messaging" and bool(near)
        else:
            wrong = key == "message_broker" or key.split("_")[0] in ("kafka", "rabbitmq")
        if wrong:
            kind = "the table" if isinstance(value, dict) else "the key"
            raise ConfigurationError(f"core.toml: {kind} {key} has no effect there: messaging's "
                                     "settings stand below a line [messaging]")
    return set(_flat(document.get("messaging", {})))


def _layers() -> tuple[list[dict[str, tuple[str, str]]], dict[str, int]]:
    """What is set over file and environment, lowest first, and each key's highest rank."""
    dotenv = {
        name.lower(): value
        for name, value in read_dotenv().items()
        if name == name.upper() and name.lower() in _types and name != "BOOTSTRAP_SERVERS"
        if value[0]
    }
    environment = {k for k in _types if os.environ.get(k.upper()) and k != "bootstrap_servers"}
    own = dict(_settings_class._own) if _settings_class is not None else {}
    ranks: dict[str, int] = {}
    named = [("Settings", own), ("core.toml", _file_keys()), (".env", dotenv)]
    for layer, keys in [*named, ("environment", environment), ("code", _code)]:
        ranks.update(dict.fromkeys(keys, _RANKS[layer]))
    keep_own = {k: v for k, v in own.items() if ranks[k] == _RANKS["Settings"]}
    keep_dotenv = {k: v for k, v in dotenv.items() if ranks[k] == _RANKS[".env"]}
    return [keep_own, keep_dotenv, dict(_code)], ranks


def _settle_address(layers: list[dict[str, tuple[str, str]]], ranks: dict[str, int],
                    base: _engine.Config) -> None:
    """``bootstrap_servers`` and the broker's own address: the higher layer's wins."""
    values = {key: value[0] for layer in layers for key, value in layer.items()}
    alias = values.get("bootstrap_servers", base.get("bootstrap_servers")) or ""
    broker = values.get("message_broker")
    if broker is None and "message_broker" in ranks:
        broker = base.get("message_broker")
    if broker is None:
        broker = _broker_of(alias)
    address = _ADDRESSES.get(broker)
    if address is None or "bootstrap_servers" not in ranks or address not in ranks:
        return
    alias_wins = ranks["bootstrap_servers"] > ranks[address]
    for layer in layers:
        layer.pop(address if alias_wins else "bootstrap_servers", None)


def effective(broker: str | None = None, overrides: Mapping[str, Any] | None = None,
              source: str = "code") -> _engine.Config:
    """The configuration as it is now, for one broker (None: the configured one).

    Raises ConfigurationError with the engine's words: key, value, source, what is allowed.
    """
    with _lock:
        config = _engine.Config()
        config.load_file()
        config.load_env()
        layers, ranks = _layers()
        _settle_address(layers, ranks, config)
        for layer in layers:
            for key, (text, origin) in layer.items():
                config.set(key, text, origin)
    if broker is not None and config.get("message_broker") != broker:
        _other_broker(config, broker, source)
    for key, value in _flat(overrides or {}).items():
        config.set(key, _text(key, value), source)
    return config


def _other_broker(config: _engine.Config, broker: str, source: str) -> None:
    """Name another broker; ``bootstrap_servers`` stays with the configured one."""
    address = _ADDRESSES.get(broker)
    own = config.get(address) if address is not None else None
    config.set("message_broker", broker, source)
    if address is not None and own is not None and config.get("bootstrap_servers") is not None:
        config.set(address, own, source)


def value_of(config: _engine.Config, key: str) -> Any:
    """A setting as int, bool, str or None."""
    text = config.get(key)
    if text is None:
        return None
    kind = _types.get(key, "string")
    if kind == "bool":
        return text == "true"
    return int(text) if kind in ("int", "size") else text


def setting(key: str) -> Any:
    """One effective setting, or a plain one of ``configure``; None: not set."""
    if _is_known(key):
        return value_of(effective(), key)
    return _plain.get(key)


def name_application(name: str | None) -> None:
    """What ``application_name`` is from now on: a program that runs another one's code (the
    ``core`` command) must not lend it its own name. None: as the program is called."""
    global _application
    _application = name


def application_name() -> str:
    """What ``source`` and ``default_group`` are where nobody set them."""
    if _application is not None:
        return _application
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.stem == "__main__" else path.stem  # python -m shop: "shop"
    return name if name not in ("", "-c", "-m") else "application"


def source_name() -> str:
    """The ``source`` of event envelopes."""
    return setting("source") or application_name()


class Settings:
    """Settings as a class; the last subclass that was defined counts.

        class AppSettings(Settings):
            kafka_bootstrap_servers: str = "kafka:9092"
            page_size: int = 50

    Only values written in the class itself count, and None does not. An instance holds every
    effective setting, and the class's own fields, which the environment may override.
    """

    _own: dict[str, tuple[str, str]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        global _settings_class
        super().__init_subclass__(**keywords)
        plain = {
            key: value
            for key, value in vars(cls).items()
            if not key.startswith("_") and not hasattr(type(value), "__get__")
        }
        cls._own, _ = _split(plain, f"class {cls.__qualname__}")
        with _lock:
            _settings_class = cls
            _changed()

    def __init__(self) -> None:
        config = effective()
        for key in _types:
            setattr(self, key, value_of(config, key))
        self._fill_own_fields()

    def _fill_own_fields(self) -> None:
        dotenv = read_dotenv()
        for key, wanted in _hints(type(self)).items():
            if key.startswith("_") or _is_known(key):
                continue
            name = key.upper()
            given = os.environ.get(name) or dotenv.get(name, ("", ""))[0] or None
            given = _plain.get(key, given)
            if given is None:
                continue
            try:
                setattr(self, key, TypeAdapter(wanted).validate_python(given))
            except ValidationError as error:
                reason = error.errors(include_input=False)[0]["msg"]
                raise ConfigurationError(f"{key}: {reason}") from None

    def __getattr__(self, name: str) -> Any:
        if name in _plain:
            return _plain[name]
        raise AttributeError(f"no setting named {name}")


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:
        return {}

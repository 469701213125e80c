# SPDX-License-Identifier: Apache-2.0
"""Imports the modules that define workers, handlers and topics.

Named by ``--app module[:attribute]``, else by ``modules`` in core.toml's ``[messaging]``. The
current folder is on ``sys.path``. The application is called as the first module's top package, or
as the folder where there is none, whatever the command itself is called. Guarantees: a name that is
not there and a module that fails are told apart, and where it failed is told.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from salvo.messaging import settings
from salvo.messaging.errors import ConfigurationError

HOW = ('name the modules that define them: core.toml, [messaging], modules = ["shop.workers"], '
       "or --app shop.workers")


def configured() -> list[str]:
    """The modules of core.toml (or of code)."""
    listed = settings.setting("modules") or ""
    return [name for name in (part.strip() for part in listed.split(",")) if name]


def discover(apps: Iterable[str] = ()) -> list[str]:
    """Import them; returns their names. ConfigurationError tells which one failed, and where."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    named = [(name, f"--app {name}") for name in apps]
    if not named:
        named = [(name, f'modules: "{name}"') for name in configured()]
    # The default of source and default_group, before any of them can ask for it.
    settings.name_application(named[0][0].partition(":")[0].partition(".")[0] if named
                              else Path.cwd().name or "application")
    for name, source in named:
        _load(name, source)
    return [name for name, _ in named]


def _load(name: str, source: str) -> None:
    module_name, colon, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigurationError(f"{source}: not a module's name; allowed: module or "
                                 "module:attribute, e.g. shop.workers or shop.main:app")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(source, module_name, error) from error
        raise ConfigurationError(f"{source}: there is no module {error.name} in {Path.cwd()} nor "
                                 "among the installed packages") from None
    except Exception as error:
        raise _failed(source, module_name, error) from error
    for part in attribute.split(".") if colon else ():
        found = getattr(found, part, None)
        if found is None:
            raise ConfigurationError(f"{source}: the module {module_name} has no {attribute}")


def _failed(source: str, module: str, error: Exception) -> ConfigurationError:
    """Where it failed: the last line that is not the import machinery's."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__)
                  if not frame.filename.startswith("<frozen") and frame.filename != __file__
                  and frame.filename != importlib.__file__]
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else module
    return ConfigurationError(f"{source}: importing {module} failed at {place}: "
                              f"{type(error).__name__}: {error}")

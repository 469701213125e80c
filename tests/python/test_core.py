# SPDX-License-Identifier: Apache-2.0
"""The alias: core.messaging is salvo.messaging, and refuses to mix with another core."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import core
import core.messaging
import core.messaging.registry
import pytest
import salvo.messaging
import salvo.messaging.registry

PROGRAM = """
try:
    import core.messaging
except ImportError as error:
    print(error)
else:
    print("imported")
"""


def test_it_is_the_same_thing() -> None:
    assert core.messaging.publish is salvo.messaging.publish
    assert set(core.messaging.__all__) == set(salvo.messaging.__all__)
    assert core.messaging.registry.stop_all_producers is salvo.messaging.stop_all_producers
    assert core.configure is salvo.messaging.configure
    assert core.Settings is salvo.messaging.Settings


def test_every_public_name_is_there() -> None:
    for name in salvo.messaging.__all__:
        assert getattr(salvo.messaging, name).__doc__, name


def test_no_other_client_is_needed(child: Callable[..., Any]) -> None:
    """With all of them hidden, a message goes out."""
    done = child("""
        import asyncio, sys
        for name in ("aiokafka", "confluent_kafka", "kafka", "redis", "aio_pika", "pika",
                     "fastapi", "starlette", "sqlalchemy", "uvloop"):
            sys.modules[name] = None
        from core.messaging import configure_messaging, publish
        configure_messaging(message_broker="memory")
        print(asyncio.run(publish("t", {"n": 1})).offset)
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    shutil.copytree(Path(core.__file__).parent, tmp_path / "core",
                    ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def imported(site: Path, *more: Path) -> str:
    path = [str(site), *map(str, more), *sys.path]
    program = f"import sys; sys.path[:] = {path!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-S", "-c", program], text=True, capture_output=True,
                          timeout=60, cwd=site)
    return done.stdout.strip() or done.stderr


def test_alone_it_is_imported(site: Path) -> None:
    assert imported(site) == "imported"


def test_files_of_another_core_inside(site: Path) -> None:
    (site / "core" / "models.py").write_text("")
    assert "models.py" in imported(site) and "salvo.messaging" in imported(site)


def test_another_core_wrote_over_it(site: Path) -> None:
    (site / "core" / "__init__.py").write_text("")
    assert "another package has replaced" in imported(site)


def test_it_wrote_over_another_core(site: Path) -> None:
    other = site / "core_framework-1.0.dist-info"
    other.mkdir()
    (other / "RECORD").write_text("core/__init__.py,sha256=x,0\n")
    assert "core_framework-1.0" in imported(site)


def test_another_core_elsewhere_on_the_path(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "core").mkdir(parents=True)
    (other / "core" / "__init__.py").write_text("")
    assert str(other) in imported(site, other)


def test_the_version_is_the_engines() -> None:
    import salvo
    from salvo import _engine

    assert salvo.__version__ == _engine.version

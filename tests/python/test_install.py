# SPDX-License-Identifier: Apache-2.0
"""What a new user types: pip builds and installs both packages in an empty environment, with its
own build tools, and a first program runs without any server. Nothing stray is in a package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BINDINGS = REPOSITORY / "bindings"
OFFLINE = re.compile("connection|network|resolve host|timed out|No matching distribution", re.I)

# The package's page begins with these steps; here in a process with nothing else installed.
FIRST_PROGRAM = """
import asyncio, importlib.util
from core import configure
from core.messaging import get_producer, publish
configure(message_broker="memory")
async def main():
    first = await publish("user-events", {"user_id": 1}, key="user-1")
    count = await get_producer().send_batch_fire_and_forget("views", [{"n": n} for n in range(9)])
    return first.topic, first.partition, first.offset, count, await get_producer().flush()
print(*asyncio.run(main()))
for name in "aiokafka", "confluent_kafka", "redis", "aio_pika":
    assert importlib.util.find_spec(name) is None, name
"""


def call(*command: object, folder: Path) -> str:
    """Run it outside the repository and any environment; skip where it reaches no index."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True,
                          timeout=500, cwd=folder, env=environment)
    if done.returncode != 0 and OFFLINE.search(done.stderr):
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(folder: Path) -> set[Path]:
    """What is in it but for caches of tools."""
    return {path for path in folder.rglob("*")
            if not re.search(r"/(\.|__pycache__)", str(path.relative_to(folder.parent)))}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An environment's Python, and the wheels of both packages that its pip has built."""
    home = tmp_path_factory.mktemp("user")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    before = files_of(BINDINGS)
    call(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels",
         BINDINGS / "python", BINDINGS / "core", folder=home)
    assert files_of(BINDINGS) - before == set()  # nothing is left among the sources
    (package,) = (home / "wheels").glob("salvo_messaging-*.whl")
    (alias,) = (home / "wheels").glob("salvo_core-*.whl")
    return python, package, alias


def sources(folder: Path, name: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in files_of(folder / name)
            if path.suffix in (".py", ".pyi", ".typed")}


def content(wheel: Path) -> tuple[set[str], set[str]]:
    """The files of the package itself, and the names of those that describe it."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    described = {name for name in names if ".dist-info/" in name}
    return names - described, {name.split(".dist-info/")[1] for name in described}


def test_nothing_stray_is_in_the_wheels(wheels: tuple[Path, Path, Path]) -> None:
    _, package, alias = wheels
    files, described = content(package)
    (extension,) = {name for name in files if name.endswith(".so")}
    assert re.fullmatch(r"salvo/_engine\.cpython-3\d+-.*\.so", extension)
    assert files - {extension} == sources(BINDINGS / "python", "salvo")
    assert {"salvo/py.typed", "salvo/_engine.pyi"} <= files
    assert described == {"METADATA", "WHEEL", "RECORD"}
    files, described = content(alias)
    assert files == sources(BINDINGS / "core", "core") and "core/py.typed" in files
    assert described == {"METADATA", "WHEEL", "RECORD", "entry_points.txt"}


def test_the_first_program_runs_in_an_empty_environment(wheels: tuple[Path, Path, Path]) -> None:
    python, package, alias = wheels
    home = package.parent.parent
    call(python, "-m", "pip", "install", "--quiet", package, alias, folder=home)
    call(python, "-m", "pip", "check", folder=home)
    (home / "first.py").write_text(FIRST_PROGRAM)
    assert call(python, home / "first.py", folder=home).split() == ["user-events", "0", "0", "9",
                                                                    "0"]
    command = python.with_name("core")
    bare = subprocess.run([command, "workers"], text=True, capture_output=True, timeout=60)
    assert bare.returncode == 1 and "pip install 'salvo-core[cli]'" in bare.stderr
    call(python, "-m", "pip", "install", "--quiet", f"{alias}[cli,app]", folder=home)
    assert call(command, "--version", folder=home).startswith("core ")
    call(python, "-c", "from core import CoreApp, ModelViewSet, ViewSet, action", folder=home)


def test_the_source_archive_says_that_it_needs_its_repository(tmp_path: Path) -> None:
    # What a frontend does, with the environment's own build tools: they are here for venv.sh.
    program = ("import os, sys; os.chdir(sys.argv[1]); import scikit_build_core.build as b; "
               "print(b.build_sdist(sys.argv[2]))")
    pytest.importorskip("scikit_build_core")
    before = files_of(BINDINGS)
    name = call(sys.executable, "-c", program, BINDINGS / "python", tmp_path,
                folder=tmp_path).split()[-1]
    assert files_of(BINDINGS) - before == set()
    with tarfile.open(tmp_path / name) as archive:
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    shutil.unpack_archive(tmp_path / name, tmp_path / "out")
    kept = {str(path.relative_to(BINDINGS / "python")) for path in files_of(BINDINGS / "python")
            if path.is_file()}
    assert names == kept | {"PKG-INFO"}
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("no cmake or no ninja")
    (folder,) = (tmp_path / "out").iterdir()
    command = ["cmake", "-G", "Ninja", "-S", str(folder), "-B", str(tmp_path / "build")]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120)
    assert done.returncode != 0 and "is built from its repository" in done.stderr

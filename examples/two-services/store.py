# SPDX-License-Identifier: Apache-2.0
"""Models for the example, kept in a dict: what a ModelViewSet asks of one, and no more.

The rows of a process are its own, and gone with it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any, Self

Database = dict[str, dict[str, Any]]  # from a model's name to its rows, by their ids
_database: Database = {}


async def session() -> AsyncIterator[Database]:
    """For set_db_provider: a real one begins and ends a transaction here."""
    yield _database


class Model:
    """An object with an id and public fields."""

    hidden: frozenset[str] = frozenset()

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    @classmethod
    def _rows(cls, db: Database) -> dict[str, Any]:
        return db.setdefault(cls.__name__, {})

    @classmethod
    async def create(cls, *, db: Database, **fields: Any) -> Self:
        """A new object, kept."""
        made = cls(id=uuid.uuid4().hex, **fields)
        await made.save(db)
        return made

    @classmethod
    async def get(cls, id: str, *, db: Database) -> Self | None:
        """The object of that id."""
        return cls._rows(db).get(id)

    @classmethod
    async def all(cls, *, db: Database, limit: int, offset: int) -> list[Self]:
        """Some of the objects."""
        return list(cls._rows(db).values())[offset:offset + limit]

    async def save(self, db: Database) -> None:
        """Keep it as it is."""
        self._rows(db)[self.__dict__["id"]] = self

    def to_dict(self) -> dict[str, Any]:
        """What may be shown."""
        return {name: value for name, value in self.__dict__.items() if name not in self.hidden}

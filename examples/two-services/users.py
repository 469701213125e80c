# SPDX-License-Identifier: Apache-2.0
"""The user service: POST /users/register makes a user and tells everybody who listens.

    uvicorn users:app
"""

from __future__ import annotations

from typing import Any

from core import CoreApp, ModelViewSet, action
from core.messaging import event, set_db_provider
from pydantic import BaseModel
from starlette.requests import Request
from store import Database, Model, session


class Registration(BaseModel):
    """What a registration must bring."""

    email: str
    password: str


class User(Model):
    """Somebody who has registered."""

    hidden = frozenset({"password"})
    id: str
    email: str


class UserViewSet(ModelViewSet):
    """/users"""

    model = User
    input_schema = Registration

    @action(methods=["POST"], detail=False)
    @event("user.created", topic="user-events", key_field="id")
    async def register(self, request: Request, db: Database, **kwargs: Any) -> dict[str, Any]:
        """POST /users/register: what it returns is the event's data."""
        user = await User.create(db=db, **await self.data(request))
        return {"id": user.id, "email": user.email}


set_db_provider(session)
app = CoreApp(title="User service", viewsets=[UserViewSet])

# SPDX-License-Identifier: Apache-2.0
"""The order service: it hears of new users, gives each a welcome order, and completes orders.

    uvicorn orders:app

Messages come at least once, so a handler must bear the same one twice: the welcome order's id is
made of the user's.
"""

from __future__ import annotations

from typing import Any

from core import CoreApp, ModelViewSet, action
from core.messaging import consumer, event, on_event, set_db_provider
from core.messaging.base import Event
from starlette.requests import Request
from store import Database, Model, session


class Order(Model):
    """An order of a user."""

    id: str
    user_id: str
    status: str


@consumer("order-service", topics=["user-events", "payment-events"], auto_start=True)
class OrderEventsConsumer:
    """What the other services tell."""

    @on_event("user.created")
    async def welcome(self, event: Event, db: Database) -> None:
        """A new user's first order; the second time nothing changes."""
        user_id = event.data["id"]
        if await Order.get(f"welcome-{user_id}", db=db) is None:
            await Order(id=f"welcome-{user_id}", user_id=user_id, status="new").save(db)

    @on_event("payment.completed")
    async def paid(self, event: Event, db: Database) -> None:
        """An order that was paid; unknown ones are an error, which is logged and counted."""
        order = await Order.get(event.data["order_id"], db=db)
        if order is None:
            raise LookupError(f"there is no order {event.data['order_id']}")
        order.status = "paid"
        await order.save(db)


class OrderViewSet(ModelViewSet):
    """/orders"""

    model = Order

    @event("order.created", topic="order-events", key_field="id")
    async def perform_create(self, data: dict[str, Any], db: Database) -> Order:
        """POST /orders"""
        order: Order = await super().perform_create({"status": "new", **data}, db)
        return order

    @action(methods=["POST"], detail=True)
    @event("order.completed", topic="order-events", key_field="id")
    async def complete(self, request: Request, db: Database, **kwargs: Any) -> dict[str, Any]:
        """POST /orders/{id}/complete"""
        order = await self.get_object(db, **kwargs)
        order.status = "completed"
        await order.save(db)
        return {"id": order.id, "status": order.status}


set_db_provider(session)
app = CoreApp(title="Order service", viewsets=[OrderViewSet])

# SPDX-License-Identifier: Apache-2.0
"""Both services in one process, as the memory broker needs it.

    MESSAGE_BROKER=memory uvicorn both:app
"""

from core import CoreApp
from orders import OrderViewSet
from users import UserViewSet

app = CoreApp(title="Two services", viewsets=[UserViewSet, OrderViewSet])

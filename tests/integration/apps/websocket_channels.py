"""A Django project with Channels, as its users write it. GET /seen tells what it has seen."""

from __future__ import annotations

from typing import Any

import django
from asgiref.sync import async_to_sync
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path, re_path

seen: list[list[Any]] = []


def tell(request: HttpRequest) -> JsonResponse:
    return JsonResponse(seen, safe=False)


settings.configure(
    DEBUG=False,
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()
urlpatterns = [path("seen", tell)]


class Chat(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        if self.room == "closed":
            await self.close(4003)
            return
        await self.channel_layer.group_add(self.room, self.channel_name)
        chosen = "chat.v1" if "chat.v1" in self.scope["subprotocols"] else None
        await self.accept(chosen)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "leave":
            await self.close(4001, "as you like")
        elif text_data == "fail":
            raise ValueError("the consumer is broken")
        elif bytes_data is not None:
            await self.send(bytes_data=bytes_data[::-1])
        else:
            message = {"type": "chat.message", "text": text_data}
            await self.channel_layer.group_send(self.room, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        seen.append(["chat", code])


class Orders(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"ordered": content})


class InThread(WebsocketConsumer):
    """A consumer that runs in a thread."""

    def connect(self) -> None:
        async_to_sync(self.channel_layer.group_add)("threads", self.channel_name)
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = {"type": "said", "text": text_data}
        async_to_sync(self.channel_layer.group_send)("threads", message)

    def said(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"].upper())

    def disconnect(self, code: int) -> None:
        seen.append(["thread", code])


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                re_path(r"^chat/(?P<room>\w+)$", Chat.as_asgi()),
                path("orders", Orders.as_asgi()),
                path("thread", InThread.as_asgi()),
            ]
        ),
    }
)

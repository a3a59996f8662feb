"""A GraphQL schema with subscriptions, served by Strawberry. Its query tells how many are open."""

# Strawberry reads the annotations of resolvers, so they are no strings here.
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import strawberry
from strawberry.asgi import GraphQL

subscriptions = 0


@strawberry.type
class Query:
    @strawberry.field
    def open(self) -> int:
        return subscriptions


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int, fails: bool = False) -> AsyncGenerator[int, None]:
        global subscriptions
        subscriptions += 1
        try:
            for number in range(to):
                yield number
                await anyio.lowlevel.checkpoint()
            if fails:
                raise ValueError("no more")
        finally:
            subscriptions -= 1

    @strawberry.subscription
    async def forever(self) -> AsyncGenerator[int, None]:
        global subscriptions
        subscriptions += 1
        try:
            number = 0
            while True:
                yield number
                number += 1
                await anyio.sleep(0.01)
        finally:
            subscriptions -= 1


app = GraphQL(strawberry.Schema(Query, subscription=Subscription))

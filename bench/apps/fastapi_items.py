"""FastAPI: JSON in, validated by a model, JSON out through another."""

from typing import Annotated

from fastapi import FastAPI, Path, Query
from pydantic import BaseModel, Field

from bench.apps.slow import burn


class Line(BaseModel):
    sku: Annotated[str, Field(min_length=3, max_length=20)]
    quantity: Annotated[int, Field(ge=1, le=999)]
    price: Annotated[float, Field(gt=0)]


class Order(BaseModel):
    customer: Annotated[str, Field(min_length=1)]
    note: str | None = None
    lines: Annotated[list[Line], Field(min_length=1)]


class Receipt(BaseModel):
    shop: int
    customer: str
    total: float
    pieces: int


app = FastAPI()


@app.get("/")
async def index() -> dict[str, str]:
    return {"framework": "FastAPI"}


@app.get("/burn/{milliseconds}")
async def compute(milliseconds: int) -> None:
    burn(milliseconds / 1e3)


@app.post("/shops/{shop}/orders")
async def order(
    shop: Annotated[int, Path(ge=1)], placed: Order, discount: Annotated[float, Query(le=1)] = 0
) -> Receipt:
    total = sum(line.quantity * line.price for line in placed.lines) * (1 - discount)
    pieces = sum(line.quantity for line in placed.lines)
    return Receipt(shop=shop, customer=placed.customer, total=round(total, 2), pieces=pieces)

"""Pydantic models as contracts."""

import datetime
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, field_validator, model_validator

from holdfast.contracts.base import Contract
from holdfast.contracts.forms.model import ModelForm
from holdfast.errors import ConfigError


class Item(BaseModel):
    name: Annotated[str, Field(pattern="^[a-z]+$")]
    price: float

    @field_validator("price")
    @classmethod
    def positive(cls, price: float) -> float:
        if price <= 0:
            raise ValueError("a price is more than nothing")
        return price


class Order(BaseModel):
    items: list[Item]
    total: float
    kind: Literal["new", "old"] = "new"
    day: datetime.date | None = None

    @model_validator(mode="after")
    def adds_up(self) -> "Order":
        if self.total == 666:
            raise KeyError("a bug")
        assert self.total == sum(item.price for item in self.items), "the total is not the sum"
        return self


@pytest.fixture(scope="module")
def contract():
    return Contract(ModelForm(Order))


def test_an_answer_becomes_an_instance(contract):
    checked = contract.check('{"items": [{"name": "a", "price": 1.5}], "total": 1.5, "day": "2024-02-29"}')
    assert isinstance(checked.value, Order)
    assert checked.value.day == datetime.date(2024, 2, 29)


@pytest.mark.parametrize(
    ("text", "path", "keyword"),
    [
        ('{"items": [], "total": 1}', "", "model"),
        ('{"items": [{"name": "a", "price": -1}], "total": -1}', "/items/0/price", "model"),
        ('{"items": [{"name": "A", "price": 1}], "total": 1}', "/items/0/name", "pattern"),
        ('{"items": []}', "", "required"),
        ('{"items": [], "total": "0"}', "/total", "type"),
        ('{"items": [], "total": 666}', "", "model"),
        ("nothing", "", "json"),
    ],
)
def test_the_schema_and_its_own_validators_are_checked(contract, text, path, keyword):
    (violation,) = contract.check(text).violations
    assert (violation.path, violation.keyword) == (path, keyword)


def test_a_validator_that_fails_is_a_violation(contract):
    (violation,) = contract.check('{"items": [], "total": 666}').violations
    assert "KeyError: 'a bug'" in violation.message


def test_its_schema_and_keys_are_known(contract):
    assert contract.schema["properties"].keys() == {"items", "total", "kind", "day"}
    assert contract.keys == ("items", "total", "kind", "day")


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("model", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (Point, '{"x": 1}', Point(1)),
        (TypeAdapter(int), "3", 3),
        (Annotated[int, AfterValidator(lambda number: number * 2)], "3", 6),
    ],
)
def test_any_type_that_pydantic_knows_will_do(model, text, value):
    contract = Contract(ModelForm(model))
    assert contract.check(text).value == value
    assert not contract.check('"x"').ok


class Node(BaseModel):
    children: "list[Node]" = []


def test_a_model_may_be_recursive():
    contract = Contract(ModelForm(Node))
    assert contract.check('{"children": [{"children": []}]}').ok
    assert contract.check('{"children": [{"children": [1]}]}').violations[0].path == "/children/0/children/0"


@pytest.mark.parametrize("model", [3, object(), type("Own", (), {})])
def test_what_has_no_schema_is_refused(model):
    with pytest.raises(ConfigError, match="Pydantic makes no JSON Schema of"):
        ModelForm(model, name="app:Own")

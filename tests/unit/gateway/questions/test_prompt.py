"""Prompts with places for variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidRequest
from holdfast.gateway.questions.prompt import Prompt


def test_a_prompt_becomes_the_system_message() -> None:
    message = Prompt("Be kind.\n").render({})
    assert (message.role, message.text) == ("system", "Be kind.\n")


def test_variables_fill_their_places() -> None:
    assert Prompt("Greet {{ name }} of {{team}}.").render({"name": "Ada", "team": "web"}).text == "Greet Ada of web."


def test_braces_that_are_no_place_stand_as_they_are() -> None:
    text = 'Answer as {"reply": "..."} or {{}} or {{ 1 }}.'
    assert Prompt(text).render({}).text == text


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Prompt("Hello {{ name }}").render({"nam": "Ada"})
    assert refused.value.param == "holdfast.variables.name"


def test_the_variables_of_a_prompt_are_known() -> None:
    assert Prompt("{{ a }} {{ b }} {{ a }}").variables == {"a", "b"}


@given(st.text())
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert Prompt("<{{ a }}>").render({"a": value, "b": "leak"}).text == f"<{value}>"

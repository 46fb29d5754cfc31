"""`holdfast.open` and types: `returns=` gives an instance of what was asked for, or a typed error."""

import dataclasses
import json
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Literal

import pydantic
import pytest
from pydantic import BaseModel, Field

import holdfast
from acceptance.contracts import FENCED, FILES, PART, RIGHT, VALUE, WRONG, contracts, says
from acceptance.gateways import FILES as PROMPTS
from acceptance.gateways import MODELS, PROVIDER_KEY
from acceptance.logs import opened_log
from acceptance.sdks import QUESTION, WEATHER, Depth
from holdfast.errors import ContentRefused, ContractViolated, InvalidRequest, UnknownModel
from holdfast.log.base import Filter

every_wire = pytest.mark.parametrize("model", MODELS)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]


@dataclasses.dataclass
class Reef:
    place: str
    metres: int


class Fish(BaseModel):
    name: str
    length: float = Field(gt=0)

    @pydantic.field_validator("name")
    @classmethod
    def _is_a_fish(cls, name: str) -> str:
        if name == "whale":
            raise ValueError("a whale is no fish")
        return name


class Tank(BaseModel):
    fish: list[Fish]
    keeper: Depth | None = None


TANK = '{"fish": [{"name": "goby", "length": 0.1}], "keeper": null}'


@pytest.fixture(scope="module")
def folder(simulator, tmp_path_factory):
    """One for all: a module of Python is imported once in a process, from one place."""
    folder = tmp_path_factory.mktemp("returns")
    for name, text in {**PROMPTS, **FILES, "holdfast.toml": contracts(simulator)}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def file(folder, providers, monkeypatch):
    monkeypatch.setenv("PROVIDER_KEY", PROVIDER_KEY)
    return folder / "holdfast.toml"


@pytest.fixture
async def h(file):
    async with holdfast.open(file) as opened:
        yield opened


def logged(file, session):
    with opened_log(file.parent / ".holdfast") as log:
        return {call.name: log.get(call.id) for batch in log.scan(Filter(session=session)) for call in batch}


async def broken(objects):
    """Return what came of an answer before it failed, and how it did."""
    told = []
    try:
        async for partial in objects:
            told.append(partial)  # noqa: PERF401 - kept when it breaks
    except holdfast.CallError as error:
        return told, error
    raise AssertionError("it did not fail")


# --- whole ------------------------------------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize("name", ["plain-", "depth-", ""])
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
async def test_an_answer_is_an_instance_of_the_model(h, providers, model, name, said):
    says(providers, model, said)
    answer = await h.chat(name + model, QUESTION, returns=Depth)
    assert type(answer) is Depth
    assert answer == Depth(**VALUE)
    assert "metres" in json.dumps(providers.received(model)[0].body)


@every_wire
@pytest.mark.parametrize(
    ("returns", "said", "value"),
    [
        (Reef, RIGHT, Reef(**VALUE)),
        (Tank, TANK, Tank(fish=[Fish(name="goby", length=0.1)])),
        (list[int], "```json\n[1, 2, 3]\n```", [1, 2, 3]),
        (Literal["deep", "shallow"], '"deep"', "deep"),
        (dict[str, list[float]], '{"a": [1, 2.5],}', {"a": [1.0, 2.5]}),
        (int, "42", 42),
        (bool, "true", True),
        (Depth | None, "null", None),
    ],
    ids=["dataclass", "nested", "list", "literal", "dict", "int", "bool", "optional"],
)
async def test_any_type_that_pydantic_knows_can_be_returned(h, providers, model, returns, said, value):
    says(providers, model, said)
    answer = await h.chat(f"plain-{model}", QUESTION, returns=returns)
    assert answer == value
    assert type(answer) is type(value)


@every_wire
async def test_a_model_is_told_what_is_wrong_with_its_answer(h, providers, model):
    says(providers, model, WRONG, PART)
    assert await h.chat(f"plain-{model}", QUESTION, returns=Depth) == Depth(**VALUE)
    assert "/metres" in json.dumps(providers.received(model)[1].body)


async def test_validators_of_the_type_count(h, providers):
    says(providers, "gpt", '{"name": "whale", "length": 20}', '{"/name": "goby"}')
    assert await h.chat("gpt", QUESTION, returns=Fish) == Fish(name="goby", length=20)
    assert "a whale is no fish" in json.dumps(providers.received("gpt")[1].body)


@every_wire
async def test_what_is_not_of_the_type_in_the_end_is_a_typed_error(h, providers, model):
    says(providers, model, "No idea.")
    with pytest.raises(ContractViolated) as caught:
        await h.chat(f"plain-{model}", QUESTION, returns=Depth)
    assert (caught.value.code, caught.value.status) == ("contract_violated", 502)


async def test_a_type_joins_the_contract_of_the_feature(h, providers):
    class Shallow(Depth):
        metres: int = Field(lt=10)

    says(providers, "gpt", RIGHT)
    with pytest.raises(ContractViolated):
        await h.chat("depth-gpt", QUESTION, returns=Shallow)


@every_wire
@pytest.mark.parametrize("how", ["prompt", "answer", "message"])
async def test_a_refusal_is_no_instance(h, providers, model, how):
    providers.follow({"models": {model: {"text": RIGHT, "refuse": how}}})
    expected = ContentRefused if how != "message" or model == "gpt" else ContractViolated
    with pytest.raises(expected):
        await h.chat(model, QUESTION, returns=Depth)


async def test_a_call_of_a_tool_is_no_instance(h):
    with pytest.raises(ContractViolated, match="tool"):
        await h.chat("gpt", QUESTION, returns=Depth, tools=TOOLS)


@pytest.mark.parametrize("returns", [object(), lambda: 1, "Depth"], ids=["object", "function", "text"])
async def test_what_is_no_type_is_a_wrong_configuration(h, providers, returns):
    with pytest.raises(holdfast.ConfigError):
        await h.chat("gpt", QUESTION, returns=returns)
    assert providers.requests == []


async def test_without_a_type_an_answer_tells_how_it_came_about(h, providers):
    says(providers, "gpt", FENCED)
    answer = await h.chat("depth-gpt", QUESTION)
    assert json.loads(answer.text) == VALUE
    assert answer.outcome == "answered"


async def test_the_log_says_what_the_answer_had_to_be(file, providers):
    says(providers, "gpt", FENCED)
    async with holdfast.open(file) as h:
        for name in ("gpt", "depth-gpt"):
            await h.chat(name, QUESTION, returns=Depth, hints={"session": "ledger"})
    calls = logged(file, "ledger")
    assert calls["gpt"].contract == "request"
    assert calls["depth-gpt"].contract == "depth.json"
    assert all(call.repairs == len(call.ledger) > 0 for call in calls.values())


@pytest.mark.parametrize("form", ["object", "message", "file", "function"])
async def test_a_last_resort_is_an_instance_too(h, providers, form):
    says(providers, "gpt", "no")
    answer = await h.chat(f"resort-{form}-hold", QUESTION, returns=Depth)
    assert answer == Depth(place="contract_violated" if form == "function" else "unknown", metres=1)


async def test_a_last_resort_that_is_no_instance_is_none(h, providers):
    says(providers, "gpt", "no")
    with pytest.raises(ContractViolated):
        await h.chat("resort-object-hold", QUESTION, returns=Fish)


async def test_an_answer_given_again_is_an_instance_too(h, providers):
    says(providers, "gpt", RIGHT)
    assert [await h.chat("again", QUESTION, returns=Depth) for _ in range(3)] == [Depth(**VALUE)] * 3
    assert len(providers.requests) == 1


async def test_an_answer_that_is_voted_on_is_an_instance_too(h, providers):
    says(providers, "gpt", FENCED)
    assert await h.chat("elected", QUESTION, returns=Depth) == Depth(**VALUE)
    assert len(providers.requests) >= 2


# --- objects ----------------------------------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize(("name", "returns"), [("plain-", Depth), ("depth-", None), ("", Reef), ("depth-", Depth)])
async def test_what_is_known_of_an_answer_grows(h, providers, model, name, returns):
    providers.follow({"models": {model: {"text": RIGHT, "tps": 40}}})
    told = [partial async for partial in h.objects(name + model, QUESTION, returns=returns)]
    values = [partial.value for partial in told]
    assert values[-1] == VALUE
    assert told[-1].complete[-1] == ""
    assert values[0] != VALUE  # each is as it was when it was told
    assert len(told) > 2
    lengths = [len(json.dumps(value)) for value in values]
    assert lengths == sorted(lengths)
    assert any("/place" in partial.complete and "metres" not in partial.value for partial in told)


async def test_objects_of_a_format_that_comes_with_the_call(h, providers):
    says(providers, "gpt", '{"a": 1}')
    told = [partial async for partial in h.objects("gpt", QUESTION, response_format={"type": "json_object"})]
    assert told[-1].value == {"a": 1}


async def test_a_list_grows_too(h, providers):
    providers.follow({"models": {"gpt": {"text": "[1, 2, 3]", "tps": 200}}})
    values = [partial.value async for partial in h.objects("gpt", QUESTION, returns=list[int])]
    assert values[-1] == [1, 2, 3]
    assert len(values) > 2


@pytest.mark.parametrize("name", ["again", "elected", "resort-object-hold", "off-depth", "nobody-depth"])
async def test_whatever_stands_for_an_answer_its_objects_end_with_the_whole(h, providers, name):
    says(providers, "gpt", "no" if name.startswith("resort") else RIGHT)
    for _ in range(2):
        told = [partial async for partial in h.objects(name, QUESTION)]
        assert told[-1].complete[-1] == ""
        assert set(told[-1].value) == set(VALUE)


async def test_objects_end_in_a_typed_error_where_the_answer_can_not_be_right(h, providers):
    providers.follow({"models": {"gpt": {"text": WRONG, "tps": 200}}})
    told, error = await broken(h.objects("depth-gpt", QUESTION))
    assert isinstance(error, ContractViolated)
    assert told
    assert all("" not in partial.complete for partial in told)


@every_wire
async def test_a_refusal_has_no_objects(h, providers, model):
    providers.follow({"models": {model: {"text": RIGHT, "refuse": "answer"}}})
    told, error = await broken(h.objects(f"depth-{model}", QUESTION))
    assert isinstance(error, ContentRefused)
    assert all("" not in partial.complete for partial in told)


async def test_a_call_of_a_tool_has_no_objects(h):
    assert [partial async for partial in h.objects("depth-gpt", QUESTION, tools=TOOLS)] == []


async def test_leaving_objects_early_cancels_the_call(h, providers):
    long = json.dumps({"place": "word " * 500, "metres": 1})
    providers.follow({"models": {"gpt": {"text": long, "tps": 100}}})
    async with aclosing(h.objects("depth-gpt", QUESTION)) as objects:
        await anext(objects)
    assert providers.wait_for(lambda record: record.hung_up_at is not None).tokens < 100


@pytest.mark.parametrize("name", ["gpt", "answer", "colour-gpt"])
async def test_objects_need_an_answer_that_is_json(h, providers, name):
    with pytest.raises(InvalidRequest, match="JSON under a contract"):
        _ = [partial async for partial in h.objects(name, QUESTION)]
    assert providers.requests == []


async def test_objects_of_an_unknown_model_are_a_typed_error(h):
    with pytest.raises(UnknownModel):
        _ = [partial async for partial in h.objects("nope", QUESTION)]


# --- types ------------------------------------------------------------------------------------------------------------

TYPED = """
import dataclasses
from typing import Any, Literal, assert_type

from pydantic import BaseModel

import holdfast
from holdfast.contracts.streaming.watch import Partial

class Depth(BaseModel):
    metres: int

@dataclasses.dataclass
class Reef:
    metres: int

async def ask(h: holdfast.Holdfast) -> None:
    assert_type(await h.chat("answer", "?"), holdfast.Answer)
    assert_type(await h.chat("answer", "?", hints={"session": "s"}, temperature=0.1), holdfast.Answer)
    assert_type(await h.chat("answer", "?", returns=Depth), Depth)
    assert_type(await h.chat("answer", "?", returns=Reef, temperature=0.1), Reef)
    assert_type(await h.chat("answer", "?", returns=list[int]), list[int])
    assert_type(await h.chat("answer", "?", returns=Literal["deep"]), Any)
    assert_type(await h.chat("answer", "?", returns=Depth | None), Any)
    async for partial in h.objects("answer", "?", returns=Literal["deep"]):
        assert_type(partial, Partial)
"""


def test_a_type_checker_knows_what_is_returned(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "typed.py")]
    root = Path(__file__).parents[2]  # whose cache it shares
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

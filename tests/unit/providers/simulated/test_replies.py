from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Message, Reasoning, Request, Text, Tool, ToolCall
from holdfast.providers.simulated.behaviour import Behaviour
from holdfast.providers.simulated.replies import Source, chunks, reply
from holdfast.providers.simulated.tokens import tokenize


def ask(text="kelp", prefill=None, **fields):
    said = [Message(role="user", parts=(Text(text=text),))]
    if prefill is not None:
        said.append(Message(role="assistant", parts=(Text(text=prefill),)))
    return Request(model="m", messages=tuple(said), **fields)


def answer(request, **behaviour):
    source = Source(wire="openai", behaviour=Behaviour(**behaviour), corpus=None, id="chatcmpl-1", created=1)
    return reply(request, source)


def pieced(whole, number):
    """Put the pieces of one choice together again."""
    pieces = [chunk for chunk in chunks(whole) if chunk.choice == number]
    arguments = "".join([call.arguments for chunk in pieces for call in chunk.tool_calls])
    return "".join([chunk.text for chunk in pieces]), "".join([chunk.reasoning for chunk in pieces]), arguments


@given(
    text=st.text(max_size=80),
    n=st.integers(1, 3),
    reasoning=st.none() | st.integers(0, 5),
    top=st.none() | st.integers(0, 2),
    most=st.none() | st.integers(1, 5),
    tools=st.booleans(),
)
def test_a_stream_says_what_the_whole_answer_says(text, n, reasoning, top, most, tools):
    offered = (Tool(name="t", parameters={"properties": {"a": {"type": "string"}}}),) if tools else ()
    whole = answer(ask(text, n=n, top_logprobs=top, max_tokens=most, tools=offered), reasoning=reasoning)
    for number, choice in enumerate(whole.choices):
        words, thoughts, arguments = pieced(whole, number)
        assert words == choice.text
        assert thoughts == "".join([part.text for part in choice.parts if isinstance(part, Reasoning)])
        assert arguments == "".join([part.arguments for part in choice.parts if isinstance(part, ToolCall)])
    streamed = list(chunks(whole))
    assert [chunk.finish for chunk in streamed if chunk.finish] == [choice.finish for choice in whole.choices]
    assert [chunk.usage for chunk in streamed if chunk.usage] == [whole.usage]
    assert [chunk.id for chunk in streamed if chunk.id] == ["chatcmpl-1"]
    told = [logprob for chunk in streamed for logprob in chunk.logprobs or ()]
    assert len(told) == sum([len(choice.logprobs or ()) for choice in whole.choices])


@given(st.text(max_size=80), st.integers(0, 40))
def test_a_continued_prefill_completes_the_same_answer(text, cut):
    begun = "".join(tokenize(text)[:cut])
    assert begun + answer(ask(text, prefill=begun)).text == text


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=3), max_size=3), st.none() | st.integers(1, 4))
def test_a_reply_never_goes_past_a_stop_sequence_or_limit(text, stops, most):
    choice = answer(ask(text, stop=tuple(stops), max_tokens=most)).choices[0]
    assert text.startswith(choice.text)
    assert not any(stop in choice.text for stop in stops)
    assert most is None or len(tokenize(choice.text)) <= most
    assert (choice.finish == "length") <= (most is not None)


def test_a_prefill_that_is_not_the_beginning_is_followed_by_the_whole_reply():
    assert answer(ask("kelp", prefill="Well,")).text == "kelp"


@given(st.text(max_size=80), st.integers(0, 40))
def test_a_repeated_prefill_comes_before_what_follows_it(text, cut):
    begun = "".join(tokenize(text)[:cut])
    assert answer(ask(text, prefill=begun), prefill="repeat").text == text


def test_a_prefill_that_is_not_the_beginning_is_repeated_as_well():
    assert answer(ask("kelp", prefill="Well, "), prefill="repeat").text == "Well, kelp"

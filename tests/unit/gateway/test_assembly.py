"""Chunks put together are the reply that they were."""

from hypothesis import given

from holdfast.chat import Chunk, Reasoning, Reply, Text, ToolCall, ToolCallDelta, Usage
from holdfast.gateway.assembly import Assembly, chunks_of
from strategies import replies


def assemble(*chunks: Chunk) -> Reply:
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.reply()


def test_text_in_pieces_becomes_one_part() -> None:
    reply = assemble(
        Chunk(text="Hel", id="x", model="m", fingerprint="f"),
        Chunk(text="lo"),
        Chunk(finish="stop"),
        Chunk(usage=Usage(input_tokens=3, output_tokens=1)),
    )
    assert reply.text == "Hello"
    assert (reply.id, reply.model, reply.fingerprint) == ("x", "m", "f")
    assert reply.usage == Usage(input_tokens=3, output_tokens=1)
    assert reply.choices[0].finish == "stop"


def test_reasoning_and_its_signature_come_before_the_text() -> None:
    reply = assemble(
        Chunk(reasoning="Let me "), Chunk(reasoning="think."), Chunk(reasoning_signature="sig"), Chunk(text="Done.")
    )
    assert reply.choices[0].parts == (Reasoning(text="Let me think.", signature="sig"), Text(text="Done."))


def test_parallel_tool_calls_are_told_apart_by_their_index() -> None:
    reply = assemble(
        Chunk(tool_calls=(ToolCallDelta(index=0, id="a", name="f"), ToolCallDelta(index=1, id="b", name="g"))),
        Chunk(tool_calls=(ToolCallDelta(index=1, arguments='{"y"'), ToolCallDelta(index=0, arguments="{}"))),
        Chunk(tool_calls=(ToolCallDelta(index=1, arguments=":2}"),)),
        Chunk(finish="tool_calls"),
    )
    assert reply.choices[0].parts == (
        ToolCall(id="a", name="f", arguments="{}"),
        ToolCall(id="b", name="g", arguments='{"y":2}'),
    )


def test_a_piece_that_says_several_things_at_once_loses_none() -> None:
    delta = ToolCallDelta(index=0, id="a", name="f", arguments="{}")
    reply = assemble(Chunk(reasoning="Hm.", text="Calling.", tool_calls=(delta,)), Chunk(finish="tool_calls"))
    call = ToolCall(id="a", name="f", arguments="{}")
    assert reply.choices[0].parts == (Reasoning(text="Hm."), Text(text="Calling."), call)


def test_choices_are_kept_apart() -> None:
    reply = assemble(Chunk(choice=1, text="b"), Chunk(choice=0, text="a"), Chunk(choice=1, finish="length"))
    assert [choice.text for choice in reply.choices] == ["a", "b"]
    assert reply.choices[1].finish == "length"


@given(replies(created=False))
def test_a_reply_survives_being_streamed(reply: Reply) -> None:
    again = assemble(*chunks_of(reply))
    assert [choice.text for choice in again.choices] == [choice.text for choice in reply.choices]
    assert [choice.finish for choice in again.choices] == [choice.finish for choice in reply.choices]
    for before, after in zip(reply.choices, again.choices, strict=True):
        assert [part for part in after.parts if isinstance(part, ToolCall)] == [
            part for part in before.parts if isinstance(part, ToolCall)
        ]
        assert after.logprobs == before.logprobs


def test_looking_at_an_answer_half_way_changes_nothing() -> None:
    assembly = Assembly()
    assembly.add(Chunk(text="Kelp "))
    assert (assembly.began, assembly.text) == (True, "Kelp ")
    assembly.add(Chunk(text="holds.", finish="stop"))
    assert assembly.reply().choices[0].parts == (Text(text="Kelp holds."),)


def test_it_tells_whether_anything_but_text_was_said() -> None:
    assembly = Assembly()
    assembly.add(Chunk(text="Kelp"))
    assert assembly.text_alone
    assembly.add(Chunk(reasoning="hm"))
    assert not assembly.text_alone


def test_an_answer_that_broke_off_is_not_taken_for_one_that_stopped() -> None:
    assert assemble(Chunk(text="a b")).choices[0].finish == "cut"

import random
from collections.abc import Callable

import msgspec
import pytest

from holdfast.chat import EmbeddingRequest, Message, Request, Text
from holdfast.events import Repair
from holdfast.log.bodies import (
    BLOCK_BYTES,
    CODEC,
    SEALED,
    Packed,
    Packer,
    Words,
    entries_of,
    unseal,
    words,
    zstd,
)
from log_samples import ATTEMPT, FAILED, FENCE, LEDGER, REPLY, REQUEST, make_call


def asking(text: str) -> Request:
    return Request(model="m", messages=(Message(role="user", parts=(Text(text=text),)),))


def noise(seed: int, size: int) -> str:
    return random.Random(seed).randbytes(size // 2).hex()


def found(packed: Packed, call: int, kind: str = "chat") -> Words:
    """What was packed of a call, by its number."""
    place = packed.places[call]
    assert place is not None
    return words(kind, entries_of(packed.blocks[place[0]].data)[place[1]])


def test_every_call_finds_its_own_bodies() -> None:
    calls = [make_call(n, request=asking(f"question {n}")) for n in range(10)]
    packed = Packer().pack(calls)
    assert len(packed.blocks) == 1
    assert [found(packed, n) for n in range(10)] == [Words(call.request, REPLY) for call in calls]


def test_calls_without_bodies_have_no_place_and_one_of_two_is_enough() -> None:
    calls = [make_call(0, request=None, reply=None), make_call(1, reply=None), make_call(2, request=None)]
    packed = Packer().pack(calls)
    assert packed.places == [None, (0, 0), (0, 1)]
    assert [found(packed, n) for n in (1, 2)] == [Words(REQUEST, None), Words(None, REPLY)]
    assert Packer().pack(calls[:1]).blocks == []


def test_a_ledger_lies_with_the_bodies_of_its_call_and_alone_where_there_are_none() -> None:
    calls = [make_call(0), make_call(1, ledger=LEDGER), make_call(2, request=None, reply=None, ledger=LEDGER)]
    packed = Packer().pack(calls)
    assert packed.places == [(0, 0), (0, 1), (0, 2)]
    assert [found(packed, n).ledger for n in range(3)] == [(), LEDGER, LEDGER]


def test_blocks_of_before_there_were_ledgers_are_read() -> None:
    pair = msgspec.msgpack.encode([(REQUEST, REPLY)])
    assert words("chat", entries_of(zstd.compress(pair))[0]) == Words(REQUEST, REPLY)


def test_no_block_holds_bodies_of_two_subjects() -> None:
    subjects = ["a", None, "b", "a", None, ""]
    packed = Packer().pack([make_call(n, subject=subject) for n, subject in enumerate(subjects)])
    blocks = [place[0] for place in packed.places if place is not None]
    assert blocks == [0, 1, 2, 0, 1, 3]
    assert len(packed.blocks) == 4


def test_a_large_body_does_not_burden_the_reading_of_others() -> None:
    calls = [make_call(n, request=asking(noise(n, BLOCK_BYTES if n == 2 else 100))) for n in range(5)]
    packed = Packer().pack(calls)
    assert [place and place[0] for place in packed.places] == [0, 0, 1, 2, 2]


def test_chats_take_a_fraction_of_their_size() -> None:
    rules = " ".join([noise(n, 8) for n in range(150)])
    calls = [make_call(n, request=asking(rules + noise(n, 200))) for n in range(32)]
    packed = Packer().pack(calls)
    plain = sum([len(msgspec.json.encode(call.request)) for call in calls])
    assert sum([len(block.data) for block in packed.blocks]) < plain / 4


def test_token_ids_are_kept_as_they_are() -> None:
    request = EmbeddingRequest(model="e", input=((1, 2), (3,)))
    packed = Packer().pack([make_call(kind="embeddings", request=request, reply=None)])
    assert found(packed, 0, "embeddings").request == request


def test_what_no_text_can_hold_is_kept_as_near_as_it_gets() -> None:
    odd = msgspec.structs.replace(
        asking("\ud800!"), extra={"big": 2**70, "small": -(2**64), "set": {1}, "fits": 2**64 - 1}
    )
    packed = Packer().pack([make_call(0), make_call(1, request=odd)])
    request = found(packed, 1).request
    assert isinstance(request, Request)
    assert request.messages[0].text == "?!"
    assert request.extra == {"big": float(2**70), "small": -float(2**64), "set": [1], "fits": 2**64 - 1}
    assert found(packed, 0).request == REQUEST


def test_a_ledger_of_what_no_text_can_hold_is_kept_as_near_as_it_gets() -> None:
    odd = Repair("control", 4, "\ud800", "?")
    packed = Packer().pack([make_call(ledger=(odd, FENCE))])
    ledger = found(packed, 0).ledger
    assert [(repair.kind, repair.before) for repair in ledger] == [("control", "?"), ("fence", "```json\n")]


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-3], lambda data: b"\0" * 50])
def test_a_damaged_block_is_an_error_and_no_wrong_answer(change: Callable[[bytes], bytes]) -> None:
    data = Packer().pack([make_call()]).blocks[0].data
    with pytest.raises(ValueError, match=r"\w"):
        entries_of(change(data))


@pytest.mark.parametrize("entry", [(1, 2), ({"model": 1}, None), (), (None, None, 5), (None, None, (), "a", "b")])
def test_a_block_of_something_else_is_an_error_and_no_wrong_answer(entry: tuple[object, ...]) -> None:
    (read,) = entries_of(zstd.compress(msgspec.msgpack.encode([entry])))
    with pytest.raises(ValueError, match=r"\w"):
        words("chat", read)


def test_a_block_says_how_it_is_packed() -> None:
    assert unseal(None, 1, "owner", CODEC, b"data") == b"data"
    assert unseal(None, 1, "owner", SEALED, b"data") == "sealed"
    with pytest.raises(ValueError, match="packed by 'zip'"):
        unseal(None, 1, "owner", "zip", b"data")


# --- owners -----------------------------------------------------------------------------------------------------------


def test_no_block_holds_bodies_of_two_tenants_or_two_features() -> None:
    """Two tenants have two keys, and two features may be kept for different times."""
    calls = [
        make_call(1, tenant="a"),
        make_call(2, tenant="b"),
        make_call(3, tenant="a", feature="other"),
        make_call(4, tenant="a", subject="feed"),
        make_call(5, tenant="a"),
        make_call(6, feature=None),
    ]
    packed = Packer().pack(calls)
    assert packed.places == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (4, 0)]
    assert [block.owner for block in packed.blocks] == ["tenant:a", "tenant:b", "tenant:a", "feed", "tenant:"]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_messages_are_packed_where_they_are_to_be_sealed_and_nowhere_else() -> None:
    calls = [
        make_call(1, message="You said kelp."),
        make_call(2, attempts=(ATTEMPT,)),
        make_call(3, request=None, reply=None, attempts=(ATTEMPT, FAILED)),
        make_call(4, request=None, reply=None, attempts=(ATTEMPT,)),
    ]
    packed = Packer(messages=True).pack(calls)
    assert packed.places == [(0, 0), (0, 1), (0, 2), None]
    assert found(packed, 0) == Words(REQUEST, REPLY, (), "You said kelp.", ["busy", None])
    assert found(packed, 1) == Words(REQUEST, REPLY)
    assert found(packed, 2) == Words(None, None, (), None, [None, "busy"])
    assert Packer().pack(calls).places == [(0, 0), (0, 1), None, None]


def test_messages_are_replaced_and_nothing_else_of_a_block() -> None:
    packer = Packer(messages=True)
    packed = packer.pack([make_call(n, message=f"before {n}", ledger=LEDGER) for n in range(3)])
    data = packer.replace(packed.blocks[0].data, 1, make_call(1, message="after", attempts=(ATTEMPT,)))
    entries = entries_of(data)
    assert words("chat", entries[1]) == Words(REQUEST, REPLY, LEDGER, "after", [None])
    assert [words("chat", entries[n]) for n in (0, 2)] == [found(packed, n) for n in (0, 2)]
    alone = entries_of(packer.replace(None, 0, make_call(1, message="after")))
    assert words("chat", alone[0]) == Words(None, None, (), "after", ["busy", None])

import random
from collections.abc import Callable

import msgspec
import pytest

from holdfast.chat import EmbeddingRequest, Message, Request, Text
from holdfast.events import Repair
from holdfast.log.bodies import BLOCK_BYTES, CODEC, Packer, unpack, zstd
from log_samples import FENCE, LEDGER, REPLY, REQUEST, make_call


def asking(text: str) -> Request:
    return Request(model="m", messages=(Message(role="user", parts=(Text(text=text),)),))


def noise(seed: int, size: int) -> str:
    return random.Random(seed).randbytes(size // 2).hex()


def test_every_call_finds_its_own_bodies() -> None:
    calls = [make_call(n, request=asking(f"question {n}")) for n in range(10)]
    packed = Packer().pack(calls)
    assert len(packed.blocks) == 1
    for call, place in zip(calls, packed.places, strict=True):
        assert place is not None
        assert unpack("chat", CODEC, packed.blocks[place[0]], place[1]) == {
            "request": call.request,
            "reply": REPLY,
            "ledger": (),
        }


def test_calls_without_bodies_have_no_place_and_one_of_two_is_enough() -> None:
    calls = [make_call(0, request=None, reply=None), make_call(1, reply=None), make_call(2, request=None)]
    packed = Packer().pack(calls)
    assert packed.places == [None, (0, 0), (0, 1)]
    assert unpack("chat", CODEC, packed.blocks[0], 0) == {"request": REQUEST, "reply": None, "ledger": ()}
    assert unpack("chat", CODEC, packed.blocks[0], 1) == {"request": None, "reply": REPLY, "ledger": ()}
    assert Packer().pack(calls[:1]).blocks == []


def test_a_ledger_lies_with_the_bodies_of_its_call_and_alone_where_there_are_none() -> None:
    calls = [make_call(0), make_call(1, ledger=LEDGER), make_call(2, request=None, reply=None, ledger=LEDGER)]
    packed = Packer().pack(calls)
    assert packed.places == [(0, 0), (0, 1), (0, 2)]
    ledgers = [unpack("chat", CODEC, packed.blocks[0], place)["ledger"] for place in range(3)]
    assert ledgers == [(), LEDGER, LEDGER]


def test_blocks_of_before_there_were_ledgers_are_read() -> None:
    pair = msgspec.msgpack.encode([(REQUEST, REPLY)])
    bodies = unpack("chat", CODEC, zstd.compress(pair), 0)
    assert bodies == {"request": REQUEST, "reply": REPLY, "ledger": ()}


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
    assert sum(map(len, packed.blocks)) < sum([len(msgspec.json.encode(call.request)) for call in calls]) / 4


def test_token_ids_are_kept_as_they_are() -> None:
    request = EmbeddingRequest(model="e", input=((1, 2), (3,)))
    packed = Packer().pack([make_call(kind="embeddings", request=request, reply=None)])
    assert unpack("embeddings", CODEC, packed.blocks[0], 0)["request"] == request


def test_what_no_text_can_hold_is_kept_as_near_as_it_gets() -> None:
    odd = msgspec.structs.replace(
        asking("\ud800!"), extra={"big": 2**70, "small": -(2**64), "set": {1}, "fits": 2**64 - 1}
    )
    packed = Packer().pack([make_call(0), make_call(1, request=odd)])
    request = unpack("chat", CODEC, packed.blocks[0], 1)["request"]
    assert request.messages[0].text == "?!"
    assert request.extra == {"big": float(2**70), "small": -float(2**64), "set": [1], "fits": 2**64 - 1}
    assert unpack("chat", CODEC, packed.blocks[0], 0)["request"] == REQUEST


def test_a_ledger_of_what_no_text_can_hold_is_kept_as_near_as_it_gets() -> None:
    odd = Repair("control", 4, "\ud800", "?")
    packed = Packer().pack([make_call(ledger=(odd, FENCE))])
    ledger = unpack("chat", CODEC, packed.blocks[0], 0)["ledger"]
    assert [(repair.kind, repair.before) for repair in ledger] == [("control", "?"), ("fence", "```json\n")]


@pytest.mark.parametrize(
    ("codec", "place", "change"),
    [
        ("aes", 0, lambda data: data),
        (CODEC, 1, lambda data: data),
        (CODEC, 0, lambda data: b""),
        (CODEC, 0, lambda data: data[:-3]),
        (CODEC, 0, lambda data: b"\0" * 50),
        (CODEC, None, lambda data: data),
    ],
)
def test_a_damaged_block_is_an_error_and_no_wrong_answer(
    codec: str, place: int, change: Callable[[bytes], bytes]
) -> None:
    data = Packer().pack([make_call()]).blocks[0]
    with pytest.raises(ValueError, match="packed by 'aes'" if codec == "aes" else r"\w"):
        unpack("chat", codec, change(data), place)

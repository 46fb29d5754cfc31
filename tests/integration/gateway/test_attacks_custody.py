"""Attacks on what is kept of keys, limits and subjects: files that are lost, fields that ask for more."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from guarded import ask, bearer, guarded
from holdfast.clock import SystemClock
from holdfast.errors import LogError, StateError
from holdfast.state.keys import Keys

USER = [{"role": "user", "content": "ping"}]


async def call(gateway, token=None, subject=None, path="/v1/chat/completions", **fields):
    headers = () if token is None else bearer(token)
    if subject is not None:
        headers = (*headers, (b"x-holdfast-subject", subject))
    body = msgspec.json.encode({"model": "answer", "messages": USER, **fields})
    return await ask(gateway, "POST", path, headers, body)


async def guard(directory: Path) -> None:
    """Leave a state directory behind that knows a key, and a call of a subject."""
    async with guarded(directory) as running:
        running.trail.append("os:anna", "key.create", id="hf_00000000")
        token = running.key("admin")
        assert (await call(running.gateway, token, b"jane")).status == 200


async def start(directory: Path) -> None:
    async with guarded(directory):
        pass


@pytest.mark.parametrize("how", ["gone", "empty"])
async def test_a_gateway_whose_keys_are_lost_does_not_let_everyone_in(tmp_path, how):
    await guard(tmp_path)
    for file in (tmp_path / ".holdfast").glob("state.db*"):
        file.write_bytes(b"") if how == "empty" else file.unlink()
    with pytest.raises(StateError, match="there were keys or accounts"):
        await start(tmp_path)


async def test_it_serves_again_with_a_new_key(tmp_path):
    await guard(tmp_path)
    (tmp_path / ".holdfast" / "state.db").unlink()
    with pytest.raises(StateError):
        await start(tmp_path)
    keys = Keys(tmp_path / ".holdfast" / "state.db", SystemClock())
    keys.create(tenant="acme", role="app")
    keys.close()
    async with guarded(tmp_path) as running:
        assert (await call(running.gateway)).status == 401


async def test_a_key_that_is_being_made_is_waited_for(tmp_path):
    async with guarded(tmp_path) as running:
        running.trail.append("os:anna", "key.create", id="hf_00000000")

        async def made():
            await asyncio.sleep(0.1)
            await asyncio.to_thread(running.keys.create, tenant="acme", role="app")

        making = asyncio.create_task(made())
        await start(tmp_path)
        await making


async def test_without_the_key_of_subjects_nobody_is_told_that_nothing_was_found(tmp_path):
    await guard(tmp_path)
    (tmp_path / ".holdfast" / "subject.key").unlink()
    with pytest.raises(LogError, match="the key of subjects is gone"):
        await start(tmp_path)
    assert not (tmp_path / ".holdfast" / "subject.key").exists()


async def test_a_log_without_subjects_needs_no_key_of_them(tmp_path):
    async with guarded(tmp_path) as running:
        assert (await call(running.gateway)).status == 200
    (tmp_path / ".holdfast" / "subject.key").unlink()
    await start(tmp_path)

"""After an erasure nothing of a subject is left, for somebody with all files and the master key; before it, all was."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import aiohttp
import pytest

from acceptance.attacker import Attacker
from acceptance.planting import ADA, Caller, Planted, all_found, command, erase, hash_of, made_state, served, token
from acceptance.processes import soon
from holdfast.clock import SystemClock
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.custody import open_custody
from holdfast.privacy.settings import PrivacySettings

SOME = ("request", "stream", "tag", "session", "error", "ledger", "unknown_model")
ASKED_AGAIN = 24
"""Times that a question is asked, so that every worker has its answer in memory."""
KNOWS_THE_HASH = {"keyring.db", "keyring.db-wal", "erasures.jsonl", "audit.jsonl", "audit.head"}
"""What may go on to say that somebody with this keyed hash was erased."""
PAUSE_SECONDS = 0.05
"""Between two calls of somebody who talks all the time."""
KILLS = 8
KILLED = """
import os, re, signal, sys
from holdfast.cli import main
at, done = int(sys.argv.pop(1)), 0
parts = re.compile("/holdfast/(privacy/(erasure|erasures|journal|keyring|connection)|log/(erasing|sqlite)).py").search
def step(frame, event, arg):
    global done
    if event in ("call", "c_call") and parts(frame.f_code.co_filename):
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(step)
try:
    main()
finally:
    sys.setprofile(None)
    print(done, file=sys.stderr)
"""
"""Runs a command, and kills it at a step of its work. Whoever is not killed tells how many steps there are."""


@pytest.fixture
def state(tmp_path):
    return made_state(tmp_path)


def verify(tmp_path, certificate, code):
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(certificate))
    return command(tmp_path, "erase", "--verify", str(path), code=code)


@contextlib.contextmanager
def opened_log(state):
    keeping = open_custody(PrivacySettings(), state, state, SystemClock())
    with (
        contextlib.closing(keeping.keyring),
        contextlib.closing(SqliteLog.read(state / "log.db", keeping.sealer)) as log,
    ):
        yield log


def logged(state):
    """What the log holds, with its bodies."""
    with opened_log(state) as log:
        return {call.id: log.get(call.id) for batch in log.scan(Filter()) for call in batch}


class Talk:
    """Callers that say something new all the time: `said` by the id of the call that was answered."""

    def __init__(self, gateway, name, token, subject, model):
        self.said = {}
        self._url, self._name, self._model = f"{gateway.url}/v1/chat/completions", name, model
        self._headers = {"authorization": f"Bearer {token}"}
        if subject is not None:
            self._headers["x-holdfast-subject"] = subject

    async def go_on(self, session, number):
        turn = 0
        while True:
            turn += 1
            text = f"{self._name}x{number}x{turn}x"
            messages = [{"role": "user", "content": f"This is {text}."}]
            body = {"model": self._model, "messages": messages, "stream": turn % 2 == 0}
            async with session.post(self._url, json=body, headers=self._headers) as response:
                assert response.status == 200, await response.text()
                await response.read()
            self.said[response.headers["x-holdfast-call"]] = text
            await asyncio.sleep(PAUSE_SECONDS)

    def answered(self, count):
        return lambda: len(self.said) >= count


@contextlib.asynccontextmanager
async def talking(*talks, each=3):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        tasks = [asyncio.create_task(talk.go_on(session, number)) for talk in talks for number in range(each)]
        yield
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [end for end in ends if isinstance(end, Exception)], ends


# --- while the gateway serves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "in the clear"])
async def test_nothing_of_a_subject_is_left_in_any_file_and_all_of_the_others_is(tmp_path, state, providers, sealed):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(24))
    ours, theirs = token(state), token(state, "globex")
    owner, config = hash_of(state), "" if sealed else "\n[privacy]\nseal = false\n"
    with served(tmp_path, providers, config) as gateway:
        ada = Caller(gateway, ours, ADA)
        planted = Planted(providers, ada, "ada")
        await asyncio.to_thread(planted.everywhere)
        kept = await asyncio.to_thread(ask_again, providers, ada, planted.texts["replay"])
        found = await asyncio.to_thread(all_found, state, planted)
        attacker = Attacker(state)
        assert any(place.sealed for places in found.values() for place in places) is sealed
        assert attacker.find({"name": ADA, "hash": owner}).keys() == {"name", "hash"}
        sealed_before = attacker.sealed(owner) if sealed else []

        providers.follow({"models": {"gpt": "ttft=1s,tps=8"}})
        slow = {f"slow{number}": planted.word() for number in range(6)}
        text = " ".join(["kelp"] * 12)
        under_way = [
            asyncio.create_task(asyncio.to_thread(ada.chat, "gpt", f"{word} {text}", stream=number % 2 == 0))
            for number, word in enumerate(slow.values())
        ]
        others = [
            Talk(gateway, "bob", ours, "bob", "claude"),
            Talk(gateway, "nobody", ours, None, "gemini"),
            Talk(gateway, "namesake", theirs, ADA, "claude"),
        ]
        during = Talk(gateway, "during", ours, ADA, "gemini")
        await asyncio.to_thread(
            soon, lambda: sum(record.fate == "pending" for record in providers.received("gpt")) == 6
        )
        async with talking(*others, during):
            await asyncio.to_thread(soon, others[0].answered(50))
            certificate = await asyncio.to_thread(erase, tmp_path)
            assert Attacker(state).find(planted.texts) == {}
            count = len(others[0].said)
            await asyncio.to_thread(soon, others[0].answered(count + 50))
        assert {answer.status for answer in await asyncio.gather(*under_way)} == {200}
        assert await asyncio.to_thread(ask_again, providers, ada, planted.texts["replay"]) > 0
        after = await asyncio.to_thread(ada.chat, "gpt", "I have come back.")
        said = gateway.stderr
        assert not any(text in said for text in (ADA, "ERROR", "Traceback", *planted.texts.values()))

    (erased,) = certificate["erasures"]
    began_us = datetime.fromisoformat(erased["began"]).timestamp() * 1e6
    assert erased["ended"] is not None
    assert erased["found"]["replay"] >= kept
    assert erased["found"]["log"] >= len(planted.calls) + ASKED_AGAIN
    calls = logged(state)
    gone = {id: text for id, text in during.said.items() if id not in calls}
    assert all(calls[id].at_us > began_us for id in during.said.keys() - gone.keys())
    assert gone
    del planted.texts["replay"]  # which she has asked again
    assert Attacker(state).find(planted.texts | slow | gone) == {}
    for talk in others:
        assert all(
            talk.said[id] in str(calls[id].request) and talk.said[id] in str(calls[id].reply) for id in talk.said
        )
    assert "I have come back." in str(calls[after.call].request)
    attacker = Attacker(state)
    assert not [data for block in sealed_before for data in pieces(block) if attacker.holds(data)]
    assert all(number != erased["key"] or wrapped == bytes(60) for number, wrapped in wrapped_keys(state))


def ask_again(providers, caller, text):
    """Ask the same question many times, and return how many workers had to ask the model."""
    before = len(providers.received("claude"))
    assert {caller.chat("again", text).status for _ in range(ASKED_AGAIN)} == {200}
    return len(providers.received("claude")) - before


def pieces(block, size=24):
    """Return pieces of what was sealed: pages of a database may hold it in parts."""
    return [block[at : at + size] for at in range(9, len(block) - size, 97)]


def wrapped_keys(state):
    with contextlib.closing(sqlite3.connect(state / "keyring.db")) as db:
        return db.execute("SELECT number, wrapped FROM keys").fetchall()


# --- when the gateway has stopped -------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path, state, providers):
    """What a gateway has left of several subjects: what was planted, by their names."""
    ours, planted = token(state), {}
    with served(tmp_path, providers) as gateway:
        for subject in [ADA, *(f"subject{number}@example.org" for number in range(KILLS))]:
            planted[subject] = Planted(providers, Caller(gateway, ours, subject), subject)
            planted[subject].everywhere(*SOME)
        for one in planted.values():
            all_found(state, one)
    return planted


def test_the_backup_of_a_log_can_not_be_decrypted_any_more(tmp_path, state, left):
    for name in ("log.db", "keyring.db"):
        (tmp_path / "backup").mkdir(exist_ok=True)
        shutil.copy(state / name, tmp_path / "backup" / name)
    before = Attacker(tmp_path / "backup", keys_of=state)
    assert before.find(left[ADA].texts).keys() == left[ADA].texts.keys()
    certificate = erase(tmp_path)
    after = Attacker(tmp_path / "backup", keys_of=state)
    found = after.find(left[ADA].texts | {"name": ADA})
    assert found.keys() == {"tag", "session"}  # which are not sealed: see what the documentation says of backups
    assert not any(place.sealed for places in found.values() for place in places)
    key = certificate["erasures"][0]["key"]
    assert before.unwrap_anywhere(hash_of(state), key) is True  # in the keyring that was copied too
    assert Attacker(state).unwrap_anywhere(hash_of(state), key) is False
    bob = left["subject0@example.org"]
    assert after.find(bob.texts).keys() == bob.texts.keys()


def test_of_the_erased_only_the_keyed_hash_is_left_where_erasures_are_recorded(tmp_path, state, left):
    certificate = erase(tmp_path)
    found = Attacker(state).find(left[ADA].texts | {"name": ADA, "hash": hash_of(state)} | left[ADA].calls)
    assert found.keys() == {"hash"}
    assert {place.file for place in found["hash"]} <= KNOWS_THE_HASH
    assert bytes.fromhex(hash_of(state)) not in b"".join([data for _, data in Attacker(state).files()])
    assert [erased["subject"] for erased in certificate["erasures"]] == [hash_of(state)]


def test_a_certificate_verifies_and_an_altered_one_does_not(tmp_path, state, left):
    certificate = erase(tmp_path)
    (erased,) = certificate["erasures"]
    assert "is as it was issued" in verify(tmp_path, certificate, code=0).stdout
    for changes in (
        {"subject": hash_of(state, "somebody else")},
        {"found": {**erased["found"], "log": erased["found"]["log"] + 1}},
        {"key": erased["key"] + 1},
        {"began": erased["began"].replace("20", "21", 1)},
    ):
        assert "changed" in verify(tmp_path, {**certificate, "erasures": [erased | changes]}, code=1).stdout
    assert verify(tmp_path, {**certificate, "signature": None}, code=1).stdout
    other = certificate["signature"][:-1] + ("0" if certificate["signature"][-1] != "0" else "1")
    assert "changed" in verify(tmp_path, {**certificate, "signature": other}, code=1).stdout


def test_an_erasure_that_is_killed_at_any_point_is_finished_by_running_it_again(tmp_path, state, providers, left):
    subjects = [subject for subject in left if subject != ADA]
    steps = killed(tmp_path, ADA, 0)
    assert steps > 100
    for number, subject in enumerate(subjects):
        assert killed(tmp_path, subject, round(steps * (number + 0.5) / KILLS)) is None
        if number % 2:
            certificate = erase(tmp_path, subject)
            assert certificate["erasures"][-1]["ended"] is not None
            assert Attacker(state).find(left[subject].texts) == {}
    with served(tmp_path, providers):  # which finishes by itself what it finds begun
        begun = [subject for subject in subjects[::2] if is_begun(state, subject)]
        assert begun
        for subject in begun:
            soon(lambda subject=subject: Attacker(state).find(left[subject].texts) == {}, 20)
    for subject in subjects[::2]:
        certificate = erase(tmp_path, subject)
        verify(tmp_path, certificate, code=0)
        assert Attacker(state).find(left[subject].texts | {"name": subject}) == {}


def killed(tmp_path, subject, at):
    """Run an erasure that is killed at a step; return how many there were if it was not."""
    command = [sys.executable, "-c", KILLED, str(at), "erase", "--subject", subject, "--tenant", "acme"]
    done = subprocess.run([*command, "--state", tmp_path / ".holdfast"], capture_output=True, text=True, timeout=60)
    if done.returncode == -9:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


def is_begun(state, subject):
    with contextlib.closing(sqlite3.connect(state / "keyring.db")) as db:
        return db.execute("SELECT 1 FROM erasures WHERE subject = ?", (hash_of(state, subject),)).fetchone() is not None

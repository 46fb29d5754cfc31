"""Text of a subject, said in every way that there is to say something to a gateway, or to be told something by one."""

import contextlib
import json
import random
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from acceptance.attacker import Attacker, Found
from acceptance.contracts import SCHEMA, WRONG
from acceptance.gateways import START_SECONDS, Gateway, configuration, running_gateway
from holdfast.clock import SystemClock
from holdfast.privacy.subjects import SubjectHasher
from holdfast.providers.simulated import RunningSimulator
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import Keys

ADA = "ada.lovelace@example.org"
FEATURES = """
[features.strict]
models = ["gpt"]
contract = "depth.json"
retries = 2

[features.again]
models = ["claude"]
reproducible = true

[features.shown]
models = ["claude"]
examples = { file = "examples.jsonl", select = "nearest", k = 1 }

[features.resort]
models = ["gpt"]
last_resort = { function = "echoes:answer" }

[features.elected]
models = ["claude"]
contract = "depth.json"
vote = { samples = 3, agree = 0.6 }

[tenants.acme]
requests = "100000/day"
budget = "1000usd/day"
tokens = "100M/day"
"""
FILES = {
    "depth.json": json.dumps(SCHEMA),
    "examples.jsonl": '{"input": "How deep is the reef?", "output": "Ten metres."}\n',
    "echoes.py": "def answer(request, code):\n    return request.messages[-1].text\n",
}


class Answer(NamedTuple):
    """What came of a call."""

    status: int
    call: str
    body: str


class Caller:
    """Calls a gateway with a key, for a subject or for nobody."""

    def __init__(self, gateway: Gateway, token: str, subject: str | None = None) -> None:
        self._gateway = gateway
        self.headers = {"authorization": f"Bearer {token}"}
        if subject is not None:
            self.headers["x-holdfast-subject"] = subject

    def send(self, path: str, body: Any, headers: Mapping[str, str] = {}) -> Answer:
        """Send JSON on a connection of its own, which any worker may get."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json", **self.headers, **headers}
        request = urllib.request.Request(self._gateway.url + path, data, named, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
                return Answer(response.status, response.headers["x-holdfast-call"], response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers["x-holdfast-call"], error.read().decode())

    def chat(self, model: str, text: str, headers: Mapping[str, str] = {}, **more: Any) -> Answer:
        """Ask a model or a feature."""
        asked = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.send("/v1/chat/completions", asked, headers)


def everything(providers: RunningSimulator) -> str:
    """Return a configuration in which everything is switched on that could keep something of a subject."""
    config = configuration(providers, more=FEATURES, log="flush_ms = 10\nkeep = '30d'")
    return config.replace("breaker = false", "breaker = false\nmax_output = 1000\ncontext = 8000")


class Planted:
    """Plants a text of its own in every place. `texts` are by the names of the places."""

    def __init__(self, providers: RunningSimulator, caller: Caller, seed: str) -> None:
        self.texts: dict[str, str] = {}
        self.calls: dict[str, str] = {}
        """The ids of the calls."""
        self._providers = providers
        self._caller = caller
        self._subject = caller.headers["x-holdfast-subject"]
        self._chance = random.Random(seed)

    def everywhere(self, *only: str) -> None:
        """Say something in every way, or in some. The providers are left as they were: well."""
        for name, plant in self._ways():
            if only and name not in only:
                continue
            self._providers.follow({})
            text = self.texts[name] = self.word()
            answer = plant(text)
            self.calls[name] = answer.call
        self._providers.follow({})

    def word(self) -> str:
        """Return a word that nothing else holds."""
        return "".join(self._chance.choices(string.ascii_lowercase, k=14))

    def _ways(self) -> Iterator[tuple[str, Any]]:
        ways = vars(type(self)).items()
        return ((name.removeprefix("in_"), way.__get__(self)) for name, way in ways if name.startswith("in_"))

    def _says(self, **behaviour: Any) -> None:
        self._providers.follow({"models": {"gpt": behaviour}})

    # --- what callers say ---

    def in_request(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("gpt", f"I am {self._subject}, {text}."))

    def in_stream(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("claude", text, stream=True))

    def in_message(self, text: str) -> Answer:
        body = {"model": "gpt", "max_tokens": 9, "system": text, "messages": [{"role": "user", "content": "Hello?"}]}
        return self._expect(200, self._caller.send("/v1/messages", body))

    def in_embedding(self, text: str) -> Answer:
        return self._expect(200, self._caller.send("/v1/embeddings", {"model": "gpt", "input": [text]}))

    def in_tool(self, text: str) -> Answer:
        parameters = {"type": "object", "properties": {text: {"type": "string"}}, "required": [text]}
        tool = {"type": "function", "function": {"name": "look", "parameters": parameters}}
        return self._expect(200, self._caller.chat("gpt", "Look!", tools=[tool]))

    def in_schema(self, text: str) -> Answer:
        schema = {"type": "object", "properties": {"a": {"enum": [text]}}, "required": ["a"]}
        format = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema, "strict": True}}
        return self._expect(200, self._caller.chat("claude", "Which?", response_format=format))

    def in_name_of_a_schema(self, text: str) -> Answer:
        schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
        format = {"type": "json_schema", "json_schema": {"name": text, "schema": schema, "strict": True}}
        return self._expect(200, self._caller.chat("claude", "Which?", response_format=format))

    def in_user(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("gpt", "Hello.", user=text, stop=[f"{text} end"]))

    def in_distribution(self, text: str) -> Answer:
        asked = {"model": "gpt", "messages": [{"role": "user", "content": f"Is it {text}?"}], "choices": ["yes", text]}
        return self._caller.send("/v1/distribution", asked)

    def in_variable(self, text: str) -> Answer:
        variables = {"name": text, "language": "Cornish"}
        return self._expect(200, self._caller.chat("greeting", "Now.", holdfast={"variables": variables}))

    def in_tag(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("gpt", "Hello.", {"x-holdfast-tags": f"case={text}"}))

    def in_session(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("gpt", "Hello.", {"x-holdfast-session": text}))

    def in_example(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("shown", f"How deep is {text}?"))

    def in_replay(self, text: str) -> Answer:
        return self._expect(200, self._caller.chat("again", text))

    # --- what models say ---

    def in_reply(self, text: str) -> Answer:
        self._says(text=f"You are {text}.")
        return self._expect(200, self._caller.chat("gpt", "Who am I?"))

    def in_streamed_reply(self, text: str) -> Answer:
        self._says(text=f"You are {text}.")
        return self._expect(200, self._caller.chat("gpt", "Who am I?", stream=True))

    def in_broken_stream(self, text: str) -> Answer:
        self._says(text=f"You are {text}, and so on and so on.", faults=[{"kind": "cut", "at": "5"}])
        return self._caller.chat("gpt", "Who am I?", stream=True)

    def in_reask(self, text: str) -> Answer:
        wrong = WRONG.replace("quite deep", text)
        right = json.dumps({"place": "here", "metres": 30})
        self._says(text=right, steps=[{"text": wrong}])
        return self._expect(200, self._caller.chat("strict", "How deep is it?"))

    def in_ledger(self, text: str) -> Answer:
        self._says(text=f"Dear {text}, here it is:\n```json\n{{'place': 'here', 'metres': \"30\",}}\n```\nBye!")
        return self._expect(200, self._caller.chat("strict", "How deep is it?"))

    def in_violation(self, text: str) -> Answer:
        self._says(text=json.dumps({"place": "here", "metres": text}))
        return self._expect(502, self._caller.chat("strict", "How deep is it?"))

    def in_vote(self, text: str) -> Answer:
        answer = json.dumps({"place": text, "metres": 30})
        self._providers.follow({"models": {"claude": {"text": answer}}})
        return self._expect(200, self._caller.chat("elected", "How deep is it?"))

    # --- what errors say ---

    def in_error(self, text: str) -> Answer:
        self._says(faults=[{"kind": "status", "status": 400, "message": f"{text} is not what we do here"}])
        return self._expect(400, self._caller.chat("gpt", "Hello?"))

    def in_first_error(self, text: str) -> Answer:
        self._says(faults=[{"kind": "status", "status": 503, "message": f"{text} is too much for us"}])
        return self._expect(200, self._caller.chat("answer", "Hello?"))

    def in_stream_error(self, text: str) -> Answer:
        self._says(words=20, faults=[{"kind": "error_event", "at": "5", "message": f"{text} was too much"}])
        return self._caller.chat("gpt", "Hello?", stream=True)

    def in_resort(self, text: str) -> Answer:
        self._says(faults=[{"kind": "status", "status": 503}])
        return self._expect(200, self._caller.chat("resort", text))

    def in_unknown_model(self, text: str) -> Answer:
        return self._expect(404, self._caller.chat(f"no-{text}", "Hello?"))

    def in_request_to_an_unknown_model(self, text: str) -> Answer:
        return self._expect(404, self._caller.chat("nobody", f"I am {text}."))

    def in_unknown_hint(self, text: str) -> Answer:
        return self._expect(400, self._caller.chat("gpt", "Hello?", holdfast={text: 1}))

    def in_wrong_value(self, text: str) -> Answer:
        return self._expect(400, self._caller.chat("gpt", "Hello?", holdfast={"priority": text}))

    def in_body_that_names_the_subject(self, text: str) -> Answer:
        named = Caller(self._caller._gateway, "")
        named.headers = {name: value for name, value in self._caller.headers.items() if "subject" not in name}
        hints = {"subject": self._subject, text: 1}
        return self._expect(400, named.chat("gpt", "Hello?", holdfast=hints))

    def in_wrong_schema(self, text: str) -> Answer:
        format = {"type": "json_schema", "json_schema": {"name": "one", "schema": {"type": text}}}
        return self._expect(400, self._caller.chat("gpt", "Which?", response_format=format))

    def _expect(self, status: int, answer: Answer) -> Answer:
        assert answer.status == status, answer
        return answer


def command(directory: Path, *arguments: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of holdfast on the state of a gateway."""
    whole = [sys.executable, "-m", "holdfast", *arguments, "--state", str(directory / ".holdfast")]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=60, **options)
    assert code in (None, done.returncode), (done.returncode, done.stdout, done.stderr)
    return done


# --- gateways and erasures --------------------------------------------------------------------------------------------


def made_state(directory: Path) -> Path:
    """Make the state directory of a gateway that is to be started."""
    state = directory / ".holdfast"
    state.mkdir(mode=0o700)
    return state


def token(state: Path, tenant: str = "acme") -> str:
    """Make a key, and return its token."""
    with contextlib.closing(Keys(state / STATE_FILE, SystemClock())) as keys:
        return keys.create(tenant=tenant, role="app")[0]


def hash_of(state: Path, subject: str = ADA, tenant: str = "acme") -> str:
    """Return the keyed hash of a subject."""
    return SubjectHasher.load(state).hash(subject, tenant)


def served(
    directory: Path, providers: RunningSimulator, more: str = "", workers: int = 3
) -> contextlib.AbstractContextManager[Gateway]:
    """Run a gateway in which everything is switched on."""
    return running_gateway(directory, everything(providers) + more, "--workers", str(workers), files=FILES)


def all_found(state: Path, planted: Planted) -> dict[str, set[Found]]:
    """Wait until all that was planted can be found, which is within the time of a flush; return where."""
    patience = time.monotonic() + START_SECONDS
    while (found := Attacker(state).find(planted.texts)).keys() != planted.texts.keys():
        assert time.monotonic() < patience, f"not to be found: {planted.texts.keys() - found.keys()}"
    return found


def erase(directory: Path, subject: str = ADA) -> Any:
    """Erase a subject of the tenant acme, and return the certificate."""
    path = directory / f"{subject}.json"
    command(directory, "erase", "--subject", subject, "--tenant", "acme", "--output", str(path))
    return json.loads(path.read_bytes())

import json
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.providers.simulated.behaviour import Behaviour, Model, Step
from holdfast.providers.simulated.faults import Status
from holdfast.providers.simulated.script import Progress, Script, from_table, load


class Clock:
    time = 100.0

    def monotonic(self):
        return self.time

    now = monotonic


def statuses(progress, requests, model="gpt", clock=None, pause=0.0):
    seen = []
    for _ in range(requests):
        faults = progress.behaviour(model).faults
        seen.append(faults[0].status if faults else 200)
        if clock:
            clock.time += pause
    return seen


def follow(*steps, clock=None, **model):
    return Progress(from_table({"models": {"gpt": {"steps": list(steps), **model}}}), clock or Clock())


def test_steps_are_used_up_one_request_after_the_other():
    assert statuses(follow("status=429", "status=503,repeat=2"), 5) == [429, 503, 503, 200, 200]


def test_a_step_that_lasts_is_an_outage_that_ends():
    clock = Clock()
    progress = follow("lasts=2s", "status=503,lasts=3s", clock=clock)
    assert statuses(progress, 7, clock=clock, pause=1.0) == [200, 200, 503, 503, 503, 200, 200]


def test_a_step_lasts_from_the_end_of_the_one_before():
    clock = Clock()
    progress = follow("status=429", "status=503,lasts=1s", clock=clock)
    clock.time += 50
    assert statuses(progress, 1) == [429]
    clock.time += 0.9
    assert statuses(progress, 1) == [503]
    clock.time += 0.2
    assert statuses(progress, 1) == [200]


def test_rounds_repeat_the_steps():
    assert statuses(follow("status=429", "", rounds=2), 5) == [429, 200, 429, 200, 200]
    assert statuses(follow("status=429", "", rounds=0), 6) == [429, 200] * 3


def test_a_flapping_model_recovers_after_its_rounds():
    clock = Clock()
    progress = follow("status=503,lasts=1s", "lasts=1s", rounds=2, clock=clock)
    assert statuses(progress, 12, clock=clock, pause=0.5) == [503, 503, 200, 200] * 2 + [200] * 4


def test_rounds_that_went_by_unseen_cost_nothing():
    clock = Clock()
    progress = follow("status=503,lasts=1ms", "lasts=1ms", rounds=0, clock=clock)
    clock.time += 10_000_000
    assert statuses(progress, 1)[0] in (200, 503)


def test_requests_for_other_models_use_up_no_steps():
    progress = follow("status=429")
    assert statuses(progress, 1, "other") == [200]
    assert statuses(progress, 2) == [429, 200]


def test_a_suffix_is_laid_over_the_script():
    progress = follow("status=429", text="yes")
    assert progress.behaviour("gpt:tps=5").faults == (Status(status=429),)
    again = progress.behaviour("gpt:tps=5")
    assert (again.text, again.tps) == ("yes", 5.0)


def test_fields_are_laid_over_the_defaults():
    table = {"default": "tps=50,ttft=1s", "models": {"gpt": {"tps": 5, "steps": [{"text": "no"}, "ttft=2s"]}}}
    model = from_table(table).models["gpt"]
    assert (model.tps, model.ttft) == (5.0, 1.0)
    assert (model.steps[0].text, model.steps[0].tps, model.steps[1].ttft) == ("no", 5.0, 2.0)


def test_a_model_may_be_a_suffix():
    assert from_table({"models": {"gpt": "text=yes"}}).models["gpt"].text == "yes"


def test_an_unknown_name_behaves_by_default_or_is_unknown():
    assert Progress(from_table({"default": "tps=5"}), Clock()).behaviour("new").tps == 5.0
    strict = Progress(from_table({"strict": True}), Clock())
    assert strict.behaviour("new") is None
    assert strict.behaviour("sim-echo") is not None


def test_a_preset_keeps_its_own_reply():
    behaviour = Progress(from_table({"default": "text=yes,tps=5"}), Clock()).behaviour("sim-echo")
    assert (behaviour.text, behaviour.tps) == (None, 5.0)


def test_chance_is_seeded_for_each_model_alone():
    first, second = Progress(Script(seed=3), Clock()), Progress(Script(seed=3), Clock())
    second.chance("other").random()
    assert first.chance("gpt").random() == second.chance("gpt").random()
    assert first.chance("gpt").random() != Progress(Script(seed=4), Clock()).chance("gpt").random()


TOML = """
seed = 7
[models.gpt]
text = "Yes."
corpus = ["answers.jsonl"]
steps = ["status=429,retry_after=2", { faults = [{ kind = "stall", at = "3", seconds = "2s" }], repeat = 2 }]
"""


def test_a_file_in_toml_or_json_gives_the_same_script(tmp_path: Path):
    (tmp_path / "a.toml").write_text(TOML)
    script = load(tmp_path / "a.toml")
    table = {
        "seed": 7,
        "models": {
            "gpt": {
                "text": "Yes.",
                "corpus": ["answers.jsonl"],
                "steps": [
                    "status=429,retry_after=2",
                    {"faults": [{"kind": "stall", "at": 3, "seconds": "2s"}], "repeat": 2},
                ],
            }
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(table))
    assert load(str(tmp_path / "a.json")) == script
    assert script.models["gpt"].corpus == (str(tmp_path / "answers.jsonl"),)
    assert script.models["gpt"].steps[1].corpus == (str(tmp_path / "answers.jsonl"),)


def test_a_script_can_be_built_of_values():
    script = Script(models={"gpt": Model(text="yes", steps=(Step(faults=(Status(status=503),), repeat=2),))})
    assert load(script) is script
    assert statuses(Progress(script, Clock()), 3) == [503, 503, 200]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sed": 1}, r'script: sed: there is no such key \(did you mean "seed"\?\)'),
        ({"models": []}, "script: models: Expected `object`"),
        ({"models": {"gpt": {"tsp": 5}}}, r'models.gpt.tsp: there is no such key \(did you mean "tps"\?\)'),
        ({"models": {"gpt": "tsp=5"}}, 'models.gpt: there is no "tsp"'),
        ({"models": {"gpt": 5}}, "models.gpt: expected a table or text"),
        ({"models": {"gpt": {"steps": "cut=1"}}}, "models.gpt.steps: expected a list"),
        ({"models": {"gpt": {"steps": [{"ttft": 5}]}}}, r"models.gpt.steps\[0\].ttft: expected a duration"),
        ({"models": {"gpt": {"steps": ["lasts=0s"]}}}, r"steps\[0\].*longer than 0s"),
        ({"models": {"gpt": {"faults": [{"kind": "boom"}]}}}, r"models.gpt.faults\[0\].kind: Invalid value 'boom'"),
        ({"default": {"context": -1}}, "default.context"),
        ({"accept": "maybe"}, "accept: Invalid enum value"),
    ],
)
def test_a_wrong_script_says_where(table, message):
    with pytest.raises(ConfigError, match=message):
        from_table(table)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        from_table({"sed": 1, "models": {"a": "x=1", "b": {"tps": -1}}})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(("name", "text"), [("a.toml", "x = "), ("a.json", "{"), ("b.json", "[1]"), ("c.toml", None)])
def test_a_file_that_is_no_script_is_refused(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        load(tmp_path / name)


def test_without_a_source_models_only_echo():
    assert load(None) == Script()
    assert Progress(Script(), Clock()).behaviour("x") == Behaviour()

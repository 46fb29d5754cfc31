"""What an operator is told of calls that no model answered, and of models that are not what they were."""

from holdfast.log.notices import EVERY_SECONDS, Notices
from log_samples import CHANGE, FAILED, make_call


class Terminal:
    """What was said, and the time."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.now = 1000.0
        self.notices = Notices(self.said.append, lambda: self.now)


def resort(n: int, **changes):
    return make_call(
        n, **{"outcome": "last_resort", "error": "overloaded", "model": None, "attempts": (FAILED,)} | changes
    )


def test_the_first_call_that_no_model_answered_is_told_at_once_with_what_was_tried():
    terminal = Terminal()
    terminal.notices([make_call(1), resort(2)])
    assert terminal.said == [
        f"answer: a call ended in the last resort (house: overloaded). See: holdfast calls show {make_call(2).id}"
    ]


def test_the_same_is_said_once_a_minute_with_how_many_there_were():
    terminal = Terminal()
    for n in range(5):
        terminal.notices([resort(n)])
    assert len(terminal.said) == 1
    terminal.now += EVERY_SECONDS
    terminal.notices([resort(9)])
    assert terminal.said[1].startswith("answer: 5 more calls ended in the last resort")


def test_another_feature_outcome_or_error_is_told_by_itself():
    terminal = Terminal()
    terminal.notices([resort(1), resort(2, name="other"), resort(3, outcome="error"), resort(4, error="timeout")])
    assert [line.partition(" (")[0] for line in terminal.said] == [
        "answer: a call ended in the last resort",
        "other: a call ended in the last resort",
        "answer: a call ended in an error",
        "answer: a call ended in the last resort",
    ]


def test_answers_cancelled_calls_and_what_never_reached_a_model_are_not_told():
    terminal = Terminal()
    terminal.notices([make_call(1), make_call(2, outcome="cancelled", error="cancelled")])
    terminal.notices([resort(3, error="feature_disabled", attempts=()), make_call(4, outcome="error", attempts=())])
    assert terminal.said == []


def test_what_a_provider_said_is_not_quoted():
    terminal = Terminal()
    terminal.notices([resort(1, message="Ada's secret")])
    assert "Ada" not in terminal.said[0]
    assert "busy" not in terminal.said[0]


def test_a_model_that_is_served_otherwise_is_told_once_a_minute():
    terminal = Terminal()
    terminal.notices([CHANGE, CHANGE])
    (said,) = terminal.said
    assert said.startswith("gpt: openai serves 'gpt-5 fp_2' now, no more 'gpt-5 fp_1', so its answers may differ.")
    assert said.endswith(" See: holdfast calls fingerprints")
    terminal.now += EVERY_SECONDS
    terminal.notices([CHANGE])
    assert len(terminal.said) == 2

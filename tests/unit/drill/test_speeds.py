from holdfast.chat import Usage
from holdfast.drill.speeds import recent, speeds
from holdfast.events import Attempt


def attempt(first: float | None = 0.5, rest: float = 2.0, tokens: int = 101, error: str | None = None) -> Attempt:
    return Attempt(
        model="gpt",
        provider="openai",
        started_us=0,
        duration_us=round(((first or 0) + rest) * 1e6),
        first_token_us=None if first is None else round(first * 1e6),
        error=error,
        usage=Usage(input_tokens=9, output_tokens=tokens),
    )


def test_a_models_speed_is_the_median_of_its_streamed_answers():
    found = speeds([attempt(first) for first in (0.1, 0.2, 0.5, 0.9, 30.0)])["gpt"]
    assert (found.first_token, found.tokens_per_second, found.attempts) == (0.5, 50.0, 5)


def test_what_failed_was_not_streamed_or_said_next_to_nothing_tells_no_speed():
    useless = [attempt(error="timeout"), attempt(first=None), attempt(tokens=1)]
    assert speeds(useless * 10) == {}


def test_a_few_answers_tell_no_speed():
    assert speeds([attempt()] * 4) == {}


def test_a_log_that_is_not_there_tells_no_speed_and_is_not_made(tmp_path):
    assert recent(tmp_path / "log.db") == {}
    assert list(tmp_path.iterdir()) == []

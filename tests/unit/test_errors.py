"""What errors say."""

import pytest

from holdfast.errors import PhaseTimeout


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PhaseTimeout("idle", 15), "The provider was silent for 15 s (phase: idle)."),
        (PhaseTimeout("first_token", 0.05), "The provider was silent for 0.05 s (phase: first_token)."),
        (
            PhaseTimeout("answer", 1.99624, share=True),
            "The provider did not end its answer within 2 s, its share of the deadline (phase: answer).",
        ),
        (PhaseTimeout("answer", 119.96), "The provider did not end its answer within 120 s (phase: answer)."),
    ],
)
def test_a_timeout_says_what_was_waited_for_and_how_long_in_round_numbers(error: PhaseTimeout, message: str) -> None:
    assert error.message == message

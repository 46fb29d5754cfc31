"""A simulated model that is held to choices says one of them, as often as it finds it likely."""

import math
from collections import Counter

import pytest

from holdfast.chat import Message, Request, Text
from holdfast.providers.simulated.behaviour import Behaviour
from holdfast.providers.simulated.choosing import choices_of
from holdfast.providers.simulated.replies import Source, reply

CHOICES = ["very good", "very bad", "fair"]


def asked(n: int = 1, choices: object = CHOICES, **fields: object) -> Request:
    message = Message(role="user", parts=(Text(text="How is it?"),))
    return Request(model="m", messages=(message,), n=n, extra={"structured_outputs": {"choice": choices}}, **fields)


def answered(request: Request, **behaviour: object):
    return reply(request, Source("openai", Behaviour(**behaviour), None, "id", 0))


def test_answers_and_log_probabilities_tell_the_same():
    answers = [choice.text for choice in answered(asked(n=2000)).choices]
    counts = Counter(answers)
    assert set(counts) == set(CHOICES)
    for choice in answered(asked(n=20, top_logprobs=5)).choices:
        likely = math.exp(sum([token.logprob for token in choice.logprobs or ()]))
        assert likely == pytest.approx(counts[choice.text] / 2000, abs=0.05)


def test_the_alternatives_to_a_token_are_those_of_the_choices_that_begin_alike():
    answers = [choice for choice in answered(asked(n=50, top_logprobs=5)).choices if choice.text != "fair"]
    first, second = answers[0].logprobs
    assert {top.token for top in first.top} == {"very", "fair"}
    assert {top.token for top in second.top} == {" good", " bad"}
    assert sum([math.exp(top.logprob) for top in second.top]) == pytest.approx(1.0)


def test_fewer_alternatives_are_told_where_fewer_are_asked_for():
    (choice,) = answered(asked(top_logprobs=1)).choices
    assert all(len(token.top) == 1 for token in choice.logprobs)


def test_the_same_question_with_another_seed_may_be_answered_otherwise():
    assert len({answered(asked(seed=seed)).text for seed in range(30)}) > 1
    assert answered(asked(seed=1)).text == answered(asked(seed=1)).text


def test_a_fixed_text_is_said_whatever_the_choices():
    assert answered(asked(), text="other").text == "other"


@pytest.mark.parametrize("choices", [None, "yes", [], [1, None, ""], {"a": 1}])
def test_what_is_no_list_of_choices_holds_to_nothing(choices):
    assert choices_of(asked(choices=choices)) == ()
    assert answered(asked(choices=choices)).text == "How is it?"

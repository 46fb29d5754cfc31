import pytest

from holdfast.errors import ModelUnavailable, ProviderFailed
from holdfast.providers.wording import masked, message_of, plain


@pytest.mark.parametrize(
    "secret",
    [
        *("sk-abc123def456", "sk-proj-a_b-c123", "sk-ant-api03-abcDEF123_-xyz", "sk-abc***xyz9", "gsk_abcdefgh"),
        *(
            "xai-abcdefgh",
            "AIzaSyOtherOther123",
            "ya29.a0AfB_by-long.token",
            "AQ.Ab8RN6longkey",
            "key-0123456789abcdef",
        ),
    ],
)
def test_what_looks_like_a_key_is_masked(secret: str) -> None:
    assert masked(f"The key '{secret}' is not valid.", None) == "The key '***' is not valid."


def test_the_models_own_key_is_masked_whatever_it_looks_like() -> None:
    assert masked("No such key: very-secret!", "very-secret") == "No such key: ***!"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_token_in_a_header_is_masked(scheme: str) -> None:
    assert masked(f"Got Authorization: {scheme} abc.def-123", None) == f"Got Authorization: {scheme} ***"


@pytest.mark.parametrize("text", ["key_name: Field required", "a task-force-meeting", "tools.0.key-value"])
def test_words_are_no_keys(text: str) -> None:
    assert masked(text, None) == text


def test_a_key_across_the_cut_of_a_long_message_is_masked() -> None:
    message = message_of(ProviderFailed, "x" * 995 + " very-secret", status=500, key="very-secret")
    assert "very" not in message
    assert len(message) <= 1000


def test_a_provider_that_says_nothing_leaves_the_status() -> None:
    assert message_of(ProviderFailed, "", status=502, key=None) == "The provider answered with status 502."
    assert message_of(ProviderFailed, "", status=None, key=None) == "The provider reported an error."


def test_a_redirect_asks_whether_the_address_is_right() -> None:
    assert "is base_url right?" in message_of(ModelUnavailable, "", status=301, key=None, model="m")


def test_a_model_that_is_not_served_is_named() -> None:
    message = message_of(ModelUnavailable, "No such model", status=404, key=None, model="m")
    assert message == "The provider does not serve the model 'm' at this address: No such model"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"upstream  connect\nerror", "upstream connect error"),
        (b"<html><style>p{}</style><h1>Bad  Gateway</h1></html>", "Bad Gateway"),
        ("<p>text", "text"),
        (b"\xff", "\ufffd"),
        (b" null ", ""),
        (b'{"a"', ""),
        (b"[" * 100_000, ""),
        (b"", ""),
    ],
)
def test_a_body_that_is_not_json_is_one_line_without_markup(body: bytes | str, text: str) -> None:
    assert plain(body) == text

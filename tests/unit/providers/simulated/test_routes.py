import pytest

from holdfast.providers.simulated.failures import Failure
from holdfast.providers.simulated.routes import Address, guess_wire, route


@pytest.mark.parametrize(
    ("target", "wire", "operation", "model"),
    [
        ("/v1/chat/completions", "openai", "chat", None),
        ("/chat/completions", "openai", "chat", None),
        ("/openai/v1/chat/completions", "openai", "chat", None),
        ("/v1beta/openai/chat/completions", "openai", "chat", None),
        ("/openai/deployments/my%2Fgpt/chat/completions?api-version=1", "openai", "chat", "my/gpt"),
        ("/openai/deployments/e/embeddings", "openai", "embeddings", "e"),
        ("http://host/v1/messages", "anthropic", "chat", None),
        ("/v1/messages/count_tokens", "anthropic", "count", None),
        ("/v1beta/models/a:cut=3,tps=5:generateContent", "google", "chat", "a:cut=3,tps=5"),
        ("/v1beta/models/a%3Acut%3D3:streamGenerateContent?alt=sse", "google", "chat", "a:cut=3"),
        ("/v1/projects/p/publishers/google/models/a:generateContent", "google", "chat", "a"),
        ("/v1beta/models/e:batchEmbedContents", "google", "embeddings", "e"),
    ],
)
def test_an_address_says_what_is_wanted(target, wire, operation, model):
    found = route("POST", Address.parse(target), {})
    assert (found.wire, found.operation, found.model) == (wire, operation, model)


@pytest.mark.parametrize(
    ("target", "headers", "wire"),
    [
        ("/v1/models", {}, "openai"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("/v1beta/models", {}, "google"),
        ("/models?key=abc", {}, "google"),
        ("/v1beta/openai/chat/completions", {}, "openai"),
    ],
)
def test_the_wire_of_a_shared_address_is_guessed(target, headers, wire):
    assert guess_wire(Address.parse(target), headers) == wire


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/v1/nope", 404),
        ("POST", "/v1beta/models/a:shout", 405),
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_what_no_provider_has_is_a_failure(method, target, status):
    with pytest.raises(Failure) as caught:
        route(method, Address.parse(target), {})
    assert caught.value.status == status

"""What whole answers and streams of the Gemini wire have in common: how they end, what they cost, log-probabilities."""

from collections.abc import Sequence
from typing import Final

from holdfast.chat import Finish, Logprob, Usage
from holdfast.errors import ContentRefused, MalformedResponse
from holdfast.providers.google.wire import (
    Candidate,
    FunctionCall,
    FunctionResponse,
    Json,
    LogprobsResult,
    ModalityTokenCount,
    PromptFeedback,
    TokenLogprob,
    UsageMetadata,
)

REFUSALS: Final = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)
_LEAST = -9999.0  # what OpenAI says for a token that can't be


class CallIds:
    """Gives the calls of one answer ids where the wire gives none: the same ones every time it is decoded."""

    def __init__(self) -> None:
        self.response = ""
        self._count = 0

    def call(self, call: FunctionCall) -> str:
        self._count += 1
        return call.id or "_".join(filter(None, ("call", self.response, str(self._count - 1))))

    @staticmethod
    def result(result: FunctionResponse) -> str:
        return result.id or ""


def finish_of(candidate: Candidate, calls: bool) -> tuple[Finish, str | None]:
    """Return how a candidate ended, and the reason if it was refused; `calls` is whether it calls functions.

    Raises MalformedResponse for every end that leaves no usable answer, such as MALFORMED_FUNCTION_CALL.
    """
    reason = candidate.finish_reason
    if reason == "STOP":
        return ("tool_calls" if calls else "stop"), None
    if reason == "MAX_TOKENS":
        return "length", None
    if reason in REFUSALS:
        return "refused", reason
    told = f": {candidate.finish_message}" if candidate.finish_message else ""
    raise MalformedResponse(f"The model broke off its answer ({reason or 'no finishReason'}){told}")


def encode_finish(finish: Finish, reason: str | None) -> str:
    """Return the finishReason; a reason for refusing that this wire does not know is SAFETY."""
    if finish == "refused":
        return reason if reason in REFUSALS else "SAFETY"
    return "MAX_TOKENS" if finish == "length" else "STOP"


def blocked(feedback: PromptFeedback | None) -> ContentRefused | None:
    """Return the refusal of a prompt, if it was refused."""
    if feedback is None or not feedback.block_reason:
        return None
    told = f": {feedback.block_reason_message}" if feedback.block_reason_message else ""
    return ContentRefused(f"The provider refused the prompt ({feedback.block_reason}){told}")


def decode_usage(usage: UsageMetadata) -> Usage:
    """Tokens of tool results count as input, thoughts as output."""
    thoughts = usage.thoughts_token_count or 0
    return Usage(
        input_tokens=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        output_tokens=(usage.candidates_token_count or 0) + thoughts,
        cache_read_tokens=usage.cached_content_token_count or 0,
        reasoning_tokens=thoughts,
        input_audio_tokens=_audio(usage.prompt_tokens_details),
        output_audio_tokens=_audio(usage.candidates_tokens_details),
    )


def _audio(details: Sequence[ModalityTokenCount] | None) -> int:
    return sum([detail.token_count or 0 for detail in details or () if detail.modality == "AUDIO"])


def encode_usage(usage: Usage) -> Json:
    answer = usage.output_tokens - usage.reasoning_tokens
    wire: Json = {"promptTokenCount": usage.input_tokens, "candidatesTokenCount": answer}
    wire["totalTokenCount"] = usage.input_tokens + usage.output_tokens
    if usage.cache_read_tokens:
        wire["cachedContentTokenCount"] = usage.cache_read_tokens
    if usage.reasoning_tokens:
        wire["thoughtsTokenCount"] = usage.reasoning_tokens
    wire["promptTokensDetails"] = _details(usage.input_tokens, usage.input_audio_tokens)
    if usage.output_audio_tokens:
        wire["candidatesTokensDetails"] = _details(answer, usage.output_audio_tokens)
    return wire


def _details(tokens: int, audio: int) -> list[Json]:
    text = [{"modality": "TEXT", "tokenCount": tokens - audio}]
    return text + ([{"modality": "AUDIO", "tokenCount": audio}] if audio else [])


def decode_logprobs(result: LogprobsResult | None) -> tuple[Logprob, ...] | None:
    if result is None or result.chosen_candidates is None:
        return None
    tops = [[_logprob(token) for token in top.candidates or ()] for top in result.top_candidates or ()]
    tops += [[]] * (len(result.chosen_candidates) - len(tops))
    return tuple([_logprob(token, top) for token, top in zip(result.chosen_candidates, tops, strict=False)])


def _logprob(token: TokenLogprob, top: Sequence[Logprob] = ()) -> Logprob:
    value = token.log_probability
    logprob = _LEAST if isinstance(value, str) else value or 0.0
    return Logprob(token=token.token or "", logprob=logprob, top=tuple(top))


def encode_logprobs(logprobs: Sequence[Logprob]) -> Json:
    wire: Json = {"chosenCandidates": [_token(logprob) for logprob in logprobs]}
    if any(logprob.top for logprob in logprobs):
        wire["topCandidates"] = [{"candidates": [_token(top) for top in logprob.top]} for logprob in logprobs]
    return wire


def _token(logprob: Logprob) -> Json:
    return {"token": logprob.token, "logProbability": logprob.logprob}

"""Everything that can go wrong, and what the caller is told.

HoldfastError
├── ConfigError                  the configuration is wrong: a list of problems with file and line
├── StoreError                   a file of the state directory can't be opened, read or written
│   ├── LogError                 ...the log
│   ├── StateError               ...keys, accounts, limits
│   └── PrivacyError             ...the master key, the keys of subjects, the audit trail
└── CallError                    a call ended without an answer
    ├── RequestError             ...because of what the caller sent; nothing reached a model
    │   ├── InvalidRequest           400  invalid_request
    │   ├── Unauthenticated          401  unauthenticated
    │   ├── UnknownModel             404  model_not_found
    │   ├── NotFound                 404  not_found
    │   ├── MethodNotAllowed         405  method_not_allowed
    │   ├── NotAllowed               403  not_allowed
    │   ├── BodyTooLarge             413  body_too_large
    │   ├── TooManyTries             429  too_many_tries (with retry_after): of a password
    │   └── HeadersTooLarge          431  headers_too_large
    ├── GatewayError             ...because of this gateway
    │   ├── Saturated                503  saturated (with retry_after)
    │   ├── FeatureDisabled          503  feature_disabled
    │   ├── InternalError            500  internal_error
    │   ├── Cancelled                499  cancelled: the caller hung up
    │   └── DeadlineExceeded         504  deadline_exceeded
    └── ProviderError            ...because of the model's provider; also the outcome of one attempt
        ├── RateLimited              429  rate_limited (with retry_after)
        ├── Overloaded               503  overloaded (with retry_after)
        ├── ModelDown                503  model_down (with retry_after): known to be down, nothing was sent
        ├── ModelBusy                503  model_busy (with retry_after): at its limit of calls, nothing was sent
        ├── LimitExceeded            429  limit_exceeded (with retry_after): a budget is used up, nothing was sent
        ├── PriceUnknown             403  price_unknown: under a budget in money, nothing was sent
        ├── ProviderFailed           502  provider_failed: any other 5xx
        ├── ContextTooLong           400  context_too_long
        ├── ContentRefused           400  content_refused
        ├── BadRequest               400  bad_request
        ├── AuthenticationFailed     502  provider_authentication: our credentials or account, not the caller's
        ├── ModelUnavailable         502  model_unavailable: no such model there, or not for this account
        ├── PhaseTimeout             504  timeout: of the phase it names
        ├── ConnectionFailed         502  connection_failed
        ├── MalformedResponse        502  malformed_response
        ├── Truncated                502  truncated: cut by a limit that the caller did not set
        ├── BrokenStream             502  broken_stream: cut after part of the answer
        ├── ContractViolated         502  contract_violated: the answer does not meet its contract
        └── NoAgreement              502  no_agreement: the answers to one question differ too much
"""

from typing import ClassVar, Literal

import msgspec

Phase = Literal["connect", "first_token", "idle", "answer"]


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    def __init__(self, message: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip()
        super().__init__(self.message)


class Problem(msgspec.Struct, frozen=True, order=True):
    """One mistake in one file. `line` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(HoldfastError):
    """The configuration is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StoreError(HoldfastError):
    """A file of the state directory can't be used."""


class LogError(StoreError):
    """The log can't be used."""


class StateError(StoreError):
    """The state can't be used: keys, accounts, limits."""


class PrivacyError(StoreError):
    """What keeps data private can't be used: the master key, the keys of subjects, the audit trail."""


class CallError(HoldfastError):
    """A call ended without an answer. `status` is what the caller's wire says, `code` what never changes."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.param = param
        """The field of the request at fault, in the caller's spelling."""
        self.retry_after = retry_after
        """Seconds after which the same call may succeed."""


class RequestError(CallError):
    """The request can't be served as it was sent."""

    status = 400
    code = "invalid_request"


class InvalidRequest(RequestError):
    """The request is not valid."""


class Unauthenticated(RequestError):
    """The call brings no valid key: send one as Authorization: Bearer, or as x-api-key."""

    status = 401
    code = "unauthenticated"


class UnknownModel(RequestError):
    """No feature and no model has this name."""

    status = 404
    code = "model_not_found"


class NotFound(RequestError):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """This address does not take this method."""

    status = 405
    code = "method_not_allowed"


class NotAllowed(RequestError):
    """This caller may not do that."""

    status = 403
    code = "not_allowed"


class BodyTooLarge(RequestError):
    """The request body is larger than the gateway takes."""

    status = 413
    code = "body_too_large"


class TooManyTries(RequestError):
    """Passwords were tried too often, or one search of bodies after another."""

    status = 429
    code = "too_many_tries"


class HeadersTooLarge(RequestError):
    """The request headers are larger than the gateway takes."""

    status = 431
    code = "headers_too_large"


class GatewayError(CallError):
    """The gateway could not serve the call."""


class Saturated(GatewayError):
    """The gateway takes no more calls at the moment."""

    status = 503
    code = "saturated"


class FeatureDisabled(GatewayError):
    """This feature is switched off and has no last resort."""

    status = 503
    code = "feature_disabled"


class InternalError(GatewayError):
    """Something failed inside the gateway. The call's id finds the details in its output."""

    status = 500
    code = "internal_error"


class Cancelled(GatewayError):
    """The caller hung up."""

    status = 499
    code = "cancelled"


class DeadlineExceeded(GatewayError):
    """The call's deadline passed before there was an answer."""

    status = 504
    code = "deadline_exceeded"


class ProviderError(CallError):
    """The model's provider failed."""

    status = 502
    code = "provider_failed"
    same_model_again: bool = False
    """Whether the same request to the same model could succeed."""
    backoff: ClassVar[float] = 0.2
    """The longest pause, in seconds, before that is tried where the provider names none; it doubles with each try."""
    next_model: ClassVar[bool] = True
    """Whether the same request to another model could succeed."""
    callers_fault: bool = False
    """Whether the caller can mend it, so that a last resort would only hide it."""

    def __init__(
        self,
        message: str = "",
        *,
        provider_status: int | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.provider_status = provider_status
        """The HTTP status that the provider sent, if it sent one."""


class RateLimited(ProviderError):
    """The provider's rate limit is reached."""

    status = 429
    code = "rate_limited"
    same_model_again = True


class Overloaded(ProviderError):
    """The provider is overloaded."""

    status = 503
    code = "overloaded"
    same_model_again = True


class ModelDown(ProviderError):
    """The model is known to be down, so nothing was sent to it."""

    status = 503
    code = "model_down"


class ModelBusy(ProviderError):
    """The model has as many calls as it may have, so nothing was sent to it."""

    status = 503
    code = "model_busy"


class LimitExceeded(ProviderError):
    """A budget is used up, so nothing was sent. The caller can't mend that of a feature."""

    status = 429
    code = "limit_exceeded"

    def __init__(self, message: str = "", *, retry_after: float | None = None, callers_fault: bool = True) -> None:
        super().__init__(message, retry_after=retry_after)
        self.callers_fault = callers_fault

    @property
    def lasts(self) -> bool:
        """Whether it holds for longer than a client should wait for it."""
        return self.retry_after is None or self.retry_after > 60


class PriceUnknown(ProviderError):
    """What the model costs is not known, and a budget in money holds, so nothing was sent."""

    status = 403
    code = "price_unknown"
    callers_fault = True


class ProviderFailed(ProviderError):
    """The provider failed to answer."""

    same_model_again = True


class ContextTooLong(ProviderError):
    """The request is longer than the model's context."""

    status = 400
    code = "context_too_long"
    callers_fault = True


class ContentRefused(ProviderError):
    """The provider refused the content."""

    status = 400
    code = "content_refused"
    next_model = False
    callers_fault = True


class BadRequest(ProviderError):
    """The provider did not understand the request."""

    status = 400
    code = "bad_request"
    callers_fault = True


class AuthenticationFailed(ProviderError):
    """The provider did not accept the gateway's credentials or account."""

    code = "provider_authentication"


class ModelUnavailable(ProviderError):
    """The provider does not know this model, or does not let this account use it."""

    code = "model_unavailable"


class PhaseTimeout(ProviderError):
    """The provider was silent for too long."""

    status = 504
    code = "timeout"

    def __init__(self, phase: Phase, seconds: float, *, share: bool = False) -> None:
        waited = f"{round(seconds, 1 if seconds >= 1 else 3):g} s"
        what = f"did not end its answer within {waited}" if phase == "answer" else f"was silent for {waited}"
        of_deadline = ", its share of the deadline" if share else ""
        super().__init__(f"The provider {what}{of_deadline} (phase: {phase}).")
        self.phase = phase
        self.share = share
        """Whether it was the deadline of the call that left it no more time."""


class ConnectionFailed(ProviderError):
    """The connection to the provider failed."""

    code = "connection_failed"

    backoff = 0.0

    def __init__(
        self, message: str = "", *, before_headers: bool = True, reused: bool = False, reached: bool = True
    ) -> None:
        super().__init__(message)
        self.same_model_again = before_headers and reached
        self.before_headers = before_headers
        """Whether it failed before the provider had begun to answer."""
        self.reused = reused
        """Whether it was a kept-alive connection, which a provider may close at any moment."""
        self.reached = reached
        """Whether there was a connection, on which something may have been sent."""
        self.stale = reused and self.same_model_again
        """Whether that is all that happened: nothing was answered, and another connection may do."""


class MalformedResponse(ProviderError):
    """The provider's response does not follow its own format."""

    code = "malformed_response"


class Truncated(ProviderError):
    """The model stopped at a limit that the caller did not set, so the answer is not whole. Set max_tokens."""

    code = "truncated"


class BrokenStream(ProviderError):
    """The stream broke off before the answer was complete."""

    code = "broken_stream"


class ContractViolated(ProviderError):
    """The answer does not meet its contract."""

    code = "contract_violated"

    def __init__(self, message: str = "", *, reask: bool = False) -> None:
        super().__init__(message)
        self.reask = reask
        """Whether the model can be told what is wrong, and asked for just that."""


class NoAgreement(ProviderError):
    """The model's answers to the same question differ too much."""

    code = "no_agreement"

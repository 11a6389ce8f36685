"""OpenAI's error vocabulary as one tree.

    ApiError                    status  type                    code (default)
    ├── InvalidRequest          400     invalid_request_error   None
    │   └── ContextTooLong      400     invalid_request_error   context_length_exceeded
    ├── Unauthenticated         401     invalid_request_error   invalid_api_key
    ├── Forbidden               403     invalid_request_error   None
    ├── NotFound                404     invalid_request_error   None
    │   └── ModelNotFound       404     invalid_request_error   model_not_found
    ├── MethodNotAllowed        405     invalid_request_error   method_not_supported
    ├── RequestTimeout          408     invalid_request_error   request_timeout
    ├── Conflict                409     invalid_request_error   None
    ├── BodyTooLarge            413     invalid_request_error   request_too_large
    ├── UnsupportedMediaType    415     invalid_request_error   unsupported_media_type
    ├── RateLimited             429     rate_limit_error        rate_limit_exceeded  (+ retry-after)
    ├── ServerError             500     server_error            None
    ├── BadGateway              502     server_error            bad_gateway
    │   └── Unreachable         502     server_error            bad_gateway
    ├── Unavailable             503     server_error            service_unavailable  (+ retry-after)
    └── UpstreamTimeout         504     server_error            upstream_timeout

    ConfigurationError          settings that cannot work; raised at start, never per request

The official SDKs map the status to their own exception class and read `type`, `code` and `param`
from the body (https://platform.openai.com/docs/guides/error-codes/api-errors).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ApiError(Exception):
    """A request that failed, in OpenAI's words."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error body: `{"error": {message, type, param, code}}`."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class InvalidRequest(ApiError):
    status = 400
    type = "invalid_request_error"


class ContextTooLong(InvalidRequest):
    default_code = "context_length_exceeded"

    @classmethod
    def of(cls, limit: int, prompt: int, completion: int = 0) -> ContextTooLong:
        """OpenAI's own wording; clients match on "maximum context length"."""
        if completion:
            asked = (
                f"However, you requested {prompt + completion} tokens ({prompt} in the messages, "
                f"{completion} in the completion). Please reduce the length of the messages or "
                "completion."
            )
        else:
            asked = (
                f"However, your messages resulted in {prompt} tokens. "
                "Please reduce the length of the messages."
            )
        return cls(
            f"This model's maximum context length is {limit} tokens. {asked}", param="messages"
        )


class Unauthenticated(ApiError):
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class Forbidden(ApiError):
    status = 403
    type = "invalid_request_error"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    default_code = "model_not_found"

    @classmethod
    def of(cls, model: str) -> ModelNotFound:
        return cls(
            f"The model `{model}` does not exist or you do not have access to it.", param="model"
        )


class MethodNotAllowed(ApiError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_supported"


class RequestTimeout(ApiError):
    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"


class BodyTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMediaType(ApiError):
    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class _RetryLater(ApiError):
    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, headers=headers)
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, round(retry_after)))


class RateLimited(_RetryLater):
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class ServerError(ApiError):
    status = 500
    type = "server_error"


class BadGateway(ApiError):
    status = 502
    type = "server_error"
    default_code = "bad_gateway"


class Unreachable(BadGateway):
    """The request never arrived, so it can be sent again without anything being done twice."""


class Unavailable(_RetryLater):
    status = 503
    type = "server_error"
    default_code = "service_unavailable"


class UpstreamTimeout(ApiError):
    status = 504
    type = "server_error"
    default_code = "upstream_timeout"


class ConfigurationError(Exception):
    """Settings that cannot work. The message names the variable, its value, what was expected
    and the way out."""

"""Everything that can go wrong, as one tree.

    ConsiliumError
    +-- BadRequest                400  the caller's request cannot be read or carried out as asked
    |   +-- UnknownModel          404  `model` names no route and no expert
    |   +-- TooLarge              413  the body is longer than the gateway takes
    |   +-- NoCandidate           400  no expert of the route meets the request's hard constraints
    +-- Denied                    401  no key, or a wrong one
    |   +-- Forbidden             403  a good key, but not for this route, expert or endpoint
    +-- Limited                   429  a rate or concurrency limit is spent; `retry_after_s` says for how long
    +-- BudgetSpent               400  the request's budget ended before anything was said (504: its time)
    +-- ExpertError                    one expert's call failed; `expert` and `endpoint` say which
    |   +-- ExpertRefused    (theirs)  the expert's server answered 4xx: its body is the caller's to read
    |   +-- ExpertDown            503  not reachable, or cooling down after failures
    |   +-- ExpertTimeout         504  no first byte, or no next byte, in the time its manifest allows
    |   +-- ExpertBroke           502  it answered 5xx, or not in the OpenAI format, or broke off
    +-- AllFailed                 502  every seat and spare failed; `causes` keeps each failure
    +-- NotReady                  503  the gateway is starting, stopping, or lacks a part it needs
    +-- RegistryError                  manifests do not hold together; `problems` lists every one
    +-- ConfigError                    a flag, environment variable or config file is wrong

Every error carries the fields that the OpenAI error object wants (`type`, `code`, `param`) and an HTTP `status`.
Messages name the thing, what was expected, what was found and the way out; they never hold a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ConsiliumError(Exception):
    """The root of the tree: a message for people, and fields for programs."""

    status: int = 500
    type: str = "internal_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class BadRequest(ConsiliumError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class UnknownModel(BadRequest):
    status = 404
    code = "model_not_found"


class TooLarge(BadRequest):
    status = 413
    code = "request_too_large"


class NoCandidate(BadRequest):
    code = "no_candidate"


class Denied(ConsiliumError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(Denied):
    status = 403
    type = "permission_error"
    code = "not_allowed"


class Limited(ConsiliumError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class BudgetSpent(ConsiliumError):
    """A call may not start, or said nothing in time. `limit`: calls, tokens, usd or ms."""

    status = 400
    type = "invalid_request_error"
    code = "budget_spent"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message, param=f"consilium.budget.{limit}")
        self.limit = limit
        if limit == "ms":
            self.status, self.type = 504, "timeout"


class ExpertError(ConsiliumError):
    """One call to one expert failed. `retryable`: another expert, or a replica, may still answer."""

    status = 502
    type = "expert_error"
    code = "expert_failed"
    retryable: bool = True

    def __init__(self, message: str, *, expert: str, endpoint: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.expert = expert
        self.endpoint = endpoint


class ExpertRefused(ExpertError):
    """The server understood and said no (4xx). Only 408 and 429 are worth another try elsewhere."""

    type = "invalid_request_error"
    code = "expert_refused"

    def __init__(
        self, message: str, *, expert: str, endpoint: str = "", status: int, body: bytes = b"", retry_after: str = ""
    ) -> None:
        super().__init__(message, expert=expert, endpoint=endpoint)
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.retryable = status in (401, 403, 404, 408, 429)


class ExpertDown(ExpertError):
    status = 503
    code = "expert_unavailable"


class ExpertTimeout(ExpertError):
    status = 504
    code = "expert_timeout"


class ExpertBroke(ExpertError):
    code = "expert_broke"


class AllFailed(ConsiliumError):
    """Every seat and spare of the plan failed before a first delta; `causes` in the order they were tried."""

    status = 502
    type = "expert_error"
    code = "all_experts_failed"

    def __init__(self, message: str, *, causes: Sequence[ExpertError]) -> None:
        super().__init__(message)
        self.causes = tuple(causes)
        statuses = {cause.status for cause in self.causes}
        if len(statuses) == 1:
            self.status = statuses.pop()


class NotReady(ConsiliumError):
    status = 503
    type = "service_unavailable"
    code = "not_ready"


class ConfigError(ConsiliumError):
    type = "config_error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one manifest: `registry/qwen.yaml:7: price.output: must be >= 0, got -1`."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class RegistryError(ConsiliumError):
    """`problems` holds every problem of every file, in file order."""

    status = 422
    type = "registry_error"
    code = "invalid_registry"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

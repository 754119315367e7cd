"""Problems as a provider, a gateway or the network really sends them, for every row of the error table."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.core.model import Response
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Phase
from orchestrator.policy.errors.judgement import AnswerPolicy, judge_create, judge_poll, judge_response
from orchestrator.policy.errors.verdicts import (
    Fail,
    Found,
    Halt,
    InDoubt,
    Later,
    Outage,
    PollAgain,
    RateLimited,
    Retry,
    Verdict,
)

__all__ = ["CASES", "Case", "judge"]

ENVOY = "upstream connect error or disconnect/reset before headers. reset reason: "
TPM = "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s."


class Case(NamedTuple):
    """One problem and the expected verdict; a tuple compares only its type and code."""

    phase: Phase
    problem: Problem
    verdict: Verdict | tuple[type[Verdict], str]


def on_create(problem: Problem, verdict: Verdict | tuple[type[Verdict], str]) -> Case:
    return Case(Phase.CREATE, problem, verdict)


def on_poll(problem: Problem, verdict: Verdict | tuple[type[Verdict], str]) -> Case:
    return Case(Phase.POLL, problem, verdict)


def as_failed(code: str | None, verdict: Verdict | tuple[type[Verdict], str]) -> Case:
    return Case(Phase.FAILED, Refused(status=200, code=code, message="m"), verdict)


CASES: dict[str, list[Case]] = {
    "own-pool-full": [on_create(NeverSent(reason="no free connection", local=True), Later(0.5))],
    "never-sent": [
        on_create(NeverSent(reason="refused"), Outage("connection_failed", None, "refused")),
        on_create(NeverSent(reason="no such host"), Outage("connection_failed", None, "no such host")),
    ],
    "id-salvaged": [
        on_create(ReplyLost(reason="not complete JSON", status=200, response_id="resp_1"), Found("resp_1")),
        on_create(ReplyLost(reason="dropped", response_id="resp_1"), Found("resp_1")),
    ],
    "unreadable": [
        on_create(ReplyLost(reason="no id", status=200, unreadable=True), Fail("unreadable_reply", "no id")),
    ],
    "unreadable-reply": [
        on_create(ReplyLost(reason="a web page", status=200), InDoubt(message="a web page")),
        on_create(ReplyLost(reason="empty", status=202), InDoubt(message="empty")),
    ],
    "reply-lost": [
        on_create(ReplyLost(reason="no reply within 60 s"), InDoubt(message="no reply within 60 s")),
        on_create(ReplyLost(reason="reset"), InDoubt(message="reset")),
    ],
    "poll-own-pool-full": [on_poll(NeverSent(reason="no free connection", local=True), PollAgain(0.5))],
    "poll-unreadable": [on_poll(ReplyLost(reason="not JSON", status=200, unreadable=True), PollAgain())],
    "poll-lost": [
        on_poll(NeverSent(reason="refused"), PollAgain(outage=True)),
        on_poll(ReplyLost(reason="reset"), PollAgain(outage=True)),
        on_poll(ReplyLost(reason="a web page", status=200), PollAgain(outage=True)),
        on_poll(ReplyLost(reason="dropped", response_id="resp_1"), PollAgain(outage=True)),
    ],
    "no-money": [
        on_create(Refused(status=429, code="insufficient_quota"), (Halt, "insufficient_quota")),
        on_create(Refused(status=429, code="a_new_one", type="insufficient_quota"), (Halt, "a_new_one")),
        on_create(Refused(status=400, code="billing_hard_limit_reached"), (Halt, "billing_hard_limit_reached")),
        on_poll(Refused(status=429, code="credit_balance_exhausted"), (Halt, "credit_balance_exhausted")),
        as_failed("project_spend_limit_exceeded", (Halt, "project_spend_limit_exceeded")),
    ],
    "bad-key": [
        on_create(Refused(status=401, code="invalid_api_key"), (Halt, "invalid_api_key")),
        on_create(Refused(status=400, code="invalid_api_key"), (Halt, "invalid_api_key")),
        on_poll(Refused(status=401, code="invalid_api_key"), (Halt, "invalid_api_key")),
    ],
    "key-unchecked": [
        on_create(Refused(status=400, code="400", type="no_db_connection"), (Halt, "no_db_connection")),
        on_poll(Refused(status=400, code="400", type="no_db_connection"), (Halt, "no_db_connection")),
    ],
    "wrong-country": [
        on_create(
            Refused(status=403, code="unsupported_country_region_territory"),
            (Halt, "unsupported_country_region_territory"),
        )
    ],
    "model-not-found": [
        on_create(Refused(status=404, code="model_not_found", message="no"), Fail("model_not_found", "no")),
        on_create(Refused(status=400, code="model_not_found", message="no"), Fail("model_not_found", "no")),
        on_create(Refused(status=403, code="model_not_found", message="no"), Fail("model_not_found", "no")),
    ],
    "wrong-request": [
        on_create(Refused(status=400, code="unsupported_parameter"), (Fail, "unsupported_parameter")),
        on_create(Refused(status=400, code="unknown_parameter", should_retry=True), (Fail, "unknown_parameter")),
        on_create(Refused(status=400, code="missing_required_parameter"), (Fail, "missing_required_parameter")),
    ],
    "wrong-row": [
        on_create(Refused(status=400, code="context_length_exceeded"), (Fail, "context_length_exceeded")),
        on_create(Refused(status=400, code="invalid_prompt"), (Fail, "invalid_prompt")),
        on_create(Refused(status=400, code="previous_response_not_found"), (Fail, "previous_response_not_found")),
    ],
    "against-policy": [
        on_create(Refused(status=400, code="content_policy_violation"), (Fail, "content_policy_violation")),
        on_create(Refused(status=400, type="image_generation_user_error"), (Fail, "image_generation_user_error")),
        on_create(Refused(status=400, code="misalignment_policy_violation"), (Fail, "misalignment_policy_violation")),
    ],
    "conversation-locked": [
        on_create(
            Refused(status=400, code="conversation_locked", param="conversation", message="locked"),
            Retry("conversation_locked", 5.0, "locked", base_s=5.0),
        ),
        as_failed("conversation_locked", (Retry, "conversation_locked")),
    ],
    "slow-down": [
        on_create(Refused(status=429, code="slow_down", type="rate_limit_error"), RateLimited(slow_down=True)),
        on_create(Refused(status=503, code="slow_down", retry_after_s=3), RateLimited(3, slow_down=True)),
        on_poll(Refused(status=429, code="slow_down"), RateLimited(slow_down=True)),
    ],
    "overloaded": [
        on_create(
            Refused(status=503, code="server_is_overloaded", type="service_unavailable_error", message="busy"),
            Outage("server_is_overloaded", 5.0, "busy"),
        ),
        on_create(
            Refused(status=503, type="service_unavailable_error", retry_after_s=9),
            Outage("service_unavailable_error", 9, "HTTP 503"),
        ),
    ],
    "gateway-unconnected": [
        on_create(Refused(status=503, message=ENVOY + "connection failure"), (Outage, "http_503")),
        on_create(Refused(status=503, message=ENVOY + "overflow"), (Outage, "http_503")),
    ],
    "gateway-reset": [
        on_create(
            Refused(status=503, message=ENVOY + "connection termination"),
            InDoubt(message=ENVOY + "connection termination"),
        ),
        on_create(Refused(status=403, message=ENVOY + "remote reset"), InDoubt(message=ENVOY + "remote reset")),
    ],
    "poll-gateway": [on_poll(Refused(status=403, message=ENVOY + "connection termination"), PollAgain(outage=True))],
    "too-large": [
        on_create(
            Refused(
                status=429,
                code="rate_limit_exceeded",
                type="tokens",
                message="Request too large: Limit 30000, Requested 45000",
            ),
            (Fail, "request_too_large"),
        ),
        on_create(
            Refused(status=429, message="TPM: Limit 1,000, Used 0, Requested 1,001."), (Fail, "request_too_large")
        ),
        on_create(Refused(status=429, message="Request too large for this model"), (Fail, "request_too_large")),
    ],
    "flex-unavailable": [
        on_create(Refused(status=429, message="Resource Unavailable"), RateLimited(30.0)),
        on_create(Refused(status=429, code="resource_unavailable", retry_after_s=90), RateLimited(90)),
    ],
    "rate-limited": [
        on_create(Refused(status=429, code="rate_limit_exceeded", type="requests", retry_after_s=1), RateLimited(1)),
        on_create(Refused(status=429), RateLimited()),
        on_create(Refused(status=429, should_retry=False), RateLimited()),
        on_create(
            Refused(status=429, code="rate_limit_exceeded", type="tokens", message=TPM, retry_after_s=2),
            RateLimited(2),
        ),
        on_create(Refused(status=429, message="tokens: Limit 2000, Requested 2000"), RateLimited()),
        on_poll(Refused(status=429, retry_after_s=1), RateLimited(1)),
    ],
    "rate-limited-by-code": [on_create(Refused(status=400, code="rate_limit_exceeded"), RateLimited())],
    "unauthorized": [
        on_create(Refused(status=401, message="IP not authorized"), (Halt, "http_401")),
        on_poll(Refused(status=401), (Halt, "http_401")),
    ],
    "payment-required": [on_create(Refused(status=402, should_retry=True), (Halt, "http_402"))],
    "forbidden": [
        on_create(Refused(status=403, message="missing permission"), (Halt, "http_403")),
        on_poll(Refused(status=403), (Halt, "http_403")),
    ],
    "proxy-login": [on_create(Refused(status=407), (Halt, "http_407"))],
    "wrong-address": [
        on_create(
            Refused(status=404, message="Not Found"), Retry("http_404", None, "Not Found", base_s=5.0, outage=True)
        ),
        on_create(Refused(status=301, message="redirected to https://x/v1"), (Retry, "http_301")),
        on_create(Refused(status=405), (Retry, "http_405")),
    ],
    "timed-out-or-locked": [
        on_create(Refused(status=408), Retry("http_408", None, "HTTP 408")),
        on_create(Refused(status=409, retry_after_s=4), Retry("http_409", 4, "HTTP 409")),
    ],
    "body-too-large": [on_create(Refused(status=413), (Fail, "http_413"))],
    "refused-for-now": [on_create(Refused(status=418, should_retry=True), Retry("http_418", None, "HTTP 418"))],
    "refused": [
        on_create(Refused(status=422, message="input: field required"), Fail("http_422", "input: field required")),
        on_create(Refused(status=400, type="invalid_request_error"), (Fail, "invalid_request_error")),
    ],
    "gateway": [
        on_create(Refused(status=status, message="Bad gateway"), InDoubt(message="Bad gateway"))
        for status in (502, 504, 520, 521, 522, 523, 524)
    ]
    + [
        on_create(Refused(status=502, code="server_error", should_retry=False), InDoubt(message="HTTP 502")),
    ],
    "not-implemented": [on_create(Refused(status=501), (Fail, "http_501"))],
    "server-error-for-good": [on_create(Refused(status=500, should_retry=False), (Fail, "http_500"))],
    "server-error": [
        on_create(
            Refused(status=500, code="server_error", type="server_error", message="sorry"),
            Retry("server_error", None, "sorry", base_s=5.0, outage=True),
        ),
        on_create(Refused(status=503, retry_after_s=7), Retry("http_503", 7, "HTTP 503", base_s=5.0, outage=True)),
        on_create(Refused(status=529), (Retry, "http_529")),
    ],
    "unknown-status": [
        on_create(Refused(status=700), InDoubt(message="HTTP 700")),
        on_create(Refused(status=200, message="odd"), InDoubt(message="odd")),
    ],
    "poll-missing": [
        on_poll(Refused(status=404, message="Response with id 'resp_1' not found."), PollAgain(2.0, missing=True)),
        on_poll(Refused(status=410), PollAgain(2.0, missing=True)),
    ],
    "poll-impossible": [on_poll(Refused(status=405), (Halt, "http_405"))],
    "poll-server-error": [
        on_poll(Refused(status=500), PollAgain(outage=True)),
        on_poll(Refused(status=502, retry_after_s=2), PollAgain(2, outage=True)),
        on_poll(Refused(status=503, code="server_is_overloaded"), PollAgain(outage=True)),
    ],
    "poll-refused": [
        on_poll(Refused(status=400), PollAgain()),
        on_poll(Refused(status=409, retry_after_s=1), PollAgain(1)),
    ],
    "failed-server-error": [
        as_failed("server_error", Retry("server_error", None, "m", base_s=5.0, outage=True)),
        as_failed("server_is_overloaded", (Retry, "server_is_overloaded")),
    ],
    "failed-rate-limited": [
        as_failed("rate_limit_exceeded", Retry("rate_limit_exceeded", None, "m", base_s=5.0, rate_limited=True))
    ],
    "failed-slow-down": [as_failed("slow_down", Retry("slow_down", None, "m", base_s=5.0, rate_limited=True))],
    "failed-vector-store": [as_failed("vector_store_timeout", Retry("vector_store_timeout", None, "m", base_s=5.0))],
    "failed-image-download": [
        as_failed(
            "failed_to_download_image", Retry("failed_to_download_image", None, "m", base_s=5.0, most_attempts=2)
        )
    ],
    "failed-nameless": [as_failed(None, Retry("response_failed", None, "m", base_s=5.0))],
    "failed": [
        as_failed("invalid_prompt", Fail("invalid_prompt", "m")),
        as_failed("data_residency_mismatch", Fail("data_residency_mismatch", "m")),
        as_failed("image_content_policy_violation", Fail("image_content_policy_violation", "m")),
        as_failed("a_code_of_next_year", Fail("a_code_of_next_year", "m")),
    ],
}


def judge(case: Case) -> Verdict:
    match case.phase:
        case Phase.CREATE:
            return judge_create(case.problem)
        case Phase.POLL:
            return judge_poll(case.problem, age_s=1, misses=1, missing_s=0)
        case Phase.FAILED:
            assert isinstance(case.problem, Refused)
            return judge_response(
                Response(
                    id="resp_1",
                    status="failed",
                    ended=True,
                    body=b"",
                    error_code=case.problem.code,
                    error_message="m",
                ),
                AnswerPolicy(),
            )

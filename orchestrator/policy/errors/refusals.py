"""The rows of the error table for errors that a provider answers with, from the most to the least specific.

Error codes and types come first, then texts, then HTTP statuses, because the list of codes is open (responses API,
"errors, retries, rate limits").
"""

from __future__ import annotations

from orchestrator.policy.errors.error_rules import Action, ErrorRule, Phase, Reach

__all__ = ["CHECK_URL", "NO_MONEY", "REFUSALS"]

_POLL = frozenset({Phase.POLL})
_CALLS = frozenset({Phase.CREATE, Phase.POLL})
_CREATE_OR_FAILED = frozenset({Phase.CREATE, Phase.FAILED})
_ANYWHERE = frozenset(Phase)

NO_MONEY = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
_WRONG_REQUEST = frozenset(
    {
        "unsupported_parameter",
        "unsupported_value",
        "invalid_value",
        "missing_required_parameter",
        "unknown_parameter",
        "invalid_type",
        "invalid_json_schema",
    }
)
_WRONG_ROW = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "invalid_prompt",
        "previous_response_not_found",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
        "image_file_not_found",
    }
)
_AGAINST_POLICY = frozenset(
    {
        "moderation_blocked",
        "content_policy_violation",
        "image_content_policy_violation",
        "bio_policy",
        "content_filter",
        "image_generation_user_error",
        "misalignment_policy_violation",
    }
)

_ADD_CREDIT = "add credit or raise the spending limit at the provider, then repeat the command: the run continues"
_CHECK_KEY = (
    "check the key in the variable that provider.api_key_env names, then repeat the command: the run continues"
)
CHECK_URL = "check provider.base_url in the config (it usually ends in /v1); `orchestrator doctor` checks it"

_STOP_ALL: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="no-money",
        phases=_ANYWHERE,
        names=NO_MONEY,
        action=Action.HALT,
        reach=Reach.ALL,
        says="the account has no credit left, or has reached a spending limit",
        hint=_ADD_CREDIT,
        why="Only a person can fix it. The type identifies it if the code is new, the code if the type is old.",
    ),
    ErrorRule(
        name="bad-key",
        phases=_ANYWHERE,
        names=frozenset({"invalid_api_key"}),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the provider refuses the key",
        hint=_CHECK_KEY,
        why="Every request carries the same key.",
    ),
    ErrorRule(
        name="key-unchecked",
        phases=_ANYWHERE,
        names=frozenset({"no_db_connection"}),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the gateway refuses the key: it is not its master key, and it has no database of other keys",
        hint=_CHECK_KEY,
        why="LiteLLM without a database answers a wrong key with HTTP 400.",
    ),
    ErrorRule(
        name="wrong-country",
        phases=_ANYWHERE,
        names=frozenset({"unsupported_country_region_territory"}),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the provider does not serve the country that this machine calls from",
        why="Every request leaves from the same machine.",
    ),
)

_BY_NAME: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="model-not-found",
        names=frozenset({"model_not_found"}),
        action=Action.FAIL,
        reach=Reach.JOB,
        says="the provider does not know the model, or the key may not use it",
        hint="check request.model in the job; `orchestrator doctor` lists the models that the key may use",
        why="Permanent for every request with that model.",
    ),
    ErrorRule(
        name="wrong-request",
        names=_WRONG_REQUEST,
        action=Action.FAIL,
        reach=Reach.JOB,
        says="the provider refuses the request as the job describes it",
        hint="correct the field under `request` in the job file, and run the same command again to continue the run",
        why="Usually the job's template is at fault, not the row.",
    ),
    ErrorRule(
        name="wrong-row",
        names=_WRONG_ROW,
        action=Action.FAIL,
        why="The content of this row cannot be processed; a retry would end the same way.",
    ),
    ErrorRule(
        name="against-policy",
        names=_AGAINST_POLICY,
        action=Action.FAIL,
        why="A policy refused the content of this row, and would again.",
    ),
    ErrorRule(
        name="conversation-locked",
        phases=_CREATE_OR_FAILED,
        names=frozenset({"conversation_locked"}),
        action=Action.RETRY,
        wait_s=5.0,
        base_s=5.0,
        why="HTTP 400, but transient: another response is writing to that conversation.",
    ),
    ErrorRule(
        name="slow-down",
        phases=_CALLS,
        names=frozenset({"slow_down"}),
        action=Action.SLOW_DOWN,
        reach=Reach.ALL,
        why="The load rose too fast, within the limits; 429 today, 503 on older endpoints.",
    ),
    ErrorRule(
        name="overloaded",
        names=frozenset({"server_is_overloaded", "service_unavailable_error"}),
        action=Action.OUTAGE,
        reach=Reach.ALL,
        wait_s=5.0,
        why="The provider says that it cannot serve any request now; refused, so nothing was created.",
    ),
)

_BY_TEXT: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="gateway-unconnected",
        text="disconnect/reset before headers.*(connection failure|overflow)",
        action=Action.OUTAGE,
        reach=Reach.ALL,
        wait_s=1.0,
        why="A gateway that could not connect to the server behind it: nothing was forwarded.",
    ),
    ErrorRule(
        name="gateway-reset",
        text="disconnect/reset before headers",
        action=Action.IN_DOUBT,
        why="A gateway, with any status, whose connection broke after it may have forwarded the request.",
    ),
    ErrorRule(
        name="poll-gateway",
        phases=_POLL,
        text="disconnect/reset before headers",
        action=Action.RETRY,
        reach=Reach.ALL,
        why="A gateway lost the poll; it is repeated.",
    ),
)

_LIMITED: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="too-large",
        http=("429",),
        oversized=True,
        action=Action.FAIL,
        code="request_too_large",
        why="One request needs more than the whole limit, and never fits however long it waits.",
    ),
    ErrorRule(
        name="flex-unavailable",
        http=("429",),
        text=r"resource[ _]unavailable",
        action=Action.RATE_LIMITED,
        reach=Reach.ALL,
        wait_s=30.0,
        why="No flex capacity now, and not charged: waits longer than a rate limit.",
    ),
    ErrorRule(
        name="rate-limited",
        phases=_CALLS,
        http=("429",),
        action=Action.RATE_LIMITED,
        reach=Reach.ALL,
        why="The requests or tokens of the minute or the day are used up.",
    ),
    ErrorRule(
        name="rate-limited-by-code",
        phases=_CALLS,
        names=frozenset({"rate_limit_exceeded"}),
        action=Action.RATE_LIMITED,
        reach=Reach.ALL,
        why="A rate limit with another status.",
    ),
)

_BY_STATUS: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="unauthorized",
        phases=_CALLS,
        http=("401",),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the provider refuses the key",
        hint=_CHECK_KEY,
        why="Every request carries the same key; also an address or organization that is not allowed.",
    ),
    ErrorRule(
        name="payment-required",
        phases=_CALLS,
        http=("402",),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the account has no credit left",
        hint=_ADD_CREDIT,
        why="How other providers report that there is no credit.",
    ),
    ErrorRule(
        name="forbidden",
        phases=_CALLS,
        http=("403",),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the provider does not permit this",
        hint="check the permissions of the key and its project, then repeat the command: the run continues",
        why="A permission that every request lacks.",
    ),
    ErrorRule(
        name="proxy-login",
        phases=_CALLS,
        http=("407",),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the proxy on the way to the provider asks for a login",
        hint="correct the proxy settings of the environment, then repeat the command: the run continues",
        why="Every request takes the same route.",
    ),
    ErrorRule(
        name="wrong-address",
        http=("3xx", "404", "405", "410"),
        action=Action.RETRY,
        reach=Reach.JOB,
        base_s=5.0,
        says="there is no Responses API at this address",
        hint=CHECK_URL,
        why="A wrong base_url fails every request; after accepted requests it is a transient routing fault.",
    ),
    ErrorRule(
        name="timed-out-or-locked",
        http=("408", "409"),
        action=Action.RETRY,
        why="The server gave up before it did anything, or something that it needs is locked.",
    ),
    ErrorRule(
        name="body-too-large",
        http=("413",),
        action=Action.FAIL,
        why="The body of this request is larger than the server accepts.",
    ),
    ErrorRule(
        name="refused-for-now",
        http=("4xx",),
        should_retry=True,
        action=Action.RETRY,
        why="An unknown refusal that the provider marks as transient.",
    ),
    ErrorRule(
        name="refused",
        http=("4xx",),
        action=Action.FAIL,
        reach=Reach.JOB,
        says="the provider refuses the request as the job describes it",
        hint="if only the row is at fault, say so under provider.errors in the config: {status: …, class: fail}",
        why="An unknown refusal: permanent.",
    ),
    ErrorRule(
        name="gateway",
        http=("502", "504", "520-524"),
        action=Action.IN_DOUBT,
        why="A gateway lost the reply or did not wait for it; the server behind it may have accepted the request.",
    ),
    ErrorRule(
        name="not-implemented",
        http=("501",),
        action=Action.FAIL,
        reach=Reach.JOB,
        says="the server does not do what the job asks for",
        hint=CHECK_URL,
        why="Waiting does not change what the server supports.",
    ),
    ErrorRule(
        name="server-error-for-good",
        http=("5xx",),
        should_retry=False,
        action=Action.FAIL,
        why="An unknown fault that the provider marks as permanent.",
    ),
    ErrorRule(
        name="server-error",
        http=("5xx",),
        action=Action.RETRY,
        reach=Reach.ALL,
        base_s=5.0,
        why="A clean refusal, mostly transient; many in a row are an outage, but one row may also cause it.",
    ),
    ErrorRule(
        name="unknown-status",
        action=Action.IN_DOUBT,
        why="Not the status of an error: whether the request was accepted is unknown.",
    ),
)

REFUSALS = _STOP_ALL + _BY_NAME + _BY_TEXT + _LIMITED + _BY_STATUS

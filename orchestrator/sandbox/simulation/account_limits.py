"""The rate limits of one model: token buckets for requests and tokens, and the headers that report them."""

from __future__ import annotations

import math

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.sandbox_settings import AccountLimits

__all__ = ["Allowance", "format_duration"]


class Bucket:
    """A token bucket, refilled continuously; at most ``burst_s`` seconds' worth may be used at once."""

    def __init__(self, per_minute: int, *, burst_s: float, now: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute * burst_s / 60)
        self._level = self.capacity
        self._filled_at = now

    def level(self, now: float) -> float:
        """The amount that can be taken now."""
        self._level = min(self.capacity, self._level + max(0.0, now - self._filled_at) * self.per_minute / 60)
        self._filled_at = now
        return self._level

    def take(self, now: float, amount: float) -> None:
        """Takes an amount, which must be available."""
        self._level = self.level(now) - amount

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds until ``amount`` can be taken."""
        return max(0.0, (amount - self.level(now)) * 60 / self.per_minute)

    def reset_s(self, now: float) -> float:
        """Seconds until the bucket is full, which is what the provider's reset headers report."""
        return self.wait_s(now, self.capacity)


class Allowance:
    """What one model still allows; requests and tokens are taken together or not at all."""

    def __init__(self, limits: AccountLimits, *, now: float) -> None:
        rates = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        self._buckets = {
            name: Bucket(per_minute, burst_s=limits.burst_s, now=now)
            for name, per_minute in rates.items()
            if per_minute is not None
        }
        self._sends_headers = limits.headers

    def take(self, now: float, *, tokens: int, model: str) -> None:
        """Takes one request and its tokens; raises ``ErrorReply`` (429) and takes nothing if either is short."""
        need = {"requests": 1, "tokens": tokens}
        for name, bucket in self._buckets.items():
            if need[name] > bucket.capacity:
                raise self._too_large(name, bucket, need[name], model, now)
            if bucket.wait_s(now, need[name]) > 0:
                raise self._reached(name, bucket, need[name], model, now)
        for name, bucket in self._buckets.items():
            bucket.take(now, need[name])

    def headers(self, now: float) -> dict[str, str]:
        """The ``x-ratelimit-*`` headers (responses API, "Rate limits")."""
        headers: dict[str, str] = {}
        if self._sends_headers:
            for name, bucket in self._buckets.items():
                headers[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level(now))))
                headers[f"x-ratelimit-reset-{name}"] = format_duration(bucket.reset_s(now))
        return headers

    def _reached(self, name: str, bucket: Bucket, need: int, model: str, now: float) -> ErrorReply:
        wait_s = bucket.wait_s(now, need)
        used = bucket.per_minute - max(0, math.floor(bucket.level(now)))
        message = (
            f"Rate limit reached for {model} in organization org-sandbox on {name} per min ({name[0].upper()}PM): "
            f"Limit {bucket.per_minute}, Used {used}, Requested {need}. "
            f"Please try again in {format_duration(wait_s)}."
        )
        headers = {
            "retry-after": str(max(1, math.ceil(wait_s))),
            "retry-after-ms": str(max(1, math.ceil(wait_s * 1000))),
            **self.headers(now),
        }
        return error_reply(429, message, type=name, code="rate_limit_exceeded", headers=headers)

    def _too_large(self, name: str, bucket: Bucket, need: int, model: str, now: float) -> ErrorReply:
        message = (
            f"Request too large for {model} in organization org-sandbox on {name} per min ({name[0].upper()}PM): "
            f"Limit {bucket.per_minute}, Requested {need}. "
            "The input or output tokens must be reduced in order to run successfully."
        )
        # Waiting does not help, so no Retry-After.
        return error_reply(429, message, type=name, code="rate_limit_exceeded", headers=self.headers(now))


def format_duration(seconds: float) -> str:
    """A duration as the provider's headers write it: ``12ms``, ``1.5s``, ``6m0s``, ``1h2m3s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text

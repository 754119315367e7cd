from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.config import Config, ErrorOverride, load_config
from orchestrator.core.errors import ConfigError
from orchestrator.policy.errors.error_rules import Action, Override, Phase
from orchestrator.policy.pricing.price_rules import PriceRules
from orchestrator.stores.reads import SharedCaps

REPOSITORY = Path(__file__).parent.parent
SECRET = "sk-proj-CANARY123456"


def load(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path, environ=environ or {})


def refusal(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_without_a_file_it_is_the_real_api() -> None:
    config = load_config(environ={})
    assert config.provider.base_url == "https://api.openai.com/v1"
    assert config.provider.api_key_env == "OPENAI_API_KEY"
    assert config.provider.sandbox is None
    assert (config.limits.requests_per_minute, config.limits.tokens_per_minute) == (None, None)
    assert (config.limits.polls_per_minute, config.limits.max_in_flight) == (6000, 2000)
    assert config.timeouts.model_dump() == {"connect": 5, "read": 60, "queued": 3600, "run": 21600}
    assert config.in_doubt.resend_below_pusd == 5 * 10**10
    assert config.database == Path("orchestrator.db")
    assert config.price_rules() == PriceRules()
    assert config.source is None


def test_budgets_over_all_runs(tmp_path: Path) -> None:
    assert load(tmp_path, "{}").budget.caps(7, simulated=False) is None
    config = load(tmp_path, "budget: {usd_per_day: 2.5, cap_output_tokens: 500, confirm_above_usd: 0}")
    caps = SharedCaps(run_id=7, simulated=True, day_pusd=25 * 10**11, month_pusd=None)
    assert config.budget.caps(7, simulated=True) == caps
    assert config.budget.cap_output_tokens == 500
    assert config.budget.confirm_above_usd == Decimal(0)
    assert "budget.usd_per_month: must be more than 0" in refusal(tmp_path, "budget: {usd_per_month: 0}")


def test_a_whole_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """\
provider:
  base_url: http://localhost:8000/v1/
  api_key_env: MY_KEY
  api_key_header: api-key
  api_key_scheme: ""
  headers: {OpenAI-Organization: org-1}
  query: {api-version: 2025-01-01}
  transport: httpx
  create_codes: [200, 202]
  status_aliases: {pending: queued}
  profile: ogx
  errors:
    - {status: 400, text: try again later, class: bounce}
    - {code: gone_for_now, class: missing, met: look}
limits: {requests_per_minute: 500, tokens_per_minute: 30000, polls_per_minute: 60, max_in_flight: 10}
timeouts: {connect: 2s, read: 1m, queued: 1.5h, run: 2d}
in_doubt: {resend_below_usd: 0.30000000000}
database: runs/my.db
""",
    )
    provider = config.provider
    assert provider.base_url == "http://localhost:8000/v1"
    assert provider.query == {"api-version": "2025-01-01"}
    assert provider.create_codes == {200, 202}
    assert provider.status_aliases == {"pending": "queued"}
    assert provider.overrides == (
        Override(action=Action.RATE_LIMITED, status=400, text="try again later"),
        Override(action=Action.MISSING, code="gone_for_now", phase=Phase.POLL),
        Override(action=Action.FULL, status=400, text="queue is full"),
    )
    assert config.timeouts.model_dump() == {"connect": 2, "read": 60, "queued": 5400, "run": 172800}
    assert config.in_doubt.resend_below_usd == Decimal("0.3")
    assert config.in_doubt.resend_below_pusd == 3 * 10**11
    assert config.database == Path("runs/my.db")
    assert config.source == tmp_path / "config.yaml"


def test_older_words_for_an_error_class_and_its_phase_are_accepted(tmp_path: Path) -> None:
    older, newer = (
        load(tmp_path, f"provider: {{errors: [{{class: {action}, status: 400, met: {phase}}}]}}").provider.overrides
        for action, phase in (("bounce", "look"), ("rate_limited", "poll"))
    )
    assert older == newer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("provider: {base_url: api.openai.com}", "1: provider.base_url: must be an address such as https"),
        ("provider: {base_url: 'ftp://x'}", "1: provider.base_url: must be an address such as https"),
        ("provider: {base_url: 'http://[x'}", "1: provider.base_url: must be an address such as https"),
        ("provider: {base_url: 'http://x:port'}", "1: provider.base_url: must be an address such as https"),
        ("provider: {base_url: 'https://me:pw@x/v1'}", "1: provider.base_url: must not hold a user name"),
        ("provider: {base_url: 'https://x/v1?a=b'}", "1: provider.base_url: must not hold a query"),
        ("provider:\n  api_key: abc", "2: provider.api_key: there is no such field\n  hint: did you mean"),
        (
            "provider: {api_key_env: sk-abc}",
            "1: provider.api_key_env: must be the name of an environment variable, not the key itself",
        ),
        ("provider: {api_key_header: 'a b'}", "1: provider.api_key_header: must be the name of a header"),
        ("provider: {headers: {X-Count: 5}}", "1: provider.headers.X-Count: must be text"),
        ("provider: {headers: {X Y: z}}", "1: provider.headers.X Y: is no header"),
        ('provider: {headers: {X: "a\\nb"}}', "1: provider.headers.X: is no header"),
        ("provider: {transport: requests}", "1: provider.transport: must be 'asyncio' or 'httpx'"),
        ("provider: {create_codes: [500]}", "1: provider.create_codes"),
        ("provider: {status_aliases: {done: finished}}", "1: provider.status_aliases.done: must be 'queued',"),
        (
            "provider: {profile: ogxx}",
            '1: provider.profile: must be one of openai, ogx, litellm\n  hint: did you mean "ogx"?',
        ),
        ("provider: {errors: [{status: 400}]}", "1: provider.errors.0.class: is required"),
        ("provider: {errors: [{class: fail}]}", "1: provider.errors.0: an error is named by its status"),
        ("provider: {errors: [{class: drop, status: 400}]}", "1: provider.errors.0.class: must be 'retry',"),
        (
            "provider: {errors: [{class: missing, status: 400}]}",
            "1: provider.errors.0: missing is not possible here; allowed: fail, full, halt",
        ),
        (
            "provider:\n  sandbox:\n",
            "2: provider.sandbox: must be a mapping; write sandbox: {} for its defaults",
        ),
        ("provider:\n  base_url: http://x\n  sandbox: {}\n", "2: provider.base_url: cannot stand beside"),
        (
            "provider:\n  sandbox:\n    latency:\n      queue: {from_s: 1}\n",
            "4: provider.sandbox.latency.queue.to_s: is required",
        ),
        (
            "provider:\n  sandbox:\n    faults:\n      rate_limit: 0.1\n",
            "4: provider.sandbox.faults.rate_limit: there is no such field\n  hint: did you mean",
        ),
        ("limits: {requests_per_minute: 0}", "1: limits.requests_per_minute: must be at least 1"),
        ("limits: {max_in_flght: 5}", "1: limits.max_in_flght: there is no such field"),
        ("timeouts: {read: 0s}", "1: timeouts.read: must be more than 0"),
        ("timeouts: {run: long}", "1: timeouts.run: must be a duration such as 90s"),
        ("in_doubt: {resend_below_usd: -1}", "1: in_doubt.resend_below_usd: must be at least 0"),
        ("in_doubt: {resend_below_usd: 1e-13}", "1: in_doubt.resend_below_usd: must be an amount of dollars"),
        ("databse: a.db", '1: databse: there is no such field\n  hint: did you mean "database"?'),
        ("", "1: the config file is empty"),
    ],
)
def test_a_wrong_config_is_refused_with_line_field_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refusal(tmp_path, text).startswith(f"config.yaml:{message}")


@pytest.mark.parametrize("ending", ["", "/", "/responses", "/responses/"])
def test_the_base_url_may_be_written_with_its_last_part(tmp_path: Path, ending: str) -> None:
    config = load(tmp_path, f"provider: {{base_url: 'https://x:8443/openai/v1{ending}'}}")
    assert config.provider.base_url == "https://x:8443/openai/v1"


# ── Keys and other secrets ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "pairs",
    [
        f"headers: {{Authorization: Bearer {SECRET}}}",
        f"headers: {{api-key: {SECRET}}}",
        f"headers: {{X-API-Key: {SECRET}}}",
        f"headers: {{Ocp-Apim-Subscription-Key: {SECRET}}}",
        f"headers: {{cf-aig-authorization: {SECRET}}}",
        f"headers: {{X-Session-Token: {SECRET}}}",
        f"headers: {{Cookie: {SECRET}}}",
        f"headers: {{X-Note: {SECRET}}}",
        f"headers: {{X-Note: Basic {SECRET}}}",
        f"query: {{api_key: {SECRET}}}",
        f"query: {{key: {SECRET}}}",
        f"query: {{sig: {SECRET}}}",
    ],
)
def test_a_secret_in_the_file_is_refused_with_the_remedy_and_not_repeated(tmp_path: Path, pairs: str) -> None:
    text = refusal(tmp_path, f"provider:\n  {pairs}\n")
    assert "looks like a key, and a key never stands in a file" in text
    assert "provider.api_key_env" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "text",
    [
        f"provider: {{api_key_env: {SECRET}}}",
        f"provider: {{base_url: 'https://{SECRET}@x/v1'}}",
        f"provider: {{api_key: {SECRET}}}",
        f"provider: {SECRET}",
        f"provider: {{sandbox: {{api_key: [{SECRET}]}}}}",
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(tmp_path: Path, text: str) -> None:
    assert SECRET not in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "header", ["OpenAI-Organization", "X-Author", "X-Monkey", "X-Tokens-Per-Minute", "User-Agent"]
)
def test_other_headers_are_fine(tmp_path: Path, header: str) -> None:
    assert load(tmp_path, f"provider: {{headers: {{{header}: abc}}}}").provider.headers == {header: "abc"}


def test_the_key_comes_from_the_environment() -> None:
    assert load_config(environ={}).api_key({"OPENAI_API_KEY": f" {SECRET}\n"}) == SECRET


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}])
def test_without_a_key_the_way_to_the_sandbox_is_shown(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}).api_key(environ)
    assert str(caught.value) == (
        "there is no API key: the environment variable OPENAI_API_KEY is not set\n"
        "  hint: set OPENAI_API_KEY, or try it without a key and without cost: --config sandbox"
    )


@pytest.mark.parametrize("key", [f"{SECRET} x", f"{SECRET}\nx", f"{SECRET}ä", f"“{SECRET}”"])
def test_what_cannot_be_a_key_is_not_sent_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="holds something that cannot be an API key") as caught:
        load_config(environ={}).api_key({"OPENAI_API_KEY": key})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", [f'"{SECRET}"', f"'{SECRET}'", f"`{SECRET}`", f'"{SECRET}'])
def test_a_key_with_quotes_is_refused_with_their_likely_source(key: str) -> None:
    with pytest.raises(ConfigError, match="has quotes in it") as caught:
        load_config(environ={}).api_key({"OPENAI_API_KEY": key})
    assert SECRET not in str(caught.value)
    assert "--env-file" in str(caught.value)


@pytest.mark.parametrize("provider", ["{sandbox: {}}", "{api_key_env: null}"])
def test_where_no_key_is_needed_none_is_read(tmp_path: Path, provider: str) -> None:
    assert load(tmp_path, f"provider: {provider}").api_key({"OPENAI_API_KEY": SECRET}) is None


@pytest.mark.parametrize(
    ("provider", "header"),
    [
        ("{}", {"Authorization": "Bearer k"}),
        ('{api_key_header: api-key, api_key_scheme: ""}', {"api-key": "k"}),
        ("{headers: {A: b}}", {"A": "b", "Authorization": "Bearer k"}),
    ],
)
def test_the_headers_of_a_request(tmp_path: Path, provider: str, header: dict[str, str]) -> None:
    config = load(tmp_path, f"provider: {provider}")
    assert config.provider.request_headers("k") == header
    assert "k" not in config.provider.request_headers(None).values()


# ── The environment ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_replaces_the_base_url(tmp_path: Path) -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    for text in ("provider: {base_url: 'https://x/v1'}", "provider:\n", "limits: {}"):
        assert load(tmp_path, text, environ).provider.base_url == "http://127.0.0.1:9/v1"
    assert load_config(environ=environ).provider.base_url == "http://127.0.0.1:9/v1"
    assert load_config(environ={"OPENAI_BASE_URL": ""}).provider.base_url == "https://api.openai.com/v1"


def test_a_sandbox_stays_one_whatever_the_environment(tmp_path: Path) -> None:
    config = load(tmp_path, "provider: {sandbox: {}}", {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    assert config.provider.sandbox is not None
    assert config.provider.base_url == "https://api.openai.com/v1"


def test_a_wrong_base_url_in_the_environment_is_reported_as_such(tmp_path: Path) -> None:
    message = "environment variable OPENAI_BASE_URL: must be an address such as https://api.openai.com/v1"
    assert refusal(tmp_path, "limits: {}", {"OPENAI_BASE_URL": "here"}) == message
    with pytest.raises(ConfigError, match=message):
        load_config(environ={"OPENAI_BASE_URL": "here"})


def test_the_environment_of_the_process_is_read_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert load_config().provider.base_url == "http://127.0.0.1:9/v1"


def test_a_dotenv_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=http://127.0.0.1:9/v1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert load_config().provider.base_url == "https://api.openai.com/v1"


# ── Prices, sandbox, shipped files ────────────────────────────────────────────────────────────────────────────


def test_prices_are_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "prices:\n  - {model: my-model, input: 0.25, output: 2, effective_from: 2026-01-01}\n"
    )
    rules = load(tmp_path, "prices: prices.yaml").price_rules()
    [price] = rules.overrides
    assert (price.model, price.input, price.output) == ("my-model", Decimal("0.25"), Decimal(2))
    assert rules.source == str(tmp_path / "prices.yaml")
    assert rules.version.startswith("sha256:")


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (None, "prices.yaml: there is no such prices file"),
        ("prices:\n  - {model: m, input: -1, output: 2}\n", "prices.yaml:2: prices.0.input: must be at least 0"),
        ("pricse: []\n", 'prices.yaml:1: pricse: there is no such field\n  hint: did you mean "prices"?'),
    ],
)
def test_wrong_prices_are_refused(tmp_path: Path, prices: str | None, message: str) -> None:
    if prices is not None:
        (tmp_path / "prices.yaml").write_text(prices)
    config = load(tmp_path, "prices: prices.yaml")
    with pytest.raises(ConfigError) as caught:
        config.price_rules()
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_sandbox_settings_are_those_of_the_sandbox(tmp_path: Path) -> None:
    config = load(tmp_path, "provider: {sandbox: {seed: 7, latency: {run: 0.5, reply: {from_s: 0, to_s: 1}}}}")
    assert config.provider.sandbox
    assert config.provider.sandbox.seed == 7
    assert config.provider.sandbox.latency.run == 0.5


def test_an_error_override_can_be_made_in_python() -> None:
    error = ErrorOverride.model_validate({"class": "retry", "status": 418})
    assert error.override() == Override(action=Action.RETRY, status=418)


@pytest.mark.parametrize("name", ["sandbox", "openai", "azure", "local"])
def test_the_shipped_configs_are_right(name: str) -> None:
    config = load_config(REPOSITORY / f"configs/{name}.yaml", environ={})
    assert (config.provider.sandbox is not None) == (name == "sandbox")


def test_the_shipped_openai_config_is_the_default() -> None:
    assert load_config(REPOSITORY / "configs/openai.yaml", environ={}).model_dump() == Config().model_dump()


@pytest.mark.parametrize("name", ["openai", "azure", "local"])
def test_the_options_shown_as_comments_are_right_too(tmp_path: Path, name: str) -> None:
    text = (REPOSITORY / f"configs/{name}.yaml").read_text()
    uncommented = re.sub(r"(?m)^(\s*)# (?=[a-z_]+:(?: |$)|  - |  OpenAI-)", r"\1", text)
    assert uncommented != text
    assert load(tmp_path, uncommented).model_dump() != load(tmp_path, text).model_dump()


@pytest.mark.parametrize("address", ["postgresql:///team", "postgres://me@host:5433/team?sslmode=require"])
def test_the_url_of_a_server_stays_as_it_is_written(tmp_path: Path, address: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"database: {address}")
    assert load_config(file).database == address

"""Checks of DashScope by `asr-gateway doctor`: keys, hosts, clocks, prices. Nothing is billed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import sqlalchemy as sa

from app.billing.prices import tariff_of
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.cli.doctor.database import open_if_current
from app.errors import PriceUnknown
from app.kit.money import format_nano
from app.net.connectivity import ConnectivityError, ConnectivityProblem, is_proxied
from app.net.environment import NetworkEnvironmentError
from app.settings import Settings
from app.settings.provider_key import where_key_is
from app.speech.catalogue import CatalogueModel, load_catalogue
from app.speech.engines.dashscope.account import (
    ENGINE,
    ConfiguredAccount,
    KeyVerdict,
    configured_accounts,
)
from app.speech.model_availability import is_switched_on

MAX_SKEW_SECONDS = 60.0
_ODD_KEYS = {
    "st-": "is a temporary key, valid for 30 minutes at most",
    "sk-sp-": "is a key of a token plan, which works at other hosts",
}
_REMEDIES = {
    ConnectivityProblem.NAME: "Check the DNS of this machine, and GATEWAY_DASHSCOPE__WORKSPACE.",
    ConnectivityProblem.PROXY: "Check HTTPS_PROXY and NO_PROXY; the gateway uses them too.",
    ConnectivityProblem.TLS: "A proxy or firewall replaces the certificate: trust that one with "
    "SSL_CERT_FILE, or bypass it.",
    ConnectivityProblem.SILENT: "Allow connections to it in the firewall, or set HTTPS_PROXY.",
    ConnectivityProblem.REJECTED: "Allow connections to it, or check GATEWAY_DASHSCOPE__BASE_URL.",
    ConnectivityProblem.BROKEN: "Check GATEWAY_DASHSCOPE__BASE_URL.",
}


async def check_dashscope(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check every account, and the price of the default model there."""
    model = load_catalogue(settings.speech.catalogue).models.get(settings.default_model)
    is_default = model is not None and model.engine == ENGINE
    accounts = list(configured_accounts(settings.dashscope))
    if not accounts and is_default:
        remedy = "Set DASHSCOPE_API_KEY, or dashscope_api_key in ~/.alibabacloud/credentials."
        yield failed("dashscope key", f"not set, but {settings.default_model} needs it", remedy)
    elif not accounts:
        yield ok("dashscope key", "not set: the engine is off")
    for account in accounts:
        key = _check_api_key(settings, account)
        yield key
        if key.is_well or key.is_warning:
            async for result in _check_host(account):
                yield result
        async for result in _check_prices(settings, account, model if is_default else None):
            yield result


def _check_api_key(settings: Settings, account: ConfiguredAccount) -> CheckResult:
    name, key = f"{account.name} key", account.account.key
    where = where_key_is(settings) if account.name == ENGINE else "settings"
    found = f"set in {where}"
    for start, meaning in _ODD_KEYS.items():
        if key.startswith(start):
            remedy = "Use a permanent key of Model Studio (sk-…)."
            return warn(name, f"{found}; it {meaning}", remedy)
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        return failed(name, f"{found}, with invalid characters", "Copy it again, without quotes.")
    return ok(name, found)


async def _check_host(account: ConfiguredAccount) -> AsyncIterator[CheckResult]:
    name = f"{account.name} host"
    proxied = ", through a proxy" if is_proxied(account.account.base_url) else ""
    at = f"{account.host} ({account.account.region}{proxied})"
    try:
        check = await account.check()
    except ConnectivityError as error:
        yield failed(name, f"{at} {error.problem}", _REMEDIES[error.problem])
        return
    except NetworkEnvironmentError as error:
        yield failed(name, str(error), "Correct the variable; the gateway does not start.")
        return
    yield ok(name, f"{at} answers")
    answer = f"{check.status} {check.code}".strip()
    name = f"{account.name} account"
    match check.verdict:
        case KeyVerdict.ACCEPTED:
            yield ok(name, "DashScope accepts the key")
        case KeyVerdict.REJECTED:
            remedy = (
                "The key is mistyped, revoked, or of another region: copy it again, or set "
                f"GATEWAY_DASHSCOPE__REGION to its region (now {account.account.region})."
            )
            yield failed(name, f"DashScope rejects the key ({answer})", remedy)
        case KeyVerdict.DENIED:
            remedy = "Check the account's bills, permissions and workspace in Model Studio."
            yield failed(name, f"DashScope denies access ({answer})", remedy)
        case KeyVerdict.UNKNOWN:
            remedy = "Try again later, or check GATEWAY_DASHSCOPE__BASE_URL and the proxies."
            yield failed(name, f"the host answers {answer}, but not as DashScope does", remedy)
    skew = check.skew_seconds
    if skew is None:
        return
    name = f"{account.name} clock"
    if abs(skew) <= MAX_SKEW_SECONDS:
        yield ok(name, "agrees with this machine's")
    else:
        found = f"this machine is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        yield warn(name, found, "Set this machine's clock, best by NTP: prices begin by it.")


async def _check_prices(
    settings: Settings, account: ConfiguredAccount, default: CatalogueModel | None
) -> AsyncIterator[CheckResult]:
    """Check the prices of the account's models in its region, first that of the default model."""
    region, now = account.account.region, datetime.now(UTC)
    models = [
        model
        for model in load_catalogue(settings.speech.catalogue).models.values()
        if model.engine in {ENGINE, account.name} and is_switched_on(model, settings.dashscope)
    ]
    async with open_if_current(settings) as db:
        if db is None:
            prices = _prices_in_force(None, models, region, now)
        else:
            prices = await db.read(_prices_in_force, models, region, now)
    set_command = f"asr-gateway prices set {{}} AMOUNT --currency CNY --region {region}"
    if default is not None:
        name = f"{account.name} price"
        if price := prices.get(default.name):
            yield ok(name, f"{default.name} costs {price} in {region}")
        else:
            found = f"no price of {default.name} is in force in {region}"
            yield failed(name, found, set_command.format(default.name))
    lost = [
        model.name
        for model in models
        if model is not default
        and not prices[model.name]
        and any(price.region == region for price in model.prices)
    ]
    name, priced = f"{account.name} prices", sum(map(bool, prices.values()))
    if lost:
        found = f"no longer in force in {region}: {', '.join(lost)}"
        yield warn(name, found, set_command.format(lost[0]))
    else:
        yield ok(name, f"{priced} of {len(models)} models have one in {region}")


def _prices_in_force(
    tx: sa.Connection | None, models: Sequence[CatalogueModel], region: str, now: datetime
) -> Mapping[str, str]:
    """Return the prices by the database, else by the catalogue, as text; "" without a price.

    The next start of the gateway stores the prices of the catalogue.
    """
    day, prices = now.date(), {}
    for model in models:
        prices[model.name] = ", ".join(
            f"{price.amount} {price.currency} per {price.unit}"
            for price in model.prices
            if price.region == region
            and price.valid_from <= day
            and (price.valid_until is None or day < price.valid_until)
        )
        if tx is None:
            continue
        is_bounded = model.token_bounds() is not None
        with suppress(PriceUnknown):
            tariff = tariff_of(
                tx, model=model.name, region=region, now=now, tokens_bounded=is_bounded
            )
            prices[model.name] = ", ".join(
                f"{format_nano(nano)} {tariff.currency} per {unit}"
                for unit, nano in tariff.units.items()
            )
    return prices

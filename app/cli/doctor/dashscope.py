"""Checks of DashScope by `asr-gateway doctor`: keys, hosts, clocks, prices. Nothing is billed."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import sqlalchemy as sa

from app.billing.prices import tariff_of
from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.cli.doctor.database import lent
from app.errors import PriceUnknown
from app.kit.money import format_nano
from app.net.connectivity import ConnectivityError, ConnectivityProblem, is_proxied
from app.provider_key import where_key_is
from app.settings import Settings
from app.speech.catalogue import CatalogueModel, load_catalogue
from app.speech.engines.dashscope.account import (
    ENGINE,
    ConfiguredAccount,
    KeyCheck,
    KeyVerdict,
    configured_accounts,
)
from app.speech.model_availability import is_switched_on

MOST_SKEW_SECONDS = 60.0
_ODD_KEYS = {
    "st-": "is a temporary one, which lives for 30 minutes at most",
    "sk-sp-": "is a token plan's, which other hosts take",
}
_REMEDIES = {
    ConnectivityProblem.NAME: "Check the DNS of this machine, and GATEWAY_DASHSCOPE__WORKSPACE.",
    ConnectivityProblem.PROXY: "Check HTTPS_PROXY and NO_PROXY; the gateway uses them too.",
    ConnectivityProblem.TLS: "Something between here and the host shows its own certificate: "
    "trust that with SSL_CERT_FILE, or go around it.",
    ConnectivityProblem.SILENT: "Allow outgoing connections to it in the firewall, or set "
    "HTTPS_PROXY.",
    ConnectivityProblem.REJECTED: "Allow outgoing connections to it, or check "
    "GATEWAY_DASHSCOPE__BASE_URL.",
    ConnectivityProblem.BROKEN: "Check GATEWAY_DASHSCOPE__BASE_URL.",
}


async def check_dashscope(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check every account, and the price of the default model there."""
    model = load_catalogue(settings.speech.catalogue).models.get(settings.default_model)
    is_default = model is not None and model.engine == ENGINE
    found = list(configured_accounts(settings.dashscope))
    if not found:
        yield _no_key(settings, is_needed=is_default)
    for account in found:
        key = _key(settings, account)
        yield key
        if key.is_well or key.is_warning:
            async for finding in _host(account):
                yield finding
        async for finding in _prices(settings, account, model if is_default else None):
            yield finding


def _no_key(settings: Settings, *, is_needed: bool) -> CheckResult:
    if not is_needed:
        return ok("dashscope key", "not set: the engine is off")
    remedy = "Set DASHSCOPE_API_KEY, or dashscope_api_key in ~/.alibabacloud/credentials."
    return problem("dashscope key", f"not set, but {settings.default_model} needs it", remedy)


def _key(settings: Settings, account: ConfiguredAccount) -> CheckResult:
    name, key = f"{account.name} key", account.account.key
    where = where_key_is(settings) if account.name == ENGINE else "settings"
    found = f"set in {where}"
    for start, meaning in _ODD_KEYS.items():
        if key.startswith(start):
            return warning(
                name, f"{found}; it {meaning}", "Use a lasting key of Model Studio (sk-…)."
            )
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        return problem(
            name, f"{found}, with characters no key has", "Copy it anew, without quotes."
        )
    return ok(name, found)


async def _host(account: ConfiguredAccount) -> AsyncIterator[CheckResult]:
    name = f"{account.name} host"
    proxied = ", through a proxy" if is_proxied(account.account.base_url) else ""
    at = f"{account.host} ({account.account.region}{proxied})"
    try:
        check = await account.check()
    except ConnectivityError as error:
        yield problem(name, f"{at} {error.problem}", _REMEDIES[error.problem])
        return
    yield ok(name, f"{at} answers")
    yield _verdict(account, check)
    for finding in _clock(account, check):
        yield finding


def _verdict(account: ConfiguredAccount, check: KeyCheck) -> CheckResult:
    name, said = f"{account.name} account", f"{check.status} {check.code}".strip()
    match check.verdict:
        case KeyVerdict.ACCEPTED:
            return ok(name, "DashScope accepts the key")
        case KeyVerdict.REJECTED:
            return problem(
                name,
                f"the key is refused ({said})",
                "It is mistyped, revoked, or another region's: copy it anew, or set "
                f"GATEWAY_DASHSCOPE__REGION to where it is from (now {account.account.region}).",
            )
        case KeyVerdict.DENIED:
            remedy = "See to the account's bills, its rights and its workspace in Model Studio."
            return problem(name, f"the account is refused ({said})", remedy)
        case KeyVerdict.UNKNOWN:
            remedy = "Try again later; if it stays, check GATEWAY_DASHSCOPE__BASE_URL and proxies."
            return problem(name, f"it answers {said}, but not as DashScope does", remedy)


def _clock(account: ConfiguredAccount, check: KeyCheck) -> Iterator[CheckResult]:
    if check.skew_seconds is None:
        return
    name, skew = f"{account.name} clock", check.skew_seconds
    if abs(skew) <= MOST_SKEW_SECONDS:
        yield ok(name, "agrees with this machine's")
    else:
        words = f"this machine is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        yield warning(name, words, "Set this machine's clock, best by NTP: prices begin by it.")


async def _prices(
    settings: Settings, account: ConfiguredAccount, default: CatalogueModel | None
) -> AsyncIterator[CheckResult]:
    """Yield whether the default model has a price in force here, and which others lost theirs."""
    region, now = account.account.region, datetime.now(UTC)
    models = [
        model
        for model in load_catalogue(settings.speech.catalogue).models.values()
        if model.engine in {ENGINE, account.name} and is_switched_on(model, settings.dashscope)
    ]
    async with lent(settings) as db:
        stored = await db.read(_stored, models, region, now) if db is not None else {}
    prices = {model.name: stored.get(model.name) or _listed(model, region, now) for model in models}
    if default is not None:
        yield _price(account, default.name, prices.get(default.name, ""))
    lost = [
        model.name
        for model in models
        if model is not default
        and not prices[model.name]
        and any(price.region == region for price in model.prices)
    ]
    name, priced = f"{account.name} prices", sum(map(bool, prices.values()))
    if lost:
        words = f"none is in force in {region} any more: {', '.join(lost)}"
        yield warning(name, words, _set_price(lost[0], region))
    else:
        yield ok(name, f"{priced} of {len(models)} models have one in {region}")


def _price(account: ConfiguredAccount, model: str, price: str) -> CheckResult:
    name, region = f"{account.name} price", account.account.region
    if price:
        return ok(name, f"{model} costs {price} in {region}")
    found = f"no price of {model} is in force in {region}"
    return problem(name, found, _set_price(model, region))


def _set_price(model: str, region: str) -> str:
    return f"asr-gateway prices set {model} AMOUNT --currency CNY --region {region}"


def _stored(
    tx: sa.Connection, models: Sequence[CatalogueModel], region: str, now: datetime
) -> Mapping[str, str]:
    """Return the prices in force by the database, in words."""
    found = {}
    for model in models:
        with suppress(PriceUnknown):
            tariff = tariff_of(
                tx,
                model=model.name,
                region=region,
                now=now,
                tokens_bounded=model.token_bounds() is not None,
            )
            found[model.name] = ", ".join(
                f"{format_nano(nano)} {tariff.currency} a {unit}"
                for unit, nano in tariff.units.items()
            )
    return found


def _listed(model: CatalogueModel, region: str, now: datetime) -> str:
    """Return the catalogue's price, which the next start will store."""
    day = now.date()
    return ", ".join(
        f"{price.amount} {price.currency} a {price.unit}"
        for price in model.prices
        if price.region == region
        and price.valid_from <= day
        and (price.valid_until is None or day < price.valid_until)
    )

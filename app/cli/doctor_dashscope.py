"""What `asr-gateway doctor` finds of DashScope: keys, hosts, clocks, prices. Nothing is billed."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import sqlalchemy as sa

from app.billing.prices import tariff_of
from app.cli.finding import Finding, odd, well, wrong
from app.db.migrate import is_current, opened
from app.errors import DatabaseAway, PriceUnknown
from app.kit.money import format_nano
from app.net.reach import Obstacle, ObstructedError, is_proxied
from app.settings import Settings
from app.speech.catalogue import Model, load_catalogue
from app.speech.dashscope_account import ENGINE, Account, KeyVerdict, Look, accounts
from app.vendors_key import where_key_is

MOST_SKEW_SECONDS = 60.0
_ODD_KEYS = {
    "st-": "is a temporary one, which lives for 30 minutes at most",
    "sk-sp-": "is a token plan's, which other hosts take",
}
_REMEDIES = {
    Obstacle.NAME: "Check the DNS of this machine, and GATEWAY_DASHSCOPE__WORKSPACE.",
    Obstacle.PROXY: "Check HTTPS_PROXY and NO_PROXY; the gateway uses them too.",
    Obstacle.TLS: "Something between here and the host shows its own certificate: trust that "
    "with SSL_CERT_FILE, or go around it.",
    Obstacle.SILENT: "Allow outgoing connections to it in the firewall, or set HTTPS_PROXY.",
    Obstacle.REFUSED: "Allow outgoing connections to it, or check GATEWAY_DASHSCOPE__BASE_URL.",
    Obstacle.BROKEN: "Check GATEWAY_DASHSCOPE__BASE_URL.",
}


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield what there is to say of every account, and of what the default model costs there."""
    model = load_catalogue(settings.speech.catalogue).models.get(settings.default_model)
    is_default = model is not None and model.engine == ENGINE
    found = list(accounts(settings.dashscope))
    if not found:
        yield _no_key(settings, is_needed=is_default)
    for account in found:
        key = _key(settings, account)
        yield key
        if key.is_well or key.is_warning:
            async for finding in _host(account):
                yield finding
        if model is not None and is_default:
            yield await _price(settings, account, model)


def _no_key(settings: Settings, *, is_needed: bool) -> Finding:
    if not is_needed:
        return well("dashscope key", "not set: the engine is off")
    remedy = "Set DASHSCOPE_API_KEY, or dashscope_api_key in ~/.alibabacloud/credentials."
    return wrong("dashscope key", f"not set, but {settings.default_model} needs it", remedy)


def _key(settings: Settings, account: Account) -> Finding:
    name, key = f"{account.name} key", account.bundle.key
    where = where_key_is(settings) if account.name == ENGINE else "settings"
    found = f"set in {where}"
    for start, meaning in _ODD_KEYS.items():
        if key.startswith(start):
            return odd(name, f"{found}; it {meaning}", "Use a lasting key of Model Studio (sk-…).")
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        return wrong(name, f"{found}, with characters no key has", "Copy it anew, without quotes.")
    return well(name, found)


async def _host(account: Account) -> AsyncIterator[Finding]:
    name = f"{account.name} host"
    proxied = ", through a proxy" if is_proxied(account.bundle.base_url) else ""
    at = f"{account.host} ({account.bundle.region}{proxied})"
    try:
        look = await account.look()
    except ObstructedError as error:
        yield wrong(name, f"{at} {error.obstacle}", _REMEDIES[error.obstacle])
        return
    yield well(name, f"{at} answers")
    yield _verdict(account, look)
    for finding in _clock(account, look):
        yield finding


def _verdict(account: Account, look: Look) -> Finding:
    name, said = f"{account.name} account", f"{look.status} {look.code}".strip()
    match look.verdict:
        case KeyVerdict.TAKEN:
            return well(name, "the key is taken")
        case KeyVerdict.REFUSED:
            return wrong(
                name,
                f"the key is refused ({said})",
                "It is mistyped, revoked, or another region's: copy it anew, or set "
                f"GATEWAY_DASHSCOPE__REGION to where it is from (now {account.bundle.region}).",
            )
        case KeyVerdict.DENIED:
            remedy = "See to the account's bills, its rights and its workspace in Model Studio."
            return wrong(name, f"the account is refused ({said})", remedy)
        case KeyVerdict.UNKNOWN:
            remedy = "Try again later; if it stays, check GATEWAY_DASHSCOPE__BASE_URL and proxies."
            return wrong(name, f"it answers {said}, but not as DashScope does", remedy)


def _clock(account: Account, look: Look) -> Iterator[Finding]:
    if look.skew_seconds is None:
        return
    name, skew = f"{account.name} clock", look.skew_seconds
    if abs(skew) <= MOST_SKEW_SECONDS:
        yield well(name, "agrees with this machine's")
    else:
        words = f"this machine is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        yield odd(name, words, "Set this machine's clock, best by NTP: prices begin by it.")


async def _price(settings: Settings, account: Account, model: Model) -> Finding:
    name, region, now = f"{account.name} price", account.bundle.region, datetime.now(UTC)
    price = await _stored(settings, model, region, now) or _listed(model, region, now)
    if price:
        return well(name, f"{model.name} costs {price} in {region}")
    remedy = f"asr-gateway prices set {model.name} AMOUNT --currency CNY --region {region}"
    return wrong(name, f"no price of {model.name} is in force in {region}", remedy)


async def _stored(settings: Settings, model: Model, region: str, now: datetime) -> str:
    """Return the price in force by the database; empty where it knows none, or cannot be asked."""
    try:
        async with opened(settings.database_url, as_it_is=True) as db:
            if not await is_current(db):
                return ""
            tariff = await db.read(
                tariff_of,
                model=model.name,
                region=region,
                now=now,
                tokens_bounded=model.token_facts() is not None,
            )
    except (PriceUnknown, DatabaseAway, sa.exc.SQLAlchemyError, OSError, ValueError, ImportError):
        return ""  # that the database is not well is another finding
    return ", ".join(
        f"{format_nano(nano)} {tariff.currency} a {unit}" for unit, nano in tariff.units.items()
    )


def _listed(model: Model, region: str, now: datetime) -> str:
    """Return the catalogue's price, which the next start will store."""
    day = now.date()
    return ", ".join(
        f"{price.amount} {price.currency} a {price.unit}"
        for price in model.prices
        if price.region == region
        and price.valid_from <= day
        and (price.valid_until is None or day < price.valid_until)
    )

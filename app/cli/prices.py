"""`asr-gateway prices`: list and set the providers' prices with their times of validity."""

import asyncio
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.billing.prices import PriceRow, add_price, list_prices
from app.billing.tables import UNITS
from app.cli.table import show
from app.db.migrate import open_database
from app.kit.clock import to_rfc3339, utc_now
from app.kit.money import format_nano, parse_nano
from app.settings import Settings
from app.speech.catalogue import load_catalogue

MOST_NANO = 2**63 - 1
LONGEST_REGION = 40

app = typer.Typer(help="List and change prices.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List all prices: current, past and future."""
    rows = asyncio.run(_list())
    if as_json:
        print(json.dumps([_plain(row) for row in rows], indent=2))
        return
    show(
        ("model", "region", "amount", "unit", "from", "until"),
        [
            (
                *(row.model, row.region, f"{format_nano(row.nano)} {row.currency}", row.unit),
                *(
                    to_rfc3339(row.valid_from),
                    to_rfc3339(row.valid_until) if row.valid_until else "further notice",
                ),
            )
            for row in rows
        ],
    )


@app.command("set")
def change(
    model: Annotated[str, typer.Argument(help="A model of `asr-gateway models list`.")],
    amount: Annotated[str, typer.Argument(help="A decimal amount, e.g. 0.00022.")],
    currency: Annotated[str, typer.Option(help="Three capital letters, e.g. CNY.")],
    region: Annotated[str, typer.Option(help="Where the price holds, e.g. cn-beijing.")],
    unit: Annotated[
        str, typer.Option(help="second, input_token, output_token or text_input_token.")
    ] = "second",
    start: Annotated[str | None, typer.Option("--from", help="ISO 8601, else UTC; now.")] = None,
    as_json: Json = False,
) -> None:
    """Set a price from a moment on; the one in force before it ends there."""
    try:
        row = _row(model, amount, currency=currency, region=region, unit=unit, start=start)
        asyncio.run(_set(row))
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    start_time = to_rfc3339(row.valid_from)
    told = f"{model} costs {amount} {currency} a {unit} in {region} from {start_time} on."
    print(json.dumps(_plain(row), indent=2) if as_json else told)


def _row(
    model: str, amount: str, *, currency: str, region: str, unit: str, start: str | None
) -> PriceRow:
    if model not in load_catalogue(Settings().speech.catalogue).models:
        raise ValueError(f"There is no model {model}; `asr-gateway models list` shows them all.")
    if unit not in UNITS:
        raise ValueError(f"There is no unit {unit}; a price is for one of {', '.join(UNITS)}.")
    if not re.fullmatch("[A-Z]{3}", currency):
        raise ValueError(f"{currency} is no currency; it takes three capital letters, e.g. CNY.")
    if not 0 < len(region) <= LONGEST_REGION:
        raise ValueError(f"A region's name has 1 to {LONGEST_REGION} letters.")
    return PriceRow(
        model, region, unit, _nano(amount), currency, _moment(start), None, "asr-gateway prices"
    )


def _nano(amount: str) -> int:
    try:
        nano = parse_nano(amount)
    except ValueError as error:
        raise ValueError(f"This price cannot be stored: {error}.") from error
    if not 0 <= nano <= MOST_NANO:
        raise ValueError(f"A price is neither negative nor beyond all measure: {amount}.")
    return nano


def _moment(start: str | None) -> datetime:
    if start is None:
        return utc_now()
    try:
        moment = datetime.fromisoformat(start)
    except ValueError as error:
        raise ValueError(f"{start} is no moment in ISO 8601, e.g. 2026-12-01.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plain(row: PriceRow) -> dict[str, object]:
    told = {
        name: to_rfc3339(value) if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
    }
    return {**told, "amount": format_nano(row.nano)}


async def _list() -> list[PriceRow]:
    async with open_database(Settings().database_url) as db:
        return await db.read(list_prices)


async def _set(row: PriceRow) -> None:
    async with open_database(Settings().database_url) as db:
        await db.write(add_price, row)

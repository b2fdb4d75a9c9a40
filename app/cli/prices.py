"""`asr-gateway prices`: list and set the providers' prices with their times of validity."""

import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, get_args

import typer

from app.billing.prices import PriceRow, add_price, list_prices
from app.billing.tables import UNITS
from app.cli.database import with_database
from app.cli.printing import print_json, print_table
from app.kit.clock import to_rfc3339, utc_now
from app.kit.money import format_nano, parse_nano
from app.settings import AccountSettings, Settings
from app.speech.catalogue import load_catalogue

MAX_NANO = 2**63 - 1

app = typer.Typer(help="List and change prices.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def print_prices(as_json: Json = False) -> None:
    """List all prices: current, past and future."""
    rows = with_database(lambda db: db.read(list_prices))
    if as_json:
        print_json([_json_object(row) for row in rows])
        return
    print_table(
        ("model", "region", "amount", "unit", "from", "until"),
        [
            (
                *(row.model, row.region, f"{format_nano(row.nano)} {row.currency}", row.unit),
                to_rfc3339(row.valid_from),
                to_rfc3339(row.valid_until) if row.valid_until else "further notice",
            )
            for row in rows
        ],
    )


@app.command("set")
def store_price(
    model: Annotated[str, typer.Argument(help="A model that `asr-gateway models list` shows.")],
    amount: Annotated[str, typer.Argument(help="Price of one unit as a decimal, e.g. 0.00022.")],
    currency: Annotated[str, typer.Option(help="Three capital letters, e.g. CNY.")],
    region: Annotated[str, typer.Option(help="Region of the price, e.g. cn-beijing.")],
    unit: Annotated[
        str, typer.Option(help="second, input_token, output_token or text_input_token.")
    ] = "second",
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start of validity in ISO 8601, in UTC by default; now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set a price from a moment on. It replaces the price that is valid until then."""
    try:
        row = _price_row(model, amount, currency=currency, region=region, unit=unit, start=start)
        with_database(lambda db: db.write(add_price, row))
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        print_json(_json_object(row))
        return
    valid_from = to_rfc3339(row.valid_from)
    print(f"{model} costs {amount} {currency} per {unit} in {region} from {valid_from} on.")


def _price_row(
    model: str, amount: str, *, currency: str, region: str, unit: str, start: str | None
) -> PriceRow:
    """Return the row of a price. Raises ValueError with a sentence for the operator."""
    models = load_catalogue(Settings().speech.catalogue).models
    if model not in models:
        raise ValueError(f"There is no model {model}; `asr-gateway models list` lists all.")
    priced = {price.region for one in models.values() for price in one.prices}
    own = {"local", "openai"}  # of the engines that have no region
    regions = sorted(priced.union(own, get_args(AccountSettings.model_fields["region"].annotation)))
    if region not in regions:
        raise ValueError(f"There is no region {region[:40]}; the regions are {', '.join(regions)}.")
    if unit not in UNITS:
        raise ValueError(f"There is no unit {unit}; the units are {', '.join(UNITS)}.")
    if not re.fullmatch("[A-Z]{3}", currency):
        raise ValueError(f"{currency} is not a currency; give three capital letters, e.g. CNY.")
    try:
        nano = parse_nano(amount)
    except ValueError as error:
        raise ValueError(f"This price cannot be stored: {error}.") from error
    if not 0 <= nano <= MAX_NANO:
        raise ValueError(f"The price {amount} is negative or too large.")
    try:
        moment = utc_now() if start is None else datetime.fromisoformat(start)
    except ValueError as error:
        raise ValueError(f"{start} is not a time in ISO 8601, e.g. 2026-12-01.") from error
    valid_from = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return PriceRow(model, region, unit, nano, currency, valid_from, None, "asr-gateway prices")


def _json_object(row: PriceRow) -> dict[str, object]:
    return {**asdict(row), "amount": format_nano(row.nano)}

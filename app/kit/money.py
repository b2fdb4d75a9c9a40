"""Money as integer nano-units of a currency, and its only rounding."""

from dataclasses import dataclass
from decimal import Decimal

MILLIS = 1_000
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Money:
    """An amount: `nano` billionths of one unit of the ISO 4217 `currency`."""

    nano: int
    currency: str

    @property
    def amount(self) -> str:
        """The exact amount as a plain decimal string, e.g. `0.00264`."""
        return format_nano(self.nano)


def format_nano(nano: int) -> str:
    """Return nano-units as a decimal string without exponent or trailing zeros."""
    whole, billionths = divmod(abs(nano), NANO)
    digits = f".{billionths:09}".rstrip("0").rstrip(".")
    return f"{'-' if nano < 0 else ''}{whole}{digits}"


def parse_nano(amount: str) -> int:
    """Return a decimal string as nano-units.

    Raises ValueError where it is not a finite decimal or is finer than one nano-unit.
    """
    try:
        value = Decimal(amount).scaleb(9)
        whole = int(value)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"not a decimal amount: {amount!r}") from error
    if value != whole:
        raise ValueError(f"finer than a billionth: {amount!r}")
    return whole


def cost_of_millis(nano_per_second: int, used_ms: int) -> int:
    """Return the price of `used_ms` milliseconds, rounded up to a whole nano-unit.

    Whole seconds, which providers report, are exact. Money is rounded nowhere else.
    """
    return -(-nano_per_second * used_ms // MILLIS)

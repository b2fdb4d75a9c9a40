"""Write `docs/errors.md`: every error that a caller can receive, from the classes of the errors.

python -m tests.support.error_table
"""

from pathlib import Path

from app.error_codes import all_errors
from app.errors import GatewayError, InternalError

FILE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """\
# Errors

Every error is an RFC 9457 problem (`application/problem+json`). Branch on `code`: it is stable.
`detail` describes the occurrence. `request_id` identifies the request in the gateway's log.
If `retryable` is yes, the same request may succeed later: wait for `Retry-After`, if it is present.

| code | status | retryable | meaning |
| --- | --- | --- | --- |
"""


def rendered() -> str:
    """Return the text of the file. Raises ValueError for an error without a text of its own."""
    of_base = [error for error in all_errors() if error.public is GatewayError.public]
    if missing := [error.__name__ for error in of_base if error is not InternalError]:
        raise ValueError(f"`public` in app/errors.py is missing for {', '.join(missing)}")
    rows = [
        f"| `{error.code}` | {error.status} | {'yes' if error.retryable else 'no'} "
        f"| {error.public.replace('|', chr(92) + '|')} |\n"
        for error in sorted(all_errors(), key=lambda error: (error.status, error.code))
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    FILE.write_text(rendered())

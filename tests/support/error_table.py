"""Write `docs/errors.md`: every error that a caller can receive, from the classes of the errors.

python -m tests.support.error_table
"""

from pathlib import Path

from app.error_codes import all_errors

FILE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """\
# Errors

Every error is an RFC 9457 problem (`application/problem+json`). Branch on `code`: it is stable.
`detail` says what happened this time; `request_id` finds the request in the gateway's log.
Where `retryable` is yes, the same request may succeed later; wait for `Retry-After` if it is there.

| code | status | retryable | what it means |
| --- | --- | --- | --- |
"""


def rendered() -> str:
    """Return the text of the file."""
    rows = [
        f"| `{error.code}` | {error.status} | {'yes' if error.retryable else 'no'} "
        f"| {error.public.replace('|', chr(92) + '|')} |\n"
        for error in sorted(all_errors(), key=lambda error: (error.status, error.code))
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    FILE.write_text(rendered())

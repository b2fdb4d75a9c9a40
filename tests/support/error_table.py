"""Write `docs/errors.md`: every error that a caller can receive, from the classes of the errors.

python -m tests.support.error_table
"""

from pathlib import Path

from app.error_codes import all_errors

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
    """Return the text of the file."""
    rows = [
        f"| `{error.code}` | {error.status} | {'yes' if error.retryable else 'no'} "
        f"| {error.public.replace('|', chr(92) + '|')} |\n"
        for error in sorted(all_errors(), key=lambda error: (error.status, error.code))
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    FILE.write_text(rendered())

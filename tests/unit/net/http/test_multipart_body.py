"""Multipart forms as a server reads them.

Covers: app.net.http.multipart_body
"""

import email.parser
import email.policy
from collections.abc import AsyncIterable, AsyncIterator

import pytest

from app.net.http.exchange import Body
from app.net.http.multipart_body import FilePart, multipart_body

pytestmark = pytest.mark.anyio
FIELDS = {"model": "m", "prompt": "Ada \u6d1b\r\nsecond line"}
FILE = b"fLaC\r\n--\x00" * 100


async def sent(body: Body) -> bytes:
    chunks = body.chunks()
    if isinstance(chunks, AsyncIterable):
        return b"".join([chunk async for chunk in chunks])
    return b"".join(chunks)


async def later() -> AsyncIterator[bytes]:
    yield FILE[:7]
    yield FILE[7:]


@pytest.mark.parametrize("chunks", [lambda: (FILE[:7], FILE[7:]), later])
async def test_a_form_has_its_fields_and_then_its_file(chunks: object) -> None:
    part = FilePart('a".flac', "audio/flac", len(FILE), chunks)  # type: ignore[arg-type]
    body = multipart_body(FIELDS, part)
    whole = await sent(body)
    assert len(whole) == body.length
    assert await sent(body) == whole  # the chunks begin anew
    head = f"Content-Type: {body.media_type}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + whole)
    *fields, file = form.iter_parts()
    found = {
        one.get_param("name", header="content-disposition"): one.get_payload(decode=True).decode()
        for one in fields
    }
    assert found == FIELDS
    assert file.get_filename() == "a%22.flac"
    assert (file.get_content_type(), file.get_payload(decode=True)) == ("audio/flac", FILE)

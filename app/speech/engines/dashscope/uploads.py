"""The form that brings a file into DashScope's temporary store. Pure, but for the file's bytes."""

from collections.abc import Mapping
from typing import Any

from app.net.http.exchange import Body
from app.net.http.multipart_body import FilePart, multipart_body
from app.speech.engine import EngineError, ErrorKind
from app.speech.engines.http.json_body import (
    malformed_response,
    member,
    number,
    read_object,
    text_of,
)
from app.speech.task_engine import FileUpload

MIB = 1 << 20
STORED = frozenset({200, 201, 204})
_NEEDED = ("policy", "signature", "upload_dir", "upload_host", "oss_access_key_id")


def parse_policy(body: bytes) -> Mapping[str, Any]:
    """Read who may put a file where. Raises EngineError (garbled)."""
    policy = member(read_object(body), "data")
    if not isinstance(policy, dict) or not all(text_of(policy.get(name)) for name in _NEEDED):
        raise malformed_response("an upload policy that says too little")
    return policy


def check_size(policy: Mapping[str, Any], size: int) -> None:
    """Raise EngineError (refused) where the store takes no file of this size."""
    most = number(policy.get("max_file_size_mb"))
    if most is not None and size > most * MIB:
        words = f"the temporary store takes {most:g} MB, and the file has {size} bytes"
        raise EngineError(ErrorKind.REJECTED, words)


def key_of(policy: Mapping[str, Any], file: FileUpload) -> str:
    return f"{policy['upload_dir']}/{file.name}"


def form_of(policy: Mapping[str, Any], file: FileUpload) -> Body:
    """Return the form; the store reads nothing that comes after the file."""
    fields = {
        "OSSAccessKeyId": policy["oss_access_key_id"],
        "Signature": policy["signature"],
        "policy": policy["policy"],
        "key": key_of(policy, file),
        "x-oss-object-acl": text_of(policy.get("x_oss_object_acl")) or "private",
        "x-oss-forbid-overwrite": text_of(policy.get("x_oss_forbid_overwrite")) or "true",
        "success_action_status": "200",
    }
    part = FilePart(file.name, "application/octet-stream", file.length, file.chunks)
    return multipart_body(fields, part)

"""The upload of a file to DashScope's temporary storage: its policy and its form. Pure."""

from collections.abc import Mapping
from typing import Any

from app.net.http.exchange import Body
from app.net.http.multipart_body import FilePart, multipart_body
from app.speech.engine import EngineError, ErrorKind
from app.speech.engines.http.failures import malformed_response
from app.speech.engines.http.json_reading import member, number_of, read_object, text_of
from app.speech.task_engine import FileUpload

MIB = 1 << 20
STORED_STATUSES = frozenset({200, 201, 204})
_REQUIRED = ("policy", "signature", "upload_dir", "upload_host", "oss_access_key_id")


def parse_policy(body: bytes) -> Mapping[str, Any]:
    """Read an upload policy. Raises EngineError if a member is missing."""
    policy = member(read_object(body), "data")
    if not isinstance(policy, dict) or not all(text_of(policy.get(name)) for name in _REQUIRED):
        raise malformed_response("an upload policy with missing members")
    return policy


def check_upload_size(policy: Mapping[str, Any], size: int) -> None:
    """Raise EngineError, of kind REJECTED, if the file is larger than the policy allows."""
    most = number_of(policy.get("max_file_size_mb"))
    if most is not None and size > most * MIB:
        reason = f"the temporary storage takes {most:g} MB, and the file has {size} bytes"
        raise EngineError(ErrorKind.REJECTED, reason)


def storage_key(policy: Mapping[str, Any], file: FileUpload) -> str:
    """Return the key of the file in the temporary storage."""
    return f"{policy['upload_dir']}/{file.name}"


def upload_form(policy: Mapping[str, Any], file: FileUpload) -> Body:
    """Return the form. The file is last, because the storage reads nothing after it."""
    fields = {
        "OSSAccessKeyId": policy["oss_access_key_id"],
        "Signature": policy["signature"],
        "policy": policy["policy"],
        "key": storage_key(policy, file),
        "x-oss-object-acl": text_of(policy.get("x_oss_object_acl")) or "private",
        "x-oss-forbid-overwrite": text_of(policy.get("x_oss_forbid_overwrite")) or "true",
        "success_action_status": "200",
    }
    part = FilePart(file.name, "application/octet-stream", file.length, file.chunks)
    return multipart_body(fields, part)

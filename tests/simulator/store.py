"""The object store of the service: uploads as `oss://` addresses, results as signed URLs.

It is a separate host without API keys and with answers in XML (protocol 3.4, 3.5).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from tests.simulator.clock import Clock
from tests.simulator.errors import (
    ApiError,
    expired_address,
    expired_policy,
    store_refuses,
    undelivered,
)

BUCKET = "/oss-bucket"
POLICY_SECONDS = 300
UPLOAD_SECONDS = 48 * 3600
RESULT_SECONDS = 24 * 3600
MOST_MEGABYTES = 1024
CAPACITY_MEGABYTES = 999_999_999
ACL = "private"
FIXED = {"x-oss-object-acl": ACL, "x-oss-forbid-overwrite": "true"}


@dataclass(frozen=True)
class _Upload:
    data: bytes
    key: str
    model: str
    until: float


@dataclass
class Store:
    """Stored files, and the signatures that uploads and downloads need.

    `url` is its base URL. Uploads expire after 48 h, results after 24 h, by the simulator's clock.
    """

    clock: Clock
    url: str = ""
    access_key_id: str = field(default_factory=lambda: f"LTAI{uuid4().hex[:20]}")
    secret: bytes = field(default_factory=lambda: uuid4().bytes)
    _owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    _uploads: dict[str, _Upload] = field(default_factory=dict)
    _results: dict[str, bytes] = field(default_factory=dict)

    def policy(self, key: str, model: str) -> dict[str, Any]:
        """Return the upload policy of an API key for one file and model."""
        account = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
        folder = f"dashscope-instant/{account}/{self.clock.moment():%Y-%m-%d}/{uuid4()}"
        self._owners[folder] = key, model
        until = self.clock.moment() + timedelta(seconds=POLICY_SECONDS)
        policy = _base64(json.dumps(_rules(until, folder)).encode())
        return {
            "policy": policy,
            "signature": self._signed(policy),
            "upload_dir": folder,
            "upload_host": self.url + BUCKET,
            "expire_in_seconds": POLICY_SECONDS,
            "max_file_size_mb": MOST_MEGABYTES,
            "capacity_limit_mb": CAPACITY_MEGABYTES,
            "oss_access_key_id": self.access_key_id,
            "x_oss_object_acl": ACL,
            "x_oss_forbid_overwrite": "true",
        }

    def take(self, fields: Sequence[tuple[str, Any]]) -> None:
        """Store the file of a form whose fields match its policy, or raise an error."""
        given = dict(fields)
        if not fields or fields[-1][0] != "file":
            raise store_refuses("The field file must be the last one.", "MalformedPOSTRequest", 400)
        data = given["file"] if isinstance(given["file"], bytes) else given["file"].encode()
        policy = self._checked_policy(given)
        name = str(given.get("key") or "")
        folder = _folder_for(name, policy)
        _check_conditions(given, len(data), policy)
        if name in self._uploads:
            message = "The object you specified already exists and can not be overwritten."
            raise store_refuses(message, "FileAlreadyExists", 409)
        until = self.clock.now() + UPLOAD_SECONDS
        self._uploads[name] = _Upload(data, *self._owners[folder], until)

    def upload_at(self, address: str, key: str, model: str) -> bytes:
        """Return an upload for the key and model that it was made for."""
        found = self._uploads.get(address.removeprefix("oss://"))
        if found is None or found.until <= self.clock.now():
            raise undelivered("FILE_404_NOT_FOUND")
        if (found.key, found.model) != (key, model):
            raise undelivered("FILE_403_FORBIDDEN")
        return found.data

    def publish(self, name: str, body: bytes) -> str:
        """Store a result and return its signed URL, which is valid for a day."""
        path = f"/dashscope-result/{self.clock.moment():%Y%m%d}/{name}.json"
        self._results[path] = body
        until = int((self.clock.moment() + timedelta(seconds=RESULT_SECONDS)).timestamp())
        query = {
            "Expires": until,
            "OSSAccessKeyId": self.access_key_id,
            "Signature": self._signed(f"GET {path} {until}"),
        }
        return f"{self.url}{path}?{urlencode(query)}"

    def result(self, path: str, query: Mapping[str, str]) -> bytes:
        """Return the result of a URL with a valid signature."""
        until = query.get("Expires", "")
        signature = self._signed(f"GET {path} {until}")
        if not until.isdecimal() or not _same(query.get("Signature"), signature):
            raise store_refuses("The signature does not match.", "SignatureDoesNotMatch")
        if int(until) <= self.clock.moment().timestamp():
            self._results.pop(path, None)
            raise expired_address()
        if path not in self._results:
            raise store_refuses("The specified key does not exist.", "NoSuchKey", 404)
        return self._results[path]

    def _checked_policy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if given.get("OSSAccessKeyId") != self.access_key_id:
            message = "The OSS Access Key Id you provided does not exist in our records."
            raise store_refuses(message, "InvalidAccessKeyId")
        policy = given.get("policy")
        if not isinstance(policy, str) or not _same(given.get("Signature"), self._signed(policy)):
            raise store_refuses("The signature does not match.", "SignatureDoesNotMatch")
        found: dict[str, Any] = json.loads(base64.b64decode(policy))
        if datetime.fromisoformat(found["expiration"]) <= self.clock.moment():
            raise expired_policy()
        return found

    def _signed(self, text: str) -> str:
        return _base64(hmac.new(self.secret, text.encode(), hashlib.sha1).digest())


def _rules(until: datetime, folder: str) -> dict[str, Any]:
    return {
        "expiration": until.isoformat(timespec="milliseconds"),
        "conditions": [
            ["content-length-range", 0, MOST_MEGABYTES * 1024**2],
            ["starts-with", "$key", folder],
            {"bucket": "dashscope-file-mgr"},
            *({name: value} for name, value in FIXED.items()),
        ],
    }


def _folder_for(name: str, policy: Mapping[str, Any]) -> str:
    folder: str = policy["conditions"][1][2]
    if not name.startswith(f"{folder}/"):
        raise _broken_condition(policy["conditions"][1])
    return folder


def _check_conditions(given: Mapping[str, Any], size: int, policy: Mapping[str, Any]) -> None:
    for name, value in FIXED.items():
        if given.get(name) != value:
            raise _broken_condition({name: value})
    if size > policy["conditions"][0][2]:
        message = "Your proposed upload exceeds the maximum allowed object size."
        raise store_refuses(message, "EntityTooLarge", 400)


def _broken_condition(condition: Any) -> ApiError:
    said = json.dumps(condition)
    return store_refuses(f"Invalid according to Policy: Policy Condition failed: {said}")


def _same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), wanted.encode())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

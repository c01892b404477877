"""ObjectStore on any S3 API, by boto3. Each method is one request (or one per page or part); none is retried here.

`tasks.store.retrying` repeats what may be repeated; a conditional write is sent once and its caller reads back.
Bodies carry Content-MD5, so that a store which received other bytes refuses them.
"""

import base64
import datetime
import email.utils
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import clock
from tasks.errors import NotFound, PreconditionFailed, Transient
from tasks.store.base import CopySource, ObjectInfo, Part, PendingUpload
from tasks.store.s3errors import BeyondEnd, translated
from tasks.store.upload import upload_file

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectTypeDef

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
PAGE = 1000  # the most that S3 gives


class S3Store:
    """One bucket behind one boto3 client (thread-safe). See `tasks.store.base.ObjectStore` for the contract."""

    def __init__(self, client: "S3Client", *, region: str, bucket: str, endpoint: str, page: int = PAGE) -> None:
        self.region = region
        self.bucket = bucket
        self.endpoint = endpoint
        self._client = client
        self._page = page  # keys per listing request

    def _where(self, key: str = "") -> str:
        return f"{self.endpoint or 'AWS S3'} {self.bucket}/{key}"

    def now(self) -> datetime.datetime:
        """The `Date` of an answer. A store that sends none is taken to agree with this machine's clock."""
        with translated(self._where()):
            answer = self._client.head_bucket(Bucket=self.bucket)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return email.utils.parsedate_to_datetime(date).astimezone(datetime.UTC)
        except ValueError:
            return clock.now()

    def info(self, key: str) -> ObjectInfo:
        """HEAD."""
        with translated(self._where(key)):
            answer = self._client.head_object(Bucket=self.bucket, Key=key)
            return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["LastModified"])

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """GET of the whole object."""
        with translated(self._where(key)):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            body = answer["Body"].read()
            info = ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["LastModified"])
        if len(body) != info.size:
            raise Transient(f"{self._where(key)}: {len(body)} of {info.size} bytes arrived")
        return body, info

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """GET with Range; an answer that is not exactly the range is Transient."""
        if length <= 0:
            return b""
        condition: dict[str, Any] = {"IfMatch": if_match} if if_match else {}
        where = self._where(key)
        try:
            with translated(where):
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=key, Range=f"bytes={start}-{start + length - 1}", **condition
                )
                body = answer["Body"].read()
        except BeyondEnd:
            return b""
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return _checked_range(where, status, answer.get("ContentRange", ""), body, start, length)

    def put_new(self, key: str, body: bytes) -> str:
        """PUT with `If-None-Match: *`."""
        with translated(self._where(key)):
            answer = self._client.put_object(
                Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*", ContentMD5=_md5(body)
            )
            return answer["ETag"]

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """PUT with `If-Match`."""
        try:
            with translated(self._where(key)):
                answer = self._client.put_object(
                    Bucket=self.bucket, Key=key, Body=body, IfMatch=etag, ContentMD5=_md5(body)
                )
                return answer["ETag"]
        except NotFound as error:  # AWS: the object went
            raise PreconditionFailed(str(error)) from None

    def delete(self, key: str, if_match: str | None = None) -> None:
        """DELETE, conditional on the ETag if one is given."""
        condition: dict[str, Any] = {"IfMatch": if_match} if if_match else {}
        try:
            with translated(self._where(key)):
                self._client.delete_object(Bucket=self.bucket, Key=key, **condition)
        except NotFound:
            return
        except PreconditionFailed:
            if self._exists(key):
                raise

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """ListObjectsV2, page by page, in key order.

        An answer that does not say whether it is the last page (a body cut short, an empty 200) is Transient: taken as
        an empty listing it would make every layer look unreferenced.
        """
        where = self._where(prefix)
        token: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
        order = _Order(start_after)
        while True:
            with translated(where):
                page = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=self._page, **token)
                more, infos = page["IsTruncated"], [_info_of(item) for item in page.get("Contents", [])]
                token = {"ContinuationToken": page["NextContinuationToken"]} if more else {}
            if len(infos) != page.get("KeyCount", len(infos)):
                raise Transient(f"{where}: a page of {page['KeyCount']} keys has {len(infos)}")
            for info in infos:
                if not order.forward(info.key):
                    raise Transient(f"{where}: listing went back from {order.last} to {info.key}")
                order.last = info.key
                yield info
            if not more:
                return

    def upload_file(self, key: str, path: Path) -> str:
        """PUT, or multipart above a bound."""
        return upload_file(self, key, path)

    def create_multipart(self, key: str) -> str:
        """CreateMultipartUpload."""
        with translated(self._where(key)):
            return self._client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """UploadPart."""
        with translated(self._where(key)):
            answer = self._client.upload_part(
                Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, ContentMD5=_md5(body)
            )
            return Part(number, answer["ETag"], len(body))

    def copy_part(self, key: str, upload_id: str, number: int, source: CopySource) -> Part:
        """UploadPartCopy with a range and `x-amz-copy-source-if-match`."""
        with translated(self._where(key)):
            answer = self._client.upload_part_copy(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": source.bucket, "Key": source.key},
                CopySourceRange=f"bytes={source.start}-{source.start + source.length - 1}",
                CopySourceIfMatch=source.etag,
            )
            return Part(number, answer["CopyPartResult"]["ETag"], source.length)

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """CompleteMultipartUpload with `If-None-Match: *`."""
        ordered = sorted(parts, key=lambda part: part.number)
        with translated(self._where(key)):
            answer = self._client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                IfNoneMatch="*",
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in ordered]},
            )
            return _quoted(answer["ETag"])

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        try:
            with translated(self._where(key)):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
        except NotFound:
            return

    def list_multipart(self, prefix: str) -> Iterator[PendingUpload]:
        """ListMultipartUploads, page by page."""
        markers: dict[str, Any] = {}
        while True:
            with translated(self._where(prefix)):
                page = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix, **markers)
                more, uploads = page["IsTruncated"], page.get("Uploads", [])
                pending = [PendingUpload(item["Key"], item["UploadId"], item["Initiated"]) for item in uploads]
                if more:
                    markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
            yield from pending
            if not more:
                return

    def _exists(self, key: str) -> bool:
        try:
            self.info(key)
        except NotFound:
            return False
        return True


def _checked_range(where: str, status: int, content_range: str, body: bytes, start: int, length: int) -> bytes:
    match = _CONTENT_RANGE.fullmatch(content_range)
    if status != 206 or match is None:
        raise Transient(f"{where}: asked for a range, got status {status} with Content-Range {content_range!r}")
    first, last, total = (int(group) for group in match.groups())
    expected = min(length, total - start)
    if first != start or last - first + 1 != expected or len(body) != expected:
        raise Transient(f"{where}: asked for {start}+{length}, got {first}-{last}/{total} and {len(body)} bytes")
    return body


def _by_folders(key: str) -> list[str]:
    return key.split("/")


class _Order:
    """Do keys only go forward? By bytes, as S3 has it, or all of them by folders, as SeaweedFS walks them.

    It gives `a/x` before `a.qcow2`: a foreign folder must not end the listing of its bucket.
    """

    def __init__(self, start_after: str) -> None:
        self.last = start_after
        self._orders: list[Callable[[str], Any]] = [str, _by_folders]

    def forward(self, key: str) -> bool:
        """Is this key, like all before it, behind the last one?"""
        if self.last:
            self._orders = [order for order in self._orders if order(key) > order(self.last)]
        return bool(self._orders)


def _info_of(item: "ObjectTypeDef") -> ObjectInfo:
    return ObjectInfo(item["Key"], item["Size"], item["ETag"], item["LastModified"])


def _quoted(etag: str) -> str:
    """As every other answer has it: Ceph RGW leaves the quotes out at the end of a multipart upload."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()

"""What a program with boto3's default settings does. Run with one or more
endpoints; the last may be HTTPS, with its CA in AWS_CA_BUNDLE."""

import hashlib
import io
import random
import sys
import urllib.request

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

modern = tuple(int(n) for n in botocore.__version__.split(".")[:2]) >= (1, 36)


def check(what, ok, *more):
    if not ok:
        raise SystemExit(f"FAIL: {what} {more}")


def code(call):
    """The status and code with which a call fails."""
    try:
        call()
    except ClientError as e:
        return e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"]["Code"]
    return 200, ""


def main(endpoint, bucket):
    rng = random.Random(endpoint)
    s3 = boto3.client("s3", endpoint_url=endpoint)
    s3.create_bucket(Bucket=bucket)

    for size in (0, 1, 16385, 5 << 20):
        body = rng.randbytes(size)
        put = s3.put_object(Bucket=bucket, Key=f"put/{size}", Body=body, Metadata={"size": str(size)})
        check("ETag", put["ETag"] == '"%s"' % hashlib.md5(body).hexdigest(), put["ETag"])
        got = s3.get_object(Bucket=bucket, Key=f"put/{size}")
        check("body", got["Body"].read() == body, size)
        check("metadata", got["Metadata"] == {"size": str(size)}, got["Metadata"])
        if modern:
            check("checksum of a PUT", "ChecksumCRC32" in put or "ChecksumCRC64NVME" in put, put)

    # Large ones go in parts, by themselves.
    body = rng.randbytes(37 << 20)
    s3.upload_fileobj(io.BytesIO(body), bucket, "big", ExtraArgs={"ContentType": "x/big"})
    head = s3.head_object(Bucket=bucket, Key="big")
    check("HEAD", head["ContentLength"] == len(body) and head["ContentType"] == "x/big", head)
    check("parts", head["ETag"].strip('"').endswith("-5"), head["ETag"])
    down = io.BytesIO()
    s3.download_fileobj(bucket, "big", down)
    check("download", down.getvalue() == body)

    for name in ("CRC32", "SHA1", "SHA256"):
        s3.put_object(Bucket=bucket, Key="sum", Body=body[:100000], ChecksumAlgorithm=name)
        got = s3.get_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED")
        check(name, got["Body"].read() == body[:100000] and got.get("Checksum" + name), got)
    refused = code(lambda: s3.put_object(Bucket=bucket, Key="false", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="))
    check("false MD5", refused == (400, "BadDigest"), refused)

    if modern:
        s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
        refused = code(lambda: s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*"))
        check("If-None-Match", refused == (412, "PreconditionFailed"), refused)
        etag = s3.head_object(Bucket=bucket, Key="once")["ETag"]
        s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfMatch=etag)
        refused = code(lambda: s3.put_object(Bucket=bucket, Key="once", Body=b"3", IfMatch=etag))
        check("If-Match", refused == (412, "PreconditionFailed"), refused)

    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copied")
    check("copy", s3.get_object(Bucket=bucket, Key="copied")["Body"].read() == body)
    check("range", s3.get_object(Bucket=bucket, Key="big", Range="bytes=8388600-8388620")["Body"].read() == body[8388600:8388621])

    keys = sorted(f"list/{i % 3}/{i:02} ü" for i in range(30))
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="list/", PaginationConfig={"PageSize": 7})
    check("list", [o["Key"] for page in pages for o in page["Contents"]] == keys)
    folders = s3.list_objects(Bucket=bucket, Prefix="list/", Delimiter="/")["CommonPrefixes"]
    check("folders", [p["Prefix"] for p in folders] == ["list/0/", "list/1/", "list/2/"], folders)

    # boto3 signs URLs of AWS's own regions by SigV2 unless it is told otherwise.
    signer = boto3.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4"))
    if endpoint.startswith("http://"):
        url = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "url"})
        with urllib.request.urlopen(urllib.request.Request(url, data=b"by URL", method="PUT", headers={"Content-Type": ""})) as r:
            check("presigned PUT", r.status == 200)
        url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "url"})
        with urllib.request.urlopen(url) as r:
            check("presigned GET", r.read() == b"by URL")

    check("no such key", code(lambda: s3.get_object(Bucket=bucket, Key="absent")) == (404, "NoSuchKey"))
    bucket_of = boto3.resource("s3", endpoint_url=endpoint).Bucket(bucket)
    bucket_of.objects.all().delete()
    check("all deleted", list(bucket_of.objects.all()) == [])
    s3.delete_bucket(Bucket=bucket)
    check("no such bucket", code(lambda: s3.list_objects_v2(Bucket=bucket)) == (404, "NoSuchBucket"))


for i, where in enumerate(sys.argv[1:]):
    main(where, f"boto-{i}")
print("boto3", boto3.__version__, "botocore", botocore.__version__, "python", sys.version.split()[0])

"""What a program with boto3's default settings does. Run with one or more
endpoints; the last may be HTTPS, with its CA in AWS_CA_BUNDLE."""

import hashlib
import io
import random
import sys
import urllib.error
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


def at_rest(s3, bucket, body):
    """Encryption and storage classes."""
    put = s3.put_object(Bucket=bucket, Key="sealed", Body=body[:100000], ServerSideEncryption="AES256")
    check("SSE-S3", put["ServerSideEncryption"] == "AES256" and put["ETag"] == '"%s"' % hashlib.md5(body[:100000]).hexdigest(), put)
    got = s3.get_object(Bucket=bucket, Key="sealed", Range="bytes=70000-70009")
    check("range of SSE-S3", got["Body"].read() == body[70000:70010] and got["ServerSideEncryption"] == "AES256", got)

    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    back = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    check("bucket encryption", back["ApplyServerSideEncryptionByDefault"] == rule["ApplyServerSideEncryptionByDefault"], back)
    s3.delete_bucket_encryption(Bucket=bucket)

    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    s3.upload_fileobj(io.BytesIO(body), bucket, "mine", ExtraArgs=own)  # in parts
    down = io.BytesIO()
    s3.download_fileobj(bucket, "mine", down, ExtraArgs=own)
    check("SSE-C in parts", down.getvalue() == body)
    refused = code(lambda: s3.get_object(Bucket=bucket, Key="mine"))
    check("without the key", refused == (400, "InvalidRequest"), refused)
    refused = code(lambda: s3.get_object(Bucket=bucket, Key="mine", SSECustomerAlgorithm="AES256", SSECustomerKey="x" * 32))
    check("with another key", refused == (403, "AccessDenied"), refused)
    s3.copy_object(Bucket=bucket, Key="opened", CopySource={"Bucket": bucket, "Key": "sealed"})
    check("copy of sealed", s3.get_object(Bucket=bucket, Key="opened")["Body"].read() == body[:100000])

    for storage in ("REDUCED_REDUNDANCY", "ONEZONE_IA"):
        s3.put_object(Bucket=bucket, Key="class", Body=body[:300000], StorageClass=storage)
        got = s3.get_object(Bucket=bucket, Key="class")
        check(storage, got["Body"].read() == body[:300000] and got["StorageClass"] == storage, got)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="class")["Contents"][0]
    check("class in a listing", listed["StorageClass"] == "ONEZONE_IA", listed)
    refused = code(lambda: s3.put_object(Bucket=bucket, Key="class", Body=b"", StorageClass="GLACIER"))
    check("GLACIER", refused == (400, "InvalidStorageClass"), refused)


def from_pages(s3, signer, endpoint, bucket):
    """What a browser does: preflight and a form."""
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [
        {"AllowedOrigins": ["https://*.example.com"], "AllowedMethods": ["PUT", "POST"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 60}]})
    check("CORS", s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["MaxAgeSeconds"] == 60)
    if endpoint.startswith("http://"):
        ask = urllib.request.Request(f"{endpoint}/{bucket}/x", method="OPTIONS",
                                     headers={"Origin": "https://app.example.com", "Access-Control-Request-Method": "PUT"})
        with urllib.request.urlopen(ask) as r:
            check("preflight", r.headers["Access-Control-Allow-Origin"] == "https://app.example.com", r.headers)
        post = signer.generate_presigned_post(bucket, "form/${filename}", Conditions=[["content-length-range", 1, 100]])
        check("form of size 0", send_form(post, b"") == 400)
        check("form", send_form(post, b"from a form") == 204)
        check("posted", s3.get_object(Bucket=bucket, Key="form/name.txt")["Body"].read() == b"from a form")
    s3.delete_bucket_cors(Bucket=bucket)


def send_form(post, data):
    """Sends a form as a browser does; answers the status."""
    parts = "".join(f'--bound\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in post["fields"].items())
    parts += '--bound\r\nContent-Disposition: form-data; name="file"; filename="name.txt"\r\n\r\n'
    form = urllib.request.Request(post["url"], data=parts.encode() + data + b"\r\n--bound--\r\n",
                                  headers={"Content-Type": "multipart/form-data; boundary=bound"})
    try:
        with urllib.request.urlopen(form) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code


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

    at_rest(s3, bucket, body)
    from_pages(s3, signer, endpoint, bucket)

    check("no such key", code(lambda: s3.get_object(Bucket=bucket, Key="absent")) == (404, "NoSuchKey"))
    bucket_of = boto3.resource("s3", endpoint_url=endpoint).Bucket(bucket)
    bucket_of.objects.all().delete()
    check("all deleted", list(bucket_of.objects.all()) == [])
    s3.delete_bucket(Bucket=bucket)
    check("no such bucket", code(lambda: s3.list_objects_v2(Bucket=bucket)) == (404, "NoSuchBucket"))


for i, where in enumerate(sys.argv[1:]):
    main(where, f"boto-{i}")
print("boto3", boto3.__version__, "botocore", botocore.__version__, "python", sys.version.split()[0])

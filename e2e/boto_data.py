"""Versions, object lock, tags and lifecycle as a program with boto3 meets them. Run
with an endpoint of a region whose lifecycle day is a few seconds."""

import datetime
import sys
import time
import uuid

import boto3
from botocore.exceptions import ClientError

PATIENCE = 120  # seconds until what has to happen counts as not happening


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


def refused(what, want, call):
    got = code(call)
    check(what, got == want, got, "want", want)


def comes(what, happened):
    """Waits until happened() holds."""
    until = time.monotonic() + PATIENCE
    while not happened():
        check(what, time.monotonic() < until, "did not happen")
        time.sleep(0.2)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def new_bucket(s3, versions=True, **more):
    name = f"data-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, **more)
    if versions and not more:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def history(s3, bucket, **more):
    """All versions and markers: (key, id, whether it is the newest, whether it is a marker)."""
    out = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2}, **more):
        out += [(v["Key"], v["VersionId"], v["IsLatest"], False) for v in page.get("Versions", [])]
        out += [(v["Key"], v["VersionId"], v["IsLatest"], True) for v in page.get("DeleteMarkers", [])]
    return out


def versions(s3):
    bucket = new_bucket(s3, versions=False)
    check("never versioned", "Status" not in s3.get_bucket_versioning(Bucket=bucket))
    check("no id without versions", "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"null"))
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = ["null"] + [s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % i)["VersionId"] for i in range(3)]
    check("distinct ids", len(set(ids)) == 4, ids)
    for i, body in enumerate([b"null", b"0", b"1", b"2"]):
        got = s3.get_object(Bucket=bucket, Key="k", VersionId=ids[i])
        check("an old version", got["Body"].read() == body and got["VersionId"] == ids[i], got)
    marker = s3.delete_object(Bucket=bucket, Key="k")
    check("marker", marker["DeleteMarker"] is True and marker["VersionId"] not in ids, marker)
    refused("behind a marker", (404, "NoSuchKey"), lambda: s3.get_object(Bucket=bucket, Key="k"))
    refused("a marker by its id", (405, "MethodNotAllowed"), lambda: s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"]))
    refused("copy of a marker", (400, "InvalidRequest"), lambda: s3.copy_object(Bucket=bucket, Key="c",
            CopySource={"Bucket": bucket, "Key": "k", "VersionId": marker["VersionId"]}))
    want = [("k", ids[3], False, False), ("k", ids[2], False, False), ("k", ids[1], False, False), ("k", "null", False, False)]
    got = history(s3, bucket)
    check("history", [v for v in got if not v[3]] == want and [v for v in got if v[3]] == [("k", marker["VersionId"], True, True)], got)
    check("nothing is current", "Contents" not in s3.list_objects_v2(Bucket=bucket))

    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    check("a marker removed", gone["DeleteMarker"] is True, gone)
    check("back again", s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2")
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k", "VersionId": ids[1]})
    check("copy of an old version", copied["CopySourceVersionId"] == ids[1] and s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0", copied)

    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"suspended")
    s3.put_object(Bucket=bucket, Key="k", Body=b"again")
    got = history(s3, bucket)
    check("one null version, in front", len(got) == 5 and ("k", "null", True, False) in got, got)
    marker = s3.delete_object(Bucket=bucket, Key="k")
    check("null marker", marker["DeleteMarker"] is True and marker["VersionId"] == "null", marker)

    refused("unknown version", (404, "NoSuchVersion"), lambda: s3.get_object(Bucket=bucket, Key="other", VersionId=ids[1]))
    refused("junk version", (400, "InvalidArgument"), lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="junk"))
    refused("bucket with versions", (409, "BucketNotEmpty"), lambda: s3.delete_bucket(Bucket=bucket))
    listed = [{"Key": k, "VersionId": v} for k, v, _, _ in history(s3, bucket)]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed})
    check("all versions deleted", len(done["Deleted"]) == len(listed) and "Errors" not in done, done)
    s3.delete_bucket(Bucket=bucket)


def locks(s3):
    bucket = new_bucket(s3, ObjectLockEnabledForBucket=True)
    check("lock brings versions", s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled")
    refused("versioning stays", (409, "InvalidBucketState"), lambda: s3.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}))
    day = now() + datetime.timedelta(days=1)

    def put(key, **lock):
        return s3.put_object(Bucket=bucket, Key=key, Body=b"kept", **lock)["VersionId"]

    def remove(key, version, **more):
        return code(lambda: s3.delete_object(Bucket=bucket, Key=key, VersionId=version, **more))

    def retain(key, version, mode, until, **more):
        return code(lambda: s3.put_object_retention(Bucket=bucket, Key=key, VersionId=version,
                    Retention={"Mode": mode, "RetainUntilDate": until}, **more))

    denied = (403, "AccessDenied")
    g = put("g", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=day)
    check("governance", remove("g", g) == denied)
    check("governance is not made shorter", retain("g", g, "GOVERNANCE", day - datetime.timedelta(hours=1)) == denied)
    check("longer", retain("g", g, "GOVERNANCE", day + datetime.timedelta(hours=1)) == (200, ""))
    check("a marker in front of what is locked", s3.delete_object(Bucket=bucket, Key="g")["DeleteMarker"] is True)
    check("governance bypassed", remove("g", g, BypassGovernanceRetention=True) == (200, ""))

    soon = now().replace(microsecond=0) + datetime.timedelta(seconds=9)
    c = put("c", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon)
    for more in ({}, {"BypassGovernanceRetention": True}):
        check("compliance", remove("c", c, **more) == denied)
        check("compliance is not made shorter", retain("c", c, "COMPLIANCE", soon - datetime.timedelta(seconds=3), **more) == denied)
        check("compliance stays compliance", retain("c", c, "GOVERNANCE", day, **more) == denied)
    many = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c", "VersionId": c}]}, BypassGovernanceRetention=True)
    check("DeleteObjects", many["Errors"][0]["Code"] == "AccessDenied", many)

    h = put("h", ObjectLockLegalHoldStatus="ON")
    check("legal hold", remove("h", h, BypassGovernanceRetention=True) == denied)
    check("hold is told", s3.head_object(Bucket=bucket, Key="h")["ObjectLockLegalHoldStatus"] == "ON")
    s3.put_object_legal_hold(Bucket=bucket, Key="h", VersionId=h, LegalHold={"Status": "OFF"})
    check("hold lifted", remove("h", h) == (200, ""))

    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}}}
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
    check("configuration", s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == rule)
    d = put("d")
    kept = s3.get_object_retention(Bucket=bucket, Key="d")["Retention"]
    check("default retention", kept["Mode"] == "GOVERNANCE" and 1.9 < (kept["RetainUntilDate"] - now()).total_seconds() / 86400 < 2.1, kept)
    check("it holds", remove("d", d) == denied and remove("d", d, BypassGovernanceRetention=True) == (200, ""))

    refused("a date that has passed", (400, "InvalidArgument"), lambda: put("x", ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=now() - datetime.timedelta(days=1)))
    f = put("f")
    s3.put_object_retention(Bucket=bucket, Key="f", VersionId=f, Retention={}, BypassGovernanceRetention=True)
    refused("no retention", (404, "NoSuchObjectLockConfiguration"), lambda: s3.get_object_retention(Bucket=bucket, Key="f"))
    plain = new_bucket(s3)
    refused("lock without object lock", (400, "InvalidRequest"), lambda: s3.put_object(Bucket=plain, Key="x", Body=b"x", ObjectLockLegalHoldStatus="ON"))
    refused("no configuration", (404, "ObjectLockConfigurationNotFoundError"), lambda: s3.get_object_lock_configuration(Bucket=plain))

    comes("the end of compliance", lambda: remove("c", c) == (200, ""))
    check("not before its time", now() >= soon)


def tags(s3):
    bucket = new_bucket(s3)
    pair = [{"Key": "a", "Value": "1"}, {"Key": "b c", "Value": ""}]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b%20c=")
    check("from the header", s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == pair)
    check("their number", s3.get_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2")
    s3.copy_object(Bucket=bucket, Key="same", CopySource={"Bucket": bucket, "Key": "k"})
    check("copied", s3.get_object_tagging(Bucket=bucket, Key="same")["TagSet"] == pair)
    s3.copy_object(Bucket=bucket, Key="other", CopySource={"Bucket": bucket, "Key": "k"}, TaggingDirective="REPLACE", Tagging="z=9")
    check("replaced", s3.get_object_tagging(Bucket=bucket, Key="other")["TagSet"] == [{"Key": "z", "Value": "9"}])
    old = s3.head_object(Bucket=bucket, Key="k")["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=old, Tagging={"TagSet": [{"Key": "old", "Value": "yes"}]})
    check("tags of a version", s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [] and
          s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=old)["TagSet"] == [{"Key": "old", "Value": "yes"}])
    s3.delete_object_tagging(Bucket=bucket, Key="k", VersionId=old)
    check("taken away", s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=old)["TagSet"] == [])

    def put(*pairs):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in pairs]})

    refused("11 tags", (400, "BadRequest"), lambda: put(*[(str(i), "") for i in range(11)]))
    refused("a long key", (400, "InvalidTag"), lambda: put(("k" * 129, "")))
    refused("a long value", (400, "InvalidTag"), lambda: put(("k", "v" * 257)))
    refused("the same key twice", (400, "InvalidTag"), lambda: put(("k", "1"), ("k", "2")))
    refused("a key of Amazon's", (400, "InvalidTag"), lambda: put(("aws:k", "1")))
    check("nothing changed", s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [])
    refused("no tags of a bucket", (404, "NoSuchTagSet"), lambda: s3.get_bucket_tagging(Bucket=bucket))
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pair})
    check("tags of a bucket", s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == pair)


def encryption(s3):
    """A setting holds from the answer on."""
    for _ in range(20):
        bucket = new_bucket(s3, versions=False)
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]})
        for size in (0, 1, 100_000):
            put = s3.put_object(Bucket=bucket, Key="k", Body=b"x" * size)
            check("encrypted at once", put.get("ServerSideEncryption") == "AES256", put)
        up = s3.create_multipart_upload(Bucket=bucket, Key="k")
        check("an upload too", up.get("ServerSideEncryption") == "AES256", up)


def lifecycle(s3):
    bucket = new_bucket(s3, ObjectLockEnabledForBucket=True)
    for key in ("tmp/a", "tmp/b", "keep/a", "small"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * (10 if key == "small" else 100))
    s3.put_object(Bucket=bucket, Key="tagged", Body=b"x" * 100, Tagging="end=soon")
    held = s3.put_object(Bucket=bucket, Key="old/held", Body=b"1", ObjectLockLegalHoldStatus="ON")["VersionId"]
    s3.put_object(Bucket=bucket, Key="old/held", Body=b"2")
    older = [s3.put_object(Bucket=bucket, Key="old/free", Body=b"%d" % i)["VersionId"] for i in range(4)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="up/a")["UploadId"]
    s3.create_multipart_upload(Bucket=bucket, Key="stays/a")
    lone = s3.delete_object(Bucket=bucket, Key="lone/a")["VersionId"]
    one = {"Days": 1}
    rules = [
        {"ID": "tmp", "Filter": {"Prefix": "tmp/"}, "Status": "Enabled", "Expiration": one},
        {"ID": "tags", "Filter": {"Tag": {"Key": "end", "Value": "soon"}}, "Status": "Enabled", "Expiration": one},
        {"ID": "sizes", "Filter": {"And": {"Prefix": "small", "ObjectSizeLessThan": 50}}, "Status": "Enabled", "Expiration": one},
        {"ID": "off", "Filter": {"Prefix": "keep/"}, "Status": "Disabled", "Expiration": one},
        {"ID": "old", "Filter": {"Prefix": "old/"}, "Status": "Enabled",
         "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 1}},
        {"ID": "uploads", "Filter": {"Prefix": "up/"}, "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
        {"ID": "lone", "Filter": {"Prefix": "lone/"}, "Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}},
    ]
    refused("days and a date", (400, "MalformedXML"), lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={
        "Rules": [{"ID": "x", "Filter": {}, "Status": "Enabled", "Expiration": {"Days": 1, "Date": "2030-01-01T00:00:00Z"}}]}))
    refused("no rules yet", (404, "NoSuchLifecycleConfiguration"), lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket))
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    back = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    check("rules", [r["ID"] for r in back] == [r["ID"] for r in rules], back)
    told = s3.put_object(Bucket=bucket, Key="tmp/c", Body=b"x")
    check("x-amz-expiration", 'rule-id="tmp"' in told["Expiration"], told)

    def current():
        return [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]

    comes("expiration", lambda: current() == ["keep/a", "old/free", "old/held"])
    comes("old versions", lambda: [v[1] for v in history(s3, bucket, Prefix="old/free")] == [older[3], older[2]])
    comes("uploads", lambda: [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket, Prefix="up/").get("Uploads", [])] == [])
    comes("lone markers", lambda: history(s3, bucket, Prefix="lone/") == [])
    check("the marker and the upload were there", lone and upload)
    check("what has no rule stays", [u["Key"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["stays/a"])
    check("expired under markers", [v for v in history(s3, bucket, Prefix="tmp/a") if v[3]] != [])
    check("what is held stays", held in [v[1] for v in history(s3, bucket, Prefix="old/held")])
    s3.delete_bucket_lifecycle(Bucket=bucket)


def main(endpoint):
    s3 = boto3.client("s3", endpoint_url=endpoint)
    versions(s3)
    tags(s3)
    encryption(s3)
    lifecycle(s3)
    locks(s3)


main(sys.argv[1])
print("boto3", boto3.__version__)

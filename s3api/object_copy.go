package s3api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
	"bivalve/s3api/s3xml"
)

const maxCopyBytes = 5 << 30

// copySource reads x-amz-copy-source and looks the source up.
func (c *call) copySource() (bucket string, v metadata.Version, err error) {
	raw := c.header(copySourceName)
	bad := argument("x-amz-copy-source", raw, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	path, query, hasQuery := strings.Cut(raw, "?")
	version := ""
	if hasQuery {
		id, ok := strings.CutPrefix(query, "versionId=")
		if !ok {
			return "", v, bad
		}
		if version, err = url.QueryUnescape(id); err != nil {
			return "", v, bad
		}
		if err := checkVersionID(version); err != nil {
			return "", v, err
		}
	}
	path, err = url.PathUnescape(path)
	if err != nil {
		return "", v, bad
	}
	if strings.HasPrefix(path, "arn:") {
		return "", v, notImplemented("x-amz-copy-source with an ARN")
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || bucket == "" || key == "" {
		return "", v, bad
	}
	if !validBucketName(bucket) {
		return "", v, &apiError{code: "InvalidBucketName", fields: map[string]string{"BucketName": bucket}}
	}
	if err := checkKey(key); err != nil {
		return "", v, err
	}
	v, err = c.api.Objects.HeadObject(c.ctx(), bucket, key, version)
	switch {
	case err != nil:
		return "", v, aboutSource(err, bucket, key, version)
	case v.DeleteMarker && version != "":
		return "", v, failf("InvalidRequest", "The source of a copy request may not specifically refer to a delete marker by version id.")
	case v.DeleteMarker:
		return "", v, aboutSource(metadata.ErrNoSuchKey, bucket, key, version)
	}
	if c.sourceKey, err = c.readKey("X-Amz-Copy-Source-", &v); err != nil {
		return "", v, err
	}
	if status, header := c.preconditions("X-Amz-Copy-Source-").check(&v); status != http.StatusOK {
		return "", v, preconditionFailed("x-amz-copy-source-" + header)
	}
	return bucket, v, nil
}

// aboutSource says what is missing: the error of a copy would be about its target.
func aboutSource(err error, bucket, key, version string) error {
	a := translate(err)
	switch a.code {
	case "NoSuchBucket":
		return &apiError{code: a.code, fields: map[string]string{"BucketName": bucket}}
	case "NoSuchKey":
		return &apiError{code: a.code, fields: map[string]string{"Key": key}}
	case "NoSuchVersion":
		return &apiError{code: a.code, fields: map[string]string{"Key": key, "VersionId": version}}
	}
	return err
}

// copyObject makes a new object out of one that is here.
func (c *call) copyObject() error {
	attr, replace, err := c.copyAttributes()
	if err != nil {
		return err
	}
	cond, err := c.writeCondition()
	if err != nil {
		return err
	}
	seal, err := c.sealWith()
	if err != nil {
		return err
	}
	lock, given, err := c.lockAndTags(false)
	if err != nil {
		return err
	}
	if _, err := c.copyTags(nil, given); err != nil {
		return err
	}
	algorithm := strings.ToUpper(c.header("X-Amz-Checksum-Algorithm"))
	if algorithm != "" && !knownChecksum(algorithm) {
		return failf("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	bucket, src, err := c.copySource()
	if err != nil {
		return err
	}
	tags, err := c.copyTags(src.Tags, given)
	if err != nil {
		return err
	}
	class := attr.StorageClass
	if bucket == c.bucket && src.Key == c.key && !replace {
		if err := c.checkSelfCopy(&src, seal); err != nil {
			return err
		}
	}
	if src.Bytes > maxCopyBytes {
		return failf("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxCopyBytes))
	}
	if !replace {
		attr = src.Attributes
		attr.StorageClass, attr.WebsiteRedirect = class, ""
	}
	return c.long(func(ctx context.Context) (func(*s3xml.Writer), error) {
		v, err := c.makeCopy(ctx, CopyRequest{Source: src, Bucket: c.bucket, Key: c.key, Attributes: attr,
			Tags: tags, Lock: lock, Condition: cond, Seal: seal}, algorithm)
		return func(x *s3xml.Writer) {
			c.setSeal(metadata.SealOf(v.Parts))
			setVersion(c.w.Header(), &v)
			setExpiration(c.w.Header(), v.Expires)
			c.setSourceVersion(&src)
			copyResult(x, "CopyObjectResult", v.Modified, v.ETag, v.Checksum)
		}, err
	})
}

// checkSelfCopy refuses a copy of an object onto itself that asks for no change. To name
// a storage class is to ask for one, even if the object has it; not to name one is not.
// An older version may be copied over the current one: that brings it back.
func (c *call) checkSelfCopy(src *metadata.Version, seal metadata.SealWith) error {
	older := strings.Contains(c.header(copySourceName), "?")
	if older || c.header("X-Amz-Storage-Class") != "" || seal.Kind != metadata.SealNone || metadata.SealOf(src.Parts) != metadata.SealNone {
		return nil
	}
	// Where the bucket says how new objects are encrypted, S3 takes that for asked for.
	b, err := c.findBucket()
	if err != nil || len(b.Settings[metadata.FieldEncryption]) > 0 {
		return err
	}
	return failf("InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
}

// setSourceVersion tells which version was copied, unless that was a null version.
func (c *call) setSourceVersion(src *metadata.Version) {
	if src.ID != metadata.NullVersion {
		c.w.Header()["X-Amz-Copy-Source-Version-Id"] = []string{src.ID}
	}
}

// withSource opens a part of the source and hands it over as a body.
func (c *call) withSource(ctx context.Context, src metadata.Version, s span, algorithm string, store func(Body) error) error {
	if s.length == 0 {
		return store(newCopy(strings.NewReader(""), 0, algorithm))
	}
	rd, err := c.openObject(src, c.sourceKey, s)
	if err != nil {
		return err
	}
	defer rd.Close()
	return store(newCopy(rd, s.length, algorithm))
}

// copyAttributes reads the directives: COPY keeps the source's attributes,
// REPLACE takes those of the request.
func (c *call) copyAttributes() (attr metadata.Attributes, replace bool, err error) {
	switch v := c.header("X-Amz-Metadata-Directive"); v {
	case "", "COPY":
	case "REPLACE":
		replace = true
	default:
		return attr, false, argument("x-amz-metadata-directive", v, "Unknown metadata directive.")
	}
	if attr, err = c.attributes(); err == nil && attr.ContentType == "" {
		attr.ContentType = "binary/octet-stream"
	}
	return attr, replace, err
}

func copyResult(x *s3xml.Writer, root string, modified int64, etag string, sum metadata.Checksum) {
	x.Root(root)
	x.Time("LastModified", modified)
	x.Text("ETag", quoted(etag))
	checksumElements(x, sum)
	x.Close(root)
}

// checksumElements writes ChecksumCRC32 and its like.
func checksumElements(x *s3xml.Writer, sum metadata.Checksum) {
	if checksum.Size(sum.Algorithm) > 0 && sum.Value != "" {
		x.Text("Checksum"+sum.Algorithm, sum.Value)
		x.Optional("ChecksumType", sum.Type)
	}
}

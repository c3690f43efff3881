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
	if hasQuery {
		id, ok := strings.CutPrefix(query, "versionId=")
		if !ok {
			return "", v, bad
		}
		if id, err = url.QueryUnescape(id); err != nil {
			return "", v, bad
		}
		if err := checkVersionID(id); err != nil {
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
	v, err = c.api.Objects.HeadObject(c.ctx(), bucket, key)
	if err != nil {
		return "", v, err
	}
	if v.DeleteMarker {
		return "", v, fail("NoSuchKey")
	}
	if c.preconditions("X-Amz-Copy-Source-").check(&v) != http.StatusOK {
		return "", v, fail("PreconditionFailed")
	}
	return bucket, v, nil
}

// copyObject makes a new object out of one that is here.
func (c *call) copyObject() error {
	attr, replace, err := c.copyAttributes()
	if err != nil {
		return err
	}
	cond, err := c.condition()
	if err != nil {
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
	if bucket == c.bucket && src.Key == c.key && !replace {
		return failf("InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	if src.Bytes > maxCopyBytes {
		return failf("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxCopyBytes))
	}
	if !replace {
		attr = src.Attributes
		attr.StorageClass, attr.WebsiteRedirect = "", ""
	}
	if algorithm == "" {
		algorithm = src.Checksum.Algorithm
	}
	return c.long(func(ctx context.Context) (func(*s3xml.Writer), error) {
		var v metadata.Version
		err := c.withSource(ctx, src, span{0, src.Bytes}, algorithm, func(body *upload) (err error) {
			v, err = c.api.Objects.PutObject(ctx, PutRequest{Bucket: c.bucket, Key: c.key, Bytes: src.Bytes, Body: body, Attributes: attr, Condition: cond})
			return err
		})
		return func(x *s3xml.Writer) { copyResult(x, "CopyObjectResult", v.Modified, v.ETag, v.Checksum) }, err
	})
}

// withSource opens a part of the source and hands it over as a body.
func (c *call) withSource(ctx context.Context, src metadata.Version, s span, algorithm string, store func(*upload) error) error {
	if s.length == 0 {
		return store(newCopy(strings.NewReader(""), 0, algorithm))
	}
	rd, err := c.api.Objects.OpenObject(ctx, src, s.offset, s.length)
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
	switch v := c.header("X-Amz-Tagging-Directive"); v {
	case "", "COPY", "REPLACE": // objects carry no tags: both copy none
	default:
		return attr, false, argument("x-amz-tagging-directive", v, "Unknown tagging directive.")
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

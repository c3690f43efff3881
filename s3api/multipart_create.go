package s3api

import (
	"strconv"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
)

// createUpload starts a multipart upload.
func (c *call) createUpload() error {
	attr, err := c.attributes()
	if err != nil {
		return err
	}
	if attr.ContentType == "" {
		attr.ContentType = "binary/octet-stream"
	}
	algorithm := strings.ToUpper(c.header("X-Amz-Checksum-Algorithm"))
	typ := strings.ToUpper(c.header("X-Amz-Checksum-Type"))
	switch {
	case algorithm == "" && typ != "":
		return failf("InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
	case algorithm != "":
		if !knownChecksum(algorithm) {
			return failf("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
		}
		given := typ
		var ok bool
		if typ, ok = checksum.CheckType(algorithm, typ); !ok {
			return failf("InvalidRequest", "The %s checksum type cannot be used with the %s checksum algorithm.", given, strings.ToLower(algorithm))
		}
	}
	seal, err := c.sealWith()
	if err != nil {
		return err
	}
	lock, tags, err := c.lockAndTags(false)
	if err != nil {
		return err
	}
	u, err := c.api.Uploads.CreateUpload(c.ctx(), CreateUploadRequest{Bucket: c.bucket, Key: c.key, Attributes: attr, Tags: tags, Lock: lock,
		ChecksumAlgorithm: algorithm, ChecksumType: typ, Seal: seal})
	if err != nil {
		return err
	}
	if algorithm != "" {
		c.w.Header()["X-Amz-Checksum-Algorithm"] = []string{algorithm}
		c.w.Header()["X-Amz-Checksum-Type"] = []string{typ}
	}
	c.setSeal(kindOf(u.Seal))
	setAbort(c.w.Header(), u.Aborts)
	x := c.newXML()
	x.Root("InitiateMultipartUploadResult")
	x.Text("Bucket", c.bucket)
	x.Text("Key", c.key)
	x.Text("UploadId", u.ID.String())
	x.Close("InitiateMultipartUploadResult")
	c.sendXML(200, x)
	return nil
}

// uploadID reads the uploadId parameter; junk is simply an unknown upload.
func (c *call) uploadID() (metadata.UploadID, error) {
	id, err := metadata.ParseUploadID(c.query.Get("uploadId"))
	if err != nil {
		return id, &apiError{code: "NoSuchUpload", fields: map[string]string{"UploadId": c.query.Get("uploadId")}}
	}
	return id, nil
}

// partNumber accepts 1..10000 in plain decimal.
func partNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > metadata.MaxParts || strconv.Itoa(n) != s {
		return 0, argument("partNumber", s, "Part number must be an integer between 1 and 10000, inclusive")
	}
	return n, nil
}

package s3api

import (
	"errors"
	"io"

	"bivalve/metadata"
)

// putObject stores the body as a new version.
func (c *call) putObject() error {
	attr, err := c.attributes()
	if err != nil {
		return err
	}
	if attr.ContentType == "" {
		attr.ContentType = "binary/octet-stream"
	}
	cond, err := c.writeCondition()
	if err != nil {
		return err
	}
	seal, err := c.sealWith()
	if err != nil {
		return err
	}
	lock, tags, err := c.lockAndTags(true)
	if err != nil {
		return err
	}
	body, err := c.newUpload("")
	if err != nil {
		return err
	}
	v, err := c.api.Objects.PutObject(c.ctx(), PutRequest{Bucket: c.bucket, Key: c.key, Bytes: body.size, Body: body, Attributes: attr,
		Tags: tags, Lock: lock, Condition: cond, Seal: seal})
	if err != nil {
		return body.blame(err)
	}
	h := c.w.Header()
	h["ETag"] = []string{quoted(v.ETag)}
	setChecksum(h, v.Checksum)
	setNewVersion(h, &v)
	setExpiration(h, v.Expires)
	c.setSeal(metadata.SealOf(v.Parts))
	c.done()
	return nil
}

// blame prefers the fault of the body to what the house made of it. A body that the house
// has ended for want of room has none, whatever its wire says.
func (u *upload) blame(err error) error {
	if u.err != nil && u.err != io.EOF && !errors.Is(err, ErrSlowDown) {
		return u.err
	}
	return err
}

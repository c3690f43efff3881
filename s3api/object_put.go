package s3api

import "bivalve/metadata"

// putObject stores the body as a new version.
func (c *call) putObject() error {
	attr, err := c.attributes()
	if err != nil {
		return err
	}
	if attr.ContentType == "" {
		attr.ContentType = "binary/octet-stream"
	}
	cond, err := c.condition()
	if err != nil {
		return err
	}
	body, err := c.newUpload("")
	if err != nil {
		return err
	}
	v, err := c.api.Objects.PutObject(c.ctx(), PutRequest{Bucket: c.bucket, Key: c.key, Bytes: body.size, Body: body, Attributes: attr, Condition: cond})
	if err != nil {
		return body.blame(err)
	}
	h := c.w.Header()
	h["ETag"] = []string{quoted(v.ETag)}
	setChecksum(h, v.Checksum)
	setVersion(h, v.ID)
	c.done()
	return nil
}

// blame prefers the fault of the body to what the house made of it.
func (u *upload) blame(err error) error {
	if u.err != nil && u.err.Error() != "EOF" {
		return u.err
	}
	return err
}

func setVersion(h map[string][]string, id string) {
	if id != "" && id != metadata.NullVersion {
		h["X-Amz-Version-Id"] = []string{id}
	}
}

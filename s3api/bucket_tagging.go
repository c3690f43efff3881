package s3api

import (
	"bivalve/metadata"
)

// getBucketTagging answers the tags of a bucket.
func (c *call) getBucketTagging() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	raw := b.Settings[metadata.FieldTagging]
	if raw == nil {
		return &apiError{code: "NoSuchTagSet", fields: map[string]string{"BucketName": c.bucket}}
	}
	var tags map[string]string
	if err := metadata.DecodeBody(raw, &tags); err != nil {
		return err
	}
	c.sendTags(tags)
	return nil
}

// putBucketTagging replaces the tags of a bucket. No tags are as none that were ever put.
func (c *call) putBucketTagging() error {
	tags, err := c.readTags(maxBucketTags, "Bucket")
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return c.configure(metadata.FieldTagging, nil)
	}
	value, err := metadata.EncodeBody(tags)
	if err != nil {
		return err
	}
	return c.configure(metadata.FieldTagging, value)
}

// deleteBucketTagging takes the tags of a bucket away.
func (c *call) deleteBucketTagging() error { return c.configure(metadata.FieldTagging, nil) }

// configure replaces a field of the bucket's configuration and answers 204, as S3
// does when it is taken away, or 200.
func (c *call) configure(field string, value []byte) error {
	if _, err := c.api.Settings.ConfigureBucket(c.ctx(), c.bucket, field, value); err != nil {
		return err
	}
	if c.r.Method == "DELETE" || field == metadata.FieldTagging {
		c.noContent()
		return nil
	}
	c.done()
	return nil
}

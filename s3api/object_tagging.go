package s3api

import (
	"errors"

	"bivalve/metadata"
)

// getObjectTagging answers the tags of a version.
func (c *call) getObjectTagging() error {
	v, err := c.version()
	if err != nil {
		return c.tagsOfMarker(err)
	}
	setVersion(c.w.Header(), &v)
	c.sendTags(v.Tags)
	return nil
}

// putObjectTagging replaces the tags of a version.
func (c *call) putObjectTagging() error {
	tags, err := c.readTags(maxObjectTags, "Object")
	if err != nil {
		return err
	}
	if err := c.amend(AmendRequest{SetTags: true, Tags: tags}); err != nil {
		return c.tagsOfMarker(err)
	}
	c.done()
	return nil
}

// deleteObjectTagging takes the tags of a version away.
func (c *call) deleteObjectTagging() error {
	if err := c.amend(AmendRequest{SetTags: true}); err != nil {
		return c.tagsOfMarker(err)
	}
	c.noContent()
	return nil
}

// tagsOfMarker is the error of tags where a delete marker is current: to reads there is
// no such key then, but to tags there is something that takes none.
func (c *call) tagsOfMarker(err error) error {
	if c.query.Has("versionId") || translate(err).code != "NoSuchKey" {
		return err
	}
	if v, look := c.api.Objects.HeadObject(c.ctx(), c.bucket, c.key, ""); look != nil || !v.DeleteMarker {
		return err
	}
	return methodNotAllowed(c.r.Method, "DeleteMarker")
}

// amend changes what is said about the version that the request addresses.
func (c *call) amend(r AmendRequest) error {
	var err error
	r.Bucket, r.Key = c.bucket, c.key
	if r.Version, err = c.versionID(); err != nil {
		return err
	}
	id, err := c.api.Objects.AmendObject(c.ctx(), r)
	if errors.Is(err, metadata.ErrIsMarker) {
		return methodNotAllowed(c.r.Method, "DeleteMarker")
	}
	if err != nil {
		return c.aboutVersion(err, r.Version)
	}
	if id != metadata.NullVersion || r.Version != "" {
		c.w.Header()["X-Amz-Version-Id"] = []string{id}
	}
	return nil
}

package s3api

import (
	"strings"

	"bivalve/metadata"
)

// deleteObject removes an object; that it was not there is no error.
func (c *call) deleteObject() error {
	if err := c.checkVersion(); err != nil {
		return err
	}
	cond, err := c.condition()
	if err != nil {
		return err
	}
	if cond.IfNoneMatchAny {
		return notImplemented("If-None-Match")
	}
	if err := c.api.Objects.DeleteObject(c.ctx(), c.bucket, c.key, cond); err != nil {
		return err
	}
	c.noContent()
	return nil
}

// checkVersion accepts the null version, the only one there is.
func (c *call) checkVersion() error {
	if !c.query.Has("versionId") {
		return nil
	}
	return checkVersionID(c.query.Get("versionId"))
}

func checkVersionID(id string) error {
	if id == metadata.NullVersion {
		return nil
	}
	if id == "" {
		return argument("versionId", "", "Version id cannot be the empty string")
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if len(id) > 64 || strings.Trim(id, alphabet) != "" || strings.Contains(id, "..") {
		return argument("versionId", id, "Invalid version id specified")
	}
	return &apiError{code: "NoSuchVersion", fields: map[string]string{"VersionId": id}}
}

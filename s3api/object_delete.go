package s3api

import (
	"errors"

	"bivalve/metadata"
)

// deleteObject removes an object or one of its versions; that it was not there is
// no error.
func (c *call) deleteObject() error {
	version, err := c.versionID()
	if err != nil {
		return err
	}
	cond, err := c.condition()
	if err != nil {
		return err
	}
	if cond.IfNoneMatchAny {
		return notImplemented("If-None-Match")
	}
	bypass, err := c.bypassDelete()
	if err != nil {
		return err
	}
	done, err := c.api.Objects.DeleteObject(c.ctx(), DeleteRequest{Bucket: c.bucket, Key: c.key, Version: version, Condition: cond, Bypass: bypass})
	if err != nil {
		return err
	}
	h := c.w.Header()
	if done.ID != "" {
		h["X-Amz-Version-Id"] = []string{done.ID}
	}
	if done.Marker {
		h["X-Amz-Delete-Marker"] = []string{"true"}
	}
	c.noContent()
	return nil
}

// bypassDelete is bypass for deletes, which S3 refuses where nothing can be locked.
func (c *call) bypassDelete() (bool, error) {
	bypass, err := c.bypass()
	if err != nil || c.r.Header["X-Amz-Bypass-Governance-Retention"] == nil {
		return false, err
	}
	if err = c.lockedBucket(); errors.Is(err, metadata.ErrNoObjectLock) {
		const name = "x-amz-bypass-governance-retention"
		err = &apiError{code: "InvalidArgument", message: name + " is only applicable to Object Lock enabled buckets.",
			fields: map[string]string{"ArgumentName": name}}
	}
	return bypass, err
}

// bypass tells whether retention under governance shall not stand in the way.
func (c *call) bypass() (bool, error) {
	const name = "x-amz-bypass-governance-retention"
	switch v := c.header("X-Amz-Bypass-Governance-Retention"); v {
	case "", "false", "False", "FALSE":
		return false, nil
	case "true", "True", "TRUE":
		return true, nil
	default:
		return false, argument(name, v, "Value for "+name+" header is invalid.")
	}
}

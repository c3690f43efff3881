package s3api

import (
	"net/http"
	"time"

	"bivalve/metadata"
)

// versionID reads the parameter of that name; "" means the current version.
func (c *call) versionID() (string, error) {
	if !c.query.Has("versionId") {
		return "", nil
	}
	id := c.query.Get("versionId")
	return id, checkVersionID(id)
}

// checkVersionID refuses what can name no version.
func checkVersionID(id string) error {
	if id == metadata.NullVersion {
		return nil
	}
	if id == "" {
		return argument("versionId", "", "Version id cannot be the empty string")
	}
	if _, ok := metadata.VersionTime(id); !ok {
		return argument("versionId", id, "Invalid version id specified")
	}
	return nil
}

// version finds the version that the request addresses. A delete marker is an
// error, with the headers that tell of it.
func (c *call) version() (metadata.Version, error) {
	id, err := c.versionID()
	if err != nil {
		return metadata.Version{}, err
	}
	v, err := c.api.Objects.HeadObject(c.ctx(), c.bucket, c.key, id)
	if err != nil {
		return v, c.aboutVersion(err, id)
	}
	if !v.DeleteMarker {
		return v, nil
	}
	h := c.w.Header()
	h["X-Amz-Delete-Marker"] = []string{"true"}
	setVersion(h, &v)
	if id == "" {
		return v, fail("NoSuchKey")
	}
	h["Last-Modified"] = []string{httpTime(v.Modified)}
	h["Allow"] = []string{"DELETE"}
	return v, methodNotAllowed(c.r.Method, "DeleteMarker")
}

// aboutVersion adds to an error which version it is about.
func (c *call) aboutVersion(err error, id string) error {
	if a := translate(err); a.code == "NoSuchVersion" {
		return &apiError{code: a.code, fields: map[string]string{"Key": c.key, "VersionId": id}}
	}
	return err
}

func httpTime(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(http.TimeFormat) }

// setNewVersion tells the id of a version that was made just now. S3 is silent about
// that of a null version, though reads and copies tell it.
func setNewVersion(h http.Header, v *metadata.Version) {
	if v.ID != metadata.NullVersion {
		h["X-Amz-Version-Id"] = []string{v.ID}
	}
}

// setVersion tells the version id, where there is anything to tell.
func setVersion(h http.Header, v *metadata.Version) {
	if v.Versioned || v.ID != metadata.NullVersion {
		h["X-Amz-Version-Id"] = []string{v.ID}
	}
}

package s3api

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// listVersions answers a page of the versions and delete markers of a bucket.
func (c *call) listVersions() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	q := VersionQuery{Bucket: c.bucket, Prefix: l.Prefix, Delimiter: l.Delimiter, Limit: l.Limit, AfterKey: c.query.Get("key-marker")}
	marker := c.query.Get("version-id-marker")
	if q.AfterTime, err = c.versionMarker(marker); err != nil {
		return err
	}
	if q.AfterKey == "" && c.query.Has("version-id-marker") {
		return argument("version-id-marker", marker, "A version-id marker cannot be specified without a key marker.")
	}
	var p VersionPage
	if l.asked == 0 {
		_, err = c.findBucket()
	} else {
		p, err = c.api.Lister.ListVersions(c.ctx(), q)
	}
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("ListVersionsResult")
	x.Text("Name", c.bucket)
	x.Text("Prefix", l.encode(l.Prefix))
	x.Text("KeyMarker", l.encode(q.AfterKey))
	x.Text("VersionIdMarker", marker)
	if p.More {
		x.Text("NextKeyMarker", l.encode(p.NextKey))
		x.Optional("NextVersionIdMarker", nextVersionMarker(&p))
	}
	x.Int("MaxKeys", int64(l.asked))
	x.Optional("Delimiter", l.encode(l.Delimiter))
	if l.url {
		x.Text("EncodingType", "url")
	}
	x.Bool("IsTruncated", p.More)
	for i := range p.Versions {
		c.versionElement(x, &p.Versions[i], l.encode)
	}
	for _, prefix := range p.Prefixes {
		x.Open("CommonPrefixes")
		x.Text("Prefix", l.encode(prefix))
		x.Close("CommonPrefixes")
	}
	x.Close("ListVersionsResult")
	c.sendXML(200, x)
	return nil
}

func (c *call) versionElement(x *s3xml.Writer, o *metadata.ObjectSummary, encode func(string) string) {
	name := "Version"
	if o.DeleteMarker {
		name = "DeleteMarker"
	}
	x.Open(name)
	x.Text("Key", encode(o.Key))
	x.Text("VersionId", o.VersionID)
	x.Bool("IsLatest", o.Latest)
	x.Time("LastModified", o.Modified)
	if !o.DeleteMarker {
		x.Text("ETag", quoted(o.ETag))
		if o.Checksum.Algorithm != "" {
			x.Text("ChecksumAlgorithm", o.Checksum.Algorithm)
			x.Optional("ChecksumType", o.Checksum.Type)
		}
		x.Int("Size", o.Bytes)
		x.Text("StorageClass", storageClass(o.StorageClass))
	}
	c.owner(x, "Owner")
	x.Close(name)
}

// The null version does not tell its place as other ids do, and it may be replaced
// between two pages, so the marker of a page that ends with it says where it was.
const nullMarker = metadata.NullVersion + "."

func nextVersionMarker(p *VersionPage) string {
	if p.NextVersion != metadata.NullVersion {
		return p.NextVersion
	}
	return nullMarker + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(p.NextTime)))
}

// versionMarker reads version-id-marker: the time behind which the page begins.
func (c *call) versionMarker(marker string) (int64, error) {
	if !c.query.Has("version-id-marker") {
		return 0, nil
	}
	if marker == "" {
		return 0, argument("version-id-marker", "", "A version-id marker cannot be empty.")
	}
	if marker == metadata.NullVersion {
		return -1, nil
	}
	if at, ok := metadata.VersionTime(marker); ok {
		return at, nil
	}
	if tail, ok := strings.CutPrefix(marker, nullMarker); ok {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(tail)
		if err == nil && len(raw) == 8 && raw[0] < 0x80 {
			return int64(binary.BigEndian.Uint64(raw)), nil
		}
	}
	return 0, argument("version-id-marker", marker, "Invalid version id specified")
}

package s3api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// getObjectACL answers the same policy for every object.
func (c *call) getObjectACL() error {
	v, err := c.version()
	if err != nil {
		return err
	}
	setVersion(c.w.Header(), &v)
	c.sendACL()
	return nil
}

// getObjectAttributes answers the attributes that x-amz-object-attributes names.
func (c *call) getObjectAttributes() error {
	want := map[string]bool{}
	for _, line := range c.r.Header["X-Amz-Object-Attributes"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.TrimSpace(name); name {
			case "ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize":
				want[name] = true
			default:
				return argument("x-amz-object-attributes", name, "Invalid attribute name specified.")
			}
		}
	}
	if len(want) == 0 {
		return failf("InvalidRequest", "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	limit, err := headerNumber(c, "X-Amz-Max-Parts", 1000)
	if err != nil {
		return err
	}
	marker, err := headerNumber(c, "X-Amz-Part-Number-Marker", 0)
	if err != nil {
		return err
	}
	v, err := c.version()
	if err != nil {
		return err
	}
	if _, err := c.readKey("X-Amz-", &v); err != nil {
		return err
	}
	setVersion(c.w.Header(), &v)
	c.w.Header()["Last-Modified"] = []string{time.Unix(0, v.Modified).UTC().Format(http.TimeFormat)}
	x := c.newXML()
	x.Root("GetObjectAttributesResponse")
	if want["ETag"] {
		x.Text("ETag", v.ETag)
	}
	if want["Checksum"] && v.Checksum.Algorithm != "" {
		sum := v.Checksum
		sum.Value, _, _ = strings.Cut(sum.Value, "-") // the count of parts is told apart
		x.Open("Checksum")
		checksumElements(x, sum)
		x.Close("Checksum")
	}
	if want["ObjectParts"] && strings.Contains(v.ETag, "-") {
		objectParts(x, &v, marker, min(limit, 1000))
	}
	if want["StorageClass"] {
		x.Text("StorageClass", storageClass(v.Attributes.StorageClass))
	}
	if want["ObjectSize"] {
		x.Int("ObjectSize", v.Bytes)
	}
	x.Close("GetObjectAttributesResponse")
	c.sendXML(200, x)
	return nil
}

// objectParts writes the part count and, where the parts have checksums of
// their own, a page of them.
func objectParts(x *s3xml.Writer, v *metadata.Version, marker, limit int) {
	x.Open("ObjectParts")
	x.Int("PartsCount", int64(len(v.Parts)))
	if v.Checksum.Type == "COMPOSITE" {
		first := min(marker, len(v.Parts))
		last := min(first+limit, len(v.Parts))
		next := last
		if first == last {
			next = 0
		}
		x.Int("PartNumberMarker", int64(marker))
		x.Int("NextPartNumberMarker", int64(next))
		x.Int("MaxParts", int64(limit))
		x.Bool("IsTruncated", last < len(v.Parts))
		for i, p := range v.Parts[first:last] {
			x.Open("Part")
			x.Int("PartNumber", int64(first+i+1))
			x.Int("Size", p.Bytes)
			p.Checksum.Type = ""
			checksumElements(x, p.Checksum)
			x.Close("Part")
		}
	}
	x.Close("ObjectParts")
}

func headerNumber(c *call, name string, def int) (int, error) {
	s := c.header(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, argument(strings.ToLower(name), s, "Provided "+strings.ToLower(name)+" not an integer or within integer range")
	}
	return int(n), nil
}

package s3api

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
	"bivalve/s3api/s3xml"
)

const maxKeysPage = 1000

// listing is what both versions of the listing share.
type listing struct {
	ListRequest
	encode func(string) string
	url    bool
	asked  int // max-keys after clamping, perhaps 0
}

func (c *call) listing() (*listing, error) {
	l := &listing{ListRequest: ListRequest{Bucket: c.bucket, Prefix: c.query.Get("prefix"), Delimiter: c.query.Get("delimiter")}}
	var err error
	if l.asked, err = c.number("max-keys", maxKeysPage, 0, maxKeysPage); err != nil {
		return nil, err
	}
	l.Limit = max(l.asked, 1)
	if l.encode, l.url, err = c.encoding(); err != nil {
		return nil, err
	}
	return l, c.checkListArgs("prefix", "delimiter", "marker", "start-after", "key-marker")
}

// checkListArgs refuses what could be no key, or, as a delimiter, no part of one.
func (c *call) checkListArgs(names ...string) error {
	for _, n := range names {
		v, most := c.query.Get(n), metadata.MaxKeyBytes
		if n == "delimiter" {
			most--
		}
		if len(v) > most || !utf8.ValidString(v) {
			return argument(n, "", "Argument "+n+" must be at most "+strconv.Itoa(most)+" bytes of UTF-8")
		}
	}
	return nil
}

func (c *call) encoding() (func(string) string, bool, error) {
	switch v := c.query.Get("encoding-type"); {
	case !c.query.Has("encoding-type"):
		return func(s string) string { return s }, false, nil
	case v == "url":
		return s3xml.EscapeURL, true, nil
	default:
		return nil, false, argument("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
}

// page asks the lister, unless max-keys is 0: then the page is empty and done.
func (c *call) page(l *listing) (ListPage, error) {
	if l.asked == 0 {
		_, err := c.findBucket()
		return ListPage{}, err
	}
	return c.api.Lister.ListObjects(c.ctx(), l.ListRequest)
}

// listObjectsV1 is the listing with markers.
func (c *call) listObjectsV1() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	l.After = c.query.Get("marker")
	p, err := c.page(l)
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("ListBucketResult")
	x.Text("Name", c.bucket)
	x.Text("Prefix", l.encode(l.Prefix))
	x.Text("Marker", l.encode(l.After))
	if p.More && l.Delimiter != "" {
		x.Text("NextMarker", l.encode(p.Next))
	}
	l.tail(c, x, &p, true)
	x.Close("ListBucketResult")
	c.sendXML(200, x)
	return nil
}

// listObjectsV2 is the listing with continuation tokens.
func (c *call) listObjectsV2() error {
	if v := c.query.Get("list-type"); v != "2" {
		return argument("list-type", v, "Invalid list-type")
	}
	l, err := c.listing()
	if err != nil {
		return err
	}
	start, token := c.query.Get("start-after"), c.query.Get("continuation-token")
	l.After = start
	if c.query.Has("continuation-token") {
		if token == "" {
			return argument("continuation-token", "", "The continuation token provided is incorrect")
		}
		if l.After, err = openToken(c.bucket, token); err != nil {
			return err
		}
	}
	owner := false
	switch v := c.query.Get("fetch-owner"); v {
	case "true":
		owner = true
	case "", "false":
	default:
		return argument("fetch-owner", v, "Invalid fetch-owner")
	}
	p, err := c.page(l)
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("ListBucketResult")
	x.Text("Name", c.bucket)
	x.Text("Prefix", l.encode(l.Prefix))
	x.Optional("StartAfter", l.encode(start))
	x.Optional("ContinuationToken", token)
	if p.More {
		x.Text("NextContinuationToken", sealToken(c.bucket, p.Next))
	}
	x.Int("KeyCount", int64(len(p.Objects)+len(p.Prefixes)))
	l.tail(c, x, &p, owner)
	x.Close("ListBucketResult")
	c.sendXML(200, x)
	return nil
}

// tail writes what both versions end with.
func (l *listing) tail(c *call, x *s3xml.Writer, p *ListPage, owner bool) {
	x.Int("MaxKeys", int64(l.asked))
	x.Optional("Delimiter", l.encode(l.Delimiter))
	if l.url {
		x.Text("EncodingType", "url")
	}
	x.Bool("IsTruncated", p.More)
	for i := range p.Objects {
		o := &p.Objects[i]
		x.Open("Contents")
		x.Text("Key", l.encode(o.Key))
		x.Time("LastModified", o.Modified)
		x.Text("ETag", quoted(o.ETag))
		if o.Checksum.Algorithm != "" {
			x.Text("ChecksumAlgorithm", o.Checksum.Algorithm)
			x.Optional("ChecksumType", o.Checksum.Type)
		}
		x.Int("Size", o.Bytes)
		if owner {
			c.owner(x, "Owner")
		}
		x.Text("StorageClass", storageClass(o.StorageClass))
		x.Close("Contents")
	}
	for _, prefix := range p.Prefixes {
		x.Open("CommonPrefixes")
		x.Text("Prefix", l.encode(prefix))
		x.Close("CommonPrefixes")
	}
}

// keptClass is how a class is kept: the usual one is not written down.
func keptClass(s string) string {
	if s == "STANDARD" {
		return ""
	}
	return s
}

func storageClass(s string) string {
	if s == "" {
		return "STANDARD"
	}
	return s
}

// tokenTag binds a token to a bucket, so that one of another bucket is refused.
func tokenTag(bucket, after string) []byte {
	sum := sha256.Sum256([]byte("list token 1\x00" + bucket + "\x00" + after))
	return sum[:8]
}

// sealToken makes a continuation token: a position, opaque to clients.
func sealToken(bucket, after string) string {
	return "1" + base64.RawURLEncoding.EncodeToString(append(tokenTag(bucket, after), after...))
}

func openToken(bucket, token string) (string, error) {
	bad := argument("continuation-token", token, "The continuation token provided is incorrect")
	if len(token) > 2048 || token[0] != '1' {
		return "", bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token[1:])
	if err != nil || len(raw) < 8 || string(tokenTag(bucket, string(raw[8:]))) != string(raw[:8]) {
		return "", bad
	}
	return string(raw[8:]), nil
}

// knownChecksum tells whether the algorithm of a header is one of S3's.
func knownChecksum(a string) bool { return checksum.Size(a) > 0 }

package s3api

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
	"bivalve/s3api/s3xml"
)

const maxCompleteXML = 8 << 20

// completeUpload turns the listed parts into the object. A retry of a complete
// that succeeded gets the same answer.
func (c *call) completeUpload() error {
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	cond, err := c.writeCondition()
	if err != nil {
		return err
	}
	want, err := c.wholeClaim()
	if err != nil {
		return err
	}
	listed, err := c.readParts()
	if err != nil {
		return err
	}
	return c.long(func(ctx context.Context) (func(*s3xml.Writer), error) {
		v, err := c.complete(ctx, id, listed, want, cond)
		if errors.Is(err, metadata.ErrNoSuchUpload) {
			if old, again := c.api.Uploads.FinishedUpload(ctx, c.bucket, c.key, id); again == nil {
				v, err = old, nil
			} else if !errors.Is(again, metadata.ErrNoSuchUpload) {
				err = again
			}
		}
		return func(x *s3xml.Writer) {
			c.setSeal(metadata.SealOf(v.Parts))
			setNewVersion(c.w.Header(), &v)
			setExpiration(c.w.Header(), v.Expires)
			x.Root("CompleteMultipartUploadResult")
			x.Text("Location", c.location())
			x.Text("Bucket", c.bucket)
			x.Text("Key", c.key)
			x.Text("ETag", quoted(v.ETag))
			checksumElements(x, v.Checksum)
			x.Close("CompleteMultipartUploadResult")
		}, err
	})
}

func (c *call) location() string {
	path := "/" + s3xml.EscapeURL(c.key)
	if !c.virtual {
		path = "/" + c.bucket + path
	}
	scheme := "http://"
	if c.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + c.r.Host + path
}

// complete tries again when a part was replaced between list and commit.
func (c *call) complete(ctx context.Context, id metadata.UploadID, listed []CompletePart, want wholeClaim, cond metadata.Condition) (metadata.Version, error) {
	for try := 0; ; try++ {
		u, stored, err := c.allParts(ctx, id)
		if err != nil {
			return metadata.Version{}, err
		}
		r := CompleteRequest{Bucket: c.bucket, Key: c.key, Upload: id, Condition: cond}
		if r.Parts, err = c.choose(u, stored, listed); err != nil {
			return metadata.Version{}, err
		}
		if err := c.checkWholeKey(&u, r.Parts); err != nil {
			return metadata.Version{}, err
		}
		if r.ETag, r.Checksum, err = whole(u, r.Parts); err != nil {
			return metadata.Version{}, err
		}
		if err := want.check(&u, r.Parts, r.Checksum); err != nil {
			return metadata.Version{}, err
		}
		v, err := c.api.Uploads.CompleteUpload(ctx, r)
		if errors.Is(err, metadata.ErrPartChanged) && try < 3 {
			continue
		}
		return v, err
	}
}

func (c *call) allParts(ctx context.Context, id metadata.UploadID) (u metadata.Upload, parts []metadata.Part, err error) {
	for after := 0; ; after = parts[len(parts)-1].Number {
		page, err := c.api.Uploads.ListParts(ctx, c.bucket, c.key, id, after, metadata.MaxParts)
		if err != nil {
			return u, nil, err
		}
		parts = append(parts, page.Parts...)
		if !page.More || len(page.Parts) == 0 {
			return page.Upload, parts, nil
		}
	}
}

// readParts reads the part list and demands strictly ascending numbers.
func (c *call) readParts() ([]CompletePart, error) {
	// The x-amz-checksum headers speak of the object here, not of this document.
	headers := c.r.Header
	c.r.Header = headers.Clone()
	for _, h := range checksumHeaders {
		c.r.Header.Del(h.name)
	}
	doc, err := c.readXML(maxCompleteXML, "CompleteMultipartUpload")
	c.r.Header = headers
	if err != nil {
		return nil, err
	}
	if doc == nil { // not MissingRequestBodyError, unlike everywhere else
		return nil, fail("MalformedXML")
	}
	if err := doc.Check(nil, []string{"Part"}); err != nil {
		return nil, err
	}
	if len(doc.Children) == 0 || len(doc.Children) > metadata.MaxParts {
		return nil, fail("MalformedXML")
	}
	list := make([]CompletePart, 0, len(doc.Children))
	for i := range doc.Children {
		p, err := readPart(&doc.Children[i])
		if err != nil {
			return nil, err
		}
		if i > 0 && p.Number <= list[i-1].Number {
			return nil, fail("InvalidPartOrder")
		}
		list = append(list, p)
	}
	return list, nil
}

func readPart(n *s3xml.Node) (p CompletePart, err error) {
	if err := n.Check([]string{"PartNumber", "ETag", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256"}, nil); err != nil {
		return p, err
	}
	number, ok := n.Value("PartNumber")
	etag, ok2 := n.Value("ETag")
	if !ok || !ok2 {
		return p, fail("MalformedXML")
	}
	if p.Number, err = strconv.Atoi(number); err != nil {
		return p, fail("MalformedXML")
	}
	if p.Number < 1 || p.Number > metadata.MaxParts {
		return p, argument("PartNumber", number, "PartNumber must be >= 1 and <= 10000")
	}
	p.ETag = unquote(etag)
	for _, alg := range checksum.Algorithms() {
		if v, there := n.Value("Checksum" + alg); there && v != "" {
			if p.Checksum.Algorithm != "" {
				return p, fail("MalformedXML")
			}
			p.Checksum = metadata.Checksum{Algorithm: alg, Value: v}
		}
	}
	return p, nil
}

// choose finds the stored part of each listed one.
func (c *call) choose(u metadata.Upload, stored []metadata.Part, listed []CompletePart) ([]metadata.Part, error) {
	chosen := make([]metadata.Part, 0, len(listed))
	i := 0
	for n, l := range listed {
		for i < len(stored) && stored[i].Number < l.Number {
			i++
		}
		if i == len(stored) || stored[i].Number != l.Number || stored[i].ETag != l.ETag {
			return nil, c.invalidPart(u, l)
		}
		p := stored[i]
		switch {
		case l.Checksum.Value == "" && u.ChecksumType == checksum.TypeComposite:
			return nil, failf("InvalidRequest", "The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.",
				checksumName(u.ChecksumAlgorithm)[len("x-amz-checksum-"):], l.Number)
		case l.Checksum.Value != "" && u.ChecksumAlgorithm == "": // S3 knows of none
			return nil, c.invalidPart(u, l)
		case l.Checksum.Value != "" && l.Checksum.Algorithm != p.Checksum.Algorithm:
			return nil, failf("BadDigest", "The %s you specified for part %d did not match what we received.", strings.ToLower(l.Checksum.Algorithm), l.Number)
		case l.Checksum.Value != "" && l.Checksum.Value != p.Checksum.Value:
			return nil, c.invalidPart(u, l)
		}
		if n < len(listed)-1 && p.Bytes < c.api.MinPartBytes {
			return nil, &apiError{code: "EntityTooSmall", fields: map[string]string{
				"ProposedSize": strconv.FormatInt(p.Bytes, 10), "MinSizeAllowed": strconv.FormatInt(c.api.MinPartBytes, 10),
				"PartNumber": strconv.Itoa(l.Number), "ETag": l.ETag}}
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

func (c *call) invalidPart(u metadata.Upload, l CompletePart) error {
	return &apiError{code: "InvalidPart", fields: map[string]string{
		"UploadId": u.ID.String(), "PartNumber": strconv.Itoa(l.Number), "ETag": l.ETag}}
}

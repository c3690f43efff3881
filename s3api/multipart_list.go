package s3api

import (
	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// listParts answers a page of the parts of one upload.
func (c *call) listParts() error {
	limit, err := c.number("max-parts", 1000, 0, 1000)
	if err != nil {
		return err
	}
	marker, err := c.number("part-number-marker", 0, 0, metadata.MaxParts)
	if err != nil {
		return err
	}
	encode, url, err := c.encoding()
	if err != nil {
		return err
	}
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	page, err := c.api.Uploads.ListParts(c.ctx(), c.bucket, c.key, id, marker, max(limit, 1))
	if err != nil {
		return err
	}
	if limit == 0 {
		page.Parts, page.More = nil, false
	}
	u := page.Upload
	setAbort(c.w.Header(), u.Aborts)
	x := c.newXML()
	x.Root("ListPartsResult")
	x.Text("Bucket", c.bucket)
	x.Text("Key", encode(c.key))
	x.Text("UploadId", id.String())
	c.owner(x, "Initiator")
	c.owner(x, "Owner")
	x.Text("StorageClass", storageClass(u.Attributes.StorageClass))
	x.Int("PartNumberMarker", int64(marker))
	next := 0
	if n := len(page.Parts); n > 0 {
		next = page.Parts[n-1].Number
	}
	x.Int("NextPartNumberMarker", int64(next))
	x.Int("MaxParts", int64(limit))
	if url {
		x.Text("EncodingType", "url")
	}
	x.Bool("IsTruncated", page.More)
	x.Optional("ChecksumAlgorithm", u.ChecksumAlgorithm)
	x.Optional("ChecksumType", u.ChecksumType)
	for _, p := range page.Parts {
		x.Open("Part")
		x.Int("PartNumber", int64(p.Number))
		x.Time("LastModified", p.Modified)
		x.Text("ETag", quoted(p.ETag))
		x.Int("Size", p.Bytes)
		if u.ChecksumAlgorithm != "" {
			checksumElements(x, metadata.Checksum{Algorithm: p.Checksum.Algorithm, Value: p.Checksum.Value})
		}
		x.Close("Part")
	}
	x.Close("ListPartsResult")
	c.sendXML(200, x)
	return nil
}

// listUploads answers a page of the uploads in progress.
func (c *call) listUploads() error {
	limit, err := c.number("max-uploads", 1000, 1, 1000)
	if err != nil {
		return err
	}
	encode, url, err := c.encoding()
	if err != nil {
		return err
	}
	if err := c.checkListArgs("prefix", "delimiter", "key-marker", "upload-id-marker"); err != nil {
		return err
	}
	q := UploadQuery{Bucket: c.bucket, Prefix: c.query.Get("prefix"), Delimiter: c.query.Get("delimiter"),
		KeyMarker: c.query.Get("key-marker"), Limit: limit}
	// Without a key-marker the upload-id-marker is ignored.
	if m := c.query.Get("upload-id-marker"); m != "" && q.KeyMarker != "" {
		if _, err := metadata.ParseUploadID(m); err != nil {
			return argument("upload-id-marker", m, "Invalid uploadId marker")
		}
		q.UploadMarker = m
	}
	page, err := c.api.Uploads.ListUploads(c.ctx(), q)
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("ListMultipartUploadsResult")
	x.Text("Bucket", c.bucket)
	x.Text("KeyMarker", encode(q.KeyMarker))
	x.Text("UploadIdMarker", q.UploadMarker)
	// S3 names the last upload of every page, the last page's too.
	if n := len(page.Uploads); !page.More && n > 0 {
		page.NextKey, page.NextUpload = page.Uploads[n-1].Key, page.Uploads[n-1].ID.String()
	}
	x.Text("NextKeyMarker", encode(page.NextKey))
	x.Text("NextUploadIdMarker", page.NextUpload)
	x.Text("Prefix", encode(q.Prefix))
	x.Optional("Delimiter", encode(q.Delimiter))
	x.Int("MaxUploads", int64(limit))
	if url {
		x.Text("EncodingType", "url")
	}
	x.Bool("IsTruncated", page.More)
	for i := range page.Uploads {
		c.uploadElement(x, &page.Uploads[i], encode)
	}
	for _, p := range page.Prefixes {
		x.Open("CommonPrefixes")
		x.Text("Prefix", encode(p))
		x.Close("CommonPrefixes")
	}
	x.Close("ListMultipartUploadsResult")
	c.sendXML(200, x)
	return nil
}

func (c *call) uploadElement(x *s3xml.Writer, u *metadata.Upload, encode func(string) string) {
	x.Open("Upload")
	x.Text("Key", encode(u.Key))
	x.Text("UploadId", u.ID.String())
	c.owner(x, "Initiator")
	c.owner(x, "Owner")
	x.Text("StorageClass", storageClass(u.Attributes.StorageClass))
	x.Time("Initiated", u.Initiated)
	x.Optional("ChecksumAlgorithm", u.ChecksumAlgorithm)
	x.Optional("ChecksumType", u.ChecksumType)
	x.Close("Upload")
}

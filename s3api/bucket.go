package s3api

import (
	"errors"
	"io"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

const maxConfigXML = 64 << 10

// readXML reads and checks a whole document in the body. Without a body it
// answers nil.
func (c *call) readXML(limit int64, root string) (*s3xml.Node, error) {
	u, err := c.newUpload("")
	if err != nil {
		return nil, err
	}
	if u.size > limit {
		return nil, fail("MaxMessageLengthExceeded")
	}
	doc := make([]byte, u.size)
	if u.size > 0 {
		if _, err := io.ReadFull(u, doc); err != nil {
			return nil, err
		}
	}
	if len(doc) == 0 {
		return nil, nil
	}
	return s3xml.Parse(doc, root)
}

// createBucket makes a bucket in this region.
func (c *call) createBucket() error {
	switch v := c.header("X-Amz-Object-Ownership"); v {
	case "", "BucketOwnerEnforced":
	case "BucketOwnerPreferred", "ObjectWriter":
		return notImplemented("x-amz-object-ownership")
	default:
		return argument("x-amz-object-ownership", v, "")
	}
	create := c.api.Buckets.CreateBucket
	switch v := c.header("X-Amz-Bucket-Object-Lock-Enabled"); v {
	case "", "false", "False":
	case "true", "True":
		create = c.api.Settings.CreateLockedBucket
	default:
		return argument("x-amz-bucket-object-lock-enabled", v, "")
	}
	if c.r.ContentLength != 0 {
		doc, err := c.readXML(maxConfigXML, "CreateBucketConfiguration")
		if err != nil {
			return err
		}
		if err := c.checkLocation(doc); err != nil {
			return err
		}
	}
	if b, err := create(c.ctx(), c.bucket); err != nil {
		// In us-east-1 making a bucket that one already owns succeeds, if it is as
		// asked for.
		if !errors.Is(err, metadata.ErrBucketExists) || c.api.Region != "us-east-1" {
			return err
		}
		if c.header("X-Amz-Bucket-Object-Lock-Enabled") != "" {
			if b, err = c.findBucket(); err != nil {
				return err
			}
			if b.Rules.Lock == nil {
				return metadata.ErrBucketExists
			}
		}
	}
	c.w.Header()["Location"] = []string{"/" + c.bucket}
	c.done()
	return nil
}

func (c *call) checkLocation(doc *s3xml.Node) error {
	if doc == nil {
		return nil
	}
	for _, n := range []string{"Location", "Bucket", "Tags"} {
		if doc.Child(n) != nil {
			return notImplemented("CreateBucketConfiguration." + n)
		}
	}
	if err := doc.Check([]string{"LocationConstraint"}, nil); err != nil {
		return err
	}
	want, there := doc.Value("LocationConstraint")
	if !there || want == "" || want == c.api.Region {
		return nil
	}
	if c.api.Region != "us-east-1" {
		return failf("IllegalLocationConstraintException", "The %s location constraint is incompatible for the region specific endpoint this request was sent to.", want)
	}
	return &apiError{code: "InvalidLocationConstraint", fields: map[string]string{"LocationConstraint": want}}
}

// headBucket tells whether the bucket is there, and where.
func (c *call) headBucket() error {
	if _, err := c.findBucket(); err != nil {
		return err
	}
	h := c.w.Header()
	h["X-Amz-Bucket-Region"] = []string{c.api.Region}
	h["X-Amz-Access-Point-Alias"] = []string{"false"}
	h["Content-Type"] = []string{"application/xml"}
	c.w.WriteHeader(200)
	return nil
}

// deleteBucket removes an empty bucket.
func (c *call) deleteBucket() error {
	if err := c.api.Buckets.DeleteBucket(c.ctx(), c.bucket); err != nil {
		return err
	}
	c.noContent()
	return nil
}

// getBucketLocation answers the region; us-east-1 is written as nothing.
func (c *call) getBucketLocation() error {
	if _, err := c.findBucket(); err != nil {
		return err
	}
	region := c.api.Region
	if region == "us-east-1" {
		region = ""
	}
	x := c.newXML()
	x.Root("LocationConstraint")
	x.Raw(region)
	x.Close("LocationConstraint")
	c.sendXML(200, x)
	return nil
}

// getBucketACL answers what BucketOwnerEnforced means: the owner may do all.
func (c *call) getBucketACL() error {
	if _, err := c.findBucket(); err != nil {
		return err
	}
	c.sendACL()
	return nil
}

func (c *call) sendACL() {
	x := c.newXML()
	x.Root("AccessControlPolicy")
	c.owner(x, "Owner")
	x.Open("AccessControlList")
	x.Open("Grant")
	x.Raw(`<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`)
	x.Text("ID", c.api.Owner)
	x.Text("DisplayName", "owner")
	x.Close("Grantee")
	x.Text("Permission", "FULL_CONTROL")
	x.Close("Grant")
	x.Close("AccessControlList")
	x.Close("AccessControlPolicy")
	c.sendXML(200, x)
}

func (c *call) owner(x *s3xml.Writer, name string) {
	x.Open(name)
	x.Text("ID", c.api.Owner)
	x.Text("DisplayName", "owner")
	x.Close(name)
}

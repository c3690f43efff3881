package s3api

import (
	"strconv"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// Limits of S3 for a default retention.
const (
	maxLockDays  = 36_500
	maxLockYears = 100
)

// getObjectLockConfiguration answers the object lock of a bucket.
func (c *call) getObjectLockConfiguration() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	l := b.Rules.Lock
	if l == nil {
		return &apiError{code: "ObjectLockConfigurationNotFoundError", fields: map[string]string{"BucketName": c.bucket}}
	}
	x := c.newXML()
	x.Root("ObjectLockConfiguration")
	x.Text("ObjectLockEnabled", "Enabled")
	if l.Mode != "" {
		x.Open("Rule")
		x.Open("DefaultRetention")
		x.Text("Mode", string(l.Mode))
		if l.Days > 0 {
			x.Int("Days", int64(l.Days))
		} else {
			x.Int("Years", int64(l.Years))
		}
		x.Close("DefaultRetention")
		x.Close("Rule")
	}
	x.Close("ObjectLockConfiguration")
	c.sendXML(200, x)
	return nil
}

// putObjectLockConfiguration enables object lock or changes the default retention.
func (c *call) putObjectLockConfiguration() error {
	doc, err := c.readXML(maxConfigXML, "ObjectLockConfiguration")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	l, err := parseLockRule(doc)
	if err != nil {
		return err
	}
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	if b.Rules.Versioning != metadata.VersioningEnabled {
		return failf("InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
	}
	value, err := metadata.EncodeBody(l)
	if err != nil {
		return err
	}
	return c.configure(metadata.FieldLock, value)
}

func parseLockRule(doc *s3xml.Node) (l metadata.LockRule, err error) {
	if err := doc.Check([]string{"ObjectLockEnabled", "Rule"}, nil); err != nil {
		return l, err
	}
	if v, _ := doc.Value("ObjectLockEnabled"); v != "Enabled" {
		return l, fail("MalformedXML")
	}
	rule := doc.Child("Rule")
	if rule == nil {
		return l, nil
	}
	if err := rule.Check([]string{"DefaultRetention"}, nil); err != nil {
		return l, err
	}
	d := rule.Child("DefaultRetention")
	if d == nil {
		return l, fail("MalformedXML")
	}
	if err := d.Check([]string{"Mode", "Days", "Years"}, nil); err != nil {
		return l, err
	}
	mode, _ := d.Value("Mode")
	if l.Mode = metadata.LockMode(mode); !knownMode(l.Mode) || (d.Child("Days") == nil) == (d.Child("Years") == nil) {
		return l, fail("MalformedXML")
	}
	if d.Child("Days") != nil {
		l.Days, err = lockPeriod(d, "Days", maxLockDays)
	} else {
		l.Years, err = lockPeriod(d, "Years", maxLockYears)
	}
	return l, err
}

func lockPeriod(d *s3xml.Node, name string, most int) (int, error) {
	text, _ := d.Value(name)
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err != nil:
		return 0, fail("MalformedXML")
	case n <= 0:
		return 0, argument(name, text, "Default retention period must be a positive integer value.")
	case int(n) > most:
		return 0, argument(name, text, "Default retention period too large.")
	}
	return int(n), nil
}

package s3api

import (
	"fmt"
	"net/http"
	"net/url"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// getBucketLifecycle answers the rules of a bucket.
func (c *call) getBucketLifecycle() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	raw := b.Settings[metadata.FieldLifecycle]
	if raw == nil {
		return &apiError{code: "NoSuchLifecycleConfiguration", fields: map[string]string{"BucketName": c.bucket}}
	}
	var l metadata.Lifecycle
	if err := metadata.DecodeBody(raw, &l); err != nil {
		return err
	}
	x := c.newXML()
	x.Root("LifecycleConfiguration")
	for i := range l.Rules {
		ruleElement(x, &l.Rules[i])
	}
	x.Close("LifecycleConfiguration")
	c.w.Header()[smallestMoved] = []string{smallestMovedDefault}
	c.sendXML(200, x)
	return nil
}

func ruleElement(x *s3xml.Writer, r *metadata.LifecycleRule) {
	status := "Disabled"
	if r.Enabled {
		status = "Enabled"
	}
	x.Open("Rule")
	x.Text("ID", r.ID)
	filterElement(x, r)
	x.Text("Status", status)
	if r.Days > 0 || r.Date != 0 || r.LoneMarkers {
		x.Open("Expiration")
		number(x, "Days", r.Days)
		if r.Date != 0 {
			x.Text("Date", isoTime(r.Date))
		}
		if r.LoneMarkers {
			x.Bool("ExpiredObjectDeleteMarker", true)
		}
		x.Close("Expiration")
	}
	if r.OldDays > 0 {
		x.Open("NoncurrentVersionExpiration")
		number(x, "NoncurrentDays", r.OldDays)
		number(x, "NewerNoncurrentVersions", r.OldKept)
		x.Close("NoncurrentVersionExpiration")
	}
	if r.AbortedAfter > 0 {
		x.Open("AbortIncompleteMultipartUpload")
		number(x, "DaysAfterInitiation", r.AbortedAfter)
		x.Close("AbortIncompleteMultipartUpload")
	}
	x.Close("Rule")
}

func number(x *s3xml.Writer, name string, n int) {
	if n > 0 {
		x.Int(name, int64(n))
	}
}

// filterElement writes the filter as it was given: one condition stands alone,
// several within And.
func filterElement(x *s3xml.Writer, r *metadata.LifecycleRule) {
	if r.Legacy {
		x.Text("Prefix", r.Prefix)
		return
	}
	conditions := len(r.Tags)
	for _, there := range []bool{r.Prefix != "", r.Larger != nil, r.Smaller != nil} {
		if there {
			conditions++
		}
	}
	x.Open("Filter")
	if conditions > 1 {
		x.Open("And")
	}
	if r.Prefix != "" || conditions == 0 {
		x.Text("Prefix", r.Prefix)
	}
	for _, k := range sortedKeys(r.Tags) {
		x.Open("Tag")
		x.Text("Key", k)
		x.Text("Value", r.Tags[k])
		x.Close("Tag")
	}
	if r.Larger != nil {
		x.Int("ObjectSizeGreaterThan", *r.Larger)
	}
	if r.Smaller != nil {
		x.Int("ObjectSizeLessThan", *r.Smaller)
	}
	if conditions > 1 {
		x.Close("And")
	}
	x.Close("Filter")
}

// putBucketLifecycle replaces the rules of a bucket.
func (c *call) putBucketLifecycle() error {
	if err := c.checkSmallestMoved(); err != nil {
		return err
	}
	doc, err := c.readXML(maxLifecycleXML, "LifecycleConfiguration")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	l, err := parseLifecycle(doc)
	if err != nil {
		return err
	}
	value, err := metadata.EncodeBody(l)
	if err != nil {
		return err
	}
	if len(value) > metadata.MaxSettingBytes {
		return fail("MaxMessageLengthExceeded")
	}
	c.w.Header()[smallestMoved] = []string{smallestMovedDefault}
	return c.configure(metadata.FieldLifecycle, value)
}

// deleteBucketLifecycle takes the rules of a bucket away.
func (c *call) deleteBucketLifecycle() error { return c.configure(metadata.FieldLifecycle, nil) }

// setAbort tells when a lifecycle throws an upload away.
func setAbort(h http.Header, e metadata.Expiration) {
	if e.At > 0 {
		h["X-Amz-Abort-Date"] = []string{httpTime(e.At)}
		h["X-Amz-Abort-Rule-Id"] = []string{url.PathEscape(e.Rule)}
	}
}

// setExpiration tells when a lifecycle ends a version.
func setExpiration(h http.Header, e metadata.Expiration) {
	if e.At > 0 {
		h["X-Amz-Expiration"] = []string{fmt.Sprintf("expiry-date=%q, rule-id=%q", httpTime(e.At), url.PathEscape(e.Rule))}
	}
}

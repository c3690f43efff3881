package s3api

import (
	"slices"
	"strconv"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

const (
	maxCORSRules = 100
	maxCORSID    = 255
)

// putBucketCORS replaces the rules by which pages of other origins may use a bucket.
func (c *call) putBucketCORS() error {
	doc, err := c.readXML(maxConfigXML, "CORSConfiguration")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	rules, err := parseCORS(doc)
	if err != nil {
		return err
	}
	raw, err := metadata.EncodeBody(rules)
	if err != nil {
		return err
	}
	if _, err := c.api.Settings.ConfigureBucket(c.ctx(), c.bucket, metadata.FieldCORS, raw); err != nil {
		return err
	}
	c.done()
	return nil
}

func parseCORS(doc *s3xml.Node) ([]corsRule, error) {
	if err := doc.Check(nil, []string{"CORSRule"}); err != nil {
		return nil, err
	}
	if len(doc.Children) == 0 || len(doc.Children) > maxCORSRules {
		return nil, fail("MalformedXML")
	}
	rules := make([]corsRule, len(doc.Children))
	for i := range doc.Children {
		if err := rules[i].parse(&doc.Children[i]); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func (r *corsRule) parse(n *s3xml.Node) error {
	if err := n.Check([]string{"ID", "MaxAgeSeconds"}, []string{"AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader"}); err != nil {
		return err
	}
	for i := range n.Children {
		child := &n.Children[i]
		if len(child.Children) > 0 || !printable(child.Text) {
			return fail("MalformedXML")
		}
		stars := strings.Count(child.Text, "*")
		switch v := child.Text; child.Name {
		case "ID":
			if r.ID = v; len(v) > maxCORSID {
				return argument("ID", "", "The ID of a rule must be at most 255 characters")
			}
		case "MaxAgeSeconds":
			age, err := strconv.ParseInt(v, 10, 32)
			if err != nil || age < 0 {
				return fail("MalformedXML")
			}
			seconds := int(age)
			r.MaxAge = &seconds
		case "AllowedOrigin":
			if stars > 1 {
				return failf("InvalidRequest", "AllowedOrigin %q can not have more than one wildcard.", v)
			}
			r.Origins = append(r.Origins, v)
		case "AllowedMethod":
			if !slices.Contains(corsMethods, v) {
				return failf("InvalidRequest", "Found unsupported HTTP method in CORS config. Unsupported method is %s", v)
			}
			r.Methods = append(r.Methods, v)
		case "AllowedHeader":
			if stars > 1 {
				return failf("InvalidRequest", "AllowedHeader %q can not have more than one wildcard.", v)
			}
			r.Headers = append(r.Headers, v)
		case "ExposeHeader":
			if stars > 0 {
				return failf("InvalidRequest", "ExposeHeader %q contains wildcard. We currently do not support wildcard for ExposeHeader.", v)
			}
			r.Expose = append(r.Expose, v)
		}
	}
	if len(r.Origins) == 0 || len(r.Methods) == 0 {
		return fail("MalformedXML")
	}
	return nil
}

// getBucketCORS answers the rules.
func (c *call) getBucketCORS() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	rules, err := corsRules(b)
	if err != nil {
		return err
	}
	if rules == nil {
		return &apiError{code: "NoSuchCORSConfiguration", fields: map[string]string{"BucketName": c.bucket}}
	}
	x := c.newXML()
	x.Root("CORSConfiguration")
	for _, r := range rules {
		x.Open("CORSRule")
		x.Optional("ID", r.ID)
		for _, list := range []struct {
			name   string
			values []string
		}{{"AllowedHeader", r.Headers}, {"AllowedMethod", r.Methods}, {"AllowedOrigin", r.Origins}, {"ExposeHeader", r.Expose}} {
			for _, v := range list.values {
				x.Text(list.name, v)
			}
		}
		if r.MaxAge != nil {
			x.Int("MaxAgeSeconds", int64(*r.MaxAge))
		}
		x.Close("CORSRule")
	}
	x.Close("CORSConfiguration")
	c.sendXML(200, x)
	return nil
}

// deleteBucketCORS forgets the rules.
func (c *call) deleteBucketCORS() error { return c.dropSetting(metadata.FieldCORS) }

package s3api

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

const (
	maxLifecycleXML   = 1 << 20
	maxLifecycleRules = 1000
	maxRuleID         = 255
	maxOldKept        = 100
)

// parseLifecycle reads the rules to the letter of S3.
func parseLifecycle(doc *s3xml.Node) (l metadata.Lifecycle, err error) {
	if err := doc.Check(nil, []string{"Rule"}); err != nil {
		return l, err
	}
	if len(doc.Children) == 0 || len(doc.Children) > maxLifecycleRules {
		return l, fail("MalformedXML")
	}
	seen := map[string]bool{}
	for i := range doc.Children {
		r, err := parseRule(&doc.Children[i])
		if err != nil {
			return l, err
		}
		if seen[r.ID] {
			return l, argument("ID", r.ID, "Rule ID must be unique. Found same ID for more than one rule")
		}
		seen[r.ID] = true
		l.Rules = append(l.Rules, r)
	}
	return l, nil
}

func parseRule(n *s3xml.Node) (r metadata.LifecycleRule, err error) {
	if err := n.Check([]string{"ID", "Status", "Filter", "Prefix", "Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"},
		[]string{"Transition", "NoncurrentVersionTransition"}); err != nil {
		return r, err
	}
	if r.ID, _ = n.Value("ID"); utf8.RuneCountInString(r.ID) > maxRuleID {
		return r, argument("ID", r.ID, "ID length should not exceed allowed limit of 255")
	}
	if r.ID == "" {
		var raw [24]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return r, err
		}
		r.ID = hex.EncodeToString(raw[:])
	}
	switch status, _ := n.Value("Status"); status {
	case "Enabled":
		r.Enabled = true
	case "Disabled":
	default:
		return r, fail("MalformedXML")
	}
	if err := parseFilter(n, &r); err != nil {
		return r, err
	}
	for _, part := range []struct {
		name  string
		parse func(*s3xml.Node, *metadata.LifecycleRule) error
	}{
		{"Expiration", parseExpiration}, {"NoncurrentVersionExpiration", parseOld}, {"AbortIncompleteMultipartUpload", parseAbort},
	} {
		if child := n.Child(part.name); child != nil {
			if err := part.parse(child, &r); err != nil {
				return r, err
			}
		}
	}
	if err := checkTransitions(n); err != nil {
		return r, err
	}
	return r, checkRule(&r)
}

// checkRule holds the actions against one another and against the filter.
func checkRule(r *metadata.LifecycleRule) error {
	narrow := len(r.Tags) > 0 || r.Larger != nil || r.Smaller != nil
	switch {
	case r.Days == 0 && r.Date == 0 && !r.LoneMarkers && r.OldDays == 0 && r.AbortedAfter == 0:
		return failf("InvalidRequest", "At least one action needs to be specified in a rule")
	case r.LoneMarkers && narrow:
		return failf("InvalidRequest", "ExpiredObjectDeleteMarker cannot be specified with a filter on tags or sizes")
	case r.AbortedAfter > 0 && narrow:
		return failf("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with a filter on tags or sizes")
	}
	return nil
}

// parseFilter reads the filter, or the prefix in its place.
func parseFilter(n *s3xml.Node, r *metadata.LifecycleRule) error {
	f, prefix := n.Child("Filter"), n.Child("Prefix")
	if (f == nil) == (prefix == nil) {
		return fail("MalformedXML")
	}
	if prefix != nil {
		r.Legacy = true
		return parsePrefix(n, r)
	}
	if err := f.Check([]string{"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan", "And"}, nil); err != nil {
		return err
	}
	if len(f.Children) > 1 {
		return fail("MalformedXML")
	}
	if and := f.Child("And"); and != nil {
		if err := and.Check([]string{"Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan"}, []string{"Tag"}); err != nil {
			return err
		}
		if len(and.Children) == 0 {
			return fail("MalformedXML")
		}
		f = and
	}
	return parseConditions(f, r)
}

func parseConditions(f *s3xml.Node, r *metadata.LifecycleRule) error {
	if f.Child("Prefix") != nil {
		if err := parsePrefix(f, r); err != nil {
			return err
		}
	}
	for i := range f.Children {
		if f.Children[i].Name != "Tag" {
			continue
		}
		key, value, err := parseTag(&f.Children[i])
		if err != nil {
			return err
		}
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		if _, twice := r.Tags[key]; twice {
			return failf("InvalidRequest", "Duplicate Tag Keys are not allowed.")
		}
		r.Tags[key] = value
	}
	var err error
	if r.Larger, err = sizeLimit(f, "ObjectSizeGreaterThan", 0); err != nil {
		return err
	}
	if r.Smaller, err = sizeLimit(f, "ObjectSizeLessThan", 1); err != nil {
		return err
	}
	if r.Larger != nil && r.Smaller != nil && *r.Larger >= *r.Smaller {
		return failf("InvalidRequest", "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
	}
	return nil
}

func parsePrefix(n *s3xml.Node, r *metadata.LifecycleRule) error {
	prefix, ok := n.Value("Prefix")
	if !ok {
		return fail("MalformedXML")
	}
	if len(prefix) > metadata.MaxKeyBytes {
		return failf("InvalidRequest", "The maximum size of a prefix is %d.", metadata.MaxKeyBytes)
	}
	r.Prefix = prefix
	return nil
}

// sizeLimit reads a size; nil if there is none.
func sizeLimit(f *s3xml.Node, name string, least int64) (*int64, error) {
	if f.Child(name) == nil {
		return nil, nil
	}
	text, _ := f.Value(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fail("MalformedXML")
	}
	if n < least || n > metadata.MaxObjectBytes {
		return nil, argument(name, text, "'"+name+"' is out of range")
	}
	return &n, nil
}

func parseExpiration(n *s3xml.Node, r *metadata.LifecycleRule) (err error) {
	if err := n.Check([]string{"Days", "Date", "ExpiredObjectDeleteMarker"}, nil); err != nil {
		return err
	}
	if len(n.Children) != 1 {
		return fail("MalformedXML")
	}
	switch n.Children[0].Name {
	case "Days":
		r.Days, err = positive(n, "Days", "Expiration")
	case "Date":
		r.Date, err = midnight(n)
	default:
		switch v, _ := n.Value("ExpiredObjectDeleteMarker"); v {
		case "true":
			r.LoneMarkers = true
		case "false":
		default:
			err = fail("MalformedXML")
		}
	}
	return err
}

// midnight reads a date, which S3 demands at midnight UTC.
func midnight(n *s3xml.Node) (int64, error) {
	text, _ := n.Value("Date")
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		if t, err = time.Parse(time.DateOnly, text); err != nil {
			return 0, fail("MalformedXML")
		}
	}
	t = t.UTC()
	if !t.Equal(t.Truncate(24 * time.Hour)) {
		return 0, argument("Date", text, "'Date' must be at midnight GMT")
	}
	if t.Year() < 1971 || t.Year() > 2200 { // what Unix nanoseconds can tell
		return 0, argument("Date", text, "'Date' is out of range")
	}
	return t.UnixNano(), nil
}

func parseOld(n *s3xml.Node, r *metadata.LifecycleRule) (err error) {
	if err := n.Check([]string{"NoncurrentDays", "NewerNoncurrentVersions"}, nil); err != nil {
		return err
	}
	if r.OldDays, err = positive(n, "NoncurrentDays", "NoncurrentVersionExpiration"); err != nil {
		return err
	}
	if n.Child("NewerNoncurrentVersions") != nil {
		if r.OldKept, err = positive(n, "NewerNoncurrentVersions", "NoncurrentVersionExpiration"); err == nil && r.OldKept > maxOldKept {
			err = argument("NewerNoncurrentVersions", strconv.Itoa(r.OldKept), "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be at most 100")
		}
	}
	return err
}

func parseAbort(n *s3xml.Node, r *metadata.LifecycleRule) (err error) {
	if err := n.Check([]string{"DaysAfterInitiation"}, nil); err != nil {
		return err
	}
	r.AbortedAfter, err = positive(n, "DaysAfterInitiation", "AbortIncompleteMultipartUpload")
	return err
}

// positive reads a number of 1 and more.
func positive(n *s3xml.Node, name, action string) (int, error) {
	text, _ := n.Value(name)
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fail("MalformedXML")
	}
	if v < 1 {
		return 0, argument(name, text, "'"+name+"' for "+action+" action must be a positive integer")
	}
	return int(v), nil
}

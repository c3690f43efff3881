package s3api

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"bivalve/s3api/s3xml"
)

// Limits of S3 (Amazon S3 user guide, "Categorizing your objects using tags").
const (
	maxObjectTags = 10
	maxBucketTags = 50
	maxTagKey     = 128 // characters
	maxTagValue   = 256
	maxTagXML     = 256 << 10
)

// readTags reads the body of a request that sets tags. nil means an empty set.
func (c *call) readTags(most int, what string) (map[string]string, error) {
	doc, err := c.readXML(maxTagXML, "Tagging")
	if err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, fail("MissingRequestBodyError")
	}
	return parseTags(doc, most, what)
}

func parseTags(doc *s3xml.Node, most int, what string) (map[string]string, error) {
	if err := doc.Check([]string{"TagSet"}, nil); err != nil {
		return nil, err
	}
	set := doc.Child("TagSet")
	if set == nil {
		return nil, fail("MalformedXML")
	}
	if err := set.Check(nil, []string{"Tag"}); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for i := range set.Children {
		key, value, err := parseTag(&set.Children[i])
		if err != nil {
			return nil, err
		}
		if _, twice := tags[key]; twice {
			return nil, tagError(key, "Cannot provide multiple Tags with the same key")
		}
		tags[key] = value
	}
	return tags, checkTags(tags, most, what)
}

// parseTag reads one Tag element.
func parseTag(n *s3xml.Node) (key, value string, err error) {
	if err := n.Check([]string{"Key", "Value"}, nil); err != nil {
		return "", "", err
	}
	key, there := n.Value("Key")
	value, there2 := n.Value("Value")
	if !there || !there2 {
		return "", "", fail("MalformedXML")
	}
	return key, value, checkTag(key, value)
}

func checkTags(tags map[string]string, most int, what string) error {
	if len(tags) > most {
		if what == "Object" {
			return failf("BadRequest", "Object tags cannot be greater than %d", most)
		}
		return failf("BadRequest", "%s tag count cannot be greater than %d", what, most)
	}
	return nil
}

func checkTag(key, value string) error {
	switch {
	case key == "", utf8.RuneCountInString(key) > maxTagKey, !tagText(key):
		return tagError(key, "The TagKey you have provided is invalid")
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return tagError(key, "System tags cannot be added/updated by requester")
	case utf8.RuneCountInString(value) > maxTagValue, !tagText(value):
		return &apiError{code: "InvalidTag", message: "The TagValue you have provided is invalid", fields: map[string]string{"TagKey": key, "TagValue": value}}
	}
	return nil
}

func tagError(key, message string) error {
	return &apiError{code: "InvalidTag", message: message, fields: map[string]string{"TagKey": key}}
}

// tagText: letters, digits, spaces and + - = . _ : / @ of any script.
func tagText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) && !unicode.Is(unicode.Zs, r) && !strings.ContainsRune("+-=._:/@", r)
	}) < 0
}

// taggingHeader reads x-amz-tagging, a query string.
func (c *call) taggingHeader() (map[string]string, error) {
	const name = "x-amz-tagging"
	raw := c.header("X-Amz-Tagging")
	if raw == "" {
		return nil, nil
	}
	bad := argument(name, raw, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, bad
	}
	tags := make(map[string]string, len(q))
	for key, values := range q {
		if len(values) > 1 {
			return nil, bad
		}
		if err := checkTag(key, values[0]); err != nil {
			if strings.Contains(values[0], "=") { // other separators than &
				err = bad
			}
			return nil, err
		}
		tags[key] = values[0]
	}
	return tags, checkTags(tags, maxObjectTags, "Object")
}

func sortedKeys(tags map[string]string) []string { return slices.Sorted(maps.Keys(tags)) }

// sendTags answers a set of tags, by key.
func (c *call) sendTags(tags map[string]string) {
	x := c.newXML()
	x.Root("Tagging")
	x.Open("TagSet")
	for _, k := range sortedKeys(tags) {
		x.Open("Tag")
		x.Text("Key", k)
		x.Text("Value", tags[k])
		x.Close("Tag")
	}
	x.Close("TagSet")
	x.Close("Tagging")
	c.sendXML(200, x)
}

// copyTags are the tags of a copy: the directive COPY keeps those of the source,
// REPLACE takes those of the request.
func (c *call) copyTags(source, given map[string]string) (map[string]string, error) {
	switch v := c.header("X-Amz-Tagging-Directive"); v {
	case "", "COPY":
		if len(given) > 0 {
			return nil, failf("InvalidRequest", "x-amz-tagging needs the tagging directive REPLACE")
		}
		return source, nil
	case "REPLACE":
		return given, nil
	default:
		return nil, argument("x-amz-tagging-directive", v, "Unknown tagging directive.")
	}
}

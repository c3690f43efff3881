package s3api

import (
	"net/http"
	"net/url"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
	"bivalve/s3api/sigv4"
)

// isForm tells a POST that is signed by the policy in its form.
func (c *call) isForm() bool {
	return c.r.Method == http.MethodPost && c.bucket != "" && c.key == "" && len(c.query) == 0
}

// formHeaders are the fields that stand for the header of the same name.
var formHeaders = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(`cache-control content-type content-disposition content-encoding content-language expires content-md5
		x-amz-storage-class x-amz-checksum-crc32 x-amz-checksum-crc32c x-amz-checksum-crc64nvme x-amz-checksum-sha1 x-amz-checksum-sha256
		x-amz-checksum-algorithm x-amz-sdk-checksum-algorithm x-amz-server-side-encryption
		x-amz-server-side-encryption-customer-algorithm x-amz-server-side-encryption-customer-key x-amz-server-side-encryption-customer-key-md5`) {
		m[n] = true
	}
	return m
}()

// postObject stores the file of a form. The form's policy says who asks and what
// is allowed; nothing in the header of the request counts.
func (c *call) postObject() error {
	f, policy, err := c.signedForm()
	if err != nil {
		return err
	}
	c.key = f.fields["key"]
	if err := checkKey(c.key); err != nil {
		return err
	}
	if err := c.fieldsAsHeaders(f); err != nil {
		return err
	}
	attr, err := c.attributes()
	if err != nil {
		return err
	}
	if attr.ContentType == "" {
		attr.ContentType = "binary/octet-stream"
	}
	seal, err := c.sealWith()
	if err != nil {
		return err
	}
	if _, err := c.findBucket(); err != nil {
		return err
	}
	v, err := c.storeForm(f, policy, attr, seal)
	if err != nil {
		return err
	}
	c.setSeal(metadata.SealOf(v.Parts))
	return c.answerForm(f.fields, v)
}

// signedForm reads a form up to its file, and its policy. Until that is verified nobody has
// signed for the request, and it waits for bytes: such forms have a part of the room for
// requests only, so that they cannot take all of it.
func (c *call) signedForm() (*form, *postPolicy, error) {
	defer c.api.unsigned.Add(-1)
	if c.api.unsigned.Add(1) > max(int64(c.api.MaxRequests)/4, 1) {
		return nil, nil, ErrSlowDown
	}
	f, err := c.readForm()
	if err != nil {
		return nil, nil, err
	}
	if f.fields["key"] == "" {
		return nil, nil, argument("key", "", "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")
	}
	// The policy speaks of the key as it will be. A file without a name leaves it alone.
	if f.named {
		f.fields["key"] = strings.ReplaceAll(f.fields["key"], "${filename}", f.filename)
	}
	policy, err := c.formPolicy(f.fields)
	return f, policy, err
}

// formPolicy verifies the signature, then the conditions.
func (c *call) formPolicy(fields map[string]string) (*postPolicy, error) {
	_, v2 := fields["awsaccesskeyid"]
	switch {
	case v2:
		return nil, sigv4.ErrSigV2
	case fields["policy"] == "":
		return nil, sigv4.ErrNoAuth
	case fields["x-amz-security-token"] != "":
		return nil, sigv4.ErrSecurityToken
	}
	var err error
	c.auth, err = c.api.verifier.VerifyForm(c.ctx(), sigv4.Form{Policy: fields["policy"], Algorithm: fields["x-amz-algorithm"],
		Credential: fields["x-amz-credential"], Date: fields["x-amz-date"], Signature: fields["x-amz-signature"]})
	if err != nil {
		return nil, err
	}
	policy, err := parsePolicy(fields["policy"])
	if err != nil {
		return nil, err
	}
	said, there := fields["bucket"]
	fields["bucket"] = c.bucket // S3 wants the policy to name it
	if err := policy.check(fields, c.api.Clock()); err != nil {
		return nil, err
	}
	if there && said != c.bucket {
		return nil, argument("bucket", said, "The name of the bucket differs from that of the address")
	}
	return policy, nil
}

// fieldsAsHeaders puts the fields where the other ways in have their headers, and
// refuses those that it does not know.
func (c *call) fieldsAsHeaders(f *form) error {
	h := http.Header{}
	for name, value := range f.fields {
		switch {
		case formHeaders[name], strings.HasPrefix(name, "x-amz-meta-"):
			if !token(name) || !printable(value) {
				return argument(name, "", "The name of a field must be that of a header, its value UTF-8 without control characters")
			}
			h[http.CanonicalHeaderKey(name)] = []string{value}
		case name == "acl":
			h["X-Amz-Acl"] = []string{value}
		case strings.HasPrefix(name, "x-bivalve-"):
			return failf("InvalidRequest", "Field %s is not for clients", name)
		case name == "tagging":
			var err error
			if f.tags, err = formTags(value); err != nil {
				return err
			}
		case strings.HasPrefix(name, "x-amz-"):
			switch name {
			case "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature":
			default:
				return notImplemented(name)
			}
		}
	}
	c.r.Header = h
	return c.checkHeaders()
}

// formTags reads the field tagging, the document that PutObjectTagging takes.
func formTags(value string) (map[string]string, error) {
	doc, err := s3xml.Parse([]byte(value), "Tagging")
	if err != nil {
		return nil, err
	}
	return parseTags(doc, maxObjectTags, "Object")
}

// answerForm answers as the form asks: with a redirect, or with the status that it
// names, 204 if none.
func (c *call) answerForm(fields map[string]string, v metadata.Version) error {
	h := c.w.Header()
	h["ETag"] = []string{quoted(v.ETag)}
	h["Location"] = []string{c.location()}
	setNewVersion(h, &v)
	to := fields["success_action_redirect"]
	if to == "" {
		to = fields["redirect"]
	}
	if u, err := url.Parse(to); to != "" && err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		q := "bucket=" + url.QueryEscape(c.bucket) + "&key=" + url.QueryEscape(c.key) + "&etag=" + url.QueryEscape(quoted(v.ETag))
		if u.RawQuery != "" {
			q = u.RawQuery + "&" + q
		}
		u.RawQuery = q
		h["Location"] = []string{u.String()}
		h["Content-Length"] = []string{"0"}
		c.w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	switch fields["success_action_status"] {
	case "200":
		c.done()
	case "201":
		x := c.newXML()
		x.Open("PostResponse")
		x.Text("Location", c.location())
		x.Text("Bucket", c.bucket)
		x.Text("Key", c.key)
		x.Text("ETag", quoted(v.ETag))
		x.Close("PostResponse")
		c.sendXML(http.StatusCreated, x)
	default:
		c.noContent()
	}
	return nil
}

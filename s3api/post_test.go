package s3api_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/s3api"
)

// upload is a POST form to bucket "forms", as a browser would send it.
type upload struct {
	conditions string // behind those for bucket, key and the signature's fields
	expires    time.Time
	policy     string // instead of one built from the above
	fields     map[string]string
	filename   string
	file       []byte
	after      func(*multipart.Writer)
	spoil      func(fields map[string]string)
}

func (h *house) form(bucket string, u upload) *http.Request {
	h.Helper()
	if u.expires.IsZero() {
		u.expires = time.Now().Add(time.Minute)
	}
	if u.policy == "" {
		u.policy = fmt.Sprintf(`{"expiration": %q, "conditions": [{"bucket": %q}, ["starts-with", "$key", ""], ["starts-with", "$x-amz-credential", ""],
			["starts-with", "$x-amz-date", ""], {"x-amz-algorithm": "AWS4-HMAC-SHA256"}%s]}`, u.expires.UTC().Format("2006-01-02T15:04:05.000Z"), bucket, u.conditions)
	}
	fields := h.signer.SignPolicy(u.policy)
	maps.Copy(fields, u.fields)
	if _, ok := fields["key"]; !ok {
		fields["key"] = "x"
	}
	if u.spoil != nil {
		u.spoil(fields)
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		_ = w.WriteField(n, fields[n])
	}
	head := textproto.MIMEHeader{}
	head.Set("Content-Disposition", fmt.Sprintf(`form-data; name="file"; filename="%s"`, u.filename))
	f, err := w.CreatePart(head)
	if err != nil {
		h.Fatal(err)
	}
	_, _ = f.Write(u.file)
	if u.after != nil {
		u.after(w)
	}
	_ = w.Close()
	return h.request("POST", "/"+bucket, b.String(), "Content-Type: "+w.FormDataContentType())
}

func TestPostForm(t *testing.T) {
	h := open(t)
	h.bucket("forms")
	a := h.send(h.form("forms", upload{file: []byte("posted"), filename: `C:\dir\photo.txt`,
		fields:     map[string]string{"key": "in/${filename}", "Content-Type": "text/plain", "x-amz-meta-owner": "me", "success_action_status": "201", "acl": "private", "x-ignore-this": "1"},
		conditions: `, {"success_action_status": "201"}, ["starts-with", "$Content-Type", "text/"], ["eq", "$x-amz-meta-owner", "me"], {"aCl": "private"}, ["content-length-range", 6, "6"]`}))
	sum := md5.Sum([]byte("posted"))
	if a.StatusCode != 201 || a.element("Key") != "in/photo.txt" || a.element("Bucket") != "forms" || a.element("ETag") != "&quot;"+hex.EncodeToString(sum[:])+"&quot;" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a = h.do("GET", "/forms/in/photo.txt", "")
	if a.body != "posted" || a.Header.Get("Content-Type") != "text/plain" || a.Header.Get("X-Amz-Meta-Owner") != "me" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	// The fields behind the file count for nothing.
	for _, value := range []string{"public-read", strings.Repeat("x", 900<<10)} {
		h.want(h.send(h.form("forms", upload{file: []byte("a"), after: func(w *multipart.Writer) { _ = w.WriteField("acl", value) }})), 204, "")
	}
	a = h.send(h.form("forms", upload{fields: map[string]string{"success_action_redirect": "https://example.com/done?a=b"},
		conditions: `, ["starts-with", "$success_action_redirect", "https://example.com/"]`}))
	if to := a.Header.Get("Location"); a.StatusCode != 303 || !strings.HasPrefix(to, "https://example.com/done?a=b&bucket=forms&key=x&etag=%22") {
		t.Errorf("%d to %s", a.StatusCode, to)
	}
	h.want(h.send(h.form("forms", upload{fields: map[string]string{"redirect": "javascript:alert(1)"}, conditions: `, ["starts-with", "$redirect", ""]`})), 204, "")
	h.want(h.send(h.form("forms", upload{fields: map[string]string{"success_action_status": "200"}, conditions: `, ["eq", "$success_action_status", "200"]`})), 200, "")
	h.want(h.send(h.form("forms", upload{fields: map[string]string{"success_action_status": "404"}, conditions: `, ["eq", "$success_action_status", "404"]`})), 204, "")
	const tagging = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"
	for _, n := range []int{1, 9 << 20} {
		h.want(h.send(h.form("forms", upload{file: blob(n), fields: map[string]string{"tagging": tagging}, conditions: `, ["starts-with", "$tagging", "<Tagging>"]`})), 204, "")
		if a := h.do("GET", "/forms/x?tagging", ""); a.element("Key") != "k" || a.element("Value") != "v" {
			t.Errorf("%d bytes: %s", n, a.body)
		}
	}
	crcField := map[string]string{"x-amz-checksum-crc32": crc([]byte("abc"))}
	h.want(h.send(h.form("forms", upload{file: []byte("abc"), fields: crcField, conditions: `, ["starts-with", "$x-amz-checksum-crc32", ""]`})), 204, "")
	if a := h.do("HEAD", "/forms/x", "", "X-Amz-Checksum-Mode: ENABLED"); a.Header.Get("X-Amz-Checksum-Crc32") != crc([]byte("abc")) {
		t.Error(a.Header)
	}
}

// A file without a name, as some clients send it, does not stand in for one.
func TestPostFormWithoutFilename(t *testing.T) {
	h := open(t)
	h.bucket("forms")
	r := h.form("forms", upload{file: []byte("a"), fields: map[string]string{"key": "in/${filename}"}})
	kind, body := r.Header.Get("Content-Type"), readAll(t, r)
	for given, key := range map[string]string{`; filename="dir/x"`: "in/x", `; filename=""`: "in/", "": "in/${filename}"} {
		h.want(h.send(h.request("POST", "/forms", strings.Replace(body, `; filename=""`, given, 1), "Content-Type: "+kind)), 204, "")
		if a := h.do("GET", "/forms/"+strings.ReplaceAll(url.PathEscape(key), "$", "%24"), ""); a.StatusCode != 200 || a.body != "a" {
			t.Errorf("%q is not %q: %d", given, key, a.StatusCode)
		}
	}
	a := h.send(h.form("forms", upload{spoil: func(f map[string]string) { delete(f, "x-amz-algorithm"); delete(f, "x-amz-credential") }}))
	if h.want(a, 400, "InvalidArgument"); a.element("ArgumentName") != "X-Amz-Algorithm" {
		t.Error(a.body)
	}
}

// A file longer than a piece still becomes an object like that of one PUT.
func TestPostFormLong(t *testing.T) {
	h := open(t)
	h.bucket("forms")
	for _, n := range []int{8<<20 - 1, 8 << 20, 8<<20 + 1, 17 << 20} {
		data := blob(n)
		h.want(h.send(h.form("forms", upload{file: data})), 204, "")
		a := h.do("GET", "/forms/x", "", "X-Amz-Checksum-Mode: ENABLED")
		sum := md5.Sum(data)
		if a.body != string(data) || a.Header.Get("ETag") != `"`+hex.EncodeToString(sum[:])+`"` || a.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
			t.Errorf("%d bytes became %d: %v", n, len(a.body), a.Header)
		}
		put := h.do("PUT", "/forms/y", string(data))
		if got, want := a.Header.Get("X-Amz-Checksum-Crc64nvme"), put.Header.Get("X-Amz-Checksum-Crc64nvme"); got != want || want == "" {
			t.Errorf("checksum %q, want %q", got, want)
		}
	}
	if a := h.do("GET", "/forms?uploads", ""); strings.Contains(a.body, "<Upload>") {
		t.Error(a.body)
	}
}

func TestPostFormBad(t *testing.T) {
	p := openWatched(t)
	field := func(name, value string) func(map[string]string) {
		return func(f map[string]string) { f[name] = value }
	}
	without := func(name string) func(map[string]string) { return func(f map[string]string) { delete(f, name) } }
	for _, c := range []struct {
		row    string
		form   upload
		status int
		code   string
	}{
		{"69 not base64", upload{spoil: field("policy", "{}")}, 403, "SignatureDoesNotMatch"},
		{"69 no JSON", upload{policy: "policy"}, 400, "InvalidPolicyDocument"},
		{"69 trailing bytes", upload{policy: `{"expiration": "2099-01-01T00:00:00Z", "conditions": [{"bucket": "bad"}]} {}`}, 400, "InvalidPolicyDocument"},
		{"69 member twice", upload{policy: `{"expiration": "2000-01-01T00:00:00Z", "expiration": "2099-01-01T00:00:00Z", "conditions": [{"bucket": "bad"}]}`}, 400, "InvalidPolicyDocument"},
		{"69 other case", upload{policy: `{"Expiration": "2099-01-01T00:00:00Z", "conditions": [{"bucket": "bad"}]}`}, 400, "InvalidPolicyDocument"},
		{"69 no expiration", upload{policy: `{"conditions": [{"bucket": "bad"}]}`}, 400, "InvalidPolicyDocument"},
		{"69 no conditions", upload{policy: `{"expiration": "2099-01-01T00:00:00Z"}`}, 400, "InvalidPolicyDocument"},
		{"69 empty conditions", upload{policy: `{"expiration": "2099-01-01T00:00:00Z", "conditions": []}`}, 400, "InvalidPolicyDocument"},
		{"69 junk expiration", upload{policy: `{"expiration": "tomorrow", "conditions": [{"bucket": "bad"}]}`}, 400, "InvalidPolicyDocument"},
		{"69 unknown member", upload{policy: `{"expiration": "2099-01-01T00:00:00Z", "conditions": [{"bucket": "bad"}], "x": 1}`}, 400, "InvalidPolicyDocument"},
		{"69 unknown operator", upload{conditions: `, ["matches", "$key", "x"]`}, 400, "InvalidPolicyDocument"},
		{"69 two members", upload{conditions: `, {"a": "1", "b": "2"}`}, 400, "InvalidPolicyDocument"},
		{"69 range without end", upload{conditions: `, ["content-length-range", 1]`}, 400, "InvalidPolicyDocument"},
		{"69 range of words", upload{conditions: `, ["content-length-range", 1, "many"]`}, 400, "InvalidPolicyDocument"},
		{"70 expired", upload{expires: time.Now().Add(-time.Second)}, 403, "AccessDenied"},
		{"70 condition failed", upload{conditions: `, ["eq", "$key", "y"]`}, 403, "AccessDenied"},
		{"70 field missing", upload{conditions: `, ["starts-with", "$x-amz-meta-a", ""]`}, 403, "AccessDenied"},
		{"26 no field of a signature", upload{spoil: func(f map[string]string) {
			maps.DeleteFunc(f, func(n, _ string) bool { return strings.HasPrefix(n, "x-amz-") })
		}}, 403, "AccessDenied"},
		{"70 extra field", upload{spoil: field("x-amz-meta-a", "1")}, 403, "AccessDenied"},
		{"70 bucket not named", upload{policy: `{"expiration": "2099-01-01T00:00:00Z", "conditions": [["starts-with", "$key", ""], ["starts-with", "$x-amz-credential", ""], ["starts-with", "$x-amz-date", ""], ["starts-with", "$x-amz-algorithm", ""]]}`}, 403, "AccessDenied"},
		{"70 wrong signature", upload{spoil: field("x-amz-signature", strings.Repeat("0", 64))}, 403, "SignatureDoesNotMatch"},
		{"70 unknown key", upload{spoil: func(f map[string]string) {
			f["x-amz-credential"] = "x" + f["x-amz-credential"]
		}}, 403, "InvalidAccessKeyId"},
		{"70 no policy", upload{spoil: without("policy")}, 403, "AccessDenied"},
		{"70 no signature", upload{spoil: without("x-amz-signature")}, 400, "InvalidArgument"},
		{"70 sigv2", upload{spoil: field("AWSAccessKeyId", "a")}, 400, "InvalidRequest"},
		{"70 junk date", upload{spoil: field("x-amz-date", "now")}, 400, "InvalidArgument"},
		{"70 token", upload{spoil: field("x-amz-security-token", "t")}, 400, "InvalidToken"},
		{"72 too large", upload{file: blob(100), conditions: `, ["content-length-range", 0, 99]`}, 400, "EntityTooLarge"},
		{"72 too large, many pieces", upload{file: blob(20 << 20), conditions: `, ["content-length-range", 0, 10000000]`}, 400, "EntityTooLarge"},
		{"72 too small", upload{file: blob(9), conditions: `, ["content-length-range", 10, 99]`}, 400, "EntityTooSmall"},
		{"72 too small, many pieces", upload{file: blob(9 << 20), conditions: `, ["content-length-range", 10000000, 20000000]`}, 400, "EntityTooSmall"},
		{"73 two files", upload{file: []byte("a"), after: func(w *multipart.Writer) { _, _ = w.CreateFormFile("file", "b") }}, 400, "InvalidArgument"},
		{"73 a header of 2 MB behind the file", upload{after: func(w *multipart.Writer) {
			_, _ = w.CreatePart(textproto.MIMEHeader{"X": {strings.Repeat("x", 2<<20)}})
		}}, 400, "MalformedPOSTRequest"},
		{"73 field twice", upload{spoil: field("KEY", "y")}, 400, "InvalidArgument"},
		{"73 field of 1 MB", upload{spoil: field("x-ignore-a", strings.Repeat("a", 1<<20))}, 400, "MaxPostPreDataLengthExceeded"},
		{"73 10000 fields", upload{spoil: func(f map[string]string) {
			for i := range 10_000 {
				f[fmt.Sprint("x-ignore-", i)] = ""
			}
		}}, 400, "MaxPostPreDataLengthExceeded"},
		{"74 climbing name", upload{filename: "../x", fields: map[string]string{"key": "a/${filename}"}}, 400, "InvalidArgument"},
		{"74 name with CR LF", upload{filename: "a\\\rb", fields: map[string]string{"key": "${filename}"}}, 400, "MalformedPOSTRequest"},
		{"74 climbing key", upload{fields: map[string]string{"key": "../x"}}, 400, "BadRequest"},
		{"76 NUL", upload{fields: map[string]string{"key": "a\x00b"}}, 400, "InvalidArgument"},
		{"no key", upload{fields: map[string]string{"key": ""}}, 400, "InvalidArgument"},
		{"other bucket", upload{spoil: field("bucket", "other")}, 400, "InvalidArgument"},
		{"policy and field of another bucket", upload{policy: `{"expiration": "2099-01-01T00:00:00Z", "conditions": [{"bucket": "other"}, ["starts-with", "$key", ""], ["starts-with", "$x-amz-credential", ""], ["starts-with", "$x-amz-date", ""], ["starts-with", "$x-amz-algorithm", ""]]}`, spoil: field("bucket", "other")}, 403, "AccessDenied"},
		{"100 acl", upload{spoil: field("acl", "public-read"), conditions: `, {"acl": "public-read"}`}, 400, "AccessControlListNotSupported"},
		{"100 unknown x-amz", upload{spoil: field("x-amz-nonsense", "1"), conditions: `, {"x-amz-nonsense": "1"}`}, 501, "NotImplemented"},
		{"12 metadata under no header's name", upload{spoil: field("x-amz-meta-my note", "1"), conditions: `, {"x-amz-meta-my note": "1"}`}, 400, "InvalidArgument"},
		{"12 metadata under a name beyond ASCII", upload{spoil: field("x-amz-meta-é", "1"), conditions: `, ["starts-with", "$x-amz-meta-é", ""]`}, 400, "InvalidArgument"},
		{"118 tags", upload{spoil: field("tagging", "<Tagging><TagSet><Tag><Key>aws:a</Key><Value/></Tag></TagSet></Tagging>"), conditions: `, ["starts-with", "$tagging", ""]`}, 400, "InvalidTag"},
		{"118 junk tags", upload{spoil: field("tagging", "k=v"), conditions: `, ["starts-with", "$tagging", ""]`}, 400, "MalformedXML"},
		{"118 tags without a condition", upload{spoil: field("tagging", "<Tagging><TagSet/></Tagging>")}, 403, "AccessDenied"},
		{"58 checksum", upload{spoil: field("x-amz-checksum-crc32", "AAAAAA=="), conditions: `, {"x-amz-checksum-crc32": "AAAAAA=="}`, file: []byte("a")}, 400, "BadDigest"},
	} {
		p.refused(c.row, p.send(p.form("bad", c.form)), c.status, c.code)
	}
	p.refused("absent bucket", p.send(p.form("absent", upload{})), 404, "NoSuchBucket")
	p.refused("68 not a form", p.send(p.request("POST", "/bad", "a=b", "Content-Type: application/x-www-form-urlencoded")), 412, "PreconditionFailed")
	p.refused("68 no type", p.send(p.request("POST", "/bad", "a=b")), 412, "PreconditionFailed")
	p.refused("68 no boundary", p.send(p.request("POST", "/bad", "a=b", "Content-Type: multipart/form-data")), 400, "MalformedPOSTRequest")
	r := p.form("bad", upload{file: []byte("a")})
	whole := readAll(t, r)
	p.refused("88 no last boundary", p.send(p.request("POST", "/bad", whole[:len(whole)-10], "Content-Type: "+r.Header.Get("Content-Type"))), 400, "IncompleteBody")
	p.refused("no file", p.send(p.request("POST", "/bad", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nx\r\n--b--\r\n", "Content-Type: multipart/form-data; boundary=b")), 400, "InvalidArgument")
}

func readAll(t *testing.T, r *http.Request) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Forms that nobody has signed for yet, and that come as slowly as they like, leave room
// for requests that are signed.
func TestUnsignedFormsLeaveRoom(t *testing.T) {
	h := open(t, func(c *s3api.Config) { c.MaxRequests = 8 })
	h.bucket("forms")
	h.want(h.do("PUT", "/forms/x", "data"), 200, "")
	for range 8 {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "POST /forms HTTP/1.1\r\nHost: "+h.addr+"\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	for h.send(h.form("forms", upload{})).code() != "SlowDown" { // until they all are there
	}
	h.want(h.do("GET", "/forms/x", ""), 200, "")
}

// A form whose storing fails leaves no upload behind.
func TestPostFormFailsMidway(t *testing.T) {
	h := open(t)
	h.bucket("forms")
	for _, c := range []struct {
		op     string
		err    error
		status int
		code   string
	}{
		{"PutPart", s3api.ErrServiceUnavailable, 503, "ServiceUnavailable"},
		{"CompleteUpload", s3api.ErrServiceUnavailable, 503, "ServiceUnavailable"},
		{"CompleteUpload", metadata.ErrQuotaExceeded, 403, "QuotaExceeded"},
		{"CompleteUpload", metadata.ErrUnknownOutcome, 500, "InternalError"},
	} {
		h.memory.Hook = func(op, _, _ string) error {
			if op == c.op {
				return c.err
			}
			return nil
		}
		h.want(h.send(h.form("forms", upload{file: blob(9 << 20)})), c.status, c.code)
		h.memory.Hook = nil
		h.want(h.do("GET", "/forms/x", ""), 404, "NoSuchKey")
		if a := h.do("GET", "/forms?uploads", ""); strings.Contains(a.body, "<Upload>") {
			t.Errorf("%s, %v: %s", c.op, c.err, a.body)
		}
	}
}

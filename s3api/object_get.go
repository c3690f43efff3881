package s3api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bivalve/metadata"
)

// overrides are the parameters by which a signed GET may rewrite its answer.
var overrides = []struct{ param, header string }{
	{"response-content-type", "Content-Type"},
	{"response-content-language", "Content-Language"},
	{"response-expires", "Expires"},
	{"response-cache-control", "Cache-Control"},
	{"response-content-disposition", "Content-Disposition"},
	{"response-content-encoding", "Content-Encoding"},
}

const (
	bigCopy   = 256 << 10
	smallCopy = 32 << 10
)

var (
	bigBuffers   = sync.Pool{New: func() any { b := make([]byte, bigCopy); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallCopy); return &b }}
)

func (c *call) headObject() error { return c.readObject(false) }
func (c *call) getObject() error  { return c.readObject(true) }

// readObject answers GET and HEAD; with the body if wanted.
func (c *call) readObject(body bool) error {
	for _, o := range overrides {
		if v := c.query.Get(o.param); !printable(v) {
			return argument(o.param, "", "Header values must be UTF-8 without control characters")
		}
	}
	v, err := c.version()
	if err != nil {
		return err
	}
	key, err := c.readKey("X-Amz-", &v)
	if err != nil {
		return err
	}
	status, header := c.preconditions("").check(&v)
	if status == http.StatusPreconditionFailed {
		return preconditionFailed(header)
	}
	if status == http.StatusNotModified {
		c.setObjectHeaders(&v)
		c.w.Header().Del("Content-Type")
		return fail("NotModified")
	}
	s, status, sum, err := c.selection(&v)
	if err != nil {
		return err
	}
	send := func() {
		c.setObjectHeaders(&v)
		h := c.w.Header()
		if status == http.StatusPartialContent {
			h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", s.offset, s.offset+s.length-1, v.Bytes)}
		}
		h["Content-Length"] = []string{strconv.FormatInt(s.length, 10)}
		if c.header("X-Amz-Checksum-Mode") == "ENABLED" {
			setChecksum(h, sum)
		}
		c.w.WriteHeader(status)
	}
	if !body || s.length == 0 {
		send()
		return nil
	}
	return c.stream(v, key, s, send)
}

// lazy sends the header with the first byte, so that a read that fails at once
// still gets an honest status.
type lazy struct {
	w    *answer
	send func()
	sent int64
}

func (l *lazy) Write(p []byte) (int, error) {
	if l.send != nil {
		l.send()
		l.send = nil
	}
	n, err := l.w.Write(p)
	l.sent += int64(n)
	return n, err
}

// Interrupt ends the answer to a client that takes nothing of it. It may be called at any
// time, beside a Write too.
func (l *lazy) Interrupt() { l.w.interrupt() }

// stream sends the bytes. What fails after the first byte breaks the connection
// (law L7: nobody takes part of an object for the whole).
func (c *call) stream(v metadata.Version, key []byte, s span, send func()) error {
	src, err := c.openObject(v, key, s)
	if err != nil {
		return err
	}
	defer src.Close()
	pool := &bigBuffers
	if s.length <= smallCopy {
		pool = &smallBuffers
	}
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	out := &lazy{w: c.w, send: send}
	_, err = io.CopyBuffer(out, src, *buf)
	if err == nil && out.sent != s.length {
		err = fmt.Errorf("s3api: object stream ended after %d of %d bytes", out.sent, s.length)
	}
	if err == nil {
		return nil
	}
	if !c.w.wrote {
		return err
	}
	c.code = "Aborted"
	if c.ctx().Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) { // the client's own doing
		c.api.Logger.Warn("answer broken off", "req", c.id, "bucket", c.bucket, "key", c.key, "sent", out.sent, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// selection finds which bytes are asked for, by Range or by partNumber.
func (c *call) selection(v *metadata.Version) (span, int, metadata.Checksum, error) {
	whole := span{0, v.Bytes}
	rng := c.header("Range")
	if c.query.Has("partNumber") {
		n, err := partNumber(c.query.Get("partNumber"))
		if err != nil {
			return whole, 0, v.Checksum, err
		}
		if rng != "" {
			return whole, 0, v.Checksum, failf("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
		}
		return c.partSpan(v, n)
	}
	if rng == "" || !c.rangeHolds(v) {
		return whole, http.StatusOK, v.Checksum, nil
	}
	s, ok, unsatisfiable := parseRange(rng, v.Bytes)
	if unsatisfiable {
		return whole, 0, v.Checksum, c.badRange("InvalidRange", map[string]string{"RangeRequested": rng, "ActualObjectSize": strconv.FormatInt(v.Bytes, 10)}, v.Bytes)
	}
	if !ok {
		return whole, http.StatusOK, v.Checksum, nil
	}
	if s == whole {
		return s, http.StatusPartialContent, v.Checksum, nil
	}
	return s, http.StatusPartialContent, metadata.Checksum{}, nil
}

// rangeHolds evaluates If-Range.
func (c *call) rangeHolds(v *metadata.Version) bool {
	cond := c.header("If-Range")
	if cond == "" {
		return true
	}
	if t, err := http.ParseTime(cond); err == nil {
		return !time.Unix(0, v.Modified).Truncate(time.Second).After(t)
	}
	return unquote(cond) == v.ETag
}

func (c *call) badRange(code string, fields map[string]string, size int64) error {
	c.w.Header()["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
	return &apiError{code: code, fields: fields}
}

// partSpan is the n-th part of the object as it was completed.
func (c *call) partSpan(v *metadata.Version, n int) (span, int, metadata.Checksum, error) {
	multipart := strings.Contains(v.ETag, "-")
	count := max(len(v.Parts), 1)
	if !multipart {
		count = 1
	}
	if n > count {
		return span{}, 0, v.Checksum, c.badRange("InvalidPartNumber", map[string]string{
			"PartNumberRequested": strconv.Itoa(n), "ActualPartCount": strconv.Itoa(count)}, v.Bytes)
	}
	status := http.StatusPartialContent
	if v.Bytes == 0 {
		status = http.StatusOK
	}
	if !multipart {
		return span{0, v.Bytes}, status, v.Checksum, nil
	}
	c.w.Header()["X-Amz-Mp-Parts-Count"] = []string{strconv.Itoa(count)}
	s := span{}
	for _, p := range v.Parts[:n-1] {
		s.offset += p.Bytes
	}
	s.length = v.Parts[n-1].Bytes
	sum := v.Parts[n-1].Checksum
	sum.Type = v.Checksum.Type
	return s, status, sum, nil
}

// setObjectHeaders describes the version.
func (c *call) setObjectHeaders(v *metadata.Version) {
	h := c.w.Header()
	h["Accept-Ranges"] = []string{"bytes"}
	h["ETag"] = []string{quoted(v.ETag)}
	h["Last-Modified"] = []string{time.Unix(0, v.Modified).UTC().Format(http.TimeFormat)}
	setVersion(h, v)
	setLock(h, v.Lock)
	setExpiration(h, v.Expires)
	if n := len(v.Tags); n > 0 {
		h["X-Amz-Tagging-Count"] = []string{strconv.Itoa(n)}
	}
	c.setSeal(metadata.SealOf(v.Parts))
	a := &v.Attributes
	for _, f := range []struct{ name, value string }{
		{"Content-Type", a.ContentType}, {"Cache-Control", a.CacheControl}, {"Content-Disposition", a.ContentDisposition},
		{"Content-Encoding", a.ContentEncoding}, {"Content-Language", a.ContentLanguage}, {"Expires", a.Expires},
		{"X-Amz-Website-Redirect-Location", a.WebsiteRedirect}, {"X-Amz-Storage-Class", a.StorageClass},
	} {
		if f.value != "" && f.value != "STANDARD" {
			h[f.name] = []string{f.value}
		}
	}
	// Lower case, as S3 sends them: some clients keep the name as it comes.
	for name, value := range a.User {
		h["x-amz-meta-"+name] = []string{value}
	}
	for _, o := range overrides {
		if value := c.query.Get(o.param); value != "" {
			h[o.header] = []string{value}
		}
	}
	if kind := h["Content-Type"]; len(kind) > 0 && runs(kind[0]) {
		h["Content-Security-Policy"] = []string{"sandbox"}
	}
}

// runs tells whether a browser may run scripts in a document of that type. All
// objects come from one origin: a page among them must not act for another. Browsers
// differ in what they make of a malformed type, or of several, so that the name of such
// a document is enough wherever it stands; what is boxed for nothing is shown as well.
func runs(contentType string) bool {
	kind := strings.ToLower(contentType)
	return slices.ContainsFunc([]string{"html", "xml", "svg", "xsl"}, func(s string) bool { return strings.Contains(kind, s) })
}

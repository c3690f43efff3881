package s3api

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
	"bivalve/s3api/sigv4"
)

// call is one request on its way through the door.
type call struct {
	api *api
	w   *answer
	r   *http.Request
	id  string // request id

	op          string // name of the route
	code        string // S3 error code of the answer, if any
	bucket, key string
	virtual     bool // the bucket came from the host name
	query       url.Values
	auth        *sigv4.Auth
	input       *timedBody
	body        *upload
	sourceKey   []byte // of the source of a copy that is encrypted with a client's key
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) header(name string) string {
	if v := c.r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// answer notes what was sent and keeps the connection's write deadline ahead of
// a client that reads.
type answer struct {
	http.ResponseWriter
	ctl      *http.ResponseController
	idle     time.Duration
	deadline time.Time
	wrote    bool
	status   int
	bytes    int64

	mu  sync.Mutex // orders the deadlines
	cut bool
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if a.wrote {
		return
	}
	a.wrote, a.status = true, status
	a.extend()
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if !a.wrote {
		a.WriteHeader(http.StatusOK)
	}
	a.extend()
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// extend moves the deadline only when a quarter of it has passed: most writes
// cost no timer.
func (a *answer) extend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.deadline.Sub(now) < a.idle*3/4 && !a.cut {
		a.deadline = now.Add(a.idle)
		_ = a.ctl.SetWriteDeadline(a.deadline)
	}
}

// interrupt ends the answer: the Write under way, and all to come.
func (a *answer) interrupt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = true
	_ = a.ctl.SetWriteDeadline(time.Now())
}

func (c *call) newXML() *s3xml.Writer { return s3xml.NewWriter() }

func (c *call) sendXML(status int, x *s3xml.Writer) {
	h := c.w.Header()
	h["Content-Type"] = []string{"application/xml"}
	h["Content-Length"] = []string{strconv.Itoa(len(x.Bytes()))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(x.Bytes())
}

// noContent answers 204, done 200 without body.
func (c *call) noContent() { c.w.WriteHeader(http.StatusNoContent) }

func (c *call) done() {
	c.w.Header()["Content-Length"] = []string{"0"}
	c.w.WriteHeader(http.StatusOK)
}

// bucketExists answers the bucket or NoSuchBucket, with its name in the error.
func (c *call) findBucket() (metadata.Bucket, error) {
	return c.api.Buckets.GetBucket(c.ctx(), c.bucket)
}

// number reads a decimal query parameter within [low, high]; what is above high
// is clamped to it.
func (c *call) number(name string, def, low, high int) (int, error) {
	s, there := c.query[name]
	if !there || s[0] == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s[0], 10, 32)
	if err != nil {
		return 0, argument(name, s[0], "Provided "+name+" not an integer or within integer range")
	}
	if int(n) < low {
		return 0, argument(name, s[0], "Argument "+name+" must be an integer between "+strconv.Itoa(low)+" and "+strconv.Itoa(1<<31-1))
	}
	return min(int(n), high), nil
}

func newRequestID() string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [16]byte
	n := rand.Uint64()
	for i := range b {
		if i == 12 {
			n = rand.Uint64()
		}
		b[i] = digits[n&31]
		n >>= 5
	}
	return string(b[:])
}

// hostID is the second id that S3 sends with every answer.
func hostID(requestID string) string {
	return base64.StdEncoding.EncodeToString([]byte("bivalve/" + requestID))
}

func quoted(etag string) string { return `"` + etag + `"` }

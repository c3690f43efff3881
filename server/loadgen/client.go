package loadgen

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	readBuffer   = 256 << 10 // of a client; larger than the transport's own, so bodies skip that one
	maxErrorBody = 4 << 10
	unsigned     = "UNSIGNED-PAYLOAD" // a client that hashed its bodies would load the machine, not the server
)

// client sends requests one after another. Not for concurrent use.
type client struct {
	http     *http.Client
	signer   *v4.Signer
	keys     aws.Credentials
	region   string
	endpoint *url.URL
	timeout  time.Duration
	clock    Clock
	buf      []byte
}

// request is one S3 request. Nothing of it is kept.
type request struct {
	method string
	path   string // unescaped, from the bucket on
	query  url.Values
	header map[string]string
	body   []byte
	ok     int    // the status that means success
	length int64  // bytes that the body of the answer must have; -1: any
	want   []byte // bytes that it must be; nil: not compared
}

// statusError is an answer other than the one asked for.
type statusError struct {
	Status int
	Code   string // S3's, if the answer had one
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("http %d %s", e.Status, e.Code))
}

var (
	errShort   = errors.New("body has the wrong length")
	errCorrupt = errors.New("body differs from what was put")
)

// do sends r and reads the whole answer, so that the connection is used again.
func (c *client) do(ctx context.Context, r request) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// RawPath pins the escaping to what SigV4 wants to have signed.
	u := &url.URL{Scheme: c.endpoint.Scheme, Host: c.endpoint.Host, Path: "/" + r.path, RawPath: "/" + escape(r.path), RawQuery: r.query.Encode()}
	req := (&http.Request{Method: r.method, URL: u, Host: u.Host, Header: make(http.Header, 8)}).WithContext(ctx)
	if len(r.body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	if err := c.signer.SignHTTP(ctx, c.keys, req, unsigned, "s3", c.region, c.clock.Now().UTC()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != r.ok {
		return errors.Join(answerError(resp), resp.Body.Close())
	}
	return errors.Join(c.drain(resp.Body, r), resp.Body.Close())
}

// drain reads a body into the client's one buffer and judges it.
func (c *client) drain(body io.Reader, r request) error {
	var n int64
	differs := false
	for {
		got, err := body.Read(c.buf)
		if r.want != nil && !differs {
			end := n + int64(got)
			differs = end > int64(len(r.want)) || !bytes.Equal(c.buf[:got], r.want[n:end])
		}
		n += int64(got)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	switch {
	case r.length >= 0 && n != r.length:
		return errShort
	case differs:
		return errCorrupt
	}
	return nil
}

func answerError(resp *http.Response) error {
	e := &statusError{Status: resp.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return errors.Join(e, err)
	}
	var doc struct {
		Code string `xml:"Code"`
	}
	if xml.Unmarshal(raw, &doc) == nil { // what is no S3 error (a proxy's page) has no code
		e.Code = doc.Code
	}
	return e
}

// kindOf names an error for the report: few names, no addresses.
func kindOf(err error) string {
	var status *statusError
	var netErr net.Error
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, errShort):
		return "wrong length"
	case errors.Is(err, errCorrupt):
		return "wrong bytes"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection lost"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	}
	return "other"
}

// escape is URI encoding as SigV4 has it, slashes kept.
func escape(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

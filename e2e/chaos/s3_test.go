//go:build e2e

package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// client is one S3 client on a host of its zone: it asks the node that it is told
// to, once, and says what came of it.
type client struct {
	http   *http.Client
	signer *v4.Signer
	keys   aws.Credentials
	region string
}

// patience is how long a client waits for an answer.
const patience = 10 * time.Second

func newClient(h *host, keys aws.Credentials, region string) *client {
	tr := &http.Transport{DialContext: h.dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: 5 * time.Second, DisableCompression: true}
	return &client{http: &http.Client{Transport: tr}, signer: v4.NewSigner(), keys: keys, region: region}
}

// answer is what came back.
type answer struct {
	Outcome
	status int
	code   string
	header http.Header
	body   []byte
	err    error
	took   time.Duration
}

func (a answer) tag() string { return strings.Trim(a.header.Get("ETag"), `"`) }

func (a answer) String() string {
	if a.err != nil {
		return fmt.Sprintf("%s: %v", a.Outcome, a.err)
	}
	return fmt.Sprintf("%s: %d %s", a.Outcome, a.status, a.code)
}

// request is what is asked; its path is /bucket/key, of plain characters.
type request struct {
	method, path string
	query        url.Values
	header       map[string]string
	body         []byte
}

func (c *client) do(ctx context.Context, node *node, r request) answer {
	begun := time.Now()
	a := c.ask(ctx, node, r)
	a.took = time.Since(begun)
	a.Outcome = Judge(a.status, a.code, a.err)
	return a
}

func (c *client) ask(ctx context.Context, node *node, r request) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.send(ctx, node, r)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, a.err = io.ReadAll(resp.Body); a.err != nil {
		return a
	}
	var fault struct {
		XMLName xml.Name
		Code    string
	}
	// A long-running request may begin its answer with 200 and end it with an error.
	if len(a.body) < 4096 && xml.Unmarshal(a.body, &fault) == nil && fault.XMLName.Local == "Error" {
		a.code = fault.Code
		if a.status == http.StatusOK {
			a.status = map[string]int{"ServiceUnavailable": 503, "SlowDown": 503, "InsufficientStorage": 507,
				"PreconditionFailed": 412, "NoSuchKey": 404, "InternalError": 500}[fault.Code]
		}
	}
	return a
}

// send sends a request, signed, and returns what begins to come back.
func (c *client) send(ctx context.Context, node *node, r request) (*http.Response, error) {
	u := &url.URL{Scheme: "http", Host: node.s3, Path: r.path, RawQuery: strings.ReplaceAll(r.query.Encode(), "+", "%20")}
	req := (&http.Request{Method: r.method, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	if r.method == http.MethodPut || r.method == http.MethodPost {
		req.Body, req.ContentLength = http.NoBody, int64(len(r.body))
		if len(r.body) > 0 {
			req.Body = io.NopCloser(bytes.NewReader(r.body))
		}
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	sum := sha256.Sum256(r.body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := c.signer.SignHTTP(ctx, c.keys, req, hash, "s3", c.region, time.Now().UTC()); err != nil {
		return nil, err
	}
	return c.http.Do(req)
}

// page is one answer of ListObjectsV2.
type page struct {
	Contents []struct {
		Key  string
		ETag string
	}
	IsTruncated           bool
	NextContinuationToken string
}

// list asks for one page of a bucket.
func (c *client) list(ctx context.Context, n *node, bucket, prefix, token string, most int) (page, answer) {
	q := url.Values{"list-type": {"2"}, "prefix": {prefix}, "max-keys": {fmt.Sprint(most)}}
	if token != "" {
		q.Set("continuation-token", token)
	}
	a := c.do(ctx, n, request{method: http.MethodGet, path: "/" + bucket, query: q})
	var p page
	if a.Outcome == Done {
		if err := xml.Unmarshal(a.body, &p); err != nil {
			a.Outcome, a.err = Absurd, err
		}
	}
	return p, a
}

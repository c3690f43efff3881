package s3api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"bivalve/s3api/sigv4"
)

// api is the handler that New builds.
type api struct {
	Config
	router   *mux.Router
	verifier *sigv4.Verifier
	metrics  *metrics
	inFlight atomic.Int64
	unsigned atomic.Int64 // of these, forms whose policy has not been verified yet
	forms    *formRooms
}

// New builds the handler of the S3 API.
func New(cfg Config) (http.Handler, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	a := &api{Config: cfg, metrics: m, router: newRouter(), forms: newFormRooms(),
		verifier: &sigv4.Verifier{Secret: cfg.Credentials.Secret, Region: cfg.Region, Now: cfg.Clock}}
	return a, nil
}

// ServeHTTP carries one request from its header to the last byte of its answer.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	c := &call{api: a, r: r, op: "Unknown", id: newRequestID()}
	c.w = &answer{ResponseWriter: w, ctl: http.NewResponseController(w), idle: a.WriteIdle}
	h := w.Header()
	h["X-Amz-Request-Id"] = []string{c.id}
	h["X-Amz-Id-2"] = []string{hostID(c.id)}
	h["Server"] = []string{"Bivalve"}
	h["X-Content-Type-Options"] = []string{"nosniff"} // what an object is, its owner says, not a browser's guess
	a.metrics.inFlight.Inc()
	n := a.inFlight.Add(1)
	defer func() {
		p := recover()
		a.inFlight.Add(-1)
		a.metrics.inFlight.Dec()
		if p != nil && p != http.ErrAbortHandler {
			a.Logger.Error("panic", "req", c.id, "op", c.op, "panic", p, "stack", string(debug.Stack()))
			if !c.w.wrote {
				c.writeError(fail("InternalError"))
				p = nil
			} else {
				p = http.ErrAbortHandler
			}
		}
		c.finish(started)
		if p != nil {
			panic(p)
		}
	}()
	var err error
	if n > int64(a.MaxRequests) {
		err = ErrSlowDown
	} else {
		err = c.serve()
	}
	if err != nil {
		c.writeError(err)
	}
}

// serve finds out who asks for what; the route's handler does the rest.
func (c *call) serve() error {
	r := c.r
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions:
	default:
		return methodNotAllowed(r.Method, "")
	}
	if err := c.checkHeaderSection(); err != nil {
		return err
	}
	var err error
	if c.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	if err := c.locate(); err != nil {
		return err
	}
	if r.Method == http.MethodOptions {
		if err := c.checkFraming(); err != nil {
			return err
		}
		return c.preflight()
	}
	c.crossOrigin()
	if c.isForm() {
		c.auth = &sigv4.Auth{} // nobody yet: postObject asks the verifier about the form
	} else if c.auth, err = c.api.verifier.Verify(r, c.query); err != nil {
		return err
	}
	if err := c.checkFraming(); err != nil {
		return err
	}
	if err := c.hoist(); err != nil {
		return err
	}
	if err := c.checkHeaders(); err != nil {
		return err
	}
	if c.bucket != "" && !validBucketName(c.bucket) {
		return &apiError{code: "InvalidBucketName", fields: map[string]string{"BucketName": c.bucket}}
	}
	return c.route()
}

// checkFraming allows Transfer-Encoding: chunked only where the signed length
// stands elsewhere (S3 calls everything else not implemented), and never keeps such a connection: a proxy before us may
// have read another length out of the same bytes.
func (c *call) checkFraming() error {
	if len(c.r.TransferEncoding) == 0 {
		return nil
	}
	c.w.Header().Set("Connection", "close")
	if c.auth == nil || !c.auth.Payload.Mode.Framed() {
		return notImplemented("Transfer-Encoding")
	}
	return nil
}

func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fail("InvalidURI")
	}
	for name, values := range q {
		if len(values) > 1 {
			if strings.HasPrefix(name, "X-Amz-") {
				return nil, failf("AuthorizationQueryParametersError", "Query parameter %s was given more than once", name)
			}
			return nil, argument(name, values[1], "A query parameter may be given only once")
		}
	}
	return q, nil
}

// finish records the request. The query may hold a signature and is not logged.
func (c *call) finish(started time.Time) {
	took := time.Since(started)
	var in int64
	if c.body != nil {
		in = c.body.size - c.body.left
		c.body.close()
	}
	c.guardUnread()
	status := c.w.status
	c.api.metrics.done(c.op, status, c.code, in, c.w.bytes, took)
	if l := c.api.Logger; l.Enabled(context.Background(), slog.LevelDebug) {
		l.Debug("request", "req", c.id, "op", c.op, "bucket", c.bucket, "key", c.key, "status", status,
			"code", c.code, "in", in, "out", c.w.bytes, "took", took)
	}
}

// guardUnread bounds how long the server waits for the rest of a body that the
// handler left unread.
func (c *call) guardUnread() {
	if c.r.ContentLength != 0 && (c.input == nil || !c.input.ended) {
		wait := 2 * time.Second
		if c.input != nil && c.input.broke {
			wait = 0
		}
		_ = c.w.ctl.SetReadDeadline(time.Now().Add(wait))
	}
}

// writeError sends the error unless the answer has begun, in which case the
// connection is broken so that nobody takes the rest for whole.
func (c *call) writeError(err error) {
	e := translate(err).about(c)
	c.code = e.code
	status := e.status()
	if status == http.StatusInternalServerError && e.cause != nil && !errors.Is(err, context.Canceled) {
		c.api.Logger.Warn("request failed", "req", c.id, "op", c.op, "bucket", c.bucket, "key", c.key, "code", e.code, "err", e.cause)
	}
	if c.w.wrote {
		panic(http.ErrAbortHandler)
	}
	h := c.w.Header()
	if c.r.ContentLength != 0 && (c.input == nil || !c.input.ended) {
		h.Set("Connection", "close")
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if status == http.StatusNotModified {
		c.w.WriteHeader(status)
		return
	}
	h.Set("Content-Type", "application/xml")
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(status)
		return
	}
	x := c.newXML()
	e.element(x, resource(c.r), c.id, hostID(c.id))
	c.sendXML(status, x)
}

func methodNotAllowed(method, resourceType string) error {
	return &apiError{code: "MethodNotAllowed", fields: map[string]string{"Method": method, "ResourceType": resourceType}}
}

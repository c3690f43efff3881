package loadgen

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	attempts     = 5 // of a request off the clock
	retryPause   = 200 * time.Millisecond
	cleanUpLimit = 5 * time.Minute
	deleteBatch  = 250 // keys of one DeleteObjects; S3 takes 1000
)

// insist sends a request that is not measured, and again if the server fails.
func (c *client) insist(ctx context.Context, r request) error {
	for n := 1; ; n++ {
		err := c.do(ctx, r)
		var status *statusError
		if err == nil || n == attempts || errors.As(err, &status) && status.Status < 500 || !pause(ctx, retryPause) {
			return err
		}
	}
}

// prepare makes the bucket if it is missing and puts the working set.
func (r *run) prepare(ctx context.Context) error {
	c := r.clients[0]
	err := c.insist(ctx, request{method: http.MethodHead, path: r.cfg.Bucket, ok: http.StatusOK, length: -1})
	var status *statusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound {
		if err = c.insist(ctx, r.createBucket()); err == nil {
			r.made = true
		}
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", r.cfg.Bucket, err)
	}
	if r.cfg.Op == Put {
		return nil
	}
	return r.shareOut(ctx, r.cfg.Objects, func(c *client, i int) error { return c.insist(ctx, r.put(r.setKey(i))) })
}

func (r *run) createBucket() request {
	req := request{method: http.MethodPut, path: r.cfg.Bucket, ok: http.StatusOK, length: -1}
	if r.cfg.Region != "us-east-1" { // which S3 takes for granted, and refuses to be told
		req.body = []byte("<CreateBucketConfiguration><LocationConstraint>" + r.cfg.Region + "</LocationConstraint></CreateBucketConfiguration>")
	}
	return req
}

// shareOut calls f for 0..n-1 on all clients; the first error stops it.
func (r *run) shareOut(ctx context.Context, n int, f func(c *client, i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	r.each(func(w *worker) {
		for ctx.Err() == nil && failed.Load() == nil {
			i := int(next.Add(1) - 1)
			if i >= n {
				return
			}
			if err := f(w.client, i); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// cleanUp removes every object that the run may have made, and the bucket if
// the run made it. It outlives an interrupt, for as long as cleanUpLimit.
func (r *run) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpLimit)
	defer cancel()
	total, at := r.leftovers()
	batches := (total + deleteBatch - 1) / deleteBatch
	err := r.shareOut(ctx, batches, func(c *client, b int) error {
		keys := make([]string, 0, deleteBatch)
		for i := b * deleteBatch; i < min(total, (b+1)*deleteBatch); i++ {
			keys = append(keys, at(i))
		}
		req, err := r.deleteObjects(keys)
		if err != nil {
			return err
		}
		return c.insist(ctx, req)
	})
	if err == nil && r.made {
		err = r.clients[0].insist(ctx, request{method: http.MethodDelete, path: r.cfg.Bucket, ok: http.StatusNoContent, length: -1})
		var status *statusError
		if errors.As(err, &status) && status.Code == "BucketNotEmpty" {
			err = nil // someone else has come to use it
		}
	}
	if err != nil {
		return fmt.Errorf("clean up of %s/%s: %w", r.cfg.Bucket, r.cfg.Prefix, err)
	}
	return nil
}

// leftovers numbers the objects that may exist: the working set, then what
// each client added.
func (r *run) leftovers() (total int, at func(int) string) {
	set := r.cfg.Objects
	if r.cfg.Op == Put {
		set = 0
	}
	total = set
	for _, w := range r.workers {
		total += int(w.puts - w.deleted)
	}
	return total, func(i int) string {
		if i < set {
			return r.setKey(i)
		}
		n := uint64(i - set)
		for _, w := range r.workers {
			if own := w.puts - w.deleted; n >= own {
				n -= own
				continue
			}
			return r.newKey(w.id, w.deleted+n)
		}
		panic("loadgen: more objects to remove than were counted")
	}
}

func (r *run) deleteObjects(keys []string) (request, error) {
	type object struct {
		Key string
	}
	doc := struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Object  []object
	}{Quiet: true}
	for _, k := range keys {
		doc.Object = append(doc.Object, object{k})
	}
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).Encode(doc); err != nil {
		return request{}, err
	}
	sum := md5.Sum(b.Bytes()) // S3 demands it of this request
	return request{method: http.MethodPost, path: r.cfg.Bucket, query: url.Values{"delete": {""}}, body: b.Bytes(),
		header: map[string]string{"Content-Md5": base64.StdEncoding.EncodeToString(sum[:])}, ok: http.StatusOK, length: -1}, nil
}

package s3api

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"bivalve/s3api/s3xml"
)

// long runs work that may outlast the patience of clients and proxies. After
// Config.KeepAlive of silence it sends 200 and white space before the root
// element; the honest status then stands in the body.
func (c *call) long(work func(context.Context) (func(*s3xml.Writer), error)) error {
	type result struct {
		write func(*s3xml.Writer)
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("s3api: panic: %v\n%s", p, debug.Stack())
			}
			done <- r
		}()
		r.write, r.err = work(c.ctx())
	}()
	tick := time.NewTicker(c.api.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			return c.endLong(r.write, r.err)
		case <-tick.C:
			c.breathe()
		}
	}
}

func (c *call) breathe() {
	if c.w.wrote {
		_, _ = c.w.Write([]byte(" "))
	} else {
		c.w.Header()["Content-Type"] = []string{"application/xml"}
		c.w.WriteHeader(http.StatusOK)
		_, _ = c.w.Write([]byte(s3xml.Declaration))
	}
	_ = c.w.ctl.Flush()
}

func (c *call) endLong(write func(*s3xml.Writer), err error) error {
	if !c.w.wrote {
		if err != nil {
			return err
		}
		x := c.newXML()
		write(x)
		c.sendXML(http.StatusOK, x)
		return nil
	}
	var x s3xml.Writer
	if err != nil {
		e := translate(err).about(c)
		c.code = e.code
		if e.status() == http.StatusInternalServerError {
			c.api.Logger.Warn("request failed", "req", c.id, "op", c.op, "bucket", c.bucket, "key", c.key, "code", e.code, "err", e.cause)
		}
		e.element(&x, resource(c.r), c.id, hostID(c.id))
	} else {
		write(&x)
	}
	_, err = c.w.Write(x.Bytes())
	_ = err // the client is gone; there is nobody left to tell
	return nil
}

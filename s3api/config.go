package s3api

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says what the door stands before and how it behaves. Zero values mean
// the defaults in the comments.
type Config struct {
	Buckets     Buckets
	Settings    Settings
	Objects     Objects
	Lister      Lister
	Uploads     Uploads
	Copier      Copier
	Sealed      Sealed
	Credentials Credentials

	Clock    Clock                 // time.Now
	Region   string                // us-east-1
	Domains  []string              // suffixes of virtual-host addressing: bucket.<domain>; localhost always counts
	Owner    string                // the one owner id: 64 hex digits, derived from nothing secret
	Logger   *slog.Logger          // discards
	Registry prometheus.Registerer // metrics are not registered

	MaxHeaderBytes  int           // 8 KiB: header section of one request
	MaxUserMetadata int           // 2 KiB: names and values of x-amz-meta-*
	MaxRequests     int           // 4096: concurrent requests; beyond them SlowDown
	BodyIdle        time.Duration // 30 s: longest wait for the next bytes of a body
	BodyRate        int64         // 1 KiB: least bytes a second of a body, over BodyIdle of waiting for it
	WriteIdle       time.Duration // 2 min: longest wait for a client to take one buffer
	KeepAlive       time.Duration // 10 s: silence of a long copy or complete before white space is sent
	MinPartBytes    int64         // 5 MiB: least size of a part that is not the last
	MaxPutBytes     int64         // 5 GiB: one PUT or part
}

const defaultOwner = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a"

func (c *Config) setDefaults() {
	setDefault(&c.Clock, time.Now, c.Clock == nil)
	setDefault(&c.Region, "us-east-1", c.Region == "")
	setDefault(&c.Owner, defaultOwner, c.Owner == "")
	setDefault(&c.Logger, slog.New(slog.DiscardHandler), c.Logger == nil)
	setDefault(&c.MaxHeaderBytes, 8<<10, c.MaxHeaderBytes == 0)
	setDefault(&c.MaxUserMetadata, 2<<10, c.MaxUserMetadata == 0)
	setDefault(&c.MaxRequests, 4096, c.MaxRequests == 0)
	setDefault(&c.BodyIdle, 30*time.Second, c.BodyIdle == 0)
	setDefault(&c.BodyRate, 1<<10, c.BodyRate == 0)
	setDefault(&c.WriteIdle, 2*time.Minute, c.WriteIdle == 0)
	setDefault(&c.KeepAlive, 10*time.Second, c.KeepAlive == 0)
	setDefault(&c.MinPartBytes, 5<<20, c.MinPartBytes == 0)
	setDefault(&c.MaxPutBytes, 5<<30, c.MaxPutBytes == 0)
}

func setDefault[T any](field *T, value T, unset bool) {
	if unset {
		*field = value
	}
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var faults []error
	need := func(name string, there bool) {
		if !there {
			faults = append(faults, fmt.Errorf("s3api: %s is missing", name))
		}
	}
	need("Buckets", c.Buckets != nil)
	need("Settings", c.Settings != nil)
	need("Objects", c.Objects != nil)
	need("Lister", c.Lister != nil)
	need("Uploads", c.Uploads != nil)
	need("Copier", c.Copier != nil)
	need("Sealed", c.Sealed != nil)
	need("Credentials", c.Credentials != nil)
	for name, v := range map[string]int64{"MaxHeaderBytes": int64(c.MaxHeaderBytes), "MaxUserMetadata": int64(c.MaxUserMetadata),
		"MaxRequests": int64(c.MaxRequests), "BodyIdle": int64(c.BodyIdle), "BodyRate": c.BodyRate, "WriteIdle": int64(c.WriteIdle),
		"KeepAlive": int64(c.KeepAlive), "MinPartBytes": c.MinPartBytes, "MaxPutBytes": c.MaxPutBytes} {
		if v < 0 {
			faults = append(faults, fmt.Errorf("s3api: %s is negative", name))
		}
	}
	return errors.Join(faults...)
}

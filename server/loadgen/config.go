package loadgen

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Op is what the clients ask for.
type Op string

// The operations. Mixed is mixedShares of the others.
const (
	Put    Op = "put"
	Get    Op = "get"
	Head   Op = "head"
	List   Op = "list"
	Delete Op = "delete"
	Copy   Op = "copy" // of objects of the working set to new keys
	Mixed  Op = "mixed"
)

// Ops lists them in the order of reports.
func Ops() []Op { return []Op{Put, Get, Head, List, Delete, Copy, Mixed} }

// Limits of a run.
const (
	maxSize    = 5 << 30 // of one PUT in S3
	maxObjects = 10_000_000
	maxClients = 10_000
)

// Config is one run. Zero values take the defaults named beside them.
type Config struct {
	Endpoints []string // base URLs; client i uses endpoint i modulo their number
	AccessKey string
	SecretKey string
	Region    string // us-east-1

	Op       Op
	Size     int64 // bytes of an object
	Clients  int   // 16
	Duration time.Duration
	Bucket   string // made, and removed again, if it does not exist
	Objects  int    // 1000: working set of get, head, list, delete, copy and mixed
	Keep     bool   // leave the objects
	Verify   bool   // compare every byte of a GET

	MaxOps  uint64        // end after so many requests, whatever the duration; 0: no limit
	Timeout time.Duration // 1 minute: of one request
	Prefix  string        // of every key; default a fresh random one
	Clock   Clock         // the system's
	Servers []int         // process ids of the servers on this machine, to be watched (Linux)
}

// Clock is what measures. It may be called concurrently.
type Clock interface{ Now() time.Time }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (c Config) withDefaults() Config {
	def := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	def(&c.Clients, 16)
	def(&c.Objects, 1000)
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Endpoints) == 0 {
		bad("no endpoint")
	}
	for _, e := range c.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
			bad("endpoint %q: want http://HOST:PORT or https://HOST:PORT", e)
		}
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		bad("no access key or secret key")
	}
	if !slices.Contains(Ops(), c.Op) {
		bad("operation %q: want one of %v", c.Op, Ops())
	}
	if c.Size < 0 || c.Size > maxSize {
		bad("size %d: want 0 to %d bytes", c.Size, int64(maxSize))
	}
	if c.Clients < 0 || c.Clients > maxClients {
		bad("%d clients: want 1 to %d", c.Clients, maxClients)
	}
	if c.Objects < 0 || c.Objects > maxObjects {
		bad("%d objects: want 1 to %d", c.Objects, maxObjects)
	}
	if c.Duration <= 0 {
		bad("duration %s: want more than nothing", c.Duration)
	}
	if c.Timeout < 0 {
		bad("timeout %s: want more than nothing", c.Timeout)
	}
	if c.Bucket == "" {
		bad("no bucket")
	}
	return errors.Join(errs...)
}

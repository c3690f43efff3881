package loadgen

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeS3 keeps objects in a map. hook may answer in its place.
type fakeS3 struct {
	hook func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	buckets map[string]bool
	objects map[string][]byte
	count   map[string]int
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=key/") || r.Header.Get("X-Amz-Content-Sha256") != unsigned {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	bucket, key, isObject := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	kind := r.Method
	if !isObject {
		kind += " bucket"
	}
	f.count[kind]++
	if f.hook != nil && f.hook(w, r) {
		return
	}
	path := bucket + "/" + key
	switch {
	case !isObject && r.Method == http.MethodPut:
		f.buckets[bucket] = true
	case !f.buckets[bucket]:
		w.WriteHeader(http.StatusNotFound)
	case !isObject && r.Method == http.MethodDelete:
		delete(f.buckets, bucket)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		var doc struct{ Object []struct{ Key string } }
		if err := xml.Unmarshal(body, &doc); err != nil || r.Header.Get("Content-Md5") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, o := range doc.Object {
			delete(f.objects, bucket+"/"+o.Key)
		}
	case !isObject: // HEAD, LIST
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		f.count["copy"]++
		f.count[kind]--
		src := f.objects[r.Header.Get("X-Amz-Copy-Source")]
		if src == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		f.objects[path] = src
	case r.Method == http.MethodPut:
		f.objects[path] = body
	case r.Method == http.MethodDelete:
		delete(f.objects, path)
		w.WriteHeader(http.StatusNoContent)
	case f.objects[path] == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		if _, err := w.Write(f.objects[path]); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func serve(t *testing.T, hook func(http.ResponseWriter, *http.Request) bool) (*fakeS3, Config) {
	f := &fakeS3{hook: hook, buckets: map[string]bool{}, objects: map[string][]byte{}, count: map[string]int{}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, Config{Endpoints: []string{s.URL}, AccessKey: "key", SecretKey: "secret", Bucket: "b", Size: 3000,
		Op: Get, Clients: 3, Objects: 10, Duration: time.Hour, MaxOps: 60, Verify: true}
}

func mustRun(t *testing.T, cfg Config) *Report {
	t.Helper()
	rep, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestEveryOperationPreparesMeasuresAndCleansUp(t *testing.T) {
	for _, op := range Ops() {
		t.Run(string(op), func(t *testing.T) {
			f, cfg := serve(t, nil)
			cfg.Op = op
			rep := mustRun(t, cfg)
			want := uint64(60)
			if op == Delete {
				want = 10 // the working set, each object once
			}
			if rep.Ops != want || rep.Failed != 0 {
				t.Errorf("%d done, %d failed: %v", rep.Ops, rep.Failed, rep.Errors)
			}
			if len(f.objects) != 0 || len(f.buckets) != 0 {
				t.Errorf("%d objects and %d buckets are left", len(f.objects), len(f.buckets))
			}
			method := map[Op]string{Put: "PUT", Get: "GET", Head: "HEAD", List: "GET bucket", Delete: "DELETE", Copy: "copy"}[op]
			if op != Mixed && f.count[method] != int(want) {
				t.Errorf("requests: %v", f.count)
			}
			if op != Mixed && op != Put && f.count["PUT"] != 10 {
				t.Errorf("working set: %v", f.count)
			}
		})
	}
}

func TestKeepAndForeignBucket(t *testing.T) {
	f, cfg := serve(t, nil)
	f.buckets["b"], f.objects["b/precious"] = true, []byte("x")
	cfg.Op, cfg.Keep = Put, true
	mustRun(t, cfg)
	if len(f.objects) != 61 {
		t.Errorf("%d objects are left", len(f.objects))
	}
	cfg.Keep = false
	mustRun(t, cfg)
	if len(f.objects) != 61 || !f.buckets["b"] {
		t.Errorf("%d objects are left, bucket: %v", len(f.objects), f.buckets["b"])
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	n := 0
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		switch n++; n % 6 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "<Error><Code>SlowDown</Code></Error>")
		case 1:
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>a proxy")
		case 2:
			fmt.Fprint(w, "short")
		case 3:
			w.Write(make([]byte, 3000))
		case 4:
			w.Write(make([]byte, 4000))
		default:
			return false
		}
		return true
	})
	cfg.Op, cfg.Clients = Get, 1
	rep := mustRun(t, cfg)
	want := map[string]uint64{"http 503 SlowDown": 10, "http 502": 10, "wrong length": 20, "wrong bytes": 10}
	if rep.Ops != 10 || rep.Failed != 50 || fmt.Sprint(rep.Errors) != fmt.Sprint(want) {
		t.Errorf("%d done, %d failed: %v", rep.Ops, rep.Failed, rep.Errors)
	}
}

func TestLostConnectionsAreCounted(t *testing.T) {
	_, cfg := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/new/") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	cfg.Op, cfg.MaxOps = Put, 4
	rep := mustRun(t, cfg)
	if rep.Ops != 0 || rep.Errors["connection lost"] != 4 {
		t.Errorf("%d done, failed: %v", rep.Ops, rep.Errors)
	}
}

// stepClock moves on by step at each look.
type stepClock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

func (c *stepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func TestDurationAndLatency(t *testing.T) {
	_, cfg := serve(t, nil)
	// A request looks at the clock twice: for its signature and at its end.
	cfg.Clock, cfg.Clients, cfg.MaxOps = &stepClock{now: time.Unix(1e9, 0), step: time.Second}, 1, 0
	cfg.Duration = 20 * time.Second
	rep := mustRun(t, cfg)
	if rep.Ops != 10 || rep.P50 != 2000 || rep.Max != 2000 {
		t.Errorf("%d done, p50 %g ms, max %g ms", rep.Ops, rep.P50, rep.Max)
	}
	if want := float64(rep.Ops) / rep.Seconds; rep.OpsPerSecond != want || rep.Seconds != 22 {
		t.Errorf("%g ops/s in %g s", rep.OpsPerSecond, rep.Seconds)
	}
	if want := 3000 * rep.OpsPerSecond / (1 << 20); rep.MiBPerSecond < want*0.999 || rep.MiBPerSecond > want*1.001 {
		t.Errorf("%g MiB/s, want %g", rep.MiBPerSecond, want)
	}
}

func TestInterruptReportsAndCleansUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	f, cfg := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/new/") {
			if n++; n == 20 {
				cancel()
			}
		}
		return false
	})
	cfg.Op, cfg.MaxOps = Put, 0
	rep, err := Run(ctx, cfg)
	if err != nil || rep.Ops == 0 || rep.Failed != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	if len(f.objects) != 0 {
		t.Errorf("%d objects are left", len(f.objects))
	}
}

func TestPrepareInsistsThenFails(t *testing.T) {
	n := 0
	f, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n <= 2
	})
	mustRun(t, cfg)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusForbidden)
		}
		return r.Method == http.MethodPut
	}
	if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "http 403") {
		t.Errorf("error %v", err)
	}
}

func TestServersAreWatched(t *testing.T) {
	_, cfg := serve(t, nil)
	cfg.Servers = []int{os.Getpid()}
	rep := mustRun(t, cfg)
	if rep.Process == nil {
		t.Skip("this system does not tell")
	}
	if rep.Process.ServerPeak == 0 || rep.Process.ServerPerOp != rep.Process.ServerCPU*1000/60 {
		t.Errorf("%+v", rep.Process)
	}
	var table, doc bytes.Buffer
	if err := rep.WriteTable(&table); err != nil || !strings.Contains(table.String(), "servers' CPU") {
		t.Errorf("%v\n%s", err, table.String())
	}
	var back Report
	if err := rep.WriteJSON(&doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil || back.Ops != 60 {
		t.Errorf("%v\n%s", err, doc.String())
	}
	cfg.Servers = []int{1 << 30}
	if _, err := Run(context.Background(), cfg); err == nil {
		t.Error("a process that does not exist was watched")
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	bad := Config{Endpoints: []string{"127.0.0.1:9000"}, Op: "post", Size: -1, Clients: -1, Objects: -1, Timeout: -1}
	err := bad.Validate()
	for _, part := range []string{"endpoint", "access key", "operation", "size", "clients", "objects", "duration", "timeout", "bucket"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{"b/a-Z_0.~": "b/a-Z_0.~", "b/a b+c": "b/a%20b%2Bc", "b/ü": "b/%C3%BC"} {
		if got := escape(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

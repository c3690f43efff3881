package upkeep

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
)

// cycle is a region of bare metadata with a clock that the test turns.
type cycle struct {
	*testing.T
	*Lifecycle
	groups *catalogtest.Groups
	cat    *catalog.Catalog
	b      metadata.Bucket
	now    time.Time
}

func newCycle(t *testing.T, lock *metadata.LockRule, rules ...metadata.LifecycleRule) *cycle {
	t.Helper()
	c := &cycle{T: t, groups: catalogtest.Open(t, 2), now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	c.cat, err = catalog.New(catalog.Config{Groups: c.groups, Local: c.groups, Partitions: 2, Now: func() time.Time { return c.now }})
	c.no(err)
	c.b, err = c.cat.CreateBucket(t.Context(), "bucket")
	c.no(err)
	c.set(metadata.FieldVersioning, []byte(metadata.VersioningEnabled))
	if lock != nil {
		raw, err := metadata.EncodeBody(*lock)
		c.no(err)
		c.set(metadata.FieldLock, raw)
	}
	for i := range rules {
		rules[i].Enabled = true
	}
	raw, err := metadata.EncodeBody(metadata.Lifecycle{Rules: rules})
	c.no(err)
	c.set(metadata.FieldLifecycle, raw)
	c.Lifecycle = &Lifecycle{Catalog: c.cat, Partitions: 2, Leads: func(replica.GroupID) bool { return true }, Day: 24 * time.Hour, Logger: slog.New(slog.DiscardHandler)}
	c.scanned = prometheus.NewCounter(prometheus.CounterOpts{})
	c.expired = prometheus.NewCounterVec(prometheus.CounterOpts{}, []string{"kind"})
	return c
}

func (c *cycle) no(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cycle) set(field string, value []byte) {
	c.Helper()
	_, err := c.cat.ConfigureBucket(c.Context(), "bucket", field, value)
	c.no(err)
}

func (c *cycle) put(key string, size int64, tags map[string]string, lock metadata.Lock) metadata.Version {
	c.Helper()
	v, err := c.cat.PutVersion(c.Context(), metadata.Version{Bucket: c.b.ID, Key: key, Bytes: size, Tags: tags, Lock: lock}, metadata.Condition{})
	c.no(err)
	return v
}

func (c *cycle) remove(key, version string) {
	c.Helper()
	_, err := c.cat.DeleteKey(c.Context(), metadata.DeleteKey{Bucket: c.b.ID, Key: key, Version: version})
	c.no(err)
}

// pass moves the clock and walks; the clock is what two of three nodes say.
func (c *cycle) pass(days float64) {
	c.Helper()
	c.now = c.now.Add(time.Duration(days * 24 * float64(time.Hour)))
	for _, node := range []string{"a", "b"} {
		c.no(c.cat.ReportClock(c.Context(), node, 3))
	}
	for g := replica.GroupID(1); g <= 2; g++ {
		c.no(c.partition(c.Context(), g))
	}
}

// left lists what there is: key, size, - for a marker.
func (c *cycle) left() string {
	c.Helper()
	rows, err := c.cat.ListVersions(c.Context(), metadata.VersionPage{Bucket: c.b.ID, Limit: 1000})
	c.no(err)
	var out []string
	for _, r := range rows.Rows {
		v, err := metadata.DecodeSummary(r.Name, r.Record)
		c.no(err)
		text := fmt.Sprint(v.Key, "=", v.Bytes)
		if v.DeleteMarker {
			text = v.Key + "-"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (c *cycle) want(want string) {
	c.Helper()
	if got := c.left(); got != want {
		c.Errorf("left %q, want %q", got, want)
	}
}

func TestLifecycleExpires(t *testing.T) {
	larger, smaller := int64(10), int64(5)
	for name, s := range map[string]struct {
		rules []metadata.LifecycleRule
		fill  func(c *cycle)
		steps []any // days that pass, then what is left
	}{
		"days, at the midnight after": {[]metadata.LifecycleRule{{ID: "r", Prefix: "a", Days: 1}},
			func(c *cycle) { c.put("a1", 1, nil, metadata.Lock{}); c.put("b1", 1, nil, metadata.Lock{}) },
			[]any{1.0, "a1=1 b1=1", 0.5, "a1- a1=1 b1=1"}},
		"filters": {[]metadata.LifecycleRule{{ID: "l", Larger: &larger, Days: 1}, {ID: "s", Smaller: &smaller, Prefix: "s", Days: 1}, {ID: "t", Tags: map[string]string{"x": "1"}, Days: 1}},
			func(c *cycle) {
				c.put("l10", 10, nil, metadata.Lock{})
				c.put("l11", 11, nil, metadata.Lock{})
				c.put("s4", 4, nil, metadata.Lock{})
				c.put("s5", 5, nil, metadata.Lock{})
				c.put("t1", 6, map[string]string{"x": "1", "y": "2"}, metadata.Lock{})
				c.put("t2", 6, map[string]string{"x": "2"}, metadata.Lock{})
			},
			[]any{2.0, "l10=10 l11- l11=11 s4- s4=4 s5=5 t1- t1=6 t2=6"}},
		"old versions, newest kept": {[]metadata.LifecycleRule{{ID: "o", OldDays: 1, OldKept: 2}},
			func(c *cycle) {
				for i := range int64(5) {
					c.put("k", i, nil, metadata.Lock{})
				}
			},
			[]any{2.0, "k=4 k=3 k=2", 5.0, "k=4 k=3 k=2"}},
		"old since a newer one came": {[]metadata.LifecycleRule{{ID: "o", OldDays: 2}},
			func(c *cycle) {
				c.put("k", 1, nil, metadata.Lock{})
				c.now = c.now.Add(10 * 24 * time.Hour)
				c.put("k", 2, nil, metadata.Lock{})
			},
			[]any{1.0, "k=2 k=1", 2.0, "k=2"}},
		"markers with nothing behind": {[]metadata.LifecycleRule{{ID: "m", LoneMarkers: true}},
			func(c *cycle) {
				c.put("a", 1, nil, metadata.Lock{})
				c.remove("a", "")
				c.remove("b", "")
				c.remove("c", "")
				c.remove("c", "")
			},
			[]any{0.0, "a- a=1 c- c-"}},
		"a whole life": {[]metadata.LifecycleRule{{ID: "all", Days: 1, OldDays: 1}},
			func(c *cycle) { c.put("k", 1, nil, metadata.Lock{}) },
			[]any{2.0, "k- k=1", 2.0, "k-", 2.0, ""}},
		"date": {[]metadata.LifecycleRule{{ID: "d", Date: time.Date(2030, 1, 3, 0, 0, 0, 0, time.UTC).UnixNano()}},
			func(c *cycle) { c.put("k", 1, nil, metadata.Lock{}) }, []any{1.0, "k=1", 1.0, "k- k=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCycle(t, nil, s.rules...)
			s.fill(c)
			for i := 0; i < len(s.steps); i += 2 {
				c.pass(s.steps[i].(float64))
				c.want(s.steps[i+1].(string))
			}
		})
	}
}

// TestLifecycleLeavesLocked: what lock protects outlives its rule, and goes when
// the lock is over.
func TestLifecycleLeavesLocked(t *testing.T) {
	c := newCycle(t, &metadata.LockRule{}, metadata.LifecycleRule{ID: "o", Days: 1, OldDays: 1})
	until := c.now.Add(10 * 24 * time.Hour).UnixNano()
	c.put("hold", 1, nil, metadata.Lock{Hold: true})
	c.put("comp", 1, nil, metadata.Lock{Mode: metadata.Compliance, Until: until})
	c.put("gov", 1, nil, metadata.Lock{Mode: metadata.Governance, Until: until})
	c.put("free", 1, nil, metadata.Lock{})
	for range 4 {
		c.pass(2)
	}
	c.want("comp- comp=1 gov- gov=1 hold- hold=1")
	for range 3 {
		c.pass(2)
	}
	c.want("hold- hold=1")
}

// TestLifecycleGoesByTheRegionsClock: one node whose clock is a day ahead expires
// nothing, and what a node with a clock behind wrote is not older for it.
func TestLifecycleGoesByTheRegionsClock(t *testing.T) {
	c := newCycle(t, nil, metadata.LifecycleRule{ID: "r", Days: 1})
	c.pass(5) // past what the partitions have in their logs
	right := c.now
	c.now = right.Add(-48 * time.Hour)
	c.put("behind", 1, nil, metadata.Lock{})
	c.now = right.Add(48 * time.Hour)
	c.no(c.cat.ReportClock(t.Context(), "a", 3)) // and this node leads all partitions
	for g := replica.GroupID(1); g <= 2; g++ {
		c.forget(g)
		c.no(c.partition(t.Context(), g))
	}
	c.want("behind=1")
	c.now = right
	c.pass(1)
	c.want("behind=1")
	c.pass(1)
	c.want("behind- behind=1")
}

// TestLifecycleUploads: uploads that nobody completes end.
func TestLifecycleUploads(t *testing.T) {
	c := newCycle(t, nil, metadata.LifecycleRule{ID: "u", Prefix: "tmp/", AbortedAfter: 3})
	for _, k := range []string{"tmp/1", "tmp/2", "keep"} {
		_, err := c.cat.CreateUpload(t.Context(), metadata.Upload{Bucket: c.b.ID, Key: k})
		c.no(err)
	}
	left := func() (out []string) {
		rows, err := c.cat.ListUploads(t.Context(), metadata.UploadPage{Bucket: c.b.ID, Limit: 10})
		c.no(err)
		for _, r := range rows.Rows {
			out = append(out, r.Name)
		}
		return out
	}
	c.pass(3)
	if got := left(); len(got) != 3 {
		t.Errorf("too soon: %q", got)
	}
	c.pass(1)
	if got := left(); !slices.Equal(got, []string{"keep"}) {
		t.Errorf("left %q", got)
	}
}

// TestLifecycleResumes: a walk that broke off is gone on with by the next leader,
// and a day is walked once.
func TestLifecycleResumes(t *testing.T) {
	c := newCycle(t, nil, metadata.LifecycleRule{ID: "r", Days: 1})
	for i := range 300 {
		c.put(fmt.Sprintf("k%03d", i), 1, nil, metadata.Lock{})
	}
	proposed := 0
	c.groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdExpireVersions {
			if proposed++; proposed == 2 {
				return false, replica.ErrUnavailable
			}
		}
		return true, nil
	}
	c.now = c.now.Add(48 * time.Hour)
	for _, node := range []string{"a", "b"} {
		c.no(c.cat.ReportClock(t.Context(), node, 3))
	}
	broke := 0
	for g := replica.GroupID(1); g <= 2; g++ {
		if c.partition(t.Context(), g) != nil {
			broke++
		}
	}
	if broke != 1 {
		t.Fatalf("%d walks broke off", broke)
	}
	next := &Lifecycle{Catalog: c.cat, Partitions: 2, Leads: c.Leads, Day: c.Day, Logger: c.Logger, scanned: c.scanned, expired: c.expired}
	for range 2 {
		for g := replica.GroupID(1); g <= 2; g++ {
			c.no(next.partition(t.Context(), g))
		}
	}
	if got := strings.Count(c.left(), "-"); got != 300 {
		t.Errorf("%d of 300 expired", got)
	}
	var expired int64
	for _, p := range next.Progress() {
		expired += p.Expired
		if p.Finished == 0 {
			t.Errorf("not finished: %+v", p)
		}
	}
	if expired > 300 {
		t.Errorf("%d expired by its own count", expired)
	}
}

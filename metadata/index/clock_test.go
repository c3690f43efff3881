package index

import (
	"errors"
	"testing"
	"time"

	"bivalve/metadata"
)

func (h *harness) agreed() int64 {
	var out metadata.ConfigValues
	h.must(h.query(metadata.QueryConfig, metadata.ConfigPrefix{Prefix: metadata.ConfigClock}, &out))
	var c metadata.RegionClock
	if len(out.Values) == 1 {
		h.must(metadata.DecodeBody(out.Values[0].Value, &c))
	}
	return c.Agreed
}

// TestOneClockDoesNotDecide: a node whose clock is a day ahead or behind moves the
// region's clock by nothing, also when it is the first to report or another node is
// away.
func TestOneClockDoesNotDecide(t *testing.T) {
	h := newHarness(t)
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	report := func(node string, clock time.Time) {
		h.must(h.do(metadata.CmdReportClock, metadata.ClockReport{Node: node, Clock: clock.UnixNano(), Nodes: 3}))
	}
	day := 24 * time.Hour
	report("a", at.Add(day))
	if got := h.agreed(); got != 0 {
		t.Fatalf("one of three nodes set the clock to %v", time.Unix(0, got))
	}
	report("b", at)
	if got := h.agreed(); got != at.UnixNano() {
		t.Fatalf("agreed %v", time.Unix(0, got))
	}
	for i := range 100 { // the third never reports
		now := at.Add(time.Duration(i) * time.Hour)
		report("a", now.Add(day))
		report("b", now)
		if got := h.agreed(); got != now.UnixNano() {
			t.Fatalf("agreed %v at %v", time.Unix(0, got), now)
		}
	}
	now := at.Add(100 * time.Hour)
	report("b", now)
	report("c", now)
	report("a", now.Add(-day)) // it went back: the others go on
	report("b", now.Add(time.Second))
	report("c", now.Add(time.Second))
	if got := h.agreed(); got != now.Add(time.Second).UnixNano() {
		t.Fatalf("agreed %v at %v", time.Unix(0, got), now)
	}
}

// TestLocksHold: what is locked stays, whatever the command says of its own time.
func TestLocksHold(t *testing.T) {
	hour := int64(time.Hour)
	for name, c := range map[string]struct {
		lock   metadata.Lock
		clock  int64
		bypass bool
		stays  bool
	}{
		"none":                      {metadata.Lock{}, 0, false, false},
		"governance":                {metadata.Lock{Mode: metadata.Governance, Until: 2 * hour}, hour, false, true},
		"governance bypassed":       {metadata.Lock{Mode: metadata.Governance, Until: 2 * hour}, hour, true, false},
		"governance over":           {metadata.Lock{Mode: metadata.Governance, Until: 2 * hour}, 3 * hour, false, false},
		"compliance":                {metadata.Lock{Mode: metadata.Compliance, Until: 2 * hour}, hour, false, true},
		"compliance bypassed":       {metadata.Lock{Mode: metadata.Compliance, Until: 2 * hour}, hour, true, true},
		"compliance over":           {metadata.Lock{Mode: metadata.Compliance, Until: 2 * hour}, 3 * hour, false, false},
		"no clock":                  {metadata.Lock{Mode: metadata.Compliance, Until: 2 * hour}, 0, true, true},
		"hold":                      {metadata.Lock{Hold: true}, 9 * hour, true, true},
		"hold behind an over":       {metadata.Lock{Mode: metadata.Governance, Until: hour, Hold: true}, 9 * hour, true, true},
		"a mode of another version": {metadata.Lock{Mode: "ETERNAL", Until: hour}, 9 * hour, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 1,
				Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled, Lock: &metadata.LockRule{}}}))
			v := version("k", "e")
			v.Lock = c.lock
			raw, err := h.apply(h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: v, Random: metadata.Random{1}}))
			h.must(err)
			var done metadata.Committed
			h.must(metadata.DecodeBody(raw, &done))
			h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k", Random: metadata.Random{2}})) // a marker is no harm
			err = h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k", Version: done.ID, Clock: c.clock, Bypass: c.bypass})
			if errors.Is(err, metadata.ErrLocked) != c.stays || !c.stays && err != nil {
				t.Errorf("delete: %v", err)
			}
			f, err := h.ix.find(bucketA, "k", done.ID)
			h.must(err)
			if f.exists != c.stays {
				t.Errorf("is there: %v", f.exists)
			}
		})
	}
}

// TestRetentionOnlyGrows: what may become of a retention.
func TestRetentionOnlyGrows(t *testing.T) {
	const until = 100
	gov, comp := metadata.Lock{Mode: metadata.Governance, Until: until}, metadata.Lock{Mode: metadata.Compliance, Until: until}
	longer := func(l metadata.Lock, by int64) metadata.Lock { l.Until += by; return l }
	for name, c := range map[string]struct {
		from, to metadata.Lock
		clock    int64
		bypass   bool
		want     bool
	}{
		"compliance longer":           {comp, longer(comp, 1), 1, false, true},
		"compliance shorter":          {comp, longer(comp, -1), 1, true, false},
		"compliance weaker":           {comp, longer(gov, 50), 1, true, false},
		"compliance none":             {comp, metadata.Lock{}, 1, true, false},
		"compliance none, over":       {comp, metadata.Lock{}, until, false, true},
		"compliance none, no clock":   {comp, metadata.Lock{}, 0, true, false},
		"governance shorter":          {gov, longer(gov, -1), 1, false, false},
		"governance shorter bypassed": {gov, longer(gov, -1), 1, true, true},
		"governance stricter":         {gov, comp, 1, false, false},
		"governance none bypassed":    {gov, metadata.Lock{}, 1, true, true},
		"none to compliance":          {metadata.Lock{}, comp, 0, false, true},
		"held, longer":                {metadata.Lock{Mode: metadata.Compliance, Until: until, Hold: true}, longer(comp, 1), 1, false, true},
	} {
		if got := c.from.Admits(c.to, c.clock, c.bypass); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

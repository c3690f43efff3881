package index

import (
	"errors"
	"testing"

	"bivalve/metadata"
)

// A command that a later version of the program brought, or a field of one, is never
// passed over and never answered: the replica cannot go on, and changes nothing.
func TestLaterCommandsHalt(t *testing.T) {
	body := metadata.PutVersion{Version: version("k", "e")}
	var later struct {
		Version metadata.Version `cbor:"1,keyasint"`
		Room    int              `cbor:"99,keyasint"`
	}
	later.Version = body.Version
	var nested struct {
		Bucket    metadata.BucketID `cbor:"1,keyasint"`
		Key       string            `cbor:"2,keyasint"`
		Condition struct {
			New bool `cbor:"77,keyasint"`
		} `cbor:"3,keyasint"`
	}
	nested.Key, nested.Condition.New = "k", true
	for name, c := range map[string]struct {
		level uint8
		kind  metadata.CommandKind
		body  any
	}{
		"level":           {metadata.Level + 1, metadata.CmdPutVersion, body},
		"level 0":         {0, metadata.CmdPutVersion, body},
		"kind":            {metadata.Level, 200, body},
		"field":           {metadata.Level, metadata.CmdPutVersion, later},
		"field of fields": {metadata.Level, metadata.CmdDeleteKey, nested},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("before", "e")}))
			was := dump(t, h.ix)
			raw, err := metadata.NewCommand(c.level, c.kind, metadata.RequestID{1}, 5000, c.body)
			h.must(err)
			if _, err := h.ix.ApplyBatch([]Entry{{Index: h.next + 1, Term: 1, Data: raw}}, nil); !errors.Is(err, ErrNewer) || metadata.IsAnswer(err) && name != "level" && name != "level 0" {
				t.Errorf("%v", err)
			}
			if now := dump(t, h.ix); now != was {
				t.Errorf("changed:\n%s\nwas\n%s", now, was)
			}
		})
	}
}

// The region's level is the least of all that reported lately, once most have, and never
// goes back.
func TestRegionLevel(t *testing.T) {
	h := newHarness(t)
	clock := int64(1e9)
	level := func() uint8 {
		t.Helper()
		var out metadata.ConfigValues
		h.must(h.query(metadata.QueryConfig, metadata.ConfigPrefix{Prefix: metadata.ConfigClock}, &out))
		var c metadata.RegionClock
		h.must(metadata.DecodeBody(out.Values[0].Value, &c))
		return c.Level
	}
	report := func(node string, its, want uint8) {
		t.Helper()
		clock += 1e9
		h.must(h.do(metadata.CmdReportClock, metadata.ClockReport{Node: node, Clock: clock, Nodes: 3, Level: its}))
		if got := level(); got != want {
			t.Fatalf("level %d, want %d", got, want)
		}
	}
	report("a", 2, 0) // one of three
	report("b", 1, 1)
	report("b", 2, 2) // c has never reported: it halts if it is older
	report("c", 2, 2)
	report("a", 3, 2)
	report("b", 3, 2)
	report("a", 3, 2)
	report("d", 1, 2) // it is too old, and no reason to go back
	clock += reporterKept + 1
	report("a", 3, 2)
	report("b", 3, 2)
	report("c", 3, 2) // agreed: now nobody has reported for a week
	report("a", 3, 2)
	report("b", 3, 3)
}

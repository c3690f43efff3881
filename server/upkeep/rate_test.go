package upkeep

import (
	"math"
	"testing"
	"time"
)

// TestMeter: steady work comes to its rate, and is forgotten when it ends.
func TestMeter(t *testing.T) {
	now := time.Unix(1000, 0)
	m := meter{now: func() time.Time { return now }}
	if m.rate() != 0 {
		t.Errorf("%v before anything was done", m.rate())
	}
	for range 20 * 60 {
		now = now.Add(100 * time.Millisecond)
		m.add(1000)
	}
	if r := m.rate(); math.Abs(r-10_000) > 200 {
		t.Errorf("%v of 10,000 a second", r)
	}
	now = now.Add(meterSpan)
	if r := m.rate(); math.Abs(r-10_000/math.E) > 100 {
		t.Errorf("%v after a while", r)
	}
	if now = now.Add(time.Hour); m.rate() != 0 {
		t.Errorf("%v after an hour", m.rate())
	}
}

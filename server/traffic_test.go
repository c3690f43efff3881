package server

import (
	"testing"
	"time"

	"bivalve/cluster/transport"
)

func TestTrafficRates(t *testing.T) {
	now := time.Unix(1000, 0)
	counted := map[string]transport.Crossed{"get": {}}
	m := newTrafficMeter(func() map[string]transport.Crossed { return counted }, func() time.Time { return now })
	for i := 1; i <= 20; i++ { // 1000 bytes in a second out, half of that in
		now = now.Add(trafficEvery)
		counted = map[string]transport.Crossed{"put": {Out: int64(5000 * i), In: int64(2500 * i)}, "get": {}}
		m.look()
	}
	got := m.Traffic()
	if want := (Traffic{Out: 100_000, In: 50_000, Rate: 1500}); len(got) != 1 || got["put"] != want {
		t.Fatalf("%+v", got)
	}
	now = now.Add(trafficEvery * trafficLooks)
	for range trafficLooks {
		m.look()
	}
	now = now.Add(time.Second)
	if got := m.Traffic()["put"]; got.Rate != 0 || got.Out != 100_000 {
		t.Fatalf("long after: %+v", got)
	}
	a := NodeReport{Local: &LocalStatus{Traffic: map[string]Traffic{"put": {Out: 1, In: 2, Rate: 3}}}}
	if got := sumTraffic([]NodeReport{a, {}, a}); len(got) != 1 || got["put"] != (Traffic{Out: 2, In: 4, Rate: 6}) {
		t.Fatalf("sum %+v", got)
	}
}

package upkeep

import (
	"math"
	"sync"
	"time"
)

// meterSpan is over about how long a meter's rate is taken.
const meterSpan = 15 * time.Second

// meter tells how much is done in a second, at present: what was done counts the less
// the longer ago it was.
type meter struct {
	now func() time.Time

	mu  sync.Mutex
	at  time.Time
	per float64 // a second, at that time
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.per, m.at = m.fade(now)+float64(n)/meterSpan.Seconds(), now
}

// rate is what it has come down to now; below one in a second it is 0.
func (m *meter) rate() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.fade(m.now()); r >= 1 {
		return r
	}
	return 0
}

func (m *meter) fade(now time.Time) float64 {
	return m.per * math.Exp(-max(0, now.Sub(m.at)).Seconds()/meterSpan.Seconds())
}

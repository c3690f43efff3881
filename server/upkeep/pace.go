package upkeep

import "time"

// pacer spaces pieces of work out so that they stay below a rate. Its owner guards
// it.
type pacer struct {
	now  func() time.Time
	next time.Time // when what was taken so far is paid for
}

// take tells how long to wait before a piece of so many bytes. Time in which
// nothing was taken is not saved up.
func (p *pacer) take(bytes int64, rate float64) time.Duration {
	now := p.now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(spell(bytes, rate))
	return wait
}

// spell is how long so many bytes take at a rate.
func spell(bytes int64, rate float64) time.Duration {
	const most = 1e6 * time.Hour // of a rate near zero
	if d := float64(bytes) / rate * float64(time.Second); d < float64(most) {
		return time.Duration(d)
	}
	return most
}

//go:build !nograce

package upkeep

import "time"

// graceBegan is when what may be removed now was garbage at the latest.
func (r *Reclaimer) graceBegan() time.Time { return r.Now().Add(-r.Grace) }

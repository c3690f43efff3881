package replica

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSaveP99: synced saves of late tell the pace of the log, and the one under way.
func TestSaveP99(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Host
		save := func(d time.Duration, sync bool) {
			h.saves.begin()
			time.Sleep(d)
			h.saves.end(sync)
		}
		expect := func(want time.Duration) {
			t.Helper()
			if got := h.SaveP99(5 * time.Second); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		expect(0)
		save(3*time.Second, false)
		expect(0)
		for range 2 * keptSaves {
			save(time.Millisecond, true)
		}
		if n := len(h.saves.took); n != keptSaves {
			t.Errorf("%d are kept", n)
		}
		save(time.Second, true)
		expect(time.Millisecond) // one in 513
		for range 9 {
			save(100*time.Millisecond, true)
		}
		expect(100 * time.Millisecond)
		h.saves.begin()
		time.Sleep(2 * time.Second)
		expect(2 * time.Second)
		h.saves.end(true)
		time.Sleep(5 * time.Second)
		expect(0)
	})
}

package replica

import (
	"sync"
	"time"
)

// watch looks now and then whether a call is still worth its wait, and ends it if it was
// not twice in a row. Most calls are over before the first look.
type watch struct {
	every time.Duration
	lost  func() bool
	end   func()

	mu    sync.Mutex
	t     *time.Timer
	doubt bool // since the last look
	over  bool
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = time.AfterFunc(w.every, w.look)
}

func (w *watch) look() {
	lost := w.lost()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case lost && w.doubt:
		w.over = true
		w.end()
	default:
		w.doubt = lost
		w.t.Reset(w.every)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.t.Stop()
}

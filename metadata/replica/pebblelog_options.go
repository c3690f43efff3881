package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Memory and files of one store. A log is written, rarely read, and deleted from
// the front, so tables are few and a cache is of no use.
const (
	memTableBytes  = 4 << 20 // and of a write-ahead log, which is used again when flushed
	memTablesMax   = 16      // a Save waits when so many wait: not before it has seen a flush fail
	blockCache     = 1 << 20
	openTables     = 64
	tableBytes     = 8 << 20
	l0Compact      = 4
	l0Stop         = 24
	manifestBytes  = 1 << 20
	walSyncEach    = 512 << 10 // of a large save, hand this much to the disk at once
	fileCacheParts = 1
)

// openPebble opens the store with errors of its background work going to failed.
func openPebble(c PebbleConfig, failed *failure) (*pebble.DB, error) {
	o := &pebble.Options{
		FS: c.fs,
		// The newest, for sync offsets in the write-ahead log.
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLogger{c.Logger},
		CacheSize:                   blockCache,
		MemTableSize:                c.memTable,
		MemTableStopWritesThreshold: memTablesMax,
		L0CompactionThreshold:       l0Compact,
		L0StopWritesThreshold:       l0Stop,
		MaxOpenFiles:                openTables,
		MaxManifestFileSize:         manifestBytes,
		WALBytesPerSync:             walSyncEach,
		EventListener: &pebble.EventListener{
			BackgroundError: failed.set,
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				failed.set(fmt.Errorf("%s: %w: %w", i.Path, ErrCorrupt, i.Details))
			},
		},
	}
	o.TargetFileSizes[0] = tableBytes
	o.Experimental.FileCacheShards = fileCacheParts
	// The default one also wakes ten times a second, to see whether more compactions
	// may run than before. Here it is always one, so there is nothing to see.
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(c.Dir, o)
	if errors.Is(err, pebble.ErrCorruption) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db, err
}

// closeDB leaves a store alone that panicked: closing it could wait for ever.
func (l *PebbleLog) closeDB() error {
	if l.wedged {
		return nil
	}
	return l.db.Close()
}

// failure keeps the first error of the background work. The next Save returns it,
// which ends the host as a failed Save of its own does.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("background: %w", err)
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// pebbleLogger passes what Pebble has to say on.
type pebbleLogger struct{ l *slog.Logger }

func (p pebbleLogger) Infof(format string, args ...any) {
	if p.l.Enabled(context.Background(), slog.LevelDebug) {
		p.l.Debug("raft log store", "text", fmt.Sprintf(format, args...))
	}
}

func (p pebbleLogger) Errorf(format string, args ...any) {
	p.l.Error("raft log store", "text", fmt.Sprintf(format, args...))
}

// Fatalf must not return. On the goroutine of a Save (a failed commit) the panic
// becomes its error; on one of Pebble's own (a MANIFEST that cannot be written) it
// ends the process.
func (p pebbleLogger) Fatalf(format string, args ...any) {
	panic(fatalError(fmt.Sprintf(format, args...)))
}

// fatalError is the panic of Fatalf; Pebble holds no lock when a commit failed.
type fatalError string

func (e fatalError) Error() string { return string(e) }

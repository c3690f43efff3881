package server

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"bivalve/cluster"
	"bivalve/server/upkeep"
)

// incarnations is what the node remembers of its disks outside of them: how often each
// was opened, and closed well. A disk that knows of fewer was put back to an earlier time.
type incarnations struct {
	path   string
	logger *slog.Logger

	mu   sync.Mutex
	seen map[string]uint64 // by disk id
}

// openIncarnations reads the file. One that cannot be read only means that nothing
// is known.
func openIncarnations(path string, logger *slog.Logger) *incarnations {
	i := &incarnations{path: path, logger: logger, seen: map[string]uint64{}}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &i.seen)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("a disk that was put back to an earlier time would not be noticed now", "path", path, "err", err)
	}
	if i.seen == nil {
		i.seen = map[string]uint64{}
	}
	return i
}

func (i *incarnations) of(id cluster.DiskID) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[id.String()]
}

// keep what an opening or a closing came to. A disk that was put back and is full stays at what it
// had: that does not count.
func (i *incarnations) keep(id cluster.DiskID, n uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen[id.String()] = max(n, i.seen[id.String()])
	if err := upkeep.WriteJSON(i.path, i.seen); err != nil {
		i.logger.Warn("the incarnations of the disks are not kept", "path", i.path, "err", err)
	}
}

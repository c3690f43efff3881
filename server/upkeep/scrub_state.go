package upkeep

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bivalve/cluster"
)

// ScrubCount is what a pass has looked at so far. Bytes count whole records;
// Damaged counts shards that were damaged when the pass came upon them, known
// before or not.
type ScrubCount struct {
	Shards  int64 `json:"shards"`
	Bytes   int64 `json:"bytes"`
	Damaged int64 `json:"damaged"`
}

// ScrubResult is a pass that is over.
type ScrubResult struct {
	Pass     uint64    `json:"pass"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	ScrubCount
}

// ScrubProgress is the pass of one disk that is under way, or that waits for its
// time when Fraction is 1.
type ScrubProgress struct {
	Pass     uint64    `json:"pass"`
	Started  time.Time `json:"started"`
	Now      bool      `json:"now,omitempty"` // asked for: at the full rate
	Fraction float64   `json:"fraction"`
	ScrubCount
	Last  *ScrubResult `json:"last,omitempty"`
	Error string       `json:"error,omitempty"` // why it does not go on
}

// scrubState is what outlives a restart: the file <disk>.json in the directory of
// the scrubber. It may be lost; the next pass then begins at the start.
type scrubState struct {
	Pass    uint64            `json:"pass"` // 0: there was none yet
	Started time.Time         `json:"started"`
	Now     bool              `json:"now"`
	Done    bool              `json:"done"`
	PG      cluster.PG        `json:"pg"`    // the pass is at this group,
	After   *cluster.ShardKey `json:"after"` // behind this shard; nil: at its first
	PGBytes int64             `json:"pg_bytes"`
	ScrubCount
	Last *ScrubResult `json:"last"`
}

// begin makes st the start of the next pass.
func (st *scrubState) begin(now time.Time, asked bool) {
	*st = scrubState{Pass: st.Pass + 1, Started: now, Now: asked, Last: st.Last}
}

// rewind takes a pass that is under way back to its start, in the same time.
func (st *scrubState) rewind() {
	if !st.Done {
		*st = scrubState{Pass: st.Pass, Started: st.Started, Now: st.Now, Last: st.Last}
	}
}

// finish makes st a pass that is over.
func (st *scrubState) finish(now time.Time) {
	st.Done, st.Now = true, false
	st.Last = &ScrubResult{Pass: st.Pass, Started: st.Started, Finished: now, ScrubCount: st.ScrubCount}
}

// fraction estimates how much of the bytes is done: placement groups are of much
// the same size.
func (st *scrubState) fraction(groups int, bytes int64) float64 {
	switch {
	case st.Done:
		return 1
	case groups == 0:
		return 0
	}
	within := 0.0
	if each := float64(bytes) / float64(groups); each > 0 {
		within = min(0.99, float64(st.PGBytes)/each)
	}
	return (float64(st.PG) + within) / float64(groups)
}

// loadScrub reads the state of a disk; without a file there was no pass yet.
func loadScrub(dir string, id cluster.DiskID) (st scrubState, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, id.String()+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return scrubState{}, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	if err != nil {
		return scrubState{}, fmt.Errorf("state of the scrub: %w", err)
	}
	return st, nil
}

// saveScrub replaces the file.
func saveScrub(dir string, id cluster.DiskID, st scrubState) error {
	return WriteJSON(filepath.Join(dir, id.String()+".json"), st)
}

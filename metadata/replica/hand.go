package replica

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// hand queues committed entries for the state machine and finds who waits for
// them. Membership changes take effect on the loop.
func (g *group) hand(ents []*raftpb.Entry) error {
	if len(ents) == 0 {
		return nil
	}
	items := make([]applyItem, 0, len(ents))
	var bad error
	for _, e := range ents {
		it := applyItem{entry: Entry{Index: e.GetIndex(), Term: e.GetTerm()}}
		switch {
		case e.GetType() != raftpb.EntryNormal:
			if it.who, bad = g.applyConf(e); bad == nil {
				it.conf, bad = marshalConf(g.conf)
			}
		case len(e.GetData()) > 0:
			it.who, it.entry.Data, bad = g.claim(e)
		}
		if bad != nil {
			break
		}
		items = append(items, it)
		g.handed = e.GetIndex()
	}
	g.ap.add(items...) // what comes before a bad entry is sound
	return bad
}

// claim finds the local waiter of an entry.
func (g *group) claim(e *raftpb.Entry) (*proposal, []byte, error) {
	by, seq, command, err := decodeEntry(e.GetData())
	if err != nil {
		return nil, nil, fmt.Errorf("entry %d: %w: %w", e.GetIndex(), ErrHalt, err)
	}
	if by != g.h.cfg.Replica {
		return nil, command, nil
	}
	p := g.pending[seq]
	delete(g.pending, seq)
	return p, command, nil
}

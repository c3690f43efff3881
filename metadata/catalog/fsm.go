package catalog

import (
	"errors"
	"fmt"
	"io"

	"bivalve/metadata/index"
	"bivalve/metadata/replica"
)

// OpenStateMachine opens the index at path as the state of one group. changed
// (nil is fine) is called, without delay, after entries or a snapshot came in.
func OpenStateMachine(path string, changed func()) (replica.StateMachine, error) {
	ix, err := index.Open(path)
	if err != nil {
		return nil, err
	}
	if changed == nil {
		changed = func() {}
	}
	return stateMachine{ix, changed}, nil
}

// stateMachine fits an index to what replica asks for; neither knows the other.
type stateMachine struct {
	ix      *index.Index
	changed func()
}

func (s stateMachine) ApplyBatch(entries []replica.Entry, conf []byte) ([][]byte, error) {
	batch := make([]index.Entry, len(entries))
	for i, e := range entries {
		batch[i] = index.Entry(e)
	}
	results, err := s.ix.ApplyBatch(batch, conf)
	if errors.Is(err, index.ErrNewer) {
		err = fmt.Errorf("%w: %w", replica.ErrHalt, err)
	}
	s.changed()
	return results, err
}

func (s stateMachine) Query(q []byte) ([]byte, error) { return s.ix.Query(q) }

func (s stateMachine) Applied() replica.Applied { return replica.Applied(s.ix.Applied()) }

func (s stateMachine) Durable() replica.Applied { return replica.Applied(s.ix.Durable()) }

func (s stateMachine) Flush() (replica.Applied, error) {
	at, err := s.ix.Flush()
	return replica.Applied(at), err
}

func (s stateMachine) StreamSnapshot(w io.Writer) (replica.Applied, error) {
	at, err := s.ix.StreamSnapshot(w)
	return replica.Applied(at), err
}

func (s stateMachine) InstallSnapshot(path string) (replica.Applied, error) {
	at, err := s.ix.InstallSnapshot(path)
	if errors.Is(err, index.ErrBadSnapshot) {
		err = fmt.Errorf("%w: %w", replica.ErrBadSnapshot, err)
	}
	s.changed()
	return replica.Applied(at), err
}

func (s stateMachine) Close() error { return s.ix.Close() }

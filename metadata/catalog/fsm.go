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
	return fit(ix, err, changed)
}

// RestoreStateMachine does so with the image that a peer sent, in place of what is
// at path, which is kept aside.
func RestoreStateMachine(path, image string, changed func()) (replica.StateMachine, error) {
	ix, err := index.Restore(path, image)
	return fit(ix, err, changed)
}

func fit(ix *index.Index, err error, changed func()) (replica.StateMachine, error) {
	if err != nil {
		return nil, translate(err)
	}
	if changed == nil {
		changed = func() {}
	}
	return stateMachine{ix, changed}, nil
}

// translate says in replica's words what an error of the index asks for.
func translate(err error) error {
	switch {
	case errors.Is(err, index.ErrNewer):
		return fmt.Errorf("%w: %w", replica.ErrHalt, err)
	case errors.Is(err, index.ErrBadSnapshot): // which may be so because it is damaged
		return fmt.Errorf("%w: %w", replica.ErrBadSnapshot, err)
	case errors.Is(err, index.ErrDamaged):
		return fmt.Errorf("%w: %w", replica.ErrDamaged, err)
	case errors.Is(err, index.ErrNoSpace):
		return fmt.Errorf("%w: %w", replica.ErrNoSpace, err)
	}
	return err
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
	s.changed()
	return results, translate(err)
}

func (s stateMachine) Query(q []byte) ([]byte, error) {
	out, err := s.ix.Query(q)
	return out, translate(err)
}

func (s stateMachine) Applied() replica.Applied { return replica.Applied(s.ix.Applied()) }

func (s stateMachine) Durable() replica.Applied { return replica.Applied(s.ix.Durable()) }

func (s stateMachine) Flush() (replica.Applied, error) {
	at, err := s.ix.Flush()
	return replica.Applied(at), translate(err)
}

func (s stateMachine) StreamSnapshot(w io.Writer) (replica.Applied, error) {
	at, err := s.ix.StreamSnapshot(w)
	return replica.Applied(at), translate(err)
}

func (s stateMachine) InstallSnapshot(path string) (replica.Applied, error) {
	at, err := s.ix.InstallSnapshot(path)
	s.changed()
	return replica.Applied(at), translate(err)
}

func (s stateMachine) Close() error { return s.ix.Close() }

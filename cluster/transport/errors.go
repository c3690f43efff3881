package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"bivalve/cluster"
)

var (
	// ErrFrame: bytes that are no frame of this protocol, or were damaged on the
	// way. The connection they came over is closed.
	ErrFrame = errors.New("damaged or foreign frame")
	// ErrIdentity: the peer has no certificate of this cluster, or is not the
	// node that was dialled.
	ErrIdentity = errors.New("peer identity refused")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("transport is closed")
	// ErrNotSent: the call certainly did not get to the peer.
	ErrNotSent = errors.New("call was not sent")
	// ErrNoHandler: the peer does not serve calls of this kind.
	ErrNoHandler = errors.New("no handler for this kind of call")
)

// FirstFreeErrorCode is the lowest code that Config.Errors may use.
const FirstFreeErrorCode = 1000

const (
	maxErrorText  = 1024
	maxErrorKinds = 8
)

// builtinErrors is the table of what crosses by kind. A code, once released,
// keeps its meaning forever.
func builtinErrors() map[uint16]error {
	return map[uint16]error{
		1: cluster.ErrNotFound, 2: cluster.ErrCorrupt, 3: cluster.ErrDiskUnknown,
		4: cluster.ErrDiskFailed, 5: cluster.ErrDiskFull, 6: cluster.ErrWrongEpoch,
		7: cluster.ErrUnreachable, 8: cluster.ErrOverloaded, 9: cluster.ErrInvalid,
		20: context.DeadlineExceeded, 21: context.Canceled,
		30: ErrFrame, 31: ErrNoHandler,
	}
}

// RemoteError is an error that a peer answered with. errors.Is finds in it every
// sentinel that both sides know.
type RemoteError struct {
	Node  cluster.NodeID
	Text  string
	kinds []error
}

func (e *RemoteError) Error() string   { return fmt.Sprintf("node %s: %s", e.Node, e.Text) }
func (e *RemoteError) Unwrap() []error { return e.kinds }

// errorCodec turns errors into records and back: status (0 = nil, 1 = error),
// number of kinds, kinds (2 bytes each), length of text (2 bytes), text.
type errorCodec struct {
	codes []uint16
	byID  map[uint16]error
}

func newErrorCodec(extra map[uint16]error) (*errorCodec, error) {
	c := &errorCodec{byID: builtinErrors()}
	for code, err := range extra {
		if code < FirstFreeErrorCode || err == nil {
			return nil, fmt.Errorf("transport: error code %d (%v): want a sentinel and a code from %d on", code, err, FirstFreeErrorCode)
		}
		c.byID[code] = err
	}
	for code := range c.byID {
		c.codes = append(c.codes, code)
	}
	slices.Sort(c.codes)
	return c, nil
}

func (c *errorCodec) append(b []byte, err error) []byte {
	if err == nil {
		return append(b, 0)
	}
	b = append(b, 1, 0)
	n := len(b) - 1
	for _, code := range c.codes {
		if b[n] < maxErrorKinds && errors.Is(err, c.byID[code]) {
			b = binary.LittleEndian.AppendUint16(b, code)
			b[n]++
		}
	}
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// read takes one record from the front of b. The first result is the carried
// error (nil for status 0), the last tells a malformed record.
func (c *errorCodec) read(b []byte, from cluster.NodeID) (carried error, rest []byte, err error) {
	if len(b) >= 1 && b[0] == 0 {
		return nil, b[1:], nil
	}
	if len(b) < 2 || b[0] != 1 || b[1] > maxErrorKinds || len(b) < 4+2*int(b[1]) {
		return nil, nil, fmt.Errorf("%w: error record", ErrFrame)
	}
	n := int(b[1])
	e := &RemoteError{Node: from}
	for i := range n {
		if k, ok := c.byID[binary.LittleEndian.Uint16(b[2+2*i:])]; ok {
			e.kinds = append(e.kinds, k)
		}
	}
	b = b[2+2*n:]
	size := int(binary.LittleEndian.Uint16(b))
	if size > maxErrorText || len(b) < 2+size {
		return nil, nil, fmt.Errorf("%w: error record", ErrFrame)
	}
	e.Text = string(b[2 : 2+size])
	return e, b[2+size:], nil
}

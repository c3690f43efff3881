package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Methods of Peers.Call.
const (
	methodPropose uint8 = 1
	methodQuery   uint8 = 2
	methodForward uint8 = 3 // propose where the asked node knows the leader to be
)

const callVersion = 1

// outcome kinds, as they travel.
const (
	outcomeOK          uint8 = 1
	outcomeNotLeader   uint8 = 2 // leader says who leads, if known
	outcomeDropped     uint8 = 3 // not proposed
	outcomeUnknown     uint8 = 4
	outcomeUnreachable uint8 = 5 // never travels: the request did not leave
	outcomeNoGroup     uint8 = 6
	outcomeUnavailable uint8 = 7 // a read that nobody confirmed
	outcomeQueryError  uint8 = 8 // the state machine refused the query
)

// response is the answer to one try; data is the result or the text of the error.
type response struct {
	kind   uint8
	leader ReplicaID
	data   []byte
}

// responseOf sorts an error by what it says about the outcome. An error that says
// nothing of the kind counts as unknown.
func responseOf(data []byte, err error) response {
	if err == nil {
		return response{kind: outcomeOK, data: data}
	}
	out := response{kind: outcomeUnknown, data: []byte(err.Error())}
	var nl *NotLeaderError
	switch {
	case errors.As(err, &nl):
		out.kind, out.leader = outcomeNotLeader, nl.Leader
	case errors.Is(err, ErrUnknown):
	case errors.Is(err, ErrDropped), errors.Is(err, ErrTooLarge):
		out.kind = outcomeDropped
	case errors.Is(err, ErrNoGroup):
		out.kind = outcomeNoGroup
	case errors.Is(err, ErrQuery):
		out.kind = outcomeQueryError
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrClosed), errors.Is(err, ErrHalt):
		out.kind = outcomeUnavailable
	}
	return out
}

func (o response) err() error {
	var kind error
	switch o.kind {
	case outcomeOK:
		return nil
	case outcomeNotLeader:
		return &NotLeaderError{Leader: o.leader}
	case outcomeDropped:
		kind = ErrDropped
	case outcomeUnreachable:
		kind = ErrNotSent
	case outcomeNoGroup:
		kind = ErrNoGroup
	case outcomeUnavailable:
		kind = ErrUnavailable
	case outcomeQueryError:
		kind = ErrQuery
	default:
		kind = ErrUnknown
	}
	return &remoteError{kind: kind, text: string(o.data)}
}

// remoteError keeps the kind for errors.Is and the text for people.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// Refusal is the answer to a router's call that says that nothing was done and that
// this node will not serve its asker at present.
func Refusal(why string) []byte {
	return encodeResponse(response{kind: outcomeUnavailable, data: []byte(why)})
}

// encodeRequest: version, group, data.
func encodeRequest(g GroupID, data []byte) []byte {
	b := append(make([]byte, 0, 5+len(data)), callVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(g))
	return append(b, data...)
}

func decodeRequest(b []byte) (GroupID, []byte, error) {
	if len(b) < 5 || b[0] != callVersion {
		return 0, nil, fmt.Errorf("request: %w", ErrFormat)
	}
	return GroupID(binary.BigEndian.Uint32(b[1:])), b[5:], nil
}

// encodeResponse: version, kind, leader, data.
func encodeResponse(o response) []byte {
	b := append(make([]byte, 0, 10+len(o.data)), callVersion, o.kind)
	b = binary.BigEndian.AppendUint64(b, uint64(o.leader))
	return append(b, o.data...)
}

func decodeResponse(b []byte) (response, error) {
	if len(b) < 10 || b[0] != callVersion {
		return response{}, fmt.Errorf("answer: %w", ErrFormat)
	}
	o := response{kind: b[1], leader: ReplicaID(binary.BigEndian.Uint64(b[2:])), data: b[10:]}
	if o.kind < outcomeOK || o.kind > outcomeQueryError {
		return response{}, fmt.Errorf("answer of kind %d: %w", o.kind, ErrFormat)
	}
	return o, nil
}

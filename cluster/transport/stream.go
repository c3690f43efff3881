package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// streamChunk is how much of a stream goes into one frame.
const streamChunk = 256 << 10

// SendStream sends all of r to the peer's StreamHandler of that kind, on a
// connection of its own, and returns what the handler returned. The receiver
// sees io.EOF only if every byte arrived unharmed. ctx bounds the whole; the
// peer must take each piece within Limits.WriteTimeout.
func (c *Client) SendStream(ctx context.Context, to cluster.NodeID, kind Kind, head []byte, r io.Reader) (err error) {
	if len(head) > MaxHeadBytes {
		return fmt.Errorf("transport: %w: head of %d bytes", cluster.ErrInvalid, len(head))
	}
	p, err := c.peer(to)
	if err != nil {
		return err
	}
	defer func() { c.cfg.Metrics.callClass(sideClient, classStream, err) }()
	cn, err := c.dial(ctx, p, poolStream)
	if err != nil {
		return err
	}
	defer c.untrack(cn)
	stop := context.AfterFunc(ctx, cn.close)
	defer stop()
	if err := cn.raw.SetWriteDeadline(time.Now().Add(c.cfg.Limits.WriteTimeout)); err != nil {
		return fmt.Errorf("transport: stream to node %s: %w: %w", to, cluster.ErrUnreachable, err)
	}
	if err := cn.writeFrame(header{Type: frameRequest, Kind: kind}, head, nil); err != nil {
		return fmt.Errorf("transport: stream to node %s: %w: %w", to, cluster.ErrUnreachable, err)
	}
	// The peer may refuse in the middle: its answer ends the sending.
	answer := make(chan error, 1)
	var over atomic.Bool
	go func() { // ends with this call, which waits for the answer
		err := c.streamAnswer(cn, kind)
		over.Store(true)
		answer <- err
	}()
	sendErr := c.sendPieces(ctx, cn, kind, r, &over)
	var src *sourceError
	if errors.As(sendErr, &src) {
		cn.close() // a cut stream is an error at the other end, never a short one
	}
	err = <-answer
	var remote *RemoteError
	switch {
	case src != nil:
		return fmt.Errorf("transport: stream to node %s: %w", to, src.err)
	case errors.As(err, &remote):
		return err
	case err == nil && sendErr == nil:
		return nil
	case err == nil:
		err = sendErr
	}
	if e := ctx.Err(); e != nil {
		err = fmt.Errorf("%w: %w", e, err)
	}
	return fmt.Errorf("transport: stream to node %s: %w: %w", to, cluster.ErrUnreachable, err)
}

// sourceError is a failure of the reader that the caller gave.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func (c *Client) sendPieces(ctx context.Context, cn *conn, kind Kind, r io.Reader, over *atomic.Bool) error {
	buf := c.cfg.Buffers.Get(streamChunk)
	defer c.cfg.Buffers.Put(buf)
	sum := xxh3.New()
	var total uint64
	for {
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return &sourceError{err}
		}
		last := err != nil
		_, _ = sum.Write(buf[:n]) // a hash never fails
		total += uint64(n)
		if over.Load() {
			return errors.New("the peer has answered before the end")
		}
		if err := cn.raw.SetWriteDeadline(time.Now().Add(c.cfg.Limits.WriteTimeout)); err != nil {
			return err
		}
		if n > 0 {
			if err := cn.writeFrame(header{Type: frameChunk, Kind: kind}, nil, [][]byte{buf[:n]}); err != nil {
				return err
			}
			c.countBytes(cn.peer, CauseMetadata, classStream, n+headerBytes, 0)
		}
		if last {
			// ID carries the length of the whole, Epoch its checksum.
			return cn.writeFrame(header{Type: frameEnd, Kind: kind, ID: total, Epoch: sum.Sum64()}, nil, nil)
		}
	}
}

func (c *Client) streamAnswer(cn *conn, kind Kind) error {
	h, err := cn.readHeader()
	if err != nil {
		return err
	}
	head, err := cn.readHead(h)
	if err != nil {
		return err
	}
	if h.Type != frameResponse || h.Kind != kind || h.BodyLen != 0 {
		return fmt.Errorf("%w: answer to a stream", ErrFrame)
	}
	carried, _, err := c.codec.read(head, cn.peer)
	return errors.Join(carried, err)
}

// streamReader gives a handler the bytes of a stream, checked.
type streamReader struct {
	cn      *conn
	kind    Kind
	timeout time.Duration
	buf     []byte // lent for the length of the call
	have    []byte // of buf, not read yet
	sum     *xxh3.Hasher
	total   uint64
	err     error // sticky
}

func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.have) == 0 && r.err == nil {
		r.err = r.fill()
	}
	if len(r.have) == 0 {
		return 0, r.err
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	return n, nil
}

func (r *streamReader) fill() error {
	if err := r.cn.raw.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
		return err
	}
	h, err := r.cn.readHeader()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // only the end frame ends a stream
	}
	if err != nil {
		return err
	}
	switch {
	case h.Kind != r.kind || h.HeadLen != 0:
		return fmt.Errorf("%w: in a stream", ErrFrame)
	case h.Type == frameEnd:
		if h.ID != r.total || h.Epoch != r.sum.Sum64() {
			return fmt.Errorf("%w: stream checksum", ErrFrame)
		}
		return io.EOF
	case h.Type != frameChunk || h.BodyLen > streamChunk:
		return fmt.Errorf("%w: type %d of %d bytes in a stream", ErrFrame, h.Type, h.BodyLen)
	}
	piece := r.buf[:h.BodyLen]
	if err := r.cn.readBody(h, [][]byte{piece}); err != nil {
		return err
	}
	_, _ = r.sum.Write(piece) // a hash never fails
	r.total += uint64(len(piece))
	r.have = piece
	return nil
}

package replica

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// A snapshot travels in chunks with a checksum over all, so that a sender that
// died in the middle cannot pass for one that came to the end.

const streamChunk = 256 << 10

type streamWriter struct {
	w     io.Writer
	buf   []byte // room for the length, then data
	sum   *xxh3.Hasher
	total uint64
}

func newStreamWriter(w io.Writer) *streamWriter {
	return &streamWriter{w: w, buf: make([]byte, 4, 4+streamChunk), sum: xxh3.New()}
}

func (s *streamWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		room := min(cap(s.buf)-len(s.buf), len(p)-n)
		s.buf = append(s.buf, p[n:n+room]...)
		n += room
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *streamWriter) flush() error {
	data := s.buf[4:]
	if len(data) == 0 {
		return nil
	}
	binary.BigEndian.PutUint32(s.buf, uint32(len(data)))
	_, _ = s.sum.Write(data) // a hash does not fail
	s.total += uint64(len(data))
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:4]
	return err
}

// end writes the last chunk and the trailer.
func (s *streamWriter) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	b := make([]byte, 4, 20)
	b = binary.BigEndian.AppendUint64(b, s.total)
	b = binary.BigEndian.AppendUint64(b, s.sum.Sum64())
	_, err := s.w.Write(b)
	return err
}

type streamReader struct {
	r     io.Reader
	left  int // of the present chunk
	sum   *xxh3.Hasher
	total uint64
	ended bool
}

func newStreamReader(r io.Reader) *streamReader {
	return &streamReader{r: r, sum: xxh3.New()}
}

// Read returns io.EOF only behind a trailer that fits.
func (s *streamReader) Read(p []byte) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	if s.left == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	s.total += uint64(n)
	_, _ = s.sum.Write(p[:n]) // a hash does not fail
	if err == io.EOF {
		err = nil // the trailer is still to come; next reports its absence
		if n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (s *streamReader) next() error {
	var b [16]byte
	if _, err := io.ReadFull(s.r, b[:4]); err != nil {
		return noEOF(err)
	}
	n := binary.BigEndian.Uint32(b[:4])
	if n > streamChunk {
		return fmt.Errorf("snapshot chunk of %d bytes: %w", n, ErrFormat)
	}
	if n > 0 {
		s.left = int(n)
		return nil
	}
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return noEOF(err)
	}
	if binary.BigEndian.Uint64(b[:]) != s.total || binary.BigEndian.Uint64(b[8:]) != s.sum.Sum64() {
		return fmt.Errorf("snapshot stream: %w", ErrCorrupt)
	}
	s.ended = true
	return io.EOF
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

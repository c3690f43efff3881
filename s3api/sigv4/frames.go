package sigv4

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
	"sync"
)

const (
	frameBuffer  = 64 << 10
	minFrame     = 8 << 10 // every frame but the last
	maxFrameLine = 256     // size, extension and signature
	maxTrailer   = 4 << 10
	extension    = ";chunk-signature="
	trailerSig   = "x-amz-trailer-signature"
)

var frameReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, frameBuffer) }}

// Frames reads the payload out of an aws-chunked body. It answers io.EOF only
// when the last frame, the trailers and every signature have been seen and
// nothing follows them.
type Frames struct {
	src     *bufio.Reader
	mode    Mode
	auth    *Auth
	left    int64 // of the current frame
	total   int64 // payload bytes that may still come
	small   bool  // the frame before was below minFrame: it must have been the last
	started bool
	err     error
	hash    hash.Hash
	want    [64]byte // signature of the current frame
	prev    [64]byte // signature before it

	declared []string          // trailer names announced, lower case
	trailer  map[string]string // what came
}

// NewFrames unwraps body, whose payload has exactly total bytes. declared are
// the names of x-amz-trailer in lower case. Close gives back the buffer.
func NewFrames(body io.Reader, auth *Auth, total int64, declared []string) *Frames {
	f := &Frames{src: frameReaders.Get().(*bufio.Reader), mode: auth.Payload.Mode, auth: auth, total: total, declared: declared}
	f.src.Reset(body)
	if f.signed() {
		f.hash = sha256.New()
		copy(f.prev[:], auth.seed)
	}
	return f
}

// Close releases the buffer; the body itself is not closed.
func (f *Frames) Close() {
	if f.src != nil {
		f.src.Reset(nil)
		frameReaders.Put(f.src)
		f.src = nil
		f.err = errors.New("sigv4: read of closed frames")
	}
}

// Trailer answers the trailers, names in lower case; nil before io.EOF.
func (f *Frames) Trailer() map[string]string { return f.trailer }

func (f *Frames) signed() bool { return f.mode == ModeSigned || f.mode == ModeSignedTrailer }

func (f *Frames) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.left == 0 {
		if f.err = f.next(); f.err != nil {
			return 0, f.err
		}
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.src.Read(p)
	if f.hash != nil {
		f.hash.Write(p[:n])
	}
	f.left -= int64(n)
	if err == nil && f.left == 0 {
		err = f.endFrame()
	}
	if err != nil {
		f.err = short(err)
	}
	return n, f.err
}

// next reads a frame header; at the last frame it reads all that follows and
// answers io.EOF.
func (f *Frames) next() error {
	size, err := f.header()
	if err != nil {
		return err
	}
	if size > 0 {
		if f.started && f.small {
			return ErrChunkTooSmall
		}
		if size > f.total {
			return ErrFrameTooLarge
		}
		f.started, f.small = true, size < minFrame
		f.total -= size
		f.left = size
		return nil
	}
	if f.total != 0 {
		return detail(ErrIncompleteBody, "the last frame came before the declared length")
	}
	if f.signed() {
		if err := f.checkSignature(); err != nil {
			return err
		}
	}
	if !f.mode.Trailed() {
		if err := f.crlf(); err != nil {
			return err
		}
		if _, err := f.src.ReadByte(); err != io.EOF {
			if err == nil {
				err = detail(ErrIncompleteBody, "bytes after the last frame")
			}
			return err
		}
		return io.EOF
	}
	if err := f.readTrailer(); err != nil {
		return err
	}
	return io.EOF
}

// header reads "size[;chunk-signature=hex]\r\n".
func (f *Frames) header() (int64, error) {
	line, err := f.src.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > maxFrameLine:
		return 0, detail(ErrIncompleteBody, "frame header too long")
	case err != nil:
		return 0, short(err)
	case len(line) < 3 || line[len(line)-2] != '\r':
		return 0, detail(ErrIncompleteBody, "malformed frame header")
	}
	line = line[:len(line)-2]
	if f.signed() {
		tail := len(line) - 64 - len(extension)
		if tail < 1 || string(line[tail:tail+len(extension)]) != extension {
			return 0, detail(ErrIncompleteBody, "frame header without signature")
		}
		copy(f.want[:], line[len(line)-64:])
		line = line[:tail]
	}
	if len(line) == 0 || len(line) > 15 {
		return 0, detail(ErrIncompleteBody, "malformed frame size")
	}
	var size int64
	for _, c := range line {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, detail(ErrIncompleteBody, "malformed frame size")
		}
		size = size<<4 | int64(c)
	}
	return size, nil
}

func (f *Frames) endFrame() error {
	if err := f.crlf(); err != nil {
		return err
	}
	if f.signed() {
		return f.checkSignature()
	}
	return nil
}

func (f *Frames) crlf() error {
	for _, want := range []byte("\r\n") {
		c, err := f.src.ReadByte()
		if err != nil {
			return short(err)
		}
		if c != want {
			return detail(ErrIncompleteBody, "frame without line end")
		}
	}
	return nil
}

func (f *Frames) checkSignature() error {
	var sum [32]byte
	f.hash.Sum(sum[:0])
	f.hash.Reset()
	var b [512]byte
	s := append(b[:0], "AWS4-HMAC-SHA256-PAYLOAD\n"...)
	s = f.appendScope(s)
	s = append(s, EmptyHash+"\n"...)
	s = hex.AppendEncode(s, sum[:])
	return f.compare(s, f.want[:])
}

func (f *Frames) appendScope(s []byte) []byte {
	s = append(append(s, f.auth.date...), '\n')
	s = append(append(s, f.auth.scope...), '\n')
	return append(append(s, f.prev[:]...), '\n')
}

func (f *Frames) compare(toSign, want []byte) error {
	h := hmac.New(sha256.New, f.auth.key[:])
	h.Write(toSign)
	var sum [32]byte
	h.Sum(sum[:0])
	var got [64]byte
	hex.Encode(got[:], sum[:])
	if !hmac.Equal(got[:], want) {
		return detail(ErrMismatch, "frame")
	}
	f.prev = got
	return nil
}

// short turns an early end into ErrIncompleteBody.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return detail(ErrIncompleteBody, "the body ended early")
	}
	return err
}

// readTrailer reads to the end of the body. Some clients end a trailer with a
// bare line feed followed by an empty line before the signature, so empty lines
// separate nothing; everything else must be an announced trailer.
func (f *Frames) readTrailer() error {
	raw, err := io.ReadAll(io.LimitReader(f.src, maxTrailer+1))
	if err != nil {
		return short(err)
	}
	if len(raw) > maxTrailer {
		return detail(ErrMalformedTrailer, "too long")
	}
	if !strings.HasSuffix(string(raw), "\n") {
		return detail(ErrIncompleteBody, "trailer without line end")
	}
	got := make(map[string]string)
	var signed []byte
	var sig string
	for _, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		if !ok || sig != "" {
			return detail(ErrMalformedTrailer, "unexpected line")
		}
		if name == trailerSig && f.mode == ModeSignedTrailer {
			sig = value
			continue
		}
		if _, twice := got[name]; twice || !contains(f.declared, name) {
			return detail(ErrMalformedTrailer, "a trailer was not announced or came twice")
		}
		got[name] = value
		signed = append(append(append(append(signed, name...), ':'), value...), '\n')
	}
	if len(got) != len(f.declared) {
		return detail(ErrMalformedTrailer, "an announced trailer is missing")
	}
	if f.mode == ModeSignedTrailer {
		sum := sha256.Sum256(signed)
		s := f.appendScope([]byte("AWS4-HMAC-SHA256-TRAILER\n"))
		s = hex.AppendEncode(s, sum[:])
		if sig == "" {
			return detail(ErrMalformedTrailer, "the trailer signature is missing")
		}
		if err := f.compare(s, []byte(sig)); err != nil {
			return err
		}
	}
	f.trailer = got
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

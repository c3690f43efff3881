package s3api

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
	"bivalve/s3api/sigv4"
)

// timedBody gives each read of a request body its own deadline, wants a least pace,
// and turns every fault of the wire into an S3 error. interrupt may be called from
// anywhere.
type timedBody struct {
	src   io.Reader
	ctl   *http.ResponseController
	idle  time.Duration
	rate  int64 // bytes a second
	until time.Time
	ended bool // io.EOF was seen
	broke bool // the wire failed; there is nothing to wait for

	waited time.Duration // in reads, since the pace was looked at
	came   int64         // bytes, likewise

	mu          sync.Mutex // orders the deadlines, and interrupt with the end
	interrupted bool
}

// arm sets the deadline of a read.
func (t *timedBody) arm() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.interrupted {
		return os.ErrDeadlineExceeded
	}
	if now := time.Now(); t.until.Sub(now) < t.idle/2 {
		t.until = now.Add(t.idle)
		_ = t.ctl.SetReadDeadline(t.until)
	}
	return nil
}

// interrupt ends the body as one that is idle: the read under way, and all to come.
func (t *timedBody) interrupt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.broke {
		return // the deadline is not ours any more
	}
	t.interrupted = true
	_ = t.ctl.SetReadDeadline(time.Now())
}

// read takes bytes from the wire if they come in time. Only the time that we have
// waited for them counts for their pace, not what the house does in between.
func (t *timedBody) read(p []byte) (int, error) {
	if err := t.arm(); err != nil {
		return 0, err
	}
	began := time.Now()
	n, err := t.src.Read(p)
	t.waited += time.Since(began)
	t.came += int64(n)
	if t.waited < t.idle || err != nil {
		return n, err
	}
	if float64(t.came) < float64(t.rate)*t.waited.Seconds() {
		err = os.ErrDeadlineExceeded
	}
	t.waited, t.came = 0, 0
	return n, err
}

func (t *timedBody) Read(p []byte) (int, error) {
	n, err := t.read(p)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		// The server goes on reading to notice a client that leaves: our deadline
		// must not end the request while the house works.
		_ = t.ctl.SetReadDeadline(time.Time{})
		t.ended, t.broke = err == io.EOF, err != io.EOF
		switch {
		case err == io.EOF:
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = &apiError{code: "RequestTimeout", cause: err}
		default:
			err = &apiError{code: "IncompleteBody", cause: err}
		}
	}
	return n, err
}

// upload is the Body that the house reads: it hashes what passes and, with the
// last byte, compares everything that the client claimed. When a claim is false
// the last bytes are withheld, so that a reader that stops at the declared size
// notices as well.
type upload struct {
	src    io.Reader
	wire   *timedBody
	frames *sigv4.Frames
	size   int64
	left   int64
	err    error // io.EOF once all has been checked
	own    bool  // the bytes come from the house itself (copies)

	md5    hash.Hash
	sha    hash.Hash // of a signed payload
	sum    hash.Hash // the checksum that is kept with the object
	second hash.Hash // the client's checksum, if it is not the kept one

	algorithm string // of sum
	claim     claim
	wantSHA   string
	wantMD5   []byte
	sums      Sums
}

// continueEmpty answers an expectation that comes with an empty body. The server
// sends 100 Continue by itself only when there is something to read, but clients
// built on botocore wait for it before every PUT and take the next answer apart
// wrongly if it does not come.
func (c *call) continueEmpty() {
	if c.r.ContentLength != 0 || !strings.EqualFold(c.header("Expect"), "100-continue") {
		return
	}
	h := c.w.Header()
	kept := h.Clone()
	clear(h) // the headers so far belong to the real answer
	c.w.ResponseWriter.WriteHeader(http.StatusContinue)
	maps.Copy(h, kept)
}

// newUpload prepares the body of a PUT. algorithm is the checksum to keep; ""
// means the client's, or S3's default CRC64NVME.
func (c *call) newUpload(algorithm string) (*upload, error) {
	cl, err := c.checksumClaim()
	if err != nil {
		return nil, err
	}
	u := &upload{md5: md5.New(), claim: cl, algorithm: algorithm}
	if u.wantMD5, err = c.contentMD5(); err != nil {
		return nil, err
	}
	if u.size, err = c.payloadSize(); err != nil {
		return nil, err
	}
	if u.size > c.api.MaxPutBytes {
		return nil, &apiError{code: "EntityTooLarge", fields: map[string]string{
			"ProposedSize": strconv.FormatInt(u.size, 10), "MaxSizeAllowed": strconv.FormatInt(c.api.MaxPutBytes, 10)}}
	}
	u.left = u.size
	c.input = &timedBody{src: c.r.Body, ctl: c.w.ctl, idle: c.api.BodyIdle, rate: c.api.BodyRate}
	u.src, u.wire = c.input, c.input
	switch p := c.auth.Payload; {
	case p.Mode.Framed():
		u.frames = sigv4.NewFrames(c.input, c.auth, u.size, cl.trailers)
		u.src = u.frames
	case p.Mode == sigv4.ModeHash:
		u.sha, u.wantSHA = sha256.New(), p.Hash
	}
	if u.algorithm == "" {
		u.algorithm = cl.algorithm
	}
	if u.algorithm == "" {
		u.algorithm = checksum.CRC64NVME
	}
	switch {
	case u.algorithm == checksum.SHA256 && u.sha != nil:
		u.sum = u.sha
	default:
		u.sum = checksum.New(u.algorithm)
	}
	if cl.algorithm != "" && cl.algorithm != u.algorithm {
		u.second = checksum.New(cl.algorithm)
	}
	c.body = u
	c.continueEmpty()
	if u.left == 0 {
		if u.finish(); u.err != io.EOF {
			return nil, u.err
		}
	}
	return u, nil
}

// newCopy is the body of a copy within the house. It cannot be interrupted: there is no
// client whose pace it has.
func newCopy(src io.Reader, size int64, algorithm string) Body {
	if algorithm == "" {
		algorithm = checksum.CRC64NVME
	}
	u := &upload{src: src, size: size, left: size, own: true, md5: md5.New(), sum: checksum.New(algorithm), algorithm: algorithm}
	if size == 0 {
		u.finish()
	}
	return struct{ Body }{u}
}

// payloadSize is the number of bytes without framing.
func (c *call) payloadSize() (int64, error) {
	if !c.auth.Payload.Mode.Framed() {
		if c.r.ContentLength < 0 || c.r.ContentLength == 0 && c.r.Header["Content-Length"] == nil && c.r.Method != http.MethodPost {
			return 0, fail("MissingContentLength")
		}
		return c.r.ContentLength, nil
	}
	n, err := strconv.ParseInt(c.header("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return 0, fail("MissingContentLength")
	}
	return n, nil
}

func (c *call) contentMD5() ([]byte, error) {
	v := c.r.Header["Content-Md5"]
	if len(v) == 0 {
		return nil, nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(v[0])
	if err != nil || len(raw) != md5.Size {
		return nil, &apiError{code: "InvalidDigest", fields: map[string]string{"Content-MD5": v[0]}}
	}
	return raw, nil
}

func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if int64(len(p)) > u.left {
		p = p[:u.left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := u.src.Read(p)
	if n > 0 {
		p = p[:n]
		u.left -= int64(n)
		u.md5.Write(p)
		if u.sha != nil {
			u.sha.Write(p)
		}
		if u.sum != u.sha {
			u.sum.Write(p)
		}
		if u.second != nil {
			u.second.Write(p)
		}
	}
	switch {
	case err != nil && err != io.EOF:
		u.err = err
		return 0, err
	case u.left == 0:
		if u.finish(); u.err != io.EOF {
			return 0, u.err
		}
	case err == io.EOF:
		u.err = fail("IncompleteBody")
		if u.own {
			u.err = fmt.Errorf("s3api: copy source ended %d bytes early: %w", u.left, io.ErrUnexpectedEOF)
		}
	}
	return n, u.err
}

// finish compares every claim and sets err to io.EOF if all hold.
func (u *upload) finish() {
	u.err = u.verify()
	if u.err == nil {
		u.err = io.EOF
	}
}

func (u *upload) verify() error {
	if u.frames != nil {
		var one [1]byte
		if n, err := u.frames.Read(one[:]); n > 0 {
			return sigv4.ErrFrameTooLarge
		} else if err != io.EOF {
			return err
		}
	}
	sum := u.md5.Sum(nil)
	u.sums.MD5 = hex.EncodeToString(sum)
	if u.wantMD5 != nil && string(sum) != string(u.wantMD5) {
		return &apiError{code: "BadDigest", fields: map[string]string{
			"ExpectedDigest": hex.EncodeToString(u.wantMD5), "CalculatedDigest": u.sums.MD5}}
	}
	if u.sha != nil {
		if got := hex.EncodeToString(u.sha.Sum(nil)); got != u.wantSHA {
			return &apiError{code: "XAmzContentSHA256Mismatch", fields: map[string]string{
				"ClientComputedContentSHA256": u.wantSHA, "S3ComputedContentSHA256": got}}
		}
	}
	kept := checksum.Encode(u.sum.Sum(nil))
	u.sums.Checksum = metadata.Checksum{Algorithm: u.algorithm, Type: checksum.TypeFull, Value: kept}
	if u.claim.algorithm == "" {
		return nil
	}
	want := u.claim.value
	if u.claim.trailer != "" {
		want = u.frames.Trailer()[u.claim.trailer]
		if _, err := checksum.Decode(u.claim.algorithm, want); err != nil {
			return failf("InvalidRequest", "Value for %s trailing header is invalid.", u.claim.trailer)
		}
	}
	got := kept
	if u.second != nil {
		got = checksum.Encode(u.second.Sum(nil))
	}
	if got != want {
		return failf("BadDigest", "The %s you specified did not match the calculated checksum.", u.claim.algorithm)
	}
	return nil
}

// Interrupt ends the body of a client that is too slow, with RequestTimeout. It may be
// called at any time, beside a Read too.
func (u *upload) Interrupt() { u.wire.interrupt() }

// Sums answers what was computed; call it after io.EOF.
func (u *upload) Sums() Sums { return u.sums }

func (u *upload) close() {
	if u.frames != nil {
		u.frames.Close()
	}
}

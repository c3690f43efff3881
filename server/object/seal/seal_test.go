package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"
	"testing"
)

func random(p []byte) error { _, err := rand.Read(p); return err }

func key(t *testing.T) Key {
	t.Helper()
	k, err := NewKey(random)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func encrypted(t *testing.T, plain []byte, k Key) []byte {
	t.Helper()
	r, err := Encrypt(bytes.NewReader(plain), k)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(out)) != Size(int64(len(plain))) {
		t.Fatalf("%d bytes became %d, Size says %d", len(plain), len(out), Size(int64(len(plain))))
	}
	return out
}

func decrypt(c []byte, k Key, size, off, n int64) ([]byte, error) {
	r := Span(size, off, n)
	rd, err := r.Decrypt(bytes.NewReader(c[r.Offset:min(int64(len(c)), r.Offset+r.Length)]), k)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(rd)
}

func TestRanges(t *testing.T) {
	k := key(t)
	rnd := mrand.New(mrand.NewPCG(1, 2))
	for _, size := range []int64{1, 100, PackageBytes - 1, PackageBytes, PackageBytes + 1, 3*PackageBytes + 5, 4 * PackageBytes} {
		plain := make([]byte, size)
		_ = random(plain)
		c := encrypted(t, plain, k)
		if i := bytes.Index(c, plain[:min(16, size)]); size >= 16 && i >= 0 {
			t.Fatalf("plain text at %d", i)
		}
		for i := range 60 {
			off := rnd.Int64N(size)
			n := rnd.Int64N(size-off) + 1
			if i == 0 {
				off, n = 0, size
			}
			got, err := decrypt(c, k, size, off, n)
			if err != nil || !bytes.Equal(got, plain[off:off+n]) {
				t.Fatalf("[%d, +%d) of %d: %v", off, n, size, err)
			}
			if r := Span(size, off, n); r.Length > n+2*(PackageBytes+overhead)+overhead*(n/PackageBytes) {
				t.Errorf("%d bytes are read for %d", r.Length, n)
			}
		}
	}
	if Size(0) != 0 {
		t.Errorf("nothing becomes %d bytes", Size(0))
	}
}

// Any flipped bit, a cut, another key, packages in another order: never a wrong byte.
func TestDamage(t *testing.T) {
	k := key(t)
	plain := make([]byte, 3*PackageBytes+100)
	_ = random(plain)
	c := encrypted(t, plain, k)
	size := int64(len(plain))
	wrong := func(name string, c []byte, k Key) {
		t.Helper()
		got, err := decrypt(c, k, size, 0, size)
		if err == nil || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %d bytes came out and differ", name, len(got))
		}
	}
	for at := 0; at < len(c); at += 1 + len(c)/300 {
		bad := bytes.Clone(c)
		bad[at] ^= 1 << (at % 8)
		wrong("flipped bit", bad, k)
	}
	wrong("cut", c[:len(c)-200], k)
	wrong("other key", c, key(t))
	p := PackageBytes + overhead
	wrong("swapped", append(append(append([]byte{}, c[p:2*p]...), c[:p]...), c[2*p:]...), k)
	wrong("repeated", append(append([]byte{}, c[:p]...), c[:len(c)-p]...), k)
	other := encrypted(t, plain, k)
	wrong("of another stream", append(append([]byte{}, c[:p]...), other[p:]...), k)
}

func TestWrap(t *testing.T) {
	k := key(t)
	master := key(t)
	sealed, err := Wrap(master[:], k, []byte("context"), random)
	if err != nil || bytes.Contains(sealed, k[:]) {
		t.Fatal(err)
	}
	if got, err := Unwrap(master[:], sealed, []byte("context")); err != nil || got != k {
		t.Error(err)
	}
	other := key(t)
	for name, f := range map[string]func() (Key, error){
		"other master":  func() (Key, error) { return Unwrap(other[:], sealed, []byte("context")) },
		"other context": func() (Key, error) { return Unwrap(master[:], sealed, nil) },
		"short master":  func() (Key, error) { return Unwrap(master[:16], sealed, []byte("context")) },
		"short":         func() (Key, error) { return Unwrap(master[:], sealed[:40], []byte("context")) },
		"version":       func() (Key, error) { return Unwrap(master[:], append([]byte{2}, sealed[1:]...), []byte("context")) },
		"flipped": func() (Key, error) {
			s := bytes.Clone(sealed)
			s[30] ^= 1
			return Unwrap(master[:], s, []byte("context"))
		},
	} {
		if got, err := f(); !errors.Is(err, ErrWrongKey) || got != (Key{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again, _ := Wrap(master[:], k, []byte("context"), random); bytes.Equal(again, sealed) {
		t.Error("sealed twice alike")
	}
}

type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = errBody
	}
	return n, err
}

var errBody = errors.New("the body does not hold together")

// A body that fails at its very end is a failure of the encrypted stream, which
// then never reaches its length.
func TestFailingBody(t *testing.T) {
	for _, n := range []int{0, 1, PackageBytes, PackageBytes + 7} {
		r, err := Encrypt(failing{bytes.NewReader(make([]byte, n))}, key(t))
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(r)
		if !errors.Is(err, errBody) || int64(len(out)) >= max(1, Size(int64(n))) {
			t.Errorf("%d bytes: %d came out, %v", n, len(out), err)
		}
	}
}

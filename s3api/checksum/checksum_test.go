package checksum

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func sum(alg string, b []byte) string {
	h := New(alg)
	h.Write(b)
	return Encode(h.Sum(nil))
}

func TestFullObjectEqualsWhole(t *testing.T) {
	for _, alg := range []string{CRC32, CRC32C, CRC64NVME} {
		rapid.Check(t, func(t *rapid.T) {
			blocks := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 8).Draw(t, "parts")
			var parts []Part
			for _, b := range blocks {
				parts = append(parts, Part{sum(alg, b), int64(len(b))})
			}
			got, err := FullObject(alg, parts)
			if want := sum(alg, bytes.Join(blocks, nil)); err != nil || got != want {
				t.Fatalf("%s: %s, %v; want %s", alg, got, err, want)
			}
		})
	}
}

func TestFullObjectOfLargeParts(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	whole := make([]byte, 12<<20+17)
	r.Read(whole)
	for _, alg := range []string{CRC32, CRC32C, CRC64NVME} {
		parts := []Part{{sum(alg, whole[:5<<20]), 5 << 20}, {sum(alg, whole[5<<20:10<<20]), 5 << 20}, {sum(alg, whole[10<<20:]), 2<<20 + 17}}
		if got, _ := FullObject(alg, parts); got != sum(alg, whole) {
			t.Errorf("%s: %s, want %s", alg, got, sum(alg, whole))
		}
	}
}

func TestKnownValues(t *testing.T) {
	for alg, want := range map[string]string{
		CRC32: "y/Q5Jg==", CRC32C: "4waSgw==", CRC64NVME: "rosUhgp5mIg=", SHA1: "98O8HYCOBHMq32eZZczDTKeuNEE=",
	} {
		if got := sum(alg, []byte("123456789")); got != want {
			t.Errorf("%s of 123456789: %s, want %s", alg, got, want)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	for _, v := range []string{"", "AAAA", "AAAAAA=", "AAAAAA==\n", "AAAAAB==", "AAAAAAAA", "!!!!!!=="} {
		if _, err := Decode(CRC32, v); err == nil {
			t.Errorf("%q was accepted", v)
		}
	}
	if _, err := Decode(CRC32, "AAAAAA=="); err != nil {
		t.Error(err)
	}
}

func TestComposite(t *testing.T) {
	a, b := sum(SHA256, []byte("a")), sum(SHA256, []byte("b"))
	ra, _ := Decode(SHA256, a)
	rb, _ := Decode(SHA256, b)
	want := sum(SHA256, append(ra, rb...)) + "-2"
	if got, err := Composite(SHA256, []string{a, b}); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

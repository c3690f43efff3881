package s3api

import "testing"

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=99999999999999999999-", int64(3))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, ok, bad := parseRange(header, size)
		if ok && (bad || s.offset < 0 || s.length <= 0 || s.offset > size-s.length) {
			t.Errorf("%q of %d: %+v", header, size, s)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("1abc", "key")
	f.Fuzz(func(t *testing.T, token, key string) {
		if token != "" {
			_, _ = openToken("bucket", token)
		}
		sealed := sealToken("bucket", key)
		if len(sealed) < 2048 {
			if got, err := openToken("bucket", sealed); err != nil || got != key {
				t.Errorf("%q: %q, %v", key, got, err)
			}
			if _, err := openToken("other", sealed); err == nil {
				t.Error("a token of another bucket was accepted")
			}
		}
	})
}

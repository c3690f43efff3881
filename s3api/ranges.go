package s3api

import (
	"math"
	"strings"
)

// span is a part of an object: length bytes from offset.
type span struct{ offset, length int64 }

// parseRange reads a Range header for an object of size bytes. ok is false when
// the header is to be ignored, as S3 does with what it cannot read and with more
// than one range. unsatisfiable means 416.
func parseRange(header string, size int64) (s span, ok, unsatisfiable bool) {
	spec, found := strings.CutPrefix(header, "bytes=")
	if !found || strings.Contains(spec, ",") {
		return s, false, false
	}
	from, to, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found || !digits(from) || !digits(to) || from == "" && to == "" {
		return s, false, false
	}
	if from == "" {
		n := min(saturated(to), size)
		if n == 0 {
			return s, false, true
		}
		return span{size - n, n}, true, false
	}
	first, last := saturated(from), int64(math.MaxInt64)
	if to != "" {
		last = saturated(to)
	}
	if last < first {
		return s, false, false
	}
	if first >= size {
		return s, false, true
	}
	last = min(last, size-1)
	return span{first, last - first + 1}, true, false
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// saturated reads a decimal number and stops at the largest one.
func saturated(s string) int64 {
	var n int64
	for i := 0; i < len(s); i++ {
		d := int64(s[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			return math.MaxInt64
		}
		n = n*10 + d
	}
	return n
}

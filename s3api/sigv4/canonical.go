package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// RawPath is the path of the request target exactly as it was sent. Routing and
// signing both use it.
func RawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath()
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

// appendEscaped percent-encodes what the client left bare; triplets stay as they
// were sent, so %2F is never mistaken for a slash. keep is one more byte that
// stays bare.
func appendEscaped(b []byte, s string, keep byte) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if unreserved(c) || c == keep || c == '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// appendQuery appends the canonical query string: pairs sorted by their encoded
// bytes, without X-Amz-Signature. A bare plus stays a plus, which no client
// signs: its meaning is ambiguous, so such a request is refused by mismatch.
func appendQuery(b []byte, raw string) []byte {
	if raw == "" {
		return b
	}
	pairs := strings.Split(raw, "&")
	n := 0
	for _, p := range pairs {
		if p == "" || strings.HasPrefix(p, "X-Amz-Signature=") {
			continue
		}
		if !strings.Contains(p, "=") {
			p += "="
		}
		pairs[n] = p
		n++
	}
	pairs = pairs[:n]
	if n > 1 {
		slices.SortFunc(pairs, compareNames)
	}
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		name, value, _ := strings.Cut(p, "=")
		b = appendEscaped(b, name, '+')
		b = append(b, '=')
		b = appendEscaped(b, value, '+')
	}
	return b
}

// compareNames orders pairs by name, then by value; comparing whole pairs would
// sort "a-b=" before "a=".
func compareNames(x, y string) int {
	xn, xv, _ := strings.Cut(x, "=")
	yn, yv, _ := strings.Cut(y, "=")
	if c := strings.Compare(xn, yn); c != 0 {
		return c
	}
	return strings.Compare(xv, yv)
}

// appendHeader appends "name:value\n" and tells whether the header exists.
func appendHeader(b []byte, r *http.Request, name string) ([]byte, bool) {
	b = append(b, name...)
	b = append(b, ':')
	switch name {
	case "host":
		return append(appendTrimmed(b, r.Host), '\n'), true
	case "content-length":
		if r.ContentLength < 0 {
			return b, false
		}
		return append(strconv.AppendInt(b, r.ContentLength, 10), '\n'), true
	case "transfer-encoding":
		return append(append(b, strings.Join(r.TransferEncoding, ",")...), '\n'), len(r.TransferEncoding) > 0
	}
	values := r.Header[http.CanonicalHeaderKey(name)]
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, v)
	}
	return append(b, '\n'), len(values) > 0
}

// appendTrimmed drops outer white space and folds inner runs of spaces to one.
func appendTrimmed(b []byte, v string) []byte {
	v = strings.TrimSpace(v)
	if !strings.Contains(v, "  ") {
		return append(b, v...)
	}
	var last byte
	for i := 0; i < len(v); i++ {
		if v[i] == ' ' && last == ' ' {
			continue
		}
		last = v[i]
		b = append(b, last)
	}
	return b
}

// appendCanonical appends the canonical request. It answers ErrMismatch when a
// signed header is absent.
func appendCanonical(b []byte, r *http.Request, signed []string, signedList, payload string) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, '\n')
	path := RawPath(r)
	if path == "" {
		path = "/"
	}
	b = appendEscaped(b, path, '/')
	b = append(b, '\n')
	b = appendQuery(b, r.URL.RawQuery)
	b = append(b, '\n')
	for _, name := range signed {
		var ok bool
		if b, ok = appendHeader(b, r, name); !ok {
			return b, detail(ErrMismatch, "signed header "+name+" is absent")
		}
	}
	b = append(b, '\n')
	b = append(b, signedList...)
	b = append(b, '\n')
	return append(b, payload...), nil
}

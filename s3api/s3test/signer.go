package s3test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"bivalve/s3api"
)

// Signer signs requests. It is written from the description of the signature,
// apart from the verifier, so that the two check one another.
type Signer struct {
	AccessKey, SecretKey, Region string
	Time                         time.Time
}

// Secret implements s3api.Credentials with the signer's own key.
func (s Signer) Secret(_ context.Context, accessKey string) (string, error) {
	if accessKey != s.AccessKey {
		return "", s3api.ErrNoSuchAccessKey
	}
	return s.SecretKey, nil
}

const stamp = "20060102T150405Z"

func digest(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// Key is the signing key, Scope what it is good for.
func (s Signer) Key() []byte {
	k := digest([]byte("AWS4"+s.SecretKey), s.Time.UTC().Format("20060102"))
	k = digest(k, s.Region)
	return digest(digest(k, "s3"), "aws4_request")
}

func (s Signer) Scope() string {
	return s.Time.UTC().Format("20060102") + "/" + s.Region + "/s3/aws4_request"
}

func (s Signer) sign(r *http.Request, names []string, payload string) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	var pairs []string
	for _, p := range strings.Split(r.URL.RawQuery, "&") {
		if p != "" && !strings.HasPrefix(p, "X-Amz-Signature=") {
			if !strings.Contains(p, "=") {
				p += "="
			}
			pairs = append(pairs, p)
		}
	}
	sort.Slice(pairs, func(i, j int) bool {
		return strings.ReplaceAll(pairs[i], "=", "\x00") < strings.ReplaceAll(pairs[j], "=", "\x00")
	})
	var headers strings.Builder
	for _, n := range names {
		v := strings.Join(r.Header.Values(n), ",")
		if n == "host" {
			v = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", n, strings.TrimSpace(v))
	}
	canonical := strings.Join([]string{r.Method, path, strings.Join(pairs, "&"), headers.String(), strings.Join(names, ";"), payload}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(digest(s.Key(), "AWS4-HMAC-SHA256\n"+s.Time.UTC().Format(stamp)+"\n"+s.Scope()+"\n"+hex.EncodeToString(sum[:])))
}

// Sign signs every header that is set now and answers the signature.
// x-amz-content-sha256 is UNSIGNED-PAYLOAD unless it is set.
func (s Signer) Sign(r *http.Request) string {
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.Header.Set("X-Amz-Date", s.Time.UTC().Format(stamp))
	if r.Header.Get("X-Amz-Content-Sha256") == "" {
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	}
	names := []string{"host"}
	for n := range r.Header {
		if n != "Authorization" && n != "Content-Length" {
			names = append(names, strings.ToLower(n))
		}
	}
	slices.Sort(names)
	sig := s.sign(r, names, r.Header.Get("X-Amz-Content-Sha256"))
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		s.AccessKey, s.Scope(), strings.Join(names, ";"), sig))
	return sig
}

// Presign moves the signature into the query.
func (s Signer) Presign(r *http.Request, life time.Duration) {
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	names := []string{"host"}
	for n := range r.Header {
		names = append(names, strings.ToLower(n))
	}
	slices.Sort(names)
	q := r.URL.RawQuery
	if q != "" {
		q += "&"
	}
	r.URL.RawQuery = q + fmt.Sprintf("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s&X-Amz-Date=%s&X-Amz-Expires=%d&X-Amz-SignedHeaders=%s",
		url.QueryEscape(s.AccessKey+"/"+s.Scope()), s.Time.UTC().Format(stamp), int(life.Seconds()), url.QueryEscape(strings.Join(names, ";")))
	r.URL.RawQuery += "&X-Amz-Signature=" + s.sign(r, names, "UNSIGNED-PAYLOAD")
}

// Frames encodes data as aws-chunked frames of size bytes. seed is the signature
// of the request; with an empty seed the frames are unsigned. Trailers are
// "name:value"; nil means the mode without trailers.
func (s Signer) Frames(data []byte, size int, seed string, trailers []string) []byte {
	var out []byte
	prev := seed
	empty := sha256.Sum256(nil)
	frame := func(b []byte) {
		if seed == "" {
			out = fmt.Appendf(out, "%x\r\n", len(b))
			return
		}
		sum := sha256.Sum256(b)
		prev = hex.EncodeToString(digest(s.Key(), "AWS4-HMAC-SHA256-PAYLOAD\n"+s.Time.UTC().Format(stamp)+"\n"+s.Scope()+"\n"+prev+"\n"+
			hex.EncodeToString(empty[:])+"\n"+hex.EncodeToString(sum[:])))
		out = fmt.Appendf(out, "%x;chunk-signature=%s\r\n", len(b), prev)
	}
	for len(data) > 0 {
		b := data[:min(size, len(data))]
		data = data[len(b):]
		frame(b)
		out = append(append(out, b...), '\r', '\n')
	}
	frame(nil)
	if trailers != nil {
		lines := ""
		for _, t := range trailers {
			out = append(append(out, t...), '\r', '\n')
			lines += t + "\n"
		}
		if seed != "" {
			sum := sha256.Sum256([]byte(lines))
			sig := digest(s.Key(), "AWS4-HMAC-SHA256-TRAILER\n"+s.Time.UTC().Format(stamp)+"\n"+s.Scope()+"\n"+prev+"\n"+hex.EncodeToString(sum[:]))
			out = fmt.Appendf(out, "x-amz-trailer-signature:%x\r\n", sig)
		}
	}
	return append(out, '\r', '\n')
}

// SignPolicy answers the fields that sign a POST form: the policy in base64 and
// what goes with it.
func (s Signer) SignPolicy(policy string) map[string]string {
	encoded := base64.StdEncoding.EncodeToString([]byte(policy))
	return map[string]string{"policy": encoded, "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": s.AccessKey + "/" + s.Scope(),
		"x-amz-date": s.Time.UTC().Format(stamp), "x-amz-signature": hex.EncodeToString(digest(s.Key(), encoded))}
}

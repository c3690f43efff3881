package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	maxSkew    = 15 * time.Minute
	maxSigned  = 128 // headers
)

// Verifier checks requests. It is safe for concurrent use.
type Verifier struct {
	// Secret answers the secret of an access key, or ErrUnknownAccessKey.
	Secret func(ctx context.Context, accessKey string) (string, error)
	Region string
	Now    func() time.Time

	keys keyCache
}

// Auth is a verified identity and what is needed to check the body.
type Auth struct {
	AccessKey string
	Presigned bool
	Payload   Payload

	date, scope, seed string
	key               [32]byte
}

// claim is what a request says about its signature, before any of it is believed.
type claim struct {
	accessKey  string
	date       string // ISO basic, as signed
	scope      string // date/region/service/aws4_request
	day        string
	region     string
	service    string
	signed     []string
	signedList string
	signature  string
	payload    string
	presigned  bool
}

// unknownSecret signs for keys that are not known, so that they take as long.
const unknownSecret = "unknown keys take as long as known ones"

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// Verify answers the identity behind a request. query is the parsed
// r.URL.RawQuery. The body is not read.
func (v *Verifier) Verify(r *http.Request, query url.Values) (*Auth, error) {
	c, err := v.claim(r, query)
	if err != nil {
		return nil, err
	}
	payload, err := ParsePayload(c.payload)
	if err != nil {
		return nil, err
	}
	if err := checkSigned(r, c); err != nil {
		return nil, err
	}
	secret, secretErr := v.Secret(r.Context(), c.accessKey)
	if secretErr != nil {
		if !errors.Is(secretErr, ErrUnknownAccessKey) {
			return nil, secretErr
		}
		secret = unknownSecret
	}
	key := v.keys.get(keyID{secret, c.day, c.region, c.service})
	want, err := signature(r, c, key)
	if err != nil {
		return nil, err
	}
	equal := hmac.Equal([]byte(want), []byte(c.signature))
	if secretErr != nil {
		return nil, secretErr
	}
	if !equal {
		return nil, ErrMismatch
	}
	return &Auth{AccessKey: c.accessKey, Presigned: c.presigned, Payload: payload,
		date: c.date, scope: c.scope, seed: c.signature, key: key}, nil
}

func (v *Verifier) claim(r *http.Request, query url.Values) (*claim, error) {
	headers := r.Header["Authorization"]
	inQuery := query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Credential")
	v2Query := query.Has("AWSAccessKeyId") || query.Has("Signature")
	switch {
	case len(headers) > 1:
		return nil, detail(ErrRepeatedHeader, "Authorization")
	case len(headers) == 1 && (inQuery || v2Query):
		return nil, ErrTwoAuths
	case len(headers) == 1:
		return v.headerClaim(r, headers[0])
	case inQuery:
		return v.queryClaim(r, query)
	case v2Query:
		return nil, ErrSigV2
	}
	return nil, ErrNoAuth
}

// checkSigned demands that the host and every x-amz header are covered.
func checkSigned(r *http.Request, c *claim) error {
	host := false
	for _, n := range c.signed {
		host = host || n == "host"
	}
	if !host {
		return &Detail{ErrUnsignedHeaders, "host", map[string]string{"HeadersNotSigned": "host"}}
	}
	var missing []string
names:
	for name := range r.Header {
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		for _, n := range c.signed {
			if strings.EqualFold(n, name) {
				continue names
			}
		}
		missing = append(missing, strings.ToLower(name))
	}
	if missing != nil {
		list := strings.Join(missing, ", ")
		return &Detail{ErrUnsignedHeaders, list, map[string]string{"HeadersNotSigned": list}}
	}
	return nil
}

func signature(r *http.Request, c *claim, key [32]byte) (string, error) {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	b, err := appendCanonical((*p)[:0], r, c.signed, c.signedList, c.payload)
	*p = b
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	b = append(b[:0], algorithm+"\n"...)
	b = append(b, c.date...)
	b = append(b, '\n')
	b = append(b, c.scope...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, sum[:])
	h := hmac.New(sha256.New, key[:])
	h.Write(b)
	return hex.EncodeToString(h.Sum(b[:0])), nil
}

// setScope takes a credential apart: key/date/region/service/aws4_request. The
// key itself may contain slashes.
func (v *Verifier) setScope(c *claim, credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) < 5 {
		return errMalformedCredential
	}
	n := len(parts)
	c.accessKey = strings.Join(parts[:n-4], "/")
	c.day, c.region, c.service = parts[n-4], parts[n-3], parts[n-2]
	if c.accessKey == "" || len(c.accessKey) > 128 || parts[n-1] != "aws4_request" {
		return errMalformedCredential
	}
	if len(c.day) != 8 {
		return fmt.Errorf("%w: invalid date %q", errMalformedCredential, c.day)
	}
	if c.service != "s3" {
		return fmt.Errorf("%w: incorrect service %q. This endpoint belongs to \"s3\"", errMalformedCredential, c.service)
	}
	c.scope = strings.Join(parts[n-4:], "/")
	return nil
}

func setSigned(c *claim, list string) error {
	c.signedList = list
	c.signed = strings.Split(list, ";")
	if len(c.signed) > maxSigned { // before they are compared with each other
		return errors.New("SignedHeaders is too long")
	}
	for i, n := range c.signed {
		if n == "" || n != strings.ToLower(n) {
			return errors.New("SignedHeaders is malformed")
		}
		for _, m := range c.signed[:i] {
			if m == n {
				return errors.New("SignedHeaders names a header twice")
			}
		}
	}
	return nil
}

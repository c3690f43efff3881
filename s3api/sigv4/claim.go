package sigv4

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// headerClaim reads "AWS4-HMAC-SHA256 Credential=.., SignedHeaders=.., Signature=..".
func (v *Verifier) headerClaim(r *http.Request, h string) (*claim, error) {
	scheme, rest, _ := strings.Cut(h, " ")
	switch {
	case scheme == "AWS":
		return nil, ErrSigV2
	case scheme != algorithm:
		return nil, ErrUnknownScheme
	}
	for _, name := range []string{"X-Amz-Date", "Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token"} {
		if len(r.Header[name]) > 1 {
			return nil, detail(ErrRepeatedHeader, name)
		}
	}
	c := &claim{payload: r.Header.Get("X-Amz-Content-Sha256")}
	var credential, signed string
	for _, field := range strings.Split(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		dst := &credential
		switch name {
		case "Credential":
		case "SignedHeaders":
			dst = &signed
		case "Signature":
			dst = &c.signature
		default:
			ok = false
		}
		if !ok || *dst != "" || value == "" {
			return nil, detail(ErrMalformedHeader, "expecting Credential, SignedHeaders and Signature, each once")
		}
		*dst = value
	}
	if credential == "" || signed == "" || c.signature == "" {
		return nil, detail(ErrMalformedHeader, "expecting Credential, SignedHeaders and Signature, each once")
	}
	if err := v.setScope(c, credential); err != nil {
		return nil, detail(ErrMalformedHeader, err.Error())
	}
	if err := setSigned(c, signed); err != nil {
		return nil, detail(ErrMalformedHeader, err.Error())
	}
	if len(r.Header["X-Amz-Security-Token"]) > 0 {
		return nil, ErrSecurityToken
	}
	at, err := headerDate(r)
	if err != nil {
		return nil, err
	}
	c.date = at.Format(timeFormat)
	if c.date[:8] != c.day {
		return nil, detail(ErrMalformedHeader, fmt.Sprintf("invalid credential date %q. This date is not the same as X-Amz-Date: %q", c.day, c.date[:8]))
	}
	if c.region != v.Region {
		return nil, &Detail{ErrMalformedHeader, fmt.Sprintf("the region '%s' is wrong; expecting '%s'", c.region, v.Region),
			map[string]string{"Region": v.Region}}
	}
	if skew := v.Now().Sub(at); skew > maxSkew || skew < -maxSkew {
		return nil, &Detail{ErrSkewed, c.date, map[string]string{
			"RequestTime": c.date, "ServerTime": v.Now().UTC().Format(time.RFC3339),
			"MaxAllowedSkewMilliseconds": strconv.FormatInt(maxSkew.Milliseconds(), 10)}}
	}
	return c, nil
}

// headerDate is when a request was signed. A Date may end in a numeric zone: botocore
// signs with "-0000" when its caller has set one.
func headerDate(r *http.Request) (time.Time, error) {
	if s := r.Header.Get("X-Amz-Date"); s != "" {
		if t, err := time.Parse(timeFormat, s); err == nil && len(s) == len(timeFormat) {
			return t, nil
		}
		return time.Time{}, ErrNoDate
	}
	date := r.Header.Get("Date")
	if t, err := http.ParseTime(date); err == nil {
		return t.UTC(), nil
	}
	if t, err := time.Parse(time.RFC1123Z, date); err == nil {
		return t.UTC(), nil
	}
	return time.Time{}, ErrNoDate
}

// maxExpires is the longest life of a presigned request: one week.
const maxExpires = 7 * 24 * 3600

// queryClaim reads a presigned request.
func (v *Verifier) queryClaim(r *http.Request, q url.Values) (*claim, error) {
	bad := func(text string) (*claim, error) { return nil, detail(ErrMalformedQuery, text) }
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"} {
		if len(q[name]) != 1 || q.Get(name) == "" {
			return bad("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters, each once.")
		}
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return bad("X-Amz-Algorithm only supports \"" + algorithm + "\"")
	}
	if q.Has("X-Amz-Security-Token") || len(r.Header["X-Amz-Security-Token"]) > 0 {
		return nil, ErrSecurityToken
	}
	c := &claim{signature: q.Get("X-Amz-Signature"), presigned: true, payload: UnsignedPayload}
	switch hashes := r.Header["X-Amz-Content-Sha256"]; {
	case len(hashes) > 1 || len(q["X-Amz-Content-Sha256"]) > 1 || len(hashes) == 1 && q.Has("X-Amz-Content-Sha256"):
		return nil, detail(ErrRepeatedHeader, "x-amz-content-sha256")
	case len(hashes) == 1:
		c.payload = hashes[0]
	case q.Has("X-Amz-Content-Sha256"):
		c.payload = q.Get("X-Amz-Content-Sha256")
	}
	if err := v.setScope(c, q.Get("X-Amz-Credential")); err != nil {
		return bad(err.Error())
	}
	if err := setSigned(c, q.Get("X-Amz-SignedHeaders")); err != nil {
		return bad(err.Error())
	}
	c.date = q.Get("X-Amz-Date")
	at, err := time.Parse(timeFormat, c.date)
	if err != nil || len(c.date) != len(timeFormat) {
		return bad("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	if c.date[:8] != c.day {
		return bad(fmt.Sprintf("invalid credential date %q. This date is not the same as X-Amz-Date: %q", c.day, c.date[:8]))
	}
	if c.region != v.Region {
		return nil, &Detail{ErrMalformedQuery, fmt.Sprintf("the region '%s' is wrong; expecting '%s'", c.region, v.Region),
			map[string]string{"Region": v.Region}}
	}
	expires, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 64)
	switch {
	case err != nil:
		return bad("X-Amz-Expires should be a number")
	case expires < 0:
		return bad("X-Amz-Expires must be non-negative")
	case expires > maxExpires:
		return bad("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	now, end := v.Now(), at.Add(time.Duration(expires)*time.Second)
	if at.Sub(now) > maxSkew {
		return nil, ErrNotYetValid
	}
	if !now.Before(end) {
		return nil, &Detail{ErrExpired, "presigned", map[string]string{"X-Amz-Expires": strconv.FormatInt(expires, 10),
			"Expires": end.UTC().Format(time.RFC3339), "ServerTime": now.UTC().Format(time.RFC3339)}}
	}
	return c, nil
}

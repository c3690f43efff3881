package s3api

import (
	"net/http"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
)

// claim is the checksum that a client announces for a body.
type claim struct {
	algorithm string
	value     string   // base64, unless it comes in a trailer
	trailer   string   // name of the trailer, lower case
	trailers  []string // all announced trailers, lower case
}

// checksumHeader is the canonical name of the header of an algorithm.
func checksumHeader(algorithm string) string {
	return http.CanonicalHeaderKey("x-amz-checksum-" + strings.ToLower(algorithm))
}

func checksumName(algorithm string) string { return "x-amz-checksum-" + strings.ToLower(algorithm) }

// checksumClaim reads the x-amz-checksum-* header or the announced trailer.
func (c *call) checksumClaim() (claim, error) {
	var cl claim
	alg, value, err := c.checksumValue()
	if err != nil {
		return cl, err
	}
	cl.algorithm, cl.value = alg, value
	if alg != "" {
		if _, err := checksum.Decode(alg, value); err != nil {
			return cl, failf("InvalidRequest", "Value for %s header is invalid.", checksumName(alg))
		}
	}
	if v := c.header("X-Amz-Trailer"); v != "" {
		if !c.auth.Payload.Mode.Trailed() {
			return cl, failf("InvalidRequest", "x-amz-trailer needs a payload with trailers")
		}
		for name := range strings.SplitSeq(v, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			alg := strings.ToUpper(strings.TrimPrefix(name, "x-amz-checksum-"))
			if checksum.Size(alg) == 0 || checksumName(alg) != name {
				return cl, failf("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
			}
			if cl.algorithm != "" {
				return cl, failf("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
			}
			cl.algorithm, cl.trailer = alg, name
			cl.trailers = append(cl.trailers, name)
		}
	}
	if v := c.header("X-Amz-Sdk-Checksum-Algorithm"); v != "" {
		switch {
		case checksum.Size(strings.ToUpper(v)) == 0:
			return cl, failf("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		case cl.algorithm == "" && c.r.Header["Content-Md5"] == nil:
			return cl, failf("InvalidRequest", "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		case cl.algorithm != "" && !strings.EqualFold(cl.algorithm, v):
			return cl, failf("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
	}
	return cl, nil
}

// checksumValue finds the only x-amz-checksum-<algorithm> header.
func (c *call) checksumValue() (algorithm, value string, err error) {
	for _, h := range checksumHeaders {
		v := c.r.Header[h.name]
		if len(v) == 0 {
			continue
		}
		if algorithm != "" {
			return "", "", failf("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		algorithm, value = h.algorithm, v[0]
	}
	return algorithm, value, nil
}

var checksumHeaders = func() (out []struct{ name, algorithm string }) {
	for _, a := range checksum.Algorithms() {
		out = append(out, struct{ name, algorithm string }{checksumHeader(a), a})
	}
	return out
}()

// setChecksum puts a checksum into the header of the answer.
func setChecksum(h http.Header, sum metadata.Checksum) {
	if sum.Algorithm == "" || sum.Value == "" {
		return
	}
	h[checksumHeader(sum.Algorithm)] = []string{sum.Value}
	if sum.Type != "" {
		h["X-Amz-Checksum-Type"] = []string{sum.Type}
	}
}

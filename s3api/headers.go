package s3api

import (
	"net/http"
	"strconv"
	"strings"

	"bivalve/s3api/checksum"
)

// The headers below are all that may begin with X-Amz-; any other one is
// answered with NotImplemented, so that no wish of a client is dropped in silence.
var understood = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(`
		X-Amz-Date X-Amz-Content-Sha256 X-Amz-Decoded-Content-Length X-Amz-Trailer X-Amz-User-Agent
		X-Amz-Sdk-Checksum-Algorithm X-Amz-Checksum-Algorithm X-Amz-Checksum-Type X-Amz-Checksum-Mode
		X-Amz-Mp-Object-Size X-Amz-Acl X-Amz-Storage-Class X-Amz-Expected-Bucket-Owner
		X-Amz-Source-Expected-Bucket-Owner X-Amz-Request-Payer X-Amz-Metadata-Directive X-Amz-Tagging-Directive
		X-Amz-Copy-Source X-Amz-Copy-Source-Range X-Amz-Copy-Source-If-Match X-Amz-Copy-Source-If-None-Match
		X-Amz-Copy-Source-If-Modified-Since X-Amz-Copy-Source-If-Unmodified-Since X-Amz-Object-Ownership
		X-Amz-Bucket-Object-Lock-Enabled X-Amz-Object-Attributes X-Amz-Max-Parts X-Amz-Part-Number-Marker
		X-Amz-Optional-Object-Attributes X-Amz-Mfa`) {
		m[n] = true
	}
	for _, a := range checksum.Algorithms() {
		m[checksumHeader(a)] = true
	}
	return m
}()

const metaPrefix = "X-Amz-Meta-"

// storageClasses are those that Amazon S3 knows; only STANDARD is served.
var storageClasses = map[string]bool{"REDUCED_REDUNDANCY": true, "STANDARD_IA": true, "ONEZONE_IA": true, "INTELLIGENT_TIERING": true,
	"GLACIER": true, "GLACIER_IR": true, "DEEP_ARCHIVE": true, "OUTPOSTS": true, "SNOW": true, "EXPRESS_ONEZONE": true, "FSX_OPENZFS": true}

// once are headers besides X-Amz- ones that must not be repeated.
var once = []string{"Authorization", "Date", "Content-Md5", "Content-Encoding", "Content-Type", "Range", "If-Match", "If-None-Match",
	"If-Modified-Since", "If-Unmodified-Since", "If-Range", "Content-Length"}

// checkHeaderSection bounds the header and refuses repeated headers, before
// anything in it is believed.
func (c *call) checkHeaderSection() error {
	size := 0
	for name, values := range c.r.Header {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
		if len(values) > 1 && strings.HasPrefix(name, "X-Amz-") && !strings.HasPrefix(name, metaPrefix) &&
			name != "X-Amz-Object-Attributes" && name != "X-Amz-Optional-Object-Attributes" {
			return failf("InvalidRequest", "Header %s was given more than once", strings.ToLower(name))
		}
	}
	if size > c.api.MaxHeaderBytes {
		return &apiError{code: "RequestHeaderSectionTooLarge", fields: map[string]string{"MaxSizeAllowed": strconv.Itoa(c.api.MaxHeaderBytes)}}
	}
	for _, name := range once {
		if len(c.r.Header[name]) > 1 {
			return failf("InvalidRequest", "Header %s was given more than once", name)
		}
	}
	return nil
}

// hoist turns the x-amz-* parameters of a presigned request into the headers
// that they stand for. They are signed, like every parameter.
func (c *call) hoist() error {
	if !c.auth.Presigned {
		return nil
	}
	for name, values := range c.query {
		if len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") {
			continue
		}
		switch canonical := http.CanonicalHeaderKey(name); canonical {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signedheaders", "X-Amz-Signature", "X-Amz-Content-Sha256":
		default:
			if c.r.Header[canonical] != nil {
				return argument(name, values[0], "Given both as header and as query parameter")
			}
			c.r.Header[canonical] = values
		}
	}
	return nil
}

// checkHeaders refuses what is not done and settles what is the same for every
// operation.
func (c *call) checkHeaders() error {
	h := c.r.Header
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-") && !understood[name] && !strings.HasPrefix(name, metaPrefix) {
			if strings.HasPrefix(name, "X-Amz-Grant-") {
				return fail("AccessControlListNotSupported")
			}
			return notImplemented(strings.ToLower(name))
		}
	}
	for _, name := range []string{"X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"} {
		if v := h[name]; len(v) > 0 && v[0] != c.api.Owner {
			return fail("AccessDenied")
		}
	}
	switch v := c.header("X-Amz-Storage-Class"); {
	case v == "" && h["X-Amz-Storage-Class"] == nil, v == "STANDARD":
	case storageClasses[v]:
		return notImplemented("x-amz-storage-class")
	default:
		return &apiError{code: "InvalidStorageClass", fields: map[string]string{"StorageClassRequested": v}}
	}
	switch v := c.header("X-Amz-Acl"); v {
	case "", "private", "bucket-owner-full-control":
	case "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read", "log-delivery-write":
		return fail("AccessControlListNotSupported")
	default:
		return argument("x-amz-acl", v, "")
	}
	if v := c.header("X-Amz-Request-Payer"); v != "" && v != "requester" {
		return argument("x-amz-request-payer", v, "")
	}
	return nil
}

package s3api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	metaPrefix = "X-Amz-Meta-"
	// ownPrefix is kept for the house: whoever sends such a header means to pass
	// for a part of it.
	ownPrefix = "X-Bivalve-"
)

// storageClasses are those that are kept; Amazon S3's others are refused, because an
// object in them would not be what its owner takes it for.
var storageClasses = map[string]bool{"STANDARD": true, "REDUCED_REDUNDANCY": true, "ONEZONE_IA": true}

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
		if strings.HasPrefix(name, ownPrefix) {
			return failf("InvalidRequest", "Header %s is not for clients", strings.ToLower(name))
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

// presignOnly are the parameters that are about the signature.
var presignOnly = map[string]bool{"X-Amz-Algorithm": true, "X-Amz-Credential": true, "X-Amz-Date": true, "X-Amz-Expires": true,
	"X-Amz-Signedheaders": true, "X-Amz-Signature": true, "X-Amz-Content-Sha256": true}

// digestOfBody tells a parameter that speaks of the checksum of a body. S3 passes over it:
// whoever presigns has no body yet, and clients put the checksum of an empty one there.
func digestOfBody(canonical string) bool {
	return canonical == "X-Amz-Sdk-Checksum-Algorithm" ||
		slices.ContainsFunc(checksumHeaders, func(h struct{ name, algorithm string }) bool { return h.name == canonical })
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
		switch canonical := http.CanonicalHeaderKey(name); {
		case !token(name):
			return argument(name, values[0], "A parameter that stands for a header must have the name of one")
		case presignOnly[canonical], digestOfBody(canonical):
		default:
			if c.r.Header[canonical] != nil {
				return argument(name, values[0], "Given both as header and as query parameter")
			}
			c.r.Header[canonical] = values
		}
	}
	return nil
}

// checkTaken refuses the x-amz headers that the route has no use for, so that no
// wish of a client is dropped in silence.
func (c *call) checkTaken(taken map[string]bool) error {
	for name := range c.r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !taken[name] && !strings.HasPrefix(name, metaPrefix) {
			if strings.HasPrefix(name, "X-Amz-Grant-") {
				return fail("AccessControlListNotSupported")
			}
			return notImplemented(strings.ToLower(name))
		}
	}
	return nil
}

// checkHeaders settles what is the same for every operation.
func (c *call) checkHeaders() error {
	h := c.r.Header
	for _, name := range []string{"X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"} {
		if v := h[name]; len(v) > 0 && v[0] != c.api.Owner {
			return fail("AccessDenied")
		}
	}
	if v := h["X-Amz-Storage-Class"]; v != nil && !storageClasses[v[0]] {
		return &apiError{code: "InvalidStorageClass", fields: map[string]string{"StorageClassRequested": v[0]}}
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

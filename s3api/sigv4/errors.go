package sigv4

import "errors"

// What can be wrong with the signature of a request or of its frames.
var (
	ErrNoAuth              = errors.New("the request is not signed")
	ErrTwoAuths            = errors.New("the request is signed both in the header and in the query")
	ErrSigV2               = errors.New("signature version 2 is not supported")
	ErrUnknownScheme       = errors.New("unsupported authorization type")
	ErrMalformedHeader     = errors.New("malformed authorization header")
	ErrMalformedQuery      = errors.New("malformed authorization query parameters")
	ErrMalformedForm       = errors.New("malformed authorization fields of a form")
	ErrUnknownAccessKey    = errors.New("no such access key")
	ErrMismatch            = errors.New("signature does not match")
	ErrNoDate              = errors.New("no valid date")
	ErrSkewed              = errors.New("request time too skewed")
	ErrExpired             = errors.New("request has expired")
	ErrNotYetValid         = errors.New("request is not valid yet")
	ErrUnsignedHeaders     = errors.New("headers present which were not signed")
	ErrRepeatedHeader      = errors.New("header given more than once")
	ErrSecurityToken       = errors.New("security tokens are not supported")
	ErrNoContentHash       = errors.New("x-amz-content-sha256 is missing")
	ErrBadContentHash      = errors.New("x-amz-content-sha256 is invalid")
	ErrUnsupportedPayload  = errors.New("payload mode is not supported")
	ErrIncompleteBody      = errors.New("the body ended early or its frames are malformed")
	ErrChunkTooSmall       = errors.New("a frame that is not the last is smaller than 8192 bytes")
	ErrMalformedTrailer    = errors.New("malformed trailer")
	ErrFrameTooLarge       = errors.New("frame larger than the declared size")
	errMalformedCredential = errors.New("malformed credential")
)

// Detail wraps one of the sentinels with what exactly was found.
type Detail struct {
	Err    error
	Text   string // for people
	Fields map[string]string
}

func (d *Detail) Error() string { return d.Err.Error() + ": " + d.Text }
func (d *Detail) Unwrap() error { return d.Err }

func detail(err error, text string) error { return &Detail{Err: err, Text: text} }

package sigv4

// Mode says how the body of a request is protected.
type Mode int

const (
	ModeHash            Mode = iota // the whole body has the SHA-256 in Payload.Hash
	ModeUnsigned                    // UNSIGNED-PAYLOAD
	ModeSigned                      // STREAMING-AWS4-HMAC-SHA256-PAYLOAD
	ModeSignedTrailer               // STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
	ModeUnsignedTrailer             // STREAMING-UNSIGNED-PAYLOAD-TRAILER
)

// Framed tells whether the body is aws-chunked.
func (m Mode) Framed() bool { return m >= ModeSigned }

// Trailed tells whether trailers follow the last frame.
func (m Mode) Trailed() bool { return m == ModeSignedTrailer || m == ModeUnsignedTrailer }

// Payload is the parsed x-amz-content-sha256.
type Payload struct {
	Mode Mode
	Hash string // of ModeHash: 64 lower-case hex digits
}

// UnsignedPayload is the value that leaves the body out of the signature.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// Values of x-amz-content-sha256 that announce a framed body.
const (
	StreamingSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// EmptyHash is the SHA-256 of nothing.
const EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// ParsePayload fails closed: a mode that it does not know is an error, so that
// framing never ends up inside an object.
func ParsePayload(v string) (Payload, error) {
	switch v {
	case UnsignedPayload:
		return Payload{Mode: ModeUnsigned}, nil
	case StreamingSigned:
		return Payload{Mode: ModeSigned}, nil
	case StreamingSignedTrailer:
		return Payload{Mode: ModeSignedTrailer}, nil
	case StreamingUnsignedTrailer:
		return Payload{Mode: ModeUnsignedTrailer}, nil
	case "":
		return Payload{}, ErrNoContentHash
	}
	if isHex64(v) {
		return Payload{Mode: ModeHash, Hash: v}, nil
	}
	if len(v) > 10 && v[:10] == "STREAMING-" {
		return Payload{}, detail(ErrUnsupportedPayload, "unknown streaming mode")
	}
	return Payload{}, ErrBadContentHash
}

// isHex64 accepts exactly 64 lower-case hex digits.
func isHex64(v string) bool {
	if len(v) != 64 {
		return false
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Package sigv4 checks AWS Signature Version 4 on requests and unwraps the
// signed frames of streaming uploads. It knows nothing of buckets or of S3 error
// codes: it answers the sentinels of errors.go.
//
// Words: a scope is date/region/service/aws4_request; the seed is the signature
// of the request, on which the signature of the first frame builds; a frame is
// one piece of an aws-chunked body.
//
// There is one way to an identity: Verifier.Verify. It reads the credentials
// from exactly one place (the Authorization header or the query, never a mix),
// and what it signs is what was sent: percent triplets are kept byte for byte.
//
// Start reading at Verifier.Verify, then Frames.
package sigv4

package s3api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
	"bivalve/s3api/sigv4"
)

// Errors that the house may answer beside those of metadata.
var (
	ErrNoSuchAccessKey = sigv4.ErrUnknownAccessKey
	// ErrSlowDown: too much at once; the client should come back later.
	ErrSlowDown = errors.New("slow down")
	// ErrServiceUnavailable: certainly nothing was done; another node or a later
	// moment may serve.
	ErrServiceUnavailable = errors.New("service unavailable")
	// ErrAccessDenied: the identity may not do this.
	ErrAccessDenied = errors.New("access denied")
	// ErrInsufficientStorage: no room for the object.
	ErrInsufficientStorage = errors.New("insufficient storage")
	// ErrWrongKey: the object is encrypted with another key than the client brings.
	ErrWrongKey = errors.New("wrong encryption key")
	// ErrInvalidStorageClass: the region cannot keep objects in that class.
	ErrInvalidStorageClass = errors.New("invalid storage class")
	// ErrNotShared: a copy cannot have the stored bytes of its source.
	ErrNotShared = errors.New("not shared")
	// ErrNotImplemented: a form of the request that the house does not do.
	ErrNotImplemented = errors.New("not implemented")
)

// apiError is an answer to the client: a code of the table below, perhaps with
// another message and further elements.
type apiError struct {
	code    string
	message string // "" = that of the table
	fields  map[string]string
	cause   error // for the log only
}

func (e *apiError) Error() string {
	if e.message != "" {
		return e.code + ": " + e.message
	}
	return e.code
}
func (e *apiError) Unwrap() error { return e.cause }

func fail(code string) error { return &apiError{code: code} }

func failf(code, format string, args ...any) error {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

// argument is InvalidArgument with the name and value that were wrong.
func argument(name, value, message string) error {
	return &apiError{code: "InvalidArgument", message: message,
		fields: map[string]string{"ArgumentName": name, "ArgumentValue": value}}
}

func notImplemented(what string) error {
	return &apiError{code: "NotImplemented", fields: map[string]string{"Header": what}}
}

type codeInfo struct {
	status  int
	message string
}

// codes is the one place where S3 codes meet HTTP statuses.
var codes = map[string]codeInfo{
	"AccessForbidden":                    {403, "Access Forbidden"},
	"AccessControlListNotSupported":      {400, "The bucket does not allow ACLs"},
	"AccessDenied":                       {403, "Access Denied"},
	"AuthorizationHeaderMalformed":       {400, "The authorization header you provided is invalid."},
	"AuthorizationQueryParametersError":  {400, "The authorization query parameters are invalid."},
	"BadDigest":                          {400, "The Content-MD5 you specified did not match what we received."},
	"BadRequest":                         {400, "Bad Request"},
	"BucketAlreadyExists":                {409, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."},
	"BucketAlreadyOwnedByYou":            {409, "Your previous request to create the named bucket succeeded and you already own it."},
	"BucketNotEmpty":                     {409, "The bucket you tried to delete is not empty"},
	"ConditionalRequestConflict":         {409, "The conditional request cannot succeed due to a conflicting operation against this resource."},
	"EntityTooLarge":                     {400, "Your proposed upload exceeds the maximum allowed size"},
	"EntityTooSmall":                     {400, "Your proposed upload is smaller than the minimum allowed size"},
	"IllegalLocationConstraintException": {400, "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to."},
	"IncompleteBody":                     {400, "You did not provide the number of bytes specified by the Content-Length HTTP header"},
	"InternalError":                      {500, "We encountered an internal error. Please try again."},
	"InvalidAccessKeyId":                 {403, "The AWS Access Key Id you provided does not exist in our records."},
	"InvalidArgument":                    {400, "Invalid Argument"},
	"InvalidBucketName":                  {400, "The specified bucket is not valid."},
	"InvalidBucketState":                 {409, "The request is not valid with the current state of the bucket."},
	"InvalidChunkSizeError":              {400, "Only the last chunk is allowed to have a size less than 8192 bytes"},
	"InvalidDigest":                      {400, "The Content-MD5 you specified was invalid."},
	"InvalidEncryptionAlgorithmError":    {400, "The Encryption request you specified is not valid. Supported value: AES256."},
	"InvalidLocationConstraint":          {400, "The specified location-constraint is not valid"},
	"InvalidPart":                        {400, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."},
	"InvalidPartNumber":                  {416, "The requested partnumber is not satisfiable"},
	"InvalidPartOrder":                   {400, "The list of parts was not in ascending order. Parts must be ordered by part number."},
	"InvalidPolicyDocument":              {400, "The content of the form does not meet the conditions specified in the policy document."},
	"InvalidRange":                       {416, "The requested range is not satisfiable"},
	"InvalidRequest":                     {400, "Invalid Request"},
	"InvalidStorageClass":                {400, "The storage class you specified is not valid"},
	"InvalidToken":                       {400, "The provided token is malformed or otherwise invalid."},
	"InvalidURI":                         {400, "Couldn't parse the specified URI."},
	"KeyTooLongError":                    {400, "Your key is too long"},
	"MalformedPOSTRequest":               {400, "The body of your POST request is not well-formed multipart/form-data."},
	"MalformedTrailerError":              {400, "The request contained trailing data that was not well-formed or did not conform to our published schema."},
	"MalformedXML":                       {400, "The XML you provided was not well-formed or did not validate against our published schema"},
	"MaxPostPreDataLengthExceeded":       {400, "Your POST request fields preceding the upload file were too large."},
	"MaxMessageLengthExceeded":           {400, "Your request was too big."},
	"MetadataTooLarge":                   {400, "Your metadata headers exceed the maximum allowed metadata size"},
	"MethodNotAllowed":                   {405, "The specified method is not allowed against this resource."},
	"MissingContentLength":               {411, "You must provide the Content-Length HTTP header."},
	"MissingRequestBodyError":            {400, "Request Body is empty"},
	"NoSuchBucket":                       {404, "The specified bucket does not exist"},
	"NoSuchKey":                          {404, "The specified key does not exist."},
	"NoSuchUpload":                       {404, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."},
	"NoSuchVersion":                      {404, "The specified version does not exist."},
	"NotImplemented":                     {501, "A header or query you provided implies functionality that is not implemented"},
	"NotModified":                        {304, "Not Modified"},
	"OperationAborted":                   {409, "A conflicting conditional operation is currently in progress against this resource. Please try again."},
	"PreconditionFailed":                 {412, "At least one of the pre-conditions you specified did not hold"},
	"RequestHeaderSectionTooLarge":       {400, "Your request header section exceeds the maximum allowed request header section size."},
	"RequestTimeTooSkewed":               {403, "The difference between the request time and the current time is too large."},
	"RequestTimeout":                     {400, "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."},
	"ServerSideEncryptionConfigurationNotFoundError": {404, "The server side encryption configuration was not found"},
	"NoSuchCORSConfiguration":                        {404, "The CORS configuration does not exist"},
	"QuotaExceeded":                                  {403, "The bucket would exceed the quota that the operator has set for it."},
	"ServiceUnavailable":                             {503, "Service is unable to handle request."},
	"SignatureDoesNotMatch":                          {403, "The request signature we calculated does not match the signature you provided. Check your key and signing method."},
	"SlowDown":                                       {503, "Please reduce your request rate."},
	"InsufficientStorage":                            {507, "There is not enough storage space for this request."},
	"TooManyBuckets":                                 {400, "You have attempted to create more buckets than allowed"},
	"XAmzContentSHA256Mismatch":                      {400, "The provided 'x-amz-content-sha256' header does not match what was computed."},
	"XAmzContentChecksumMismatch":                    {400, "The provided 'x-amz-checksum' header does not match what was computed."},

	"IllegalVersioningConfigurationException": {400, "The versioning configuration specified in the request is invalid"},
	"InvalidTag":                           {400, "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation."},
	"NoSuchLifecycleConfiguration":         {404, "The lifecycle configuration does not exist"},
	"NoSuchObjectLockConfiguration":        {404, "The specified object does not have a ObjectLock configuration"},
	"NoSuchTagSet":                         {404, "The TagSet does not exist"},
	"ObjectLockConfigurationNotFoundError": {404, "Object Lock configuration does not exist for this bucket"},
}

// known maps the errors of the parts below to codes, in order.
var known = []struct {
	err     error
	code    string
	message string
}{
	{metadata.ErrNoSuchBucket, "NoSuchBucket", ""},
	{metadata.ErrBucketExists, "BucketAlreadyOwnedByYou", ""},
	{metadata.ErrBucketNotEmpty, "BucketNotEmpty", ""},
	{metadata.ErrTooManyBuckets, "TooManyBuckets", ""},
	{metadata.ErrNoSuchKey, "NoSuchKey", ""},
	{metadata.ErrNoSuchVersion, "NoSuchVersion", ""},
	{metadata.ErrNoSuchUpload, "NoSuchUpload", ""},
	{metadata.ErrInvalidPartOrder, "InvalidPartOrder", ""},
	{metadata.ErrInvalidPart, "InvalidPart", ""},
	{metadata.ErrPartChanged, "InvalidPart", ""},
	{metadata.ErrPartTooSmall, "EntityTooSmall", ""},
	{metadata.ErrConditionFailed, "PreconditionFailed", ""},
	{metadata.ErrConditionConflict, "ConditionalRequestConflict", ""},
	{metadata.ErrConflict, "OperationAborted", ""},
	{metadata.ErrInvalidBucketState, "InvalidBucketState", ""},
	{metadata.ErrLocked, "AccessDenied", "Access Denied because object protected by object lock."},
	{metadata.ErrNoObjectLock, "InvalidRequest", "Bucket is missing Object Lock Configuration"},
	{metadata.ErrIsMarker, "MethodNotAllowed", ""},
	{metadata.ErrMustSeal, "ServiceUnavailable", ""},
	{metadata.ErrQuotaExceeded, "QuotaExceeded", ""},
	{metadata.ErrUnknownOutcome, "InternalError", ""},
	{metadata.ErrUnavailable, "ServiceUnavailable", ""},
	{ErrSlowDown, "SlowDown", ""},
	{ErrServiceUnavailable, "ServiceUnavailable", ""},
	{ErrAccessDenied, "AccessDenied", ""},
	{ErrInsufficientStorage, "InsufficientStorage", ""},
	{ErrWrongKey, "AccessDenied", "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret key."},
	{ErrInvalidStorageClass, "InvalidStorageClass", ""},
	{ErrNotImplemented, "NotImplemented", ""},
	{s3xml.ErrMalformed, "MalformedXML", ""},
	{os.ErrDeadlineExceeded, "RequestTimeout", ""},
	{sigv4.ErrNoAuth, "AccessDenied", ""},
	{sigv4.ErrTwoAuths, "InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"},
	{sigv4.ErrSigV2, "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."},
	{sigv4.ErrUnknownScheme, "InvalidArgument", "Unsupported Authorization Type"},
	{sigv4.ErrUnknownAccessKey, "InvalidAccessKeyId", ""},
	{sigv4.ErrMismatch, "SignatureDoesNotMatch", ""},
	{sigv4.ErrNoDate, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"},
	{sigv4.ErrSkewed, "RequestTimeTooSkewed", ""},
	{sigv4.ErrExpired, "AccessDenied", "Request has expired"},
	{sigv4.ErrNotYetValid, "AccessDenied", "Request is not valid yet"},
	{sigv4.ErrUnsignedHeaders, "AccessDenied", "There were headers present in the request which were not signed"},
	{sigv4.ErrRepeatedHeader, "InvalidRequest", "A header that may be given once was given more than once"},
	{sigv4.ErrSecurityToken, "InvalidToken", ""},
	{sigv4.ErrNoContentHash, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"},
	{sigv4.ErrBadContentHash, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."},
	{sigv4.ErrUnsupportedPayload, "NotImplemented", ""},
	{sigv4.ErrIncompleteBody, "IncompleteBody", "The request body terminated unexpectedly"},
	{sigv4.ErrFrameTooLarge, "IncompleteBody", "The request body holds more than x-amz-decoded-content-length"},
	{sigv4.ErrChunkTooSmall, "InvalidChunkSizeError", ""},
	{sigv4.ErrMalformedTrailer, "MalformedTrailerError", ""},
}

// translate finds the answer for any error.
func translate(err error) *apiError {
	var a *apiError
	if errors.As(err, &a) {
		return a
	}
	out := &apiError{code: "InternalError", cause: err}
	for _, k := range known {
		if errors.Is(err, k.err) {
			out.code, out.message = k.code, k.message
			break
		}
	}
	var d *sigv4.Detail
	if errors.As(err, &d) {
		out.fields = d.Fields
		switch {
		case d.Err == sigv4.ErrMalformedHeader:
			out.code = "AuthorizationHeaderMalformed"
			out.message = "The authorization header is malformed; " + d.Text
		case d.Err == sigv4.ErrMalformedForm:
			out.code, out.message = "InvalidArgument", d.Text
		case d.Err == sigv4.ErrMalformedQuery:
			out.code, out.message = "AuthorizationQueryParametersError", d.Text
		}
	}
	return out
}

// about adds what S3 says of the thing that an error is about.
func (e *apiError) about(c *call) *apiError {
	name, value := "", ""
	switch e.code {
	case "NoSuchBucket", "BucketNotEmpty":
		name, value = "BucketName", c.bucket
	case "PreconditionFailed", "ConditionalRequestConflict": // of a write, which has one condition
		for _, h := range []string{"If-Match", "If-None-Match"} {
			if c.header(h) != "" {
				name, value = "Condition", h
			}
		}
	case "NoSuchKey":
		name, value = "Key", c.key
	case "NoSuchUpload", "InvalidPartOrder":
		name, value = "UploadId", c.query.Get("uploadId")
	}
	if _, there := e.fields[name]; value == "" || there {
		return e
	}
	out := *e
	out.fields = maps.Clone(e.fields)
	if out.fields == nil {
		out.fields = map[string]string{}
	}
	out.fields[name] = value
	return &out
}

// status is the HTTP status of the code.
func (e *apiError) status() int {
	if i, ok := codes[e.code]; ok {
		return i.status
	}
	return http.StatusInternalServerError
}

func (e *apiError) text() string {
	if e.message != "" {
		return e.message
	}
	return codes[e.code].message
}

// legal replaces what XML cannot hold: an error repeats what the client sent, for
// people to read, and any parser must be able to take it.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, s)
}

// element writes the Error element of S3.
func (e *apiError) element(x *s3xml.Writer, resource, requestID, hostID string) {
	x.Open("Error")
	x.Text("Code", e.code)
	x.Text("Message", legal(e.text()))
	for _, name := range slices.Sorted(maps.Keys(e.fields)) {
		x.Text(name, legal(e.fields[name]))
	}
	x.Text("Resource", legal(resource))
	x.Text("RequestId", requestID)
	x.Text("HostId", hostID)
	x.Close("Error")
}

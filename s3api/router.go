package s3api

import (
	"context"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
)

// level says what a request addresses.
type level int

const (
	onService level = iota
	onBucket
	onObject
)

func (l level) String() string { return [...]string{"SERVICE", "BUCKET", "OBJECT"}[l] }

// route is one row of the table: the operation that answers a method on a level
// when the parameters in need (and the header, if any) are there. Parameters
// outside of need and may, and x-amz headers outside of those of every request and
// takes, are answered with NotImplemented, never ignored.
type route struct {
	name   string
	on     level
	method string
	need   string // space-separated query parameters
	header string
	may    string
	takes  string // space-separated x-amz headers without the x-amz-
	serve  func(*call) error
}

const (
	listParams     = "prefix delimiter max-keys encoding-type"
	readParams     = "versionId partNumber response-content-type response-content-language response-expires response-cache-control response-content-disposition response-content-encoding"
	copySourceName = "X-Amz-Copy-Source"
)

// Headers that several routes take.
const (
	everyHeader = "date content-sha256 user-agent expected-bucket-owner request-payer"
	bodyHeaders = " decoded-content-length trailer sdk-checksum-algorithm checksum-algorithm checksum-crc32 checksum-crc32c checksum-crc64nvme checksum-sha1 checksum-sha256"
	lockHeaders = " object-lock-mode object-lock-retain-until-date object-lock-legal-hold"
	newHeaders  = " acl storage-class tagging" + lockHeaders // what a new object may be given
	copyHeaders = " copy-source copy-source-if-match copy-source-if-none-match copy-source-if-modified-since copy-source-if-unmodified-since source-expected-bucket-owner"
	listHeaders = " optional-object-attributes"
	// offers may be declined: with x-amz-te a client says that it would take an MD5 behind
	// the bytes, and looks in the answer whether it is there.
	offers = " te"
)

// routes is the whole API. Within a level and method the first match counts, so
// the more particular ones come first.
var routes = []route{
	{"ListBuckets", onService, "GET", "", "", "prefix max-buckets continuation-token bucket-region", "", (*call).listBuckets},

	{"GetBucketLocation", onBucket, "GET", "location", "", "", "", (*call).getBucketLocation},
	{"GetBucketVersioning", onBucket, "GET", "versioning", "", "", "", (*call).getBucketVersioning},
	{"GetBucketCors", onBucket, "GET", "cors", "", "", "", (*call).getBucketCORS},
	{"PutBucketCors", onBucket, "PUT", "cors", "", "", bodyHeaders, (*call).putBucketCORS},
	{"DeleteBucketCors", onBucket, "DELETE", "cors", "", "", "", (*call).deleteBucketCORS},
	{"GetBucketEncryption", onBucket, "GET", "encryption", "", "", "", (*call).getBucketEncryption},
	{"PutBucketEncryption", onBucket, "PUT", "encryption", "", "", bodyHeaders, (*call).putBucketEncryption},
	{"DeleteBucketEncryption", onBucket, "DELETE", "encryption", "", "", "", (*call).deleteBucketEncryption},
	{"ListObjectVersions", onBucket, "GET", "versions", "", listParams + " key-marker version-id-marker", listHeaders, (*call).listVersions},
	{"GetBucketTagging", onBucket, "GET", "tagging", "", "", "", (*call).getBucketTagging},
	{"GetBucketLifecycleConfiguration", onBucket, "GET", "lifecycle", "", "", "", (*call).getBucketLifecycle},
	{"GetObjectLockConfiguration", onBucket, "GET", "object-lock", "", "", "", (*call).getObjectLockConfiguration},
	{"GetBucketAcl", onBucket, "GET", "acl", "", "", "", (*call).getBucketACL},
	{"ListMultipartUploads", onBucket, "GET", "uploads", "", "prefix delimiter encoding-type key-marker upload-id-marker max-uploads", "", (*call).listUploads},
	{"ListObjectsV2", onBucket, "GET", "list-type", "", listParams + " continuation-token start-after fetch-owner", listHeaders, (*call).listObjectsV2},
	{"ListObjects", onBucket, "GET", "", "", listParams + " marker", listHeaders, (*call).listObjectsV1},
	{"HeadBucket", onBucket, "HEAD", "", "", "", "", (*call).headBucket},
	{"PutBucketTagging", onBucket, "PUT", "tagging", "", "", bodyHeaders, (*call).putBucketTagging},
	{"PutBucketLifecycleConfiguration", onBucket, "PUT", "lifecycle", "", "", "transition-default-minimum-object-size" + bodyHeaders, (*call).putBucketLifecycle},
	{"PutObjectLockConfiguration", onBucket, "PUT", "object-lock", "", "", "bucket-object-lock-token" + bodyHeaders, (*call).putObjectLockConfiguration},
	{"PutBucketVersioning", onBucket, "PUT", "versioning", "", "", "mfa" + bodyHeaders, (*call).putBucketVersioning},
	{"CreateBucket", onBucket, "PUT", "", "", "", "acl object-ownership bucket-object-lock-enabled" + bodyHeaders, (*call).createBucket},
	{"DeleteBucketTagging", onBucket, "DELETE", "tagging", "", "", "", (*call).deleteBucketTagging},
	{"DeleteBucketLifecycle", onBucket, "DELETE", "lifecycle", "", "", "", (*call).deleteBucketLifecycle},
	{"DeleteBucket", onBucket, "DELETE", "", "", "", "", (*call).deleteBucket},
	{"DeleteObjects", onBucket, "POST", "delete", "", "", "mfa bypass-governance-retention" + bodyHeaders, (*call).deleteObjects},
	{"PostObject", onBucket, "POST", "", "", "", "", (*call).postObject},

	{"GetObjectAttributes", onObject, "GET", "attributes", "", "versionId", "object-attributes max-parts part-number-marker" + sseNewHeaders, (*call).getObjectAttributes},
	{"GetObjectTagging", onObject, "GET", "tagging", "", "versionId", "", (*call).getObjectTagging},
	{"GetObjectRetention", onObject, "GET", "retention", "", "versionId", "", (*call).getObjectRetention},
	{"GetObjectLegalHold", onObject, "GET", "legal-hold", "", "versionId", "", (*call).getObjectLegalHold},
	{"GetObjectAcl", onObject, "GET", "acl", "", "versionId", "", (*call).getObjectACL},
	{"ListParts", onObject, "GET", "uploadId", "", "max-parts part-number-marker encoding-type", sseKeyHeaders, (*call).listParts},
	{"GetObject", onObject, "GET", "", "", readParams, "checksum-mode" + offers + sseNewHeaders, (*call).getObject},
	{"HeadObject", onObject, "HEAD", "", "", readParams, "checksum-mode" + sseNewHeaders, (*call).headObject},
	{"PutObjectTagging", onObject, "PUT", "tagging", "", "versionId", bodyHeaders, (*call).putObjectTagging},
	{"PutObjectRetention", onObject, "PUT", "retention", "", "versionId", "bypass-governance-retention" + bodyHeaders, (*call).putObjectRetention},
	{"PutObjectLegalHold", onObject, "PUT", "legal-hold", "", "versionId", bodyHeaders, (*call).putObjectLegalHold},
	{"UploadPartCopy", onObject, "PUT", "uploadId partNumber", copySourceName, "", "copy-source-range" + copyHeaders + sseKeyHeaders + sseSourceHeaders, (*call).uploadPartCopy},
	{"UploadPart", onObject, "PUT", "uploadId partNumber", "", "", bodyHeaders + sseKeyHeaders, (*call).uploadPart},
	{"CopyObject", onObject, "PUT", "", copySourceName, "", "metadata-directive tagging-directive checksum-algorithm" + newHeaders + copyHeaders + sseNewHeaders + sseSourceHeaders, (*call).copyObject},
	{"PutObject", onObject, "PUT", "", "", "", newHeaders + bodyHeaders + sseNewHeaders, (*call).putObject},
	{"DeleteObjectTagging", onObject, "DELETE", "tagging", "", "versionId", "", (*call).deleteObjectTagging},
	{"AbortMultipartUpload", onObject, "DELETE", "uploadId", "", "", "", (*call).abortUpload},
	{"DeleteObject", onObject, "DELETE", "", "", "versionId", "mfa bypass-governance-retention", (*call).deleteObject},
	{"CreateMultipartUpload", onObject, "POST", "uploads", "", "", "checksum-algorithm checksum-type" + newHeaders + sseNewHeaders, (*call).createUpload},
	{"CompleteMultipartUpload", onObject, "POST", "uploadId", "", "", "checksum-type mp-object-size" + bodyHeaders + sseKeyHeaders, (*call).completeUpload},
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// newRouter turns the table into a gorilla router: one subrouter for each level,
// routes by method, header and parameters. Paths are not templates, because keys
// are opaque bytes that the router must neither clean nor decode.
func newRouter() *mux.Router {
	root := mux.NewRouter().UseEncodedPath().SkipClean(true)
	var levels [3]*mux.Router
	for l := range levels {
		levels[l] = root.MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
			return callOf(r.Context()).level() == level(l)
		}).Subrouter()
	}
	for i := range routes {
		rt := &routes[i]
		need := strings.Fields(rt.need)
		levels[rt.on].NewRoute().Methods(rt.method).MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
			c := callOf(r.Context())
			for _, p := range need {
				if !c.query.Has(p) {
					return false
				}
			}
			return rt.header == "" || r.Header[rt.header] != nil
		}).Handler(rt.handler())
	}
	return root
}

// handler checks the parameters and hands over; an error goes back by answerErr.
func (rt *route) handler() http.Handler {
	allowed := map[string]bool{"x-id": true}
	for _, p := range strings.Fields(rt.need + " " + rt.may) {
		allowed[p] = true
	}
	taken := map[string]bool{}
	for _, h := range strings.Fields(everyHeader + " " + rt.takes) {
		taken[http.CanonicalHeaderKey("x-amz-"+h)] = true
	}
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		c.op = rt.name
		for p := range c.query {
			if !allowed[p] && !c.presignParam(p) {
				c.op = "Unknown"
				c.writeError(&apiError{code: "NotImplemented", fields: map[string]string{"Parameter": p}})
				return
			}
		}
		// Some clients name the operation that they mean.
		if id := c.query.Get("x-id"); id != "" && id != rt.name {
			c.writeError(notImplemented("x-id"))
			return
		}
		if err := c.checkTaken(taken); err != nil {
			c.writeError(err)
			return
		}
		if err := rt.serve(c); err != nil {
			c.writeError(err)
		}
	})
}

func (c *call) level() level {
	switch {
	case c.key != "":
		return onObject
	case c.bucket != "":
		return onBucket
	}
	return onService
}

// presignParam tells whether a parameter belongs to a presigned request's
// signature or was taken for a header by hoist.
func (c *call) presignParam(name string) bool {
	return c.auth.Presigned && len(name) > 6 && strings.EqualFold(name[:6], "x-amz-")
}

func (c *call) route() error {
	c.r = c.r.WithContext(context.WithValue(c.r.Context(), callKey{}, c))
	var m mux.RouteMatch
	if !c.api.router.Match(c.r, &m) || m.MatchErr != nil || m.Handler == nil {
		if len(c.query) > 0 {
			return notImplemented(c.r.Method)
		}
		return methodNotAllowed(c.r.Method, c.level().String())
	}
	m.Handler.ServeHTTP(c.w, c.r)
	return nil
}

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
// outside of need and may are answered with NotImplemented, never ignored.
type route struct {
	name   string
	on     level
	method string
	need   string // space-separated query parameters
	header string
	may    string
	serve  func(*call) error
}

const (
	listParams     = "prefix delimiter max-keys encoding-type"
	readParams     = "versionId partNumber response-content-type response-content-language response-expires response-cache-control response-content-disposition response-content-encoding"
	copySourceName = "X-Amz-Copy-Source"
)

// routes is the whole API. Within a level and method the first match counts, so
// the more particular ones come first.
var routes = []route{
	{"ListBuckets", onService, "GET", "", "", "prefix max-buckets continuation-token bucket-region", (*call).listBuckets},

	{"GetBucketLocation", onBucket, "GET", "location", "", "", (*call).getBucketLocation},
	{"GetBucketVersioning", onBucket, "GET", "versioning", "", "", (*call).getBucketVersioning},
	{"GetBucketAcl", onBucket, "GET", "acl", "", "", (*call).getBucketACL},
	{"ListMultipartUploads", onBucket, "GET", "uploads", "", "prefix delimiter encoding-type key-marker upload-id-marker max-uploads", (*call).listUploads},
	{"ListObjectsV2", onBucket, "GET", "list-type", "", listParams + " continuation-token start-after fetch-owner", (*call).listObjectsV2},
	{"ListObjects", onBucket, "GET", "", "", listParams + " marker", (*call).listObjectsV1},
	{"HeadBucket", onBucket, "HEAD", "", "", "", (*call).headBucket},
	{"CreateBucket", onBucket, "PUT", "", "", "", (*call).createBucket},
	{"DeleteBucket", onBucket, "DELETE", "", "", "", (*call).deleteBucket},
	{"DeleteObjects", onBucket, "POST", "delete", "", "", (*call).deleteObjects},
	{"PostObject", onBucket, "POST", "", "", "", (*call).postObject},

	{"GetObjectAttributes", onObject, "GET", "attributes", "", "versionId", (*call).getObjectAttributes},
	{"GetObjectAcl", onObject, "GET", "acl", "", "versionId", (*call).getObjectACL},
	{"ListParts", onObject, "GET", "uploadId", "", "max-parts part-number-marker encoding-type", (*call).listParts},
	{"GetObject", onObject, "GET", "", "", readParams, (*call).getObject},
	{"HeadObject", onObject, "HEAD", "", "", readParams, (*call).headObject},
	{"UploadPartCopy", onObject, "PUT", "uploadId partNumber", copySourceName, "", (*call).uploadPartCopy},
	{"UploadPart", onObject, "PUT", "uploadId partNumber", "", "", (*call).uploadPart},
	{"CopyObject", onObject, "PUT", "", copySourceName, "", (*call).copyObject},
	{"PutObject", onObject, "PUT", "", "", "", (*call).putObject},
	{"AbortMultipartUpload", onObject, "DELETE", "uploadId", "", "", (*call).abortUpload},
	{"DeleteObject", onObject, "DELETE", "", "", "versionId", (*call).deleteObject},
	{"CreateMultipartUpload", onObject, "POST", "uploads", "", "", (*call).createUpload},
	{"CompleteMultipartUpload", onObject, "POST", "uploadId", "", "", (*call).completeUpload},
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

func (c *call) postObject() error { return notImplemented("POST form upload") }

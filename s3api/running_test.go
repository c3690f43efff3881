package s3api_test

import (
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// runningRegion names the endpoint of a region that serves already, in whose place a
// memory store would stand: the tests of bad input knock at it. They empty it first. Its
// keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
const runningRegion = "BIVALVE_TEST_REGION_TO_EMPTY"

// openRunning makes the door of the region that runs the house's, and empties it; false:
// none does.
func (h *house) openRunning() bool {
	h.Helper()
	h.url = os.Getenv(runningRegion)
	if h.url == "" {
		return false
	}
	h.addr = strings.TrimPrefix(h.url, "http://")
	h.signer.AccessKey, h.signer.SecretKey = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	for _, b := range h.listed("/").Buckets {
		bucket := "/" + b.Name
		for {
			page := h.listed(bucket + "?versions&encoding-type=url")
			for _, v := range append(page.Versions, page.DeleteMarkers...) {
				h.want(h.do("DELETE", bucket+"/"+v.path()+"?versionId="+url.QueryEscape(v.VersionID), ""), 204, "")
			}
			if len(page.Versions)+len(page.DeleteMarkers) == 0 {
				break
			}
		}
		for _, u := range h.listed(bucket + "?uploads&encoding-type=url").Uploads {
			h.want(h.do("DELETE", bucket+"/"+u.path()+"?uploadId="+u.UploadID, ""), 204, "")
		}
		h.want(h.do("DELETE", bucket, ""), 204, "")
	}
	return true
}

// listing is what the lists of a region have in common.
type listing struct {
	Buckets       []struct{ Name string } `xml:"Buckets>Bucket"`
	Versions      []version               `xml:"Version"`
	DeleteMarkers []version               `xml:"DeleteMarker"`
	Uploads       []version               `xml:"Upload"`
}

// version is one of an object, or an upload.
type version struct {
	Key       string // as encoding-type=url has it: what XML has no words for may be in it
	VersionID string `xml:"VersionId"`
	UploadID  string `xml:"UploadId"`
}

// path is the key as it goes over the wire.
func (v version) path() string { return strings.ReplaceAll(v.Key, "+", "%20") }

func (h *house) listed(target string) (l listing) {
	h.Helper()
	a := h.do("GET", target, "")
	h.want(a, 200, "")
	if err := xml.Unmarshal([]byte(a.body), &l); err != nil {
		h.Fatal(err)
	}
	return l
}

// fingerprint describes all that a client can see of the region: two that are alike mean
// that nothing has changed.
func (h *house) fingerprint() string {
	h.Helper()
	if h.memory != nil {
		return h.memory.Fingerprint()
	}
	buckets := h.do("GET", "/", "")
	lines := []string{buckets.body}
	for _, b := range h.listed("/").Buckets {
		bucket := "/" + b.Name
		for _, what := range []string{"versions", "uploads", "versioning", "lifecycle", "tagging", "cors", "encryption", "object-lock"} {
			a := h.do("GET", bucket+"?"+what, "")
			if a.code() != "" { // its request id is another each time
				a.body = a.code()
			}
			lines = append(lines, bucket+" "+what+" "+a.body)
		}
		for _, u := range h.listed(bucket + "?uploads&encoding-type=url").Uploads {
			lines = append(lines, h.do("GET", bucket+"/"+u.path()+"?uploadId="+u.UploadID, "").body)
		}
		for _, v := range h.listed(bucket + "?versions&encoding-type=url").Versions {
			a := h.do("GET", bucket+"/"+v.path()+"?versionId="+url.QueryEscape(v.VersionID), "")
			lines = append(lines, fmt.Sprintf("%s %q %d %x", bucket, v.Key, a.StatusCode, md5.Sum([]byte(a.body))))
		}
	}
	return strings.Join(lines, "\n")
}

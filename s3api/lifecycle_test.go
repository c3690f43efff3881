package s3api_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestSDKLifecycle(t *testing.T) {
	h := open(t)
	c, b := h.versioned("cycle")
	_, err := c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b})
	failed(t, err, 404, "NoSuchLifecycleConfiguration")
	date := time.Date(2040, 1, 2, 0, 0, 0, 0, time.UTC)
	oldForm := types.LifecycleRule{ID: aws.String("old form"), Status: types.ExpirationStatusEnabled, Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)}}
	//lint:ignore SA1019 the form that clients of long ago send
	oldForm.Prefix = aws.String("old/")
	rules := []types.LifecycleRule{
		{ID: aws.String("logs & more"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("log/")},
			Expiration: &types.LifecycleExpiration{Days: aws.Int32(10)}},
		{ID: aws.String("all"), Status: types.ExpirationStatusDisabled, Filter: &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{
			Prefix: aws.String("x/"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b"), Value: aws.String("")}},
			ObjectSizeGreaterThan: aws.Int64(0), ObjectSizeLessThan: aws.Int64(500)}},
			Expiration: &types.LifecycleExpiration{Date: &date}, NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(3), NewerNoncurrentVersions: aws.Int32(5)}},
		{ID: aws.String("tag"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Tag: &types.Tag{Key: aws.String("soon"), Value: aws.String("1")}},
			Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)}},
		{ID: aws.String("clean"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
			Expiration: &types.LifecycleExpiration{ExpiredObjectDeleteMarker: aws.Bool(true)}, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(7)}},
		oldForm,
	}
	must[*s3.PutBucketLifecycleConfigurationOutput](t)(c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: b,
		LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}}))
	got := must[*s3.GetBucketLifecycleConfigurationOutput](t)(c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b}))
	if len(got.Rules) != len(rules) {
		t.Fatalf("%d rules", len(got.Rules))
	}
	second := got.Rules[1]
	if and := second.Filter.And; and == nil || *and.Prefix != "x/" || len(and.Tags) != 2 || *and.ObjectSizeGreaterThan != 0 || *and.ObjectSizeLessThan != 500 ||
		!second.Expiration.Date.Equal(date) || *second.NoncurrentVersionExpiration.NewerNoncurrentVersions != 5 || second.Status != types.ExpirationStatusDisabled {
		t.Errorf("rule: %+v", second)
	}
	if a := h.do("GET", "/cycle?lifecycle", ""); !strings.Contains(a.body, "<ID>old form</ID><Prefix>old/</Prefix>") {
		t.Errorf("the old form: %s", a.body)
	}
	if r := got.Rules[2]; r.Filter.Tag == nil || *r.Filter.Tag.Key != "soon" {
		t.Errorf("tag: %+v", r.Filter)
	}

	put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("log/1"), Body: bytes.NewReader([]byte("x")), Tagging: aws.String("soon=1")}))
	head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("log/1")}))
	midnight := head.LastModified.Add(24 * time.Hour).Truncate(24 * time.Hour)
	if midnight.Before(head.LastModified.Add(24 * time.Hour)) {
		midnight = midnight.Add(24 * time.Hour)
	}
	if want := `expiry-date="` + midnight.Format("Mon, 02 Jan 2006 15:04:05 GMT") + `", rule-id="tag"`; aws.ToString(put.Expiration) != want || aws.ToString(head.Expiration) != want {
		t.Errorf("x-amz-expiration %q and %q, want %q", aws.ToString(put.Expiration), aws.ToString(head.Expiration), want)
	}
	must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("log/1"), Body: bytes.NewReader([]byte("y"))}))
	old := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("log/1"), VersionId: put.VersionId}))
	now := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("log/1")}))
	if old.Expiration != nil || !strings.HasSuffix(aws.ToString(now.Expiration), `rule-id="logs%20&%20more"`) {
		t.Errorf("old %v, now %v", aws.ToString(old.Expiration), aws.ToString(now.Expiration))
	}
	must[*s3.DeleteBucketLifecycleOutput](t)(c.DeleteBucketLifecycle(ctx, &s3.DeleteBucketLifecycleInput{Bucket: b}))
	_, err = c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b})
	failed(t, err, 404, "NoSuchLifecycleConfiguration")
}

// TestLifecycleAbortDate: who begins an upload, or looks at it, is told when it will be thrown away.
func TestLifecycleAbortDate(t *testing.T) {
	h := open(t)
	h.bucket("cycle")
	rule := func(id, prefix, days string) string {
		return "<Rule><ID>" + id + "</ID><Status>Enabled</Status><Filter><Prefix>" + prefix + "</Prefix></Filter>" +
			"<AbortIncompleteMultipartUpload><DaysAfterInitiation>" + days + "</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
	}
	doc := "<LifecycleConfiguration>" + rule("late", "", "9") + rule("a b", "soon/", "2") + "</LifecycleConfiguration>"
	for _, there := range []bool{false, true} {
		if there {
			h.want(h.do("PUT", "/cycle?lifecycle", doc), 200, "")
		}
		for key, want := range map[string]struct {
			days int
			rule string
		}{"x": {9, "late"}, "soon/x": {2, "a%20b"}} {
			a := h.do("POST", "/cycle/"+key+"?uploads", "")
			list := h.do("GET", "/cycle/"+key+"?uploadId="+a.element("UploadId"), "")
			h.want(list, 200, "")
			date, id := list.Header.Get("X-Amz-Abort-Date"), list.Header.Get("X-Amz-Abort-Rule-Id")
			if date != a.Header.Get("X-Amz-Abort-Date") || id != a.Header.Get("X-Amz-Abort-Rule-Id") {
				t.Errorf("%s: begun %v, listed %v", key, a.Header, list.Header)
			}
			if !there {
				if date != "" || id != "" {
					t.Errorf("%s, without rules: %q %q", key, date, id)
				}
				continue
			}
			at, err := http.ParseTime(date)
			if days := time.Until(at).Hours() / 24; err != nil || id != want.rule || days < float64(want.days)-0.1 || days > float64(want.days)+1 || !at.Equal(at.Truncate(24*time.Hour)) {
				t.Errorf("%s: %q by %q, %v", key, date, id, err)
			}
		}
	}
}

// TestLifecycleSmallestMoved: Terraform names the default with every configuration, and waits
// until it is told of it.
func TestLifecycleSmallestMoved(t *testing.T) {
	h := open(t)
	c, b := h.versioned("cycle")
	put := func(smallest types.TransitionDefaultMinimumObjectSize) (*s3.PutBucketLifecycleConfigurationOutput, error) {
		return c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: b, TransitionDefaultMinimumObjectSize: smallest,
			LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{ID: aws.String("a"), Status: types.ExpirationStatusEnabled,
				Filter: &types.LifecycleRuleFilter{Prefix: aws.String("a/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)}}}}})
	}
	const all = types.TransitionDefaultMinimumObjectSizeAllStorageClasses128k
	for _, asked := range []types.TransitionDefaultMinimumObjectSize{"", all} {
		if got := must[*s3.PutBucketLifecycleConfigurationOutput](t)(put(asked)); got.TransitionDefaultMinimumObjectSize != all {
			t.Errorf("put: %q", got.TransitionDefaultMinimumObjectSize)
		}
		got := must[*s3.GetBucketLifecycleConfigurationOutput](t)(c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b}))
		if got.TransitionDefaultMinimumObjectSize != all {
			t.Errorf("get: %q", got.TransitionDefaultMinimumObjectSize)
		}
	}
	_, err := put(types.TransitionDefaultMinimumObjectSizeVariesByStorageClass)
	failed(t, err, 501, "NotImplemented")
	_, err = put("none")
	failed(t, err, 400, "InvalidRequest")
}

// TestLifecycleInput: row 122 of the catalogue of bad input.
func TestLifecycleInput(t *testing.T) {
	h := open(t)
	h.bucket("cycle")
	const days, all = "<Expiration><Days>1</Days></Expiration>", "<Filter/>"
	rule := func(rest ...string) string {
		return "<Rule><Status>Enabled</Status>" + strings.Join(rest, "") + "</Rule>"
	}
	doc := func(rules ...string) string {
		return "<LifecycleConfiguration>" + strings.Join(rules, "") + "</LifecycleConfiguration>"
	}
	exp := func(s string) string { return doc(rule(all, "<Expiration>"+s+"</Expiration>")) }
	move := func(s string) string { return doc(rule(all, "<Transition>"+s+"</Transition>")) }
	h.want(h.do("PUT", "/cycle?lifecycle", doc(rule(all, days, "<ID>keep</ID>"))), 200, "")
	for body, want := range map[string]string{
		"": "MissingRequestBodyError", doc(): "MalformedXML", "<Rule/>": "MalformedXML", doc("<Rulez/>"): "MalformedXML",
		exp("<Days>-1</Days>"): "InvalidArgument", exp("<Days>0</Days>"): "InvalidArgument", exp("<Days>1.5</Days>"): "MalformedXML",
		exp("<Days>99999999999</Days>"): "MalformedXML", exp("<Days>1</Days><Date>2030-01-01T00:00:00Z</Date>"): "MalformedXML", exp(""): "MalformedXML",
		exp("<Date>2030-01-01T01:00:00Z</Date>"): "InvalidArgument", exp("<Date>9999-01-01T00:00:00Z</Date>"): "InvalidArgument", exp("<Date>soon</Date>"): "MalformedXML",
		exp("<Dayz>1</Dayz>"): "MalformedXML", exp("<ExpiredObjectDeleteMarker>yes</ExpiredObjectDeleteMarker>"): "MalformedXML",
		exp("<ExpiredObjectDeleteMarker>false</ExpiredObjectDeleteMarker>"): "InvalidRequest",
		doc(rule(days)): "MalformedXML", doc(rule(all, "<Prefix>a</Prefix>", days)): "MalformedXML", doc(rule(all)): "InvalidRequest",
		doc(rule("<Filter><Prefix>a</Prefix><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>", days)):                                                                                       "MalformedXML",
		doc(rule("<Filter><And/></Filter>", days)):                                                                                                                                             "MalformedXML",
		doc(rule("<Filter><Tag><Key>aws:x</Key><Value/></Tag></Filter>", days)):                                                                                                                "InvalidTag",
		doc(rule("<Filter><ObjectSizeLessThan>0</ObjectSizeLessThan></Filter>", days)):                                                                                                         "InvalidArgument",
		doc(rule("<Filter><And><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>", days)):                                              "InvalidRequest",
		doc(rule("<Filter><And><Tag><Key>a</Key><Value/></Tag><Tag><Key>a</Key><Value>1</Value></Tag></And></Filter>", days)):                                                                  "InvalidRequest",
		doc(rule("<Filter><Tag><Key>a</Key><Value>1</Value></Tag></Filter>", "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>")):                          "InvalidRequest",
		doc(rule("<Filter><Tag><Key>a</Key><Value>1</Value></Tag></Filter>", "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>")): "InvalidRequest",
		doc(rule(all, "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>")):                                                        "InvalidArgument",
		doc(rule(all, "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>")):                                                      "MalformedXML",
		doc(rule(all, "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>")):                  "InvalidArgument",
		move("<Days>1</Days><StorageClass>GLACIER</StorageClass>"):                                                                                                                             "NotImplemented", move("<Days>-1</Days><StorageClass>GLACIER</StorageClass>"): "InvalidArgument",
		move("<Date>1970-08-23T00:55:27Z</Date><StorageClass>GLACIER</StorageClass>"): "InvalidArgument", move("<Days>1</Days><StorageClass>ICE</StorageClass>"): "MalformedXML",
		move("<Days>1</Days><Date>2030-01-01T00:00:00Z</Date><StorageClass>GLACIER</StorageClass>"): "MalformedXML", move("<StorageClass>GLACIER</StorageClass>"): "MalformedXML",
		doc(rule(all, "<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>")): "NotImplemented",
		doc(rule(all, "<NoncurrentVersionTransition><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>")):                                   "MalformedXML",
		doc(rule(all, days, "<ID>"+strings.Repeat("x", 256)+"</ID>")):                                                                                       "InvalidArgument",
		doc(rule(all, days, "<ID>a</ID>"), rule(all, days, "<ID>a</ID>")):                                                                                   "InvalidArgument",
		doc("<Rule><Status>enabled</Status><Filter/>" + days + "</Rule>"):                                                                                   "MalformedXML",
		doc(strings.Repeat(rule(all, days), 1001)):                                                                                                          "MalformedXML",
	} {
		if a := h.do("PUT", "/cycle?lifecycle", body); a.code() != want {
			t.Errorf("%.150s: %q, want %q", body, a.code(), want)
		}
	}
	if a := h.do("GET", "/cycle?lifecycle", ""); a.element("ID") != "keep" {
		t.Errorf("a refused configuration changed the rules: %s", a.body)
	}
	h.want(h.do("PUT", "/absent?lifecycle", doc(rule(all, days))), 404, "NoSuchBucket")
}

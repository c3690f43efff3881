package s3api_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestSDKObjectLock(t *testing.T) {
	h := open(t)
	c := h.sdk()
	b, k := aws.String("vault"), aws.String("k")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b, ObjectLockEnabledForBucket: aws.Bool(true)}))
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b, ObjectLockEnabledForBucket: aws.Bool(true)})) // one's own
	_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
	failed(t, err, 409, "InvalidBucketState")

	until := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader([]byte("1")),
		ObjectLockMode: types.ObjectLockModeGovernance, ObjectLockRetainUntilDate: &until, ObjectLockLegalHoldStatus: types.ObjectLockLegalHoldStatusOn}))
	head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}))
	if head.ObjectLockMode != types.ObjectLockModeGovernance || !aws.ToTime(head.ObjectLockRetainUntilDate).Equal(until) || head.ObjectLockLegalHoldStatus != types.ObjectLockLegalHoldStatusOn {
		t.Errorf("head: %+v", head)
	}
	remove := func(version *string, bypass bool) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k, VersionId: version, BypassGovernanceRetention: &bypass})
		return err
	}
	failed(t, remove(put.VersionId, true), 403, "AccessDenied") // the hold
	hold := func(s types.ObjectLockLegalHoldStatus) {
		t.Helper()
		must[*s3.PutObjectLegalHoldOutput](t)(c.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{Bucket: b, Key: k, VersionId: put.VersionId, LegalHold: &types.ObjectLockLegalHold{Status: s}}))
		got := must[*s3.GetObjectLegalHoldOutput](t)(c.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: b, Key: k, VersionId: put.VersionId}))
		if got.LegalHold.Status != s {
			t.Errorf("hold %q", got.LegalHold.Status)
		}
	}
	hold(types.ObjectLockLegalHoldStatusOff)
	failed(t, remove(put.VersionId, false), 403, "AccessDenied")
	if err := remove(nil, false); err != nil {
		t.Errorf("a delete marker: %v", err)
	}
	retain := func(version *string, m types.ObjectLockRetentionMode, at time.Time, bypass bool) error {
		_, err := c.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: b, Key: k, VersionId: version, BypassGovernanceRetention: &bypass,
			Retention: &types.ObjectLockRetention{Mode: m, RetainUntilDate: &at}})
		return err
	}
	failed(t, retain(put.VersionId, types.ObjectLockRetentionModeGovernance, until.Add(-time.Hour), false), 403, "AccessDenied")
	if err := retain(put.VersionId, types.ObjectLockRetentionModeGovernance, until.Add(time.Hour), false); err != nil {
		t.Errorf("longer: %v", err)
	}
	failed(t, retain(put.VersionId, types.ObjectLockRetentionModeCompliance, until.Add(time.Hour), false), 403, "AccessDenied")
	if err := retain(put.VersionId, types.ObjectLockRetentionModeCompliance, until.Add(2*time.Hour), true); err != nil {
		t.Errorf("stricter, bypassed: %v", err)
	}
	for _, err := range []error{remove(put.VersionId, true), retain(put.VersionId, types.ObjectLockRetentionModeCompliance, until, true),
		retain(put.VersionId, types.ObjectLockRetentionModeGovernance, until.Add(9*time.Hour), true)} {
		failed(t, err, 403, "AccessDenied")
	}
	got := must[*s3.GetObjectRetentionOutput](t)(c.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b, Key: k, VersionId: put.VersionId}))
	if got.Retention.Mode != types.ObjectLockRetentionModeCompliance || !aws.ToTime(got.Retention.RetainUntilDate).Equal(until.Add(2*time.Hour)) {
		t.Errorf("retention: %+v", got.Retention)
	}
	many := must[*s3.DeleteObjectsOutput](t)(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, BypassGovernanceRetention: aws.Bool(true),
		Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: k, VersionId: put.VersionId}}}}))
	if len(many.Errors) != 1 || aws.ToString(many.Errors[0].Code) != "AccessDenied" {
		t.Errorf("DeleteObjects: %+v", many)
	}

	conf := must[*s3.GetObjectLockConfigurationOutput](t)(c.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: b}))
	if conf.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled || conf.ObjectLockConfiguration.Rule != nil {
		t.Errorf("configuration: %+v", conf.ObjectLockConfiguration)
	}
	must[*s3.PutObjectLockConfigurationOutput](t)(c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: b,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeGovernance, Days: aws.Int32(3)}}}}))
	up := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: k,
		ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: &until}))
	part := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: k, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("p"))}))
	must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: k, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}))
	if head = must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k})); head.ObjectLockMode != types.ObjectLockModeCompliance {
		t.Errorf("multipart: %+v", head)
	}
	must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy"), CopySource: aws.String("vault/k")}))
	head = must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("copy")}))
	if days := time.Until(aws.ToTime(head.ObjectLockRetainUntilDate)).Hours() / 24; head.ObjectLockMode != types.ObjectLockModeGovernance || days < 2.9 || days > 3.1 {
		t.Errorf("a copy has the default retention, not that of its source: %+v", head)
	}
}

func TestObjectLockInput(t *testing.T) {
	h := open(t)
	h.bucket("plain")
	h.want(h.do("PUT", "/plain/x", "data"), 200, "")
	h.want(h.do("PUT", "/lock", "", "X-Amz-Bucket-Object-Lock-Enabled: true"), 200, "")
	h.want(h.do("PUT", "/plain", "", "X-Amz-Bucket-Object-Lock-Enabled: true"), 409, "BucketAlreadyOwnedByYou")
	h.want(h.do("PUT", "/other", "", "X-Amz-Bucket-Object-Lock-Enabled: maybe"), 400, "InvalidArgument")
	h.want(h.do("PUT", "/lock/x", "data"), 200, "")
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	conf := func(rule string) string {
		return "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>" + rule + "</ObjectLockConfiguration>"
	}
	rule := func(s string) string { return conf("<Rule><DefaultRetention>" + s + "</DefaultRetention></Rule>") }
	ret := func(mode, until string) string {
		return fmt.Sprintf("<Retention><Mode>%s</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>", mode, until)
	}
	for _, c := range []struct{ target, body, want string }{
		{"/plain?object-lock", conf(""), "InvalidBucketState"},
		{"/lock?object-lock", "<ObjectLockConfiguration/>", "MalformedXML"},
		{"/lock?object-lock", "<ObjectLockConfiguration><ObjectLockEnabled>Disabled</ObjectLockEnabled></ObjectLockConfiguration>", "MalformedXML"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode>"), "MalformedXML"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), "MalformedXML"},
		{"/lock?object-lock", rule("<Mode>governance</Mode><Days>1</Days>"), "MalformedXML"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>-1</Days>"), "InvalidArgument"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>0</Days>"), "InvalidArgument"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Years>101</Years>"), "InvalidArgument"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>1.5</Days>"), "MalformedXML"},
		{"/lock?object-lock", rule("<Mode>GOVERNANCE</Mode><Dayz>1</Dayz>"), "MalformedXML"},
		{"/lock?object-lock", "", "MissingRequestBodyError"},
		{"/lock/x?retention", ret("ETERNAL", tomorrow), "MalformedXML"},
		{"/lock/x?retention", ret("GOVERNANCE", "soon"), "MalformedXML"},
		{"/lock/x?retention", ret("GOVERNANCE", "2001-01-01T00:00:00Z"), "InvalidArgument"},
		{"/lock/x?retention", ret("GOVERNANCE", "9999-01-01T00:00:00Z"), "InvalidArgument"},
		{"/lock/x?retention", "<Retention><Mode>GOVERNANCE</Mode></Retention>", "MalformedXML"},
		{"/lock/y?retention", ret("GOVERNANCE", tomorrow), "NoSuchKey"},
		{"/plain/x?retention", ret("GOVERNANCE", tomorrow), "InvalidRequest"},
		{"/plain/x?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>", "InvalidRequest"},
		{"/lock/x?legal-hold", "<LegalHold><Status>on</Status></LegalHold>", "MalformedXML"},
		{"/lock/x?legal-hold", "<LegalHold/>", "MalformedXML"},
		{"/lock/y?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>", "NoSuchKey"},
	} {
		if a := h.do("PUT", c.target, c.body); a.code() != c.want {
			t.Errorf("%s %s: %q, want %q", c.target, c.body, a.code(), c.want)
		}
	}
	for headers, want := range map[[3]string]string{
		{"GOVERNANCE", "", ""}: "InvalidArgument", {"", tomorrow, ""}: "InvalidArgument", {"governance", tomorrow, ""}: "InvalidArgument",
		{"COMPLIANCE", "2001-01-01T00:00:00Z", ""}: "InvalidArgument", {"COMPLIANCE", "tomorrow", ""}: "InvalidArgument", {"", "", "maybe"}: "InvalidArgument",
		{"COMPLIANCE", tomorrow, ""}: "InvalidRequest", // no digest
	} {
		var list []string
		for i, name := range []string{"Mode", "Retain-Until-Date", "Legal-Hold"} {
			if headers[i] != "" {
				list = append(list, "X-Amz-Object-Lock-"+name+": "+headers[i])
			}
		}
		if a := h.do("PUT", "/lock/new", "data", list...); a.code() != want {
			t.Errorf("%q: %q, want %q", headers, a.code(), want)
		}
	}
	far := "2140-01-01T00:00:00Z"
	h.want(h.do("PUT", "/lock/x?retention", ret("GOVERNANCE", far)), 200, "")
	if a := h.do("GET", "/lock/x?retention", ""); a.element("RetainUntilDate") != "2140-01-01T00:00:00.000Z" {
		t.Error(a.body)
	}
	digest := "Content-MD5: jXd/OF09/siBXSD3SWAm3A==" // of "data"
	h.want(h.do("PUT", "/plain/x", "data", digest, "X-Amz-Object-Lock-Legal-Hold: ON"), 400, "InvalidRequest")
	h.want(h.do("GET", "/lock/new", ""), 404, "NoSuchKey")
	h.want(h.do("GET", "/plain?object-lock", ""), 404, "ObjectLockConfigurationNotFoundError")
	h.want(h.do("PUT", "/lock/z", "data"), 200, "")
	h.want(h.do("GET", "/lock/z?retention", ""), 404, "NoSuchObjectLockConfiguration")
	h.want(h.do("GET", "/plain/x?retention", ""), 400, "InvalidRequest")
	h.want(h.do("GET", "/plain/x?legal-hold", ""), 400, "InvalidRequest")
}

// TestRetentionSaidAgain: whoever writes the retention that he has read shortens nothing,
// though a default retention ends within a millisecond.
func TestRetentionSaidAgain(t *testing.T) {
	h := open(t)
	h.want(h.do("PUT", "/again", "", "X-Amz-Bucket-Object-Lock-Enabled: true"), 200, "")
	h.want(h.do("PUT", "/again?object-lock", "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"+
		"<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"), 200, "")
	retention := func(until string) string {
		return "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>" + until + "</RetainUntilDate></Retention>"
	}
	for range 3 {
		h.want(h.do("PUT", "/again/x", "data"), 200, "")
		read := h.do("GET", "/again/x?retention", "").element("RetainUntilDate")
		for range 2 {
			h.want(h.do("PUT", "/again/x?retention", retention(read)), 200, "")
			if now := h.do("GET", "/again/x?retention", "").element("RetainUntilDate"); now != read {
				t.Errorf("%s has become %s", read, now)
			}
		}
		at, err := time.Parse(time.RFC3339Nano, read)
		if err != nil {
			t.Fatal(err)
		}
		h.want(h.do("PUT", "/again/x?retention", retention(at.Add(-time.Millisecond).Format(time.RFC3339Nano))), 403, "AccessDenied")
	}
}

// TestLearned23HoldNeverSet: S3 tells a hold that was lifted from one that never was.
func TestLearned23HoldNeverSet(t *testing.T) {
	h := open(t)
	h.want(h.do("PUT", "/lock", "", "X-Amz-Bucket-Object-Lock-Enabled: true"), 200, "")
	h.want(h.do("PUT", "/plain", ""), 200, "")
	digest := "Content-MD5: jXd/OF09/siBXSD3SWAm3A==" // of "data"
	h.want(h.do("PUT", "/lock/never", "data"), 200, "")
	h.want(h.do("PUT", "/lock/off", "data", digest, "X-Amz-Object-Lock-Legal-Hold: OFF"), 200, "")
	h.want(h.do("PUT", "/lock/on", "data", digest, "X-Amz-Object-Lock-Legal-Hold: ON"), 200, "")
	h.want(h.do("PUT", "/plain/x", "data", digest, "X-Amz-Object-Lock-Legal-Hold: OFF"), 400, "InvalidRequest")
	status := func(key, want string) {
		t.Helper()
		a := h.do("GET", "/lock/"+key+"?legal-hold", "")
		if want == "" {
			h.want(a, 404, "NoSuchObjectLockConfiguration")
		} else if h.want(a, 200, ""); a.element("Status") != want {
			t.Errorf("%s: %s", key, a.body)
		}
		if got := h.do("HEAD", "/lock/"+key, "").Header.Get("X-Amz-Object-Lock-Legal-Hold"); got != want {
			t.Errorf("%s: header %q, want %q", key, got, want)
		}
	}
	status("never", "")
	status("off", "OFF")
	status("on", "ON")
	for _, key := range []string{"never", "on"} {
		h.want(h.do("PUT", "/lock/"+key+"?legal-hold", "<LegalHold><Status>OFF</Status></LegalHold>"), 200, "")
		status(key, "OFF")
	}
}

// TestLearned24BypassNeedsLock: what cannot be locked cannot be bypassed, whatever the header says.
func TestLearned24BypassNeedsLock(t *testing.T) {
	h := open(t)
	h.want(h.do("PUT", "/lock", "", "X-Amz-Bucket-Object-Lock-Enabled: true"), 200, "")
	h.want(h.do("PUT", "/plain", ""), 200, "")
	h.want(h.do("PUT", "/plain/x", "data"), 200, "")
	list := "<Delete><Object><Key>x</Key></Object></Delete>"
	sum := md5.Sum([]byte(list))
	digest := "Content-MD5: " + base64.StdEncoding.EncodeToString(sum[:])
	for _, v := range []string{"true", "false"} {
		bypass := "X-Amz-Bypass-Governance-Retention: " + v
		a := h.do("DELETE", "/plain/x", "", bypass)
		h.want(a, 400, "InvalidArgument")
		if a.element("ArgumentName") != "x-amz-bypass-governance-retention" {
			t.Error(a.body)
		}
		h.want(h.do("POST", "/plain?delete", list, digest, bypass), 400, "InvalidArgument")
		h.want(h.do("DELETE", "/nowhere/x", "", bypass), 404, "NoSuchBucket")
		h.want(h.do("POST", "/lock?delete", list, digest, bypass), 200, "")
		h.want(h.do("DELETE", "/lock/x", "", bypass), 204, "")
	}
	h.want(h.do("GET", "/plain/x", ""), 200, "")
}

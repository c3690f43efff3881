package s3api

import (
	"time"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// lockHeaders reads what a new object shall be protected by.
func (c *call) lockHeaders() (l metadata.Lock, err error) {
	mode, until := c.header("X-Amz-Object-Lock-Mode"), c.header("X-Amz-Object-Lock-Retain-Until-Date")
	switch v := c.header("X-Amz-Object-Lock-Legal-Hold"); v {
	case "":
	case "ON", "OFF":
		l.SetHold(v == "ON")
	default:
		return l, argument("x-amz-object-lock-legal-hold", v, "Legal Hold must be either of 'ON' or 'OFF'")
	}
	if mode == "" && until == "" {
		return l, nil
	}
	if mode == "" || until == "" {
		return l, argument("x-amz-object-lock-mode", mode, "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
	}
	if l.Mode = metadata.LockMode(mode); !knownMode(l.Mode) {
		return l, argument("x-amz-object-lock-mode", mode, "Unknown wormMode directive.")
	}
	l.Until, err = c.retainUntil("x-amz-object-lock-retain-until-date", until)
	return l, err
}

// lockOfNew is lockHeaders for a request with a body, which then needs a digest.
func (c *call) lockOfNew() (metadata.Lock, error) {
	l, err := c.lockHeaders()
	if err != nil || l == (metadata.Lock{}) {
		return l, err
	}
	cl, err := c.checksumClaim()
	if err == nil && cl.algorithm == "" && c.r.Header["Content-Md5"] == nil {
		err = failf("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters")
	}
	return l, err
}

func knownMode(m metadata.LockMode) bool { return m == metadata.Governance || m == metadata.Compliance }

// lastRetention is the end of what Unix nanoseconds can tell; S3 names no limit for
// the date of an object.
var lastRetention = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)

// retainUntil reads a date that must lie ahead. Dates are told in milliseconds, and that
// of a default retention has more digits: what is read here lasts to the end of its
// millisecond, so that a client which says again what it was told shortens nothing.
func (c *call) retainUntil(name, value string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return 0, argument(name, value, "The retain until date must be provided in ISO 8601 format")
	}
	now := c.api.Clock()
	if !t.After(now) {
		return 0, argument(name, value, "The retain until date must be in the future!")
	}
	if t.After(lastRetention) {
		return 0, argument(name, value, "The retain until date is too far in the future")
	}
	return t.Truncate(time.Millisecond).Add(time.Millisecond - 1).UnixNano(), nil
}

// setLock tells how a version is protected.
func setLock(h map[string][]string, l metadata.Lock) {
	if l.Mode != "" {
		h["X-Amz-Object-Lock-Mode"] = []string{string(l.Mode)}
		h["X-Amz-Object-Lock-Retain-Until-Date"] = []string{isoTime(l.Until)}
	}
	if s := holdStatus(l); s != "" {
		h["X-Amz-Object-Lock-Legal-Hold"] = []string{s}
	}
}

// holdStatus is "" if no hold was ever set or lifted.
func holdStatus(l metadata.Lock) string {
	switch {
	case l.Hold:
		return "ON"
	case l.NoHold:
		return "OFF"
	}
	return ""
}

func isoTime(unixNano int64) string {
	return time.Unix(0, unixNano).UTC().Format("2006-01-02T15:04:05.000Z")
}

// lockedBucket answers the error of a bucket without object lock.
func (c *call) lockedBucket() error {
	b, err := c.findBucket()
	if err == nil && b.Rules.Lock == nil {
		err = metadata.ErrNoObjectLock
	}
	return err
}

// getObjectRetention answers the retention of a version.
func (c *call) getObjectRetention() error {
	v, err := c.protected()
	if err != nil {
		return err
	}
	if v.Lock.Mode == "" {
		return fail("NoSuchObjectLockConfiguration")
	}
	x := c.newXML()
	x.Root("Retention")
	x.Text("Mode", string(v.Lock.Mode))
	x.Text("RetainUntilDate", isoTime(v.Lock.Until))
	x.Close("Retention")
	c.sendXML(200, x)
	return nil
}

// protected is the version that the request addresses, in a bucket with object lock.
func (c *call) protected() (metadata.Version, error) {
	if err := c.lockedBucket(); err != nil {
		return metadata.Version{}, err
	}
	return c.version()
}

// putObjectRetention replaces the retention of a version; an empty document takes
// it away.
func (c *call) putObjectRetention() error {
	doc, err := c.readXML(maxConfigXML, "Retention")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	bypass, err := c.bypass()
	if err != nil {
		return err
	}
	if err := c.lockedBucket(); err != nil {
		return err
	}
	l, err := c.parseRetention(doc)
	if err != nil {
		return err
	}
	if err := c.amend(AmendRequest{Retention: &l, Bypass: bypass}); err != nil {
		return err
	}
	c.done()
	return nil
}

func (c *call) parseRetention(doc *s3xml.Node) (l metadata.Lock, err error) {
	if err := doc.Check([]string{"Mode", "RetainUntilDate"}, nil); err != nil {
		return l, err
	}
	if len(doc.Children) == 0 {
		return l, nil
	}
	mode, there := doc.Value("Mode")
	until, there2 := doc.Value("RetainUntilDate")
	if l.Mode = metadata.LockMode(mode); !there || !there2 || !knownMode(l.Mode) {
		return l, fail("MalformedXML")
	}
	if _, err := time.Parse(time.RFC3339Nano, until); err != nil {
		return l, fail("MalformedXML")
	}
	l.Until, err = c.retainUntil("RetainUntilDate", until)
	return l, err
}

// getObjectLegalHold answers whether a version is held.
func (c *call) getObjectLegalHold() error {
	v, err := c.protected()
	if err != nil {
		return err
	}
	status := holdStatus(v.Lock)
	if status == "" {
		return fail("NoSuchObjectLockConfiguration")
	}
	x := c.newXML()
	x.Root("LegalHold")
	x.Text("Status", status)
	x.Close("LegalHold")
	c.sendXML(200, x)
	return nil
}

// putObjectLegalHold sets or lifts a legal hold.
func (c *call) putObjectLegalHold() error {
	doc, err := c.readXML(maxConfigXML, "LegalHold")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	if err := c.lockedBucket(); err != nil {
		return err
	}
	if err := doc.Check([]string{"Status"}, nil); err != nil {
		return err
	}
	status, _ := doc.Value("Status")
	if status != "ON" && status != "OFF" {
		return fail("MalformedXML")
	}
	hold := status == "ON"
	if err := c.amend(AmendRequest{Hold: &hold}); err != nil {
		return err
	}
	c.done()
	return nil
}

// lockOf finds what headers of a request that makes an object say of its lock and
// its tags.
func (c *call) lockAndTags(withBody bool) (l metadata.Lock, tags map[string]string, err error) {
	if tags, err = c.taggingHeader(); err != nil {
		return l, nil, err
	}
	if withBody {
		l, err = c.lockOfNew()
	} else {
		l, err = c.lockHeaders()
	}
	if err == nil && l != (metadata.Lock{}) {
		err = c.lockedBucket() // before the bytes are taken; the commit asks again
	}
	return l, tags, err
}

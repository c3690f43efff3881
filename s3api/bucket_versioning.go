package s3api

import (
	"bivalve/metadata"
)

// getBucketVersioning answers an empty document for a bucket that never had
// versioning.
func (c *call) getBucketVersioning() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("VersioningConfiguration")
	x.Optional("Status", string(b.Rules.Versioning))
	x.Close("VersioningConfiguration")
	c.sendXML(200, x)
	return nil
}

// putBucketVersioning enables or suspends versioning.
func (c *call) putBucketVersioning() error {
	doc, err := c.readXML(maxConfigXML, "VersioningConfiguration")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	if err := doc.Check([]string{"Status", "MfaDelete"}, nil); err != nil {
		return err
	}
	if v, there := doc.Value("MfaDelete"); there && v != "Disabled" {
		if v == "Enabled" {
			return notImplemented("MfaDelete")
		}
		return fail("MalformedXML")
	}
	status, there := doc.Value("Status")
	if !there {
		return failf("IllegalVersioningConfigurationException", "The Versioning element must be specified")
	}
	if v := metadata.Versioning(status); v != metadata.VersioningEnabled && v != metadata.VersioningSuspended {
		return fail("MalformedXML")
	}
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	if b.Rules.Lock != nil && status != string(metadata.VersioningEnabled) {
		return failf("InvalidBucketState", "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
	}
	if _, err := c.api.Settings.ConfigureBucket(c.ctx(), c.bucket, metadata.FieldVersioning, []byte(status)); err != nil {
		return err
	}
	c.done()
	return nil
}

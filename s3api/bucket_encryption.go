package s3api

import (
	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

// putBucketEncryption has new objects encrypted whose requests say nothing of it.
func (c *call) putBucketEncryption() error {
	doc, err := c.readXML(maxConfigXML, "ServerSideEncryptionConfiguration")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	algorithm, err := parseEncryption(doc)
	if err != nil {
		return err
	}
	if _, err := c.api.Settings.ConfigureBucket(c.ctx(), c.bucket, metadata.FieldEncryption, []byte(algorithm)); err != nil {
		return err
	}
	c.done()
	return nil
}

func parseEncryption(doc *s3xml.Node) (string, error) {
	if err := doc.Check([]string{"Rule"}, nil); err != nil {
		return "", err
	}
	rule := doc.Child("Rule")
	if rule == nil {
		return "", fail("MalformedXML")
	}
	if err := rule.Check([]string{"ApplyServerSideEncryptionByDefault", "BucketKeyEnabled"}, nil); err != nil {
		return "", err
	}
	switch v, there := rule.Value("BucketKeyEnabled"); {
	case !there && rule.Child("BucketKeyEnabled") == nil, v == "false":
	case v == "true":
		return "", notImplemented("BucketKeyEnabled")
	default:
		return "", fail("MalformedXML")
	}
	by := rule.Child("ApplyServerSideEncryptionByDefault")
	if by == nil {
		return "", fail("MalformedXML")
	}
	if err := by.Check([]string{"SSEAlgorithm", "KMSMasterKeyID"}, nil); err != nil {
		return "", err
	}
	switch v, _ := by.Value("SSEAlgorithm"); v {
	case aes256:
		if by.Child("KMSMasterKeyID") != nil {
			return "", argument("KMSMasterKeyID", "", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms")
		}
		return metadata.EncryptAES256, nil
	case "aws:kms", "aws:kms:dsse":
		return "", notImplemented("SSEAlgorithm " + v)
	}
	return "", fail("MalformedXML")
}

// getBucketEncryption answers what was put.
func (c *call) getBucketEncryption() error {
	b, err := c.findBucket()
	if err != nil {
		return err
	}
	algorithm := string(b.Settings[metadata.FieldEncryption])
	if algorithm == "" {
		return fail("ServerSideEncryptionConfigurationNotFoundError")
	}
	x := c.newXML()
	x.Root("ServerSideEncryptionConfiguration")
	x.Open("Rule")
	x.Open("ApplyServerSideEncryptionByDefault")
	x.Text("SSEAlgorithm", algorithm)
	x.Close("ApplyServerSideEncryptionByDefault")
	x.Bool("BucketKeyEnabled", false)
	x.Close("Rule")
	x.Close("ServerSideEncryptionConfiguration")
	c.sendXML(200, x)
	return nil
}

// deleteBucketEncryption leaves new objects as they come.
func (c *call) deleteBucketEncryption() error { return c.dropSetting(metadata.FieldEncryption) }

// dropSetting takes one part of the bucket's configuration away.
func (c *call) dropSetting(field string) error {
	if _, err := c.api.Settings.ConfigureBucket(c.ctx(), c.bucket, field, nil); err != nil {
		return err
	}
	c.noContent()
	return nil
}

// Package s3test serves tests of the S3 door and of what stands behind it:
// Memory implements the interfaces of s3api without disks, Run is the suite that
// every implementation must pass, Signer makes requests that s3api believes.
package s3test

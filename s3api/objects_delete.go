package s3api

import (
	"net/http"
	"sync"

	"bivalve/metadata"
	"bivalve/s3api/s3xml"
)

const (
	maxDeleteKeys = 1000
	maxDeleteXML  = 4 << 20
	deleteWorkers = 16
)

type deletion struct {
	key, version string
	cond         metadata.Condition
	done         metadata.Deleted
	err          error
}

// deleteObjects removes up to 1000 objects; each has its own outcome.
func (c *call) deleteObjects() error {
	cl, err := c.checksumClaim()
	if err != nil {
		return err
	}
	if cl.algorithm == "" && c.r.Header["Content-Md5"] == nil {
		return failf("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	doc, err := c.readXML(maxDeleteXML, "Delete")
	if err != nil {
		return err
	}
	if doc == nil {
		return fail("MissingRequestBodyError")
	}
	list, quiet, err := parseDelete(doc)
	if err != nil {
		return err
	}
	if _, err := c.findBucket(); err != nil {
		return err
	}
	bypass, err := c.bypassDelete()
	if err != nil {
		return err
	}
	c.deleteAll(list, bypass)
	x := c.newXML()
	x.Root("DeleteResult")
	for i := range list {
		c.deleted(x, &list[i], quiet)
	}
	x.Close("DeleteResult")
	c.sendXML(200, x)
	return nil
}

// deleteAll deletes what is not refused already, several at a time.
func (c *call) deleteAll(list []deletion, bypass bool) {
	var wg sync.WaitGroup
	next := make(chan *deletion, len(list))
	for i := range list {
		next <- &list[i]
	}
	close(next)
	for range min(deleteWorkers, len(list)) {
		wg.Go(func() {
			for d := range next {
				if d.err == nil {
					d.done, d.err = c.api.Objects.DeleteObject(c.ctx(), DeleteRequest{Bucket: c.bucket, Key: d.key,
						Version: d.version, Condition: d.cond, Bypass: bypass})
				}
			}
		})
	}
	wg.Wait()
}

// deleted writes what became of one.
func (c *call) deleted(x *s3xml.Writer, d *deletion, quiet bool) {
	if d.err == nil {
		if !quiet {
			x.Open("Deleted")
			x.Text("Key", d.key)
			x.Optional("VersionId", d.version)
			if d.done.Marker {
				x.Bool("DeleteMarker", true)
				x.Text("DeleteMarkerVersionId", d.done.ID)
			}
			x.Close("Deleted")
		}
		return
	}
	e := translate(d.err)
	if e.status() == http.StatusInternalServerError {
		c.api.Logger.Warn("delete failed", "req", c.id, "bucket", c.bucket, "key", d.key, "err", d.err)
	}
	x.Open("Error")
	x.Text("Key", d.key)
	x.Optional("VersionId", d.version)
	x.Text("Code", e.code)
	x.Text("Message", e.text())
	x.Close("Error")
}

func parseDelete(doc *s3xml.Node) (list []deletion, quiet bool, err error) {
	if err := doc.Check([]string{"Quiet"}, []string{"Object"}); err != nil {
		return nil, false, err
	}
	switch v, there := doc.Value("Quiet"); {
	case !there && doc.Child("Quiet") == nil, v == "false":
	case v == "true":
		quiet = true
	default:
		return nil, false, fail("MalformedXML")
	}
	for i := range doc.Children {
		o := &doc.Children[i]
		if o.Name != "Object" {
			continue
		}
		if err := o.Check([]string{"Key", "VersionId", "ETag", "LastModifiedTime", "Size"}, nil); err != nil {
			return nil, false, err
		}
		key, there := o.Value("Key")
		if !there {
			return nil, false, fail("MalformedXML")
		}
		d := deletion{key: key, err: checkKey(key)}
		if v, there := o.Value("VersionId"); there && v != "" {
			d.version = v
			if checkVersionID(v) != nil && d.err == nil {
				d.err = fail("NoSuchVersion")
			}
		}
		if v, there := o.Value("ETag"); there || o.Child("ETag") != nil {
			// An empty one would mean no condition at all.
			if d.cond.IfMatch, err = matchOne(v); err != nil && d.err == nil {
				d.err = err
			}
		}
		if o.Child("LastModifiedTime") != nil || o.Child("Size") != nil {
			d.err = notImplemented("conditions on time or size")
		}
		list = append(list, d)
	}
	if len(list) == 0 || len(list) > maxDeleteKeys {
		return nil, false, fail("MalformedXML")
	}
	return list, quiet, nil
}

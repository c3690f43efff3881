package s3api

const maxBucketPage = 10_000

// listBuckets answers a page of buckets.
func (c *call) listBuckets() error {
	limit, err := c.number("max-buckets", maxBucketPage, 1, maxBucketPage)
	if err != nil {
		return err
	}
	q := BucketQuery{Prefix: c.query.Get("prefix"), Limit: limit}
	if t := c.query.Get("continuation-token"); t != "" {
		if q.After, err = openToken("", t); err != nil {
			return err
		}
	}
	if r := c.query.Get("bucket-region"); r != "" && r != c.api.Region {
		return argument("bucket-region", r, "Argument value "+r+" is not a valid AWS Region")
	}
	buckets, more, err := c.api.Buckets.ListBuckets(c.ctx(), q)
	if err != nil {
		return err
	}
	x := c.newXML()
	x.Root("ListAllMyBucketsResult")
	c.owner(x, "Owner")
	x.Open("Buckets")
	for _, b := range buckets {
		x.Open("Bucket")
		x.Text("Name", b.Name)
		x.Time("CreationDate", b.Created)
		x.Text("BucketRegion", c.api.Region)
		x.Close("Bucket")
	}
	x.Close("Buckets")
	if more && len(buckets) > 0 {
		x.Text("ContinuationToken", sealToken("", buckets[len(buckets)-1].Name))
	}
	x.Optional("Prefix", q.Prefix)
	x.Close("ListAllMyBucketsResult")
	c.sendXML(200, x)
	return nil
}

package server

import (
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
)

// bucketMetrics tells what each bucket holds in the partitions that this node leads, from
// its own copy; the sum over all nodes is the region's. Of more than metadata.MaxUsages
// buckets it tells the first by name, so that a scrape stays finite.
type bucketMetrics struct {
	n *Node

	buckets, objects, versions, bytes, uploadBytes *prometheus.Desc
}

func newBucketMetrics(n *Node) *bucketMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("bivalve_bucket_"+name, help+", in the partitions that this node leads.", []string{"bucket"}, nil)
	}
	return &bucketMetrics{n: n,
		buckets: prometheus.NewDesc("bivalve_buckets_without_metrics",
			"1 if there are more buckets than bivalve_bucket_* tell of, which are the first by name.", nil, nil),
		objects:     desc("objects", "Keys with a current version"),
		versions:    desc("versions", "Versions with content, current or not"),
		bytes:       desc("bytes", "Bytes of all versions"),
		uploadBytes: desc("incomplete_upload_bytes", "Bytes of parts of uploads in progress"),
	}
}

// Describe implements prometheus.Collector.
func (m *bucketMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.buckets, m.objects, m.versions, m.bytes, m.uploadBytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Where a partition does not tell, nothing is
// told: rather none than a wrong sum.
func (m *bucketMetrics) Collect(ch chan<- prometheus.Metric) {
	page, err := m.n.catalog.ListBucketsLocal(metadata.BucketPage{Limit: metadata.MaxUsages})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.buckets, err)
		return
	}
	ids := make([]metadata.BucketID, len(page.Buckets))
	for i, b := range page.Buckets {
		ids[i] = b.ID
	}
	sums := make([]metadata.Usage, len(ids))
	for g := replica.GroupID(1); int(g) <= m.n.file.Partitions; g++ {
		if len(ids) == 0 || !m.n.leads(g) {
			continue
		}
		usages, err := m.n.catalog.UsageLocal(g, ids)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(m.bytes, err)
			return
		}
		for i, u := range usages {
			sums[i].Add(u)
		}
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	more := int64(0)
	if page.More {
		more = 1
	}
	gauge(m.buckets, more)
	for i, b := range page.Buckets {
		gauge(m.objects, sums[i].Objects, b.Name)
		gauge(m.versions, sums[i].Versions, b.Name)
		gauge(m.bytes, sums[i].Bytes, b.Name)
		gauge(m.uploadBytes, sums[i].UploadBytes, b.Name)
	}
}

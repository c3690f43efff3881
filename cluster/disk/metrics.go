package disk

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one disk; a nil *metrics counts nothing.
type metrics struct {
	registry  prometheus.Registerer
	all       []prometheus.Collector
	batches   [largeSegment + 1]prometheus.Observer
	bytes     [largeSegment + 1]prometheus.Counter
	readBytes prometheus.Counter
	readBad   prometheus.Counter
}

func newMetrics(d *Disk) *metrics {
	if d.cfg.Registry == nil {
		return nil
	}
	labels := prometheus.Labels{"disk": d.owner.disk.String()}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "bivalve", Subsystem: "disk", Name: name, Help: help, ConstLabels: labels}
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "bivalve", Subsystem: "disk", Name: "batch_seconds", ConstLabels: labels,
		Help: "Time to write and sync one batch.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
	}, []string{"segment"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts(opts("appended_bytes_total", "Bytes made durable.")), []string{"segment"})
	m := &metrics{
		registry:  d.cfg.Registry,
		readBytes: prometheus.NewCounter(prometheus.CounterOpts(opts("read_bytes_total", "Payload bytes read."))),
		readBad:   prometheus.NewCounter(prometheus.CounterOpts(opts("read_failures_total", "Reads that found damage or an I/O error."))),
	}
	for _, k := range []segmentKind{smallSegment, largeSegment} {
		m.batches[k], m.bytes[k] = seconds.WithLabelValues(k.String()), bytes.WithLabelValues(k.String())
	}
	gauge := func(name, help string, value func(Usage) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), func() float64 { return value(d.Usage()) })
	}
	m.all = []prometheus.Collector{
		seconds, bytes, m.readBytes, m.readBad,
		gauge("free_bytes", "Free space above the reserve.", func(u Usage) float64 { return float64(u.FreeBytes) }),
		gauge("live_bytes", "Bytes of records that count.", func(u Usage) float64 { return float64(u.LiveBytes) }),
		gauge("dead_bytes", "Bytes that wait for compaction.", func(u Usage) float64 { return float64(u.DeadBytes) }),
		gauge("shards", "Live shards.", func(u Usage) float64 { return float64(u.Shards) }),
		gauge("damaged_shards", "Shards known to be damaged, not mended yet.", func(u Usage) float64 { return float64(u.Damaged) }),
		gauge("failed", "1 when the disk takes no more writes.", func(u Usage) float64 {
			if u.Failed != nil {
				return 1
			}
			return 0
		}),
	}
	for _, c := range m.all {
		if err := m.registry.Register(c); err != nil {
			d.log.Warn("metric is registered already", "err", err)
		}
	}
	return m
}

func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}

func (m *metrics) batch(k segmentKind, bytes int64, took time.Duration) {
	if m != nil {
		m.batches[k].Observe(took.Seconds())
		m.bytes[k].Add(float64(bytes))
	}
}

func (m *metrics) read(bytes int) {
	if m != nil {
		m.readBytes.Add(float64(bytes))
	}
}

func (m *metrics) readFailed() {
	if m != nil {
		m.readBad.Inc()
	}
}

package s3api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have bounded labels: operations are those of the route table.
type metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	in, out  prometheus.Counter
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bivalve_s3_requests_total", Help: "Requests by operation and HTTP status."}, []string{"operation", "status"}),
		errors:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bivalve_s3_errors_total", Help: "Error answers by operation and S3 code."}, []string{"operation", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bivalve_s3_request_seconds", Help: "Time from the header to the last byte of the answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 13)}, []string{"operation"}),
		in:       prometheus.NewCounter(prometheus.CounterOpts{Name: "bivalve_s3_received_bytes_total", Help: "Payload bytes received."}),
		out:      prometheus.NewCounter(prometheus.CounterOpts{Name: "bivalve_s3_sent_bytes_total", Help: "Body bytes sent."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bivalve_s3_requests_in_flight", Help: "Requests being served."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.errors, m.latency, m.in, m.out, m.inFlight} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) done(operation string, status int, code string, in, out int64, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	if code != "" {
		m.errors.WithLabelValues(operation, code).Inc()
	}
	m.latency.WithLabelValues(operation).Observe(took.Seconds())
	m.in.Add(float64(in))
	m.out.Add(float64(out))
}

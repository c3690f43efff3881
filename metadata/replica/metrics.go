package replica

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	turns, paused, spared, applied, flushes, leaderChanges, logReads prometheus.Counter
	saveSeconds, saveEntries                                         prometheus.Histogram
	proposals, dropped, snapshots                                    *prometheus.CounterVec
	absent                                                           *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "bivalve_replica_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bivalve_replica_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		turns:         counter("turns_total", "Turns of the consensus loop."),
		spared:        counter("spared_messages_total", "Messages left out that only repeated the commit index."),
		paused:        counter("paused_total", "Turns in which a group waited for its state machine."),
		applied:       counter("applied_entries_total", "Entries applied to state machines."),
		flushes:       counter("flushes_total", "State machine flushes."),
		leaderChanges: counter("leader_changes_total", "Leader changes seen, over all groups."),
		logReads:      counter("log_reads_total", "Reads of log entries that memory could not serve."),
		saveSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bivalve_replica_save_seconds", Help: "Time of one synced log transaction.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		saveEntries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bivalve_replica_save_entries", Help: "Entries in one synced log transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		proposals: vec("proposals_total", "Proposals by outcome.", "outcome"),
		dropped:   vec("dropped_messages_total", "Raft messages dropped, by reason.", "reason"),
		snapshots: vec("snapshots_total", "Snapshots by what became of them.", "result"),
	}
	m.absent = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "bivalve_replica_absent_groups", Help: "Groups whose replica here takes no part, by why.",
	}, []string{"role"})
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.turns, m.paused, m.spared, m.applied, m.flushes, m.leaderChanges, m.logReads,
		m.saveSeconds, m.saveEntries, m.proposals, m.dropped, m.snapshots, m.absent,
	} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("replica: register metrics: %w", err)
	}
	return m, nil
}

//go:build e2e

package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/server/servertest"
)

// TestReadOnlyMode: a zone and the witness are gone. Everything answers 503 until the
// operator asks for reads without a majority; then reads are answered and say what they
// are, and writes are not. When a majority is back the mode has no effect.
func TestReadOnlyMode(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "before")
	r.Until("zone b has all of it", func(context.Context) error {
		for _, g := range status(t, r, "a1").Groups {
			for _, m := range g.Replicas {
				if m.Lag > 0 {
					return fmt.Errorf("group %d: %+v", g.Group, m)
				}
			}
		}
		return nil
	})
	if answered := r.Node("b1").WhatMayNotLag(t.Context()); len(answered) == 0 {
		t.Error("nothing is answered to what compares partitions, of a whole region")
	}
	b := r.Nodes(servertest.ZoneB)
	lost := append(r.Nodes(servertest.ZoneA), "w")
	r.Kill(lost...)
	r.Until("zone b has stopped", func(context.Context) error {
		if !stopped(r, b) {
			return fmt.Errorf("it serves")
		}
		return nil
	})
	report, err := r.Node("b2").SetReadOnly(t.Context(), true)
	fatal(t, err)
	if !slices.Equal(report.Told, b) || len(report.Silent) != len(lost) {
		t.Errorf("%+v", report)
	}
	for _, id := range b {
		l.check(id)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp, err := r.Do(t.Context(), id, method, "/ledger/before-5", nil, nil)
			fatal(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			fatal(t, err)
			fatal(t, resp.Body.Close())
			if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Bivalve-Read-Only") == "" {
				t.Errorf("%s at %s: %d %v", method, id, resp.StatusCode, resp.Header)
			}
		}
		for path, body := range map[string]string{"/ledger/new": "small", "/ledger/big": strings.Repeat("x", 1<<20), "/newbucket": ""} {
			if code, err := tries(r, id, http.MethodPut, path, body); err != nil || code != http.StatusServiceUnavailable {
				t.Errorf("PUT %s at %s: %d %v", path, id, code, err)
			}
		}
		if code, err := tries(r, id, http.MethodDelete, "/ledger/before-5", ""); err != nil || code != http.StatusServiceUnavailable {
			t.Errorf("DELETE at %s: %d %v", id, code, err)
		}
		if code, err := tries(r, id, http.MethodGet, "/ledger/nothing", ""); err != nil || code != http.StatusNotFound {
			t.Errorf("GET of nothing at %s: %d %v", id, code, err)
		}
	}
	// What compares partitions, or relies on their counts, is not answered like that.
	for _, id := range b {
		if answered := r.Node(id).WhatMayNotLag(t.Context()); len(answered) > 0 {
			t.Errorf("%s got without a majority: %v", id, answered)
		}
	}
	if a := strings.Join(status(t, r, "b1").Alerts, "; "); !strings.Contains(a, "read-only mode: reads are of the most advanced replica") {
		t.Errorf("alerts: %s", a)
	}
	// A restart keeps the mode, and a majority ends it.
	r.Stop("b1")
	r.Start("b1")
	r.Until("b1 reads", func(context.Context) error {
		if code, err := tries(r, "b1", http.MethodHead, "/ledger/before-5", ""); err != nil || code != http.StatusOK {
			return fmt.Errorf("%d %w", code, err)
		}
		return nil
	})
	r.Start("w")
	l.put("b1", "with the witness")
	r.Until("nothing is said any more", func(context.Context) error {
		for _, id := range b {
			resp, err := r.Do(t.Context(), id, http.MethodHead, "/ledger/before-5", nil, nil)
			if err != nil {
				return err
			}
			fatal(t, resp.Body.Close())
			if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Bivalve-Read-Only") != "" {
				return fmt.Errorf("%s: %d %v", id, resp.StatusCode, resp.Header)
			}
		}
		return nil
	})
	_, err = r.Node("b1").SetReadOnly(t.Context(), false)
	fatal(t, err)
	r.Start(r.Nodes(servertest.ZoneA)...)
	r.WaitReady(r.Nodes()...)
	l.check(cluster.NodeID("a1"))
	if a := strings.Join(status(t, r, "a1").Alerts, "; "); strings.Contains(a, "read-only") {
		t.Errorf("alerts: %s", a)
	}
}

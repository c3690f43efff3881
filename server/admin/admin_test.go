package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestOrders: a scrub is ordered by POST, and not by a page of another origin.
func TestOrders(t *testing.T) {
	orders := 0
	var fail error
	s := NewServer(Config{Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Scrub:  func(context.Context) (any, error) { orders++; return "begun", fail },
		Status: func(context.Context) (any, error) { return "well", nil },
	})
	for _, c := range []struct {
		method, path, site string
		err                error
		want, orders       int
	}{
		{"POST", "/v1/scrub", "", nil, http.StatusOK, 1},
		{"POST", "/v1/scrub", "same-origin", nil, http.StatusOK, 1},
		{"POST", "/v1/scrub", "cross-site", nil, http.StatusForbidden, 0},
		{"GET", "/v1/scrub", "", nil, http.StatusMethodNotAllowed, 0},
		{"POST", "/v1/scrub", "", errors.New("nobody answers"), http.StatusServiceUnavailable, 1},
		{"GET", "/v1/status", "cross-site", nil, http.StatusOK, 0},
		{"POST", "/v1/status", "", nil, http.StatusMethodNotAllowed, 0},
	} {
		orders, fail = 0, c.err
		req := httptest.NewRequest(c.method, c.path, nil)
		if c.site != "" {
			req.Header.Set("Sec-Fetch-Site", c.site)
		}
		rec := httptest.NewRecorder()
		s.Handler.ServeHTTP(rec, req)
		if rec.Code != c.want || orders != c.orders {
			t.Errorf("%s %s %s: %d and %d orders, want %d and %d", c.method, c.path, c.site, rec.Code, orders, c.want, c.orders)
		}
	}
}

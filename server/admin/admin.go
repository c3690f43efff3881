// Package admin is the operator's side of a node: health, readiness, metrics, the
// status of the region and a few orders, over plain HTTP on a listener of its own,
// which is on loopback unless the configuration says otherwise. It changes no data,
// and takes no orders from a web page of another origin.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config of the server.
type Config struct {
	Registry *prometheus.Registry
	// Ready is nil when the node can serve, else why not.
	Ready func(context.Context) error
	// Status is the region's state, made to be JSON.
	Status func(context.Context) (any, error)
	// Scrub begins to verify all shards of the region, and tells what was begun.
	Scrub  func(context.Context) (any, error)
	Logger *slog.Logger
}

// NewServer answers GET /healthz (the process is up), /readyz (it can serve),
// /metrics (Prometheus text) and /v1/status (JSON), and POST /v1/scrub (JSON).
func NewServer(cfg Config) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := cfg.Ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "why": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	mux.HandleFunc("GET /v1/status", ask(cfg.Status))
	mux.HandleFunc("POST /v1/scrub", ask(cfg.Scrub))
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	return &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)}
}

// ask serves what a question, or an order, is answered.
func ask(what func(context.Context) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		v, err := what(ctx)
		if err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, v)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(raw, '\n')) // a client that is gone needs no answer
}

// Package admin is the operator's side of a node: health, readiness, metrics, the
// status of the region and orders to it, over plain HTTP on a listener of its own,
// which is on loopback unless the configuration says otherwise. It takes no orders
// from a web page of another origin.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Order is one that changes the region or asks about it; the answer is made to be
// JSON. The request is there for its path values and query.
type Order func(ctx context.Context, r *http.Request) (any, error)

// Errors of an Order that are not the region's failure.
var (
	// ErrBad: the order itself is wrong.
	ErrBad = errors.New("bad order")
	// ErrRefused: the region is not in the state for it.
	ErrRefused = errors.New("refused")
)

// Config of the server.
type Config struct {
	Registry *prometheus.Registry
	// Ready is nil when the node can serve, else why not.
	Ready func(context.Context) error
	// Status is the region's state, made to be JSON.
	Status func(context.Context) (any, error)
	// Scrub begins to verify all shards of the region, and tells what was begun.
	Scrub func(context.Context) (any, error)
	// Orders are further ones by method and path, such as "POST /v1/layout/plan".
	Orders map[string]Order
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
	for pattern, order := range cfg.Orders {
		mux.HandleFunc(pattern, serve(order, 25*time.Second))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	return &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)}
}

// ask serves what a question, or an order, is answered.
func ask(what func(context.Context) (any, error)) http.HandlerFunc {
	return serve(func(ctx context.Context, _ *http.Request) (any, error) { return what(ctx) }, 10*time.Second)
}

func serve(order Order, timeout time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		v, err := order(ctx, r)
		if err != nil {
			code := http.StatusServiceUnavailable
			switch {
			case errors.Is(err, ErrBad):
				code = http.StatusBadRequest
			case errors.Is(err, ErrRefused):
				code = http.StatusConflict
			}
			answer(w, code, map[string]string{"error": err.Error()})
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

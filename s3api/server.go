package s3api

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer wraps a handler in a server whose time-outs are safe on an open
// network. Bodies have no overall time-out: the handler sets a deadline before
// each read. HTTP/2 is off, S3 clients do not use it.
func NewServer(addr string, h http.Handler, logger *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s := &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		Protocols:         &protocols,
	}
	if logger != nil {
		s.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	}
	return s
}

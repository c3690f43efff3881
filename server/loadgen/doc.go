// Package loadgen loads an S3 endpoint with one kind of request from a number
// of clients and says how many were done, how long they took and what failed.
//
// Run prepares (the bucket, the working set), measures, and cleans up; only the
// middle is on the clock. A client is a goroutine that sends one request after
// another on its own keep-alive connection (run.go). It shares the machine with
// the servers as often as not, so it does little per request: net/http, one
// random payload for all, bodies read into one buffer (client.go).
//
// Bounded: latencies go into histograms of fixed size (histogram.go), errors
// into a fixed number of kinds (report.go), keys are computed and not kept
// (keys.go), requests have a deadline.
//
// Start reading at Run.
package loadgen

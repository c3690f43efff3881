// Package demo runs a whole region on one machine: one real server process per
// node, on loopback, so that anyone can watch a zone die and come back.
//
// The process that runs the demo owns the servers. Another process stops and
// starts a zone by signals and by files in the nodes' folders (control.go).
package demo

package main

import (
	"errors"
	"fmt"
	"time"

	"bivalve/server"
	"bivalve/server/demo"
	"bivalve/server/loadgen"

	"github.com/spf13/cobra"
)

func benchCommand() *cobra.Command {
	var cfg loadgen.Config
	var op, size, dir string
	var asJSON bool
	c := &cobra.Command{
		Use: "bench", Short: "Load an S3 endpoint and report rates and latencies",
		Example: `  bivalve bench --dir bivalve-demo --op put --size 4KiB --clients 16
  bivalve bench --endpoint http://10.1.0.1:9000,http://10.2.0.1:9000 --access-key K --secret-key S --op mixed --size 1MiB`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bytes, err := server.ParseSize(size)
			if err != nil {
				return err
			}
			cfg.Op, cfg.Size = loadgen.Op(op), int64(bytes)
			if dir != "" {
				if err := fromDemo(&cfg, dir); err != nil {
					return err
				}
			}
			rep, err := loadgen.Run(cmd.Context(), cfg)
			if rep == nil {
				return err
			}
			write := rep.WriteTable
			if asJSON {
				write = rep.WriteJSON
			}
			err = errors.Join(err, write(cmd.OutOrStdout()))
			if rep.Ops == 0 {
				err = errors.Join(err, fmt.Errorf("no request succeeded, %d failed", rep.Failed))
			}
			return err
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&cfg.Endpoints, "endpoint", nil, "S3 endpoints, URL,URL,...; the clients are spread over them")
	fl.StringVar(&cfg.AccessKey, "access-key", "", "access key")
	fl.StringVar(&cfg.SecretKey, "secret-key", "", "secret key; better given as BIVALVE_SECRET_KEY")
	fl.StringVar(&cfg.Region, "region", "us-east-1", "region that requests are signed for")
	fl.StringVar(&dir, "dir", "", "folder of a running demo: its endpoints and keys, unless given; its servers' CPU and memory are reported too")
	fl.StringVar(&op, "op", "put", "put, get, head, list, delete, copy or mixed")
	fl.StringVar(&size, "size", "4KiB", "size of an object")
	fl.IntVar(&cfg.Clients, "clients", 16, "requests in flight")
	fl.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long to measure")
	fl.StringVar(&cfg.Bucket, "bucket", "bivalve-bench", "bucket; made, and removed after, if it does not exist")
	fl.IntVar(&cfg.Objects, "objects", 1000, "objects to get, head, list, delete or copy; uploaded before the clock starts")
	fl.Uint64Var(&cfg.MaxOps, "max-ops", 0, "end after so many requests; 0: only by time")
	fl.DurationVar(&cfg.Timeout, "timeout", time.Minute, "of one request")
	fl.BoolVar(&cfg.Keep, "keep", false, "leave the objects")
	fl.BoolVar(&cfg.Verify, "verify", false, "compare every byte of a GET with what was put")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// fromDemo fills in what the flags left open, endpoints of the zones in turn.
func fromDemo(cfg *loadgen.Config, dir string) error {
	info, err := demo.ReadInfo(dir)
	if err != nil {
		return err
	}
	if cfg.AccessKey == "" {
		cfg.AccessKey, cfg.SecretKey = info.AccessKey, info.SecretKey
	}
	cfg.Region = info.Region
	for _, n := range info.Nodes {
		if n.PID > 0 {
			cfg.Servers = append(cfg.Servers, n.PID)
		}
	}
	if len(cfg.Endpoints) > 0 {
		return nil
	}
	for i := 0; ; i++ {
		more := false
		for _, zone := range []string{"a", "b"} {
			if list := info.Endpoints[zone]; i < len(list) {
				cfg.Endpoints, more = append(cfg.Endpoints, list[i]), true
			}
		}
		if !more {
			return nil
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bivalve/server/demo"

	"github.com/spf13/cobra"
)

func adminCommand() *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "Orders to a running region, through the admin listener of any node"}
	c.AddCommand(scrubCommand(), censusCommand(), bucketCommand(), layoutCommand(), diskCommand(), nodeCommand(), recoverCommand(), readOnlyCommand())
	return c
}

// adminFlags say where a region's admin listeners are.
type adminFlags struct{ admin, dir string }

func (f *adminFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.admin, "admin", "http://127.0.0.1:9300", "admin endpoint of any node")
	c.Flags().StringVar(&f.dir, "dir", "", "folder of a demo, instead of --admin")
}

func (f *adminFlags) targets() ([]string, error) {
	if f.dir == "" {
		return []string{f.admin}, nil
	}
	info, err := demo.ReadInfo(f.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range info.Nodes {
		out = append(out, n.Admin)
	}
	return out, nil
}

// ask has the first node that answers serve an order, and reads its JSON into v.
func (f *adminFlags) ask(ctx context.Context, method, path string, query url.Values, v any) ([]byte, error) {
	targets, err := f.targets()
	if err != nil {
		return nil, err
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	raw, err := askNodes(ctx, targets, method, path)
	if err == nil && v != nil {
		err = json.Unmarshal(raw, v)
	}
	return raw, err
}

// answered is an order that a node understood and did not carry out: no other node
// need be asked.
type answered struct{ error }

// askNodes has the first node that answers serve a request.
func askNodes(ctx context.Context, targets []string, method, path string) ([]byte, error) {
	var errs []error
	for _, t := range targets {
		raw, err := askNode(ctx, strings.TrimRight(t, "/")+path, method)
		if err == nil {
			return raw, nil
		}
		if a := (answered{}); errors.As(err, &a) {
			return nil, a.error
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func askNode(ctx context.Context, url, method string) ([]byte, error) {
	timeout := 12 * time.Second
	if method != http.MethodGet {
		timeout = 28 * time.Second // longer than the node gives an order
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	var refusal struct{ Error string }
	if err == nil && (resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusConflict) && json.Unmarshal(raw, &refusal) == nil && refusal.Error != "" {
		return nil, answered{errors.New(refusal.Error)}
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(raw)))
	}
	return raw, err
}

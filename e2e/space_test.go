//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// TestSpace measures what objects of 1 MiB and more take on the disks: within 5%
// of 2(k+m)/k times their bytes.
func TestSpace(t *testing.T) {
	r := startDemo(t, options{})
	r.makeBucket(t, "space")
	empty := r.diskBytes(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	up := manager.NewUploader(r.client(t, r.endpoint(t, "a")), func(u *manager.Uploader) { u.PartSize = 16 << 20; u.Concurrency = 2 })
	var user int64
	var g errgroup.Group
	g.SetLimit(4)
	n := 0
	for _, c := range []struct{ count, size int64 }{{100, 1 << 20}, {40, 3<<20 + 12345}, {20, 8 << 20}, {4, 60<<20 + 1}} {
		for range c.count {
			n++
			key, seed := fmt.Sprintf("object-%d", n), uint64(n)
			user += c.size
			g.Go(func() error {
				_, err := up.Upload(ctx, &s3.PutObjectInput{Bucket: ptr("space"), Key: &key, Body: noise(seed, c.size)})
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	p := r.info(t).Profile
	factor := 2 * float64(p.K+p.M) / float64(p.K)
	check := func(when string) {
		took := r.diskBytes(t) - empty
		over := float64(took)/(factor*float64(user)) - 1
		text := fmt.Sprintf("%s: %s of %d objects take %s on %d disks: %.3f times their bytes, %+.1f%% of 2(k+m)/k = %.2f",
			when, mib(user), n, mib(took), r.disks(t), float64(took)/float64(user), 100*over, factor)
		if math.Abs(over) > 0.05 {
			t.Error(text)
		} else {
			t.Log(text)
		}
	}
	check("while it runs")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	check("stopped")
}

func (r *region) disks(t testing.TB) (n int) {
	for _, node := range r.info(t).Nodes {
		n += len(node.Disks)
	}
	return n
}

// diskBytes is what the files in all disk directories take.
func (r *region) diskBytes(t testing.TB) int64 {
	t.Helper()
	var sum int64
	for _, n := range r.info(t).Nodes {
		for _, d := range n.Disks {
			err := filepath.WalkDir(d, func(_ string, e fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return sum
}

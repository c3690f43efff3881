//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestPgBackRest keeps a PostgreSQL's backups and write-ahead log in a region, over
// TLS: a full and an incremental backup through one zone, more rows, and a table that
// is dropped by mistake; then that zone is killed, and the database is restored to
// the moment before the mistake through the other, goes on, is backed up again, and
// the old backups expire.
func TestPgBackRest(t *testing.T) {
	cert := newTLSCert(t, t.TempDir())
	p := newPostgres(t, cert.Cert)
	r, _ := loopRegion{nodesPerZone: 2, disksPerNode: 1, tls: cert.TLSFiles}.start(t)
	r.allUp(t)
	client := func(zone string) *s3.Client {
		return r.client(t, r.endpoint(t, zone), config.WithHTTPClient(newHTTPClient(cert.roots)))
	}
	if _, err := client("a").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr("postgres")}); err != nil {
		t.Fatal(err)
	}
	p.keepIn(t, r, "a")
	p.start(t)
	p.backrest(t, "stanza-create")
	p.backrest(t, "check") // a segment of the log arrives

	p.sql(t, "CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, cents bigint NOT NULL)")
	p.sql(t, "INSERT INTO account SELECT i, md5(i::text), i * 37 FROM generate_series(1, 20000) i")
	begun := time.Now()
	p.backrest(t, "--type=full", "backup")
	full := time.Since(begun)
	p.sql(t, "UPDATE account SET cents = cents + 1 WHERE id % 3 = 0; DELETE FROM account WHERE id % 1000 = 7")
	begun = time.Now()
	p.backrest(t, "--type=incr", "backup")
	incr := time.Since(begun)
	p.sql(t, "INSERT INTO account SELECT i, md5(i::text), i FROM generate_series(30001, 31000) i") // in the log alone
	want := p.rows(t)
	target := p.sql(t, "SELECT clock_timestamp()")
	p.sql(t, "DROP TABLE account")
	p.sql(t, "SELECT pg_switch_wal()")
	p.backrest(t, "check") // and all before it is archived too
	p.stop(t)

	r.stopZone(t, "a")
	p.keepIn(t, r, "b")
	begun = time.Now()
	p.backrest(t, "--delta", "--type=time", "--target="+target, "--target-action=promote", "restore")
	p.start(t)
	eventually(t, 30*time.Second, "the restored database takes writes", func() error {
		if out := p.sql(t, "SELECT pg_is_in_recovery()"); out != "f" {
			return errors.New("it is in recovery")
		}
		return nil
	})
	restored := time.Since(begun)
	if got := p.rows(t); got != want {
		t.Fatalf("rows before the mistake %s, restored %s", want, got)
	}

	p.sql(t, "INSERT INTO account VALUES (0, 'after', 0)")
	p.backrest(t, "--type=full", "backup") // with retention 1 the one before expires
	if out := p.backrest(t, "--output=json", "info"); strings.Count(out, `"type":"full"`) != 1 || strings.Contains(out, `"type":"incr"`) || !strings.Contains(out, `"message":"ok"`) {
		t.Errorf("after the old backups expired: %s", out)
	}
	kept := len(listAll(t, client("b"), "postgres", "repo/backup/main/2"))
	p.stop(t)
	p.backrest(t, "--delta", "restore")
	p.start(t)
	if got := p.sql(t, "SELECT count(*) FROM account WHERE owner = 'after'"); got != "1" {
		t.Errorf("%s rows of the last backup", got)
	}
	p.stop(t)
	t.Logf("full backup %.1f s, incremental %.1f s, restored to %s in %.1f s with zone a dark; %d objects are left of one full backup",
		full.Seconds(), incr.Seconds(), target, restored.Seconds(), kept)
}

// postgres is a database of its own on a socket in its folder, run by a user that
// is not root.
type postgres struct {
	dir, bin, backrestBin, ca string
	as                        *syscall.Credential // nil: whoever runs the test

	running bool
}

func newPostgres(t *testing.T, ca string) *postgres {
	t.Helper()
	p := &postgres{backrestBin: program(t, "pgbackrest")}
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(bins) == 0 {
		missing(t, "postgresql")
	}
	p.bin = filepath.Dir(bins[len(bins)-1])
	var err error
	if p.dir, err = os.MkdirTemp("", "bivalve-e2e-pg-"); err != nil { // t.TempDir is for its owner alone
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.running {
			_, _ = p.run(t, filepath.Join(p.bin, "pg_ctl"), "-D", p.data(), "-m", "immediate", "stop")
		}
		if t.Failed() {
			log, err := os.ReadFile(filepath.Join(p.dir, "log"))
			t.Logf("postgres said: %s %v", tail(string(log), 3000), err)
		}
		if err := os.RemoveAll(p.dir); err != nil {
			t.Error(err)
		}
	})
	p.ca = filepath.Join(p.dir, "ca.pem")
	raw, err := os.ReadFile(ca)
	if err := errors.Join(err, os.WriteFile(p.ca, raw, 0o644)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			missing(t, "the user of postgresql")
		}
		uid, _ := strconv.Atoi(u.Uid) // they are numbers on Linux
		gid, _ := strconv.Atoi(u.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	p.must(t, filepath.Join(p.bin, "initdb"), "-D", p.data(), "-A", "trust", "-U", "app", "-E", "UTF8", "--locale=C")
	conf := fmt.Sprintf(`
listen_addresses = ''
unix_socket_directories = '%s'
shared_buffers = 32MB
archive_mode = on
archive_command = '%s --config=%s --stanza=main archive-push %%p'
`, p.dir, p.backrestBin, p.config())
	f, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(conf)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postgres) data() string   { return filepath.Join(p.dir, "data") }
func (p *postgres) config() string { return filepath.Join(p.dir, "pgbackrest.conf") }

// keepIn writes pgBackRest's configuration: the repository is behind a zone's first
// endpoint.
func (p *postgres) keepIn(t *testing.T, r *region, zone string) {
	t.Helper()
	u, err := url.Parse(r.endpoint(t, zone))
	if err != nil {
		t.Fatal(err)
	}
	info := r.info(t)
	conf := fmt.Sprintf(`[global]
repo1-type=s3
repo1-path=/repo
repo1-s3-bucket=postgres
repo1-s3-endpoint=localhost
repo1-storage-port=%s
repo1-storage-ca-file=%s
repo1-s3-uri-style=path
repo1-s3-region=%s
repo1-s3-key=%s
repo1-s3-key-secret=%s
repo1-retention-full=1
start-fast=y
compress-type=lz4
process-max=2
archive-timeout=30
log-level-console=warn
log-level-file=off
lock-path=%s
spool-path=%s

[main]
pg1-path=%s
pg1-socket-path=%s
pg1-user=app
pg1-database=postgres
`, u.Port(), p.ca, info.Region, info.AccessKey, info.SecretKey, filepath.Join(p.dir, "lock"), filepath.Join(p.dir, "spool"), p.data(), p.dir)
	if err := os.WriteFile(p.config(), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.as != nil {
		if err := os.Chown(p.config(), int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a program as the database's user.
func (p *postgres) run(t testing.TB, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second // pg_ctl leaves the server with its standard error
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, tail(out.String(), 2000), tail(errs.String(), 2000))
	}
	return strings.TrimSpace(out.String()), nil
}

func (p *postgres) must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := p.run(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (p *postgres) start(t testing.TB) {
	t.Helper()
	p.running = true
	p.must(t, filepath.Join(p.bin, "pg_ctl"), "-D", p.data(), "-w", "-t", "60", "-l", filepath.Join(p.dir, "log"), "start")
}

func (p *postgres) stop(t testing.TB) {
	t.Helper()
	p.must(t, filepath.Join(p.bin, "pg_ctl"), "-D", p.data(), "-w", "-m", "fast", "stop")
	p.running = false
}

func (p *postgres) backrest(t testing.TB, args ...string) string {
	t.Helper()
	return p.must(t, p.backrestBin, append([]string{"--config=" + p.config(), "--stanza=main"}, args...)...)
}

func (p *postgres) sql(t testing.TB, query string) string {
	t.Helper()
	return p.must(t, filepath.Join(p.bin, "psql"), "-h", p.dir, "-U", "app", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qAtc", query)
}

// rows is the number and the sum of all rows.
func (p *postgres) rows(t testing.TB) string {
	t.Helper()
	return p.sql(t, "SELECT count(*), md5(string_agg(id || ':' || owner || ':' || cents, ',' ORDER BY id)) FROM account")
}

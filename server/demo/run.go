package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// startTimeout bounds how long the region may take to serve.
const startTimeout = 60 * time.Second

// Run runs the demo until ctx ends, then stops every server.
func Run(ctx context.Context, o Options, out io.Writer) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(o.Dir)), 0o755); err != nil {
		return err
	}
	info, err := prepare(o)
	if err != nil {
		return err
	}
	held, err := lock(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	// Servers die with this thread if the demo is killed (Pdeathsig follows the
	// thread that started them), so it stays on one.
	runtime.LockOSThread()
	d := &demo{o: o, info: info, procs: make([]*process, len(info.Nodes)), out: out}
	defer func() { err = errors.Join(err, d.stopAll()) }()
	for i, n := range info.Nodes {
		for _, mark := range []string{stoppedFile, startFile} {
			if err := os.Remove(filepath.Join(n.Dir, mark)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := d.start(i); err != nil {
			return err
		}
	}
	if err := d.awaitReady(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := info.write(o.Dir); err != nil {
		return err
	}
	d.greet()
	return d.supervise(ctx)
}

type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

type demo struct {
	o     Options
	info  *Info
	procs []*process
	out   io.Writer
}

// logFile is in each node's folder.
const logFile = "server.log"

// start runs one server; its words go to its log file.
func (d *demo) start(i int) error {
	n := &d.info.Nodes[i]
	log, err := os.OpenFile(filepath.Join(n.Dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(d.o.Binary, "server", "--config", filepath.Join(n.Dir, "config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	// A Ctrl-C is for the demo, which then stops the servers in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start node %s: %w", n.ID, err), log.Close())
	}
	p := &process{cmd: cmd, log: log, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }() // ends with the process, which stopAll ends
	d.procs[i], n.PID = p, cmd.Process.Pid
	return nil
}

// awaitReady returns once every node serves.
func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, n := range d.info.Nodes {
		for {
			err := ready(ctx, n)
			if err == nil {
				break
			}
			if err := d.ended(); err != nil { // any of them: the others wait for it
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %s does not serve after %s: %w", n.ID, startTimeout, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// ended tells of a server that is no longer there.
func (d *demo) ended() error {
	for i, p := range d.procs {
		select {
		case exit := <-p.done:
			p.done <- exit
			n := d.info.Nodes[i]
			return fmt.Errorf("node %s ended: %v; see %s", n.ID, exit, filepath.Join(n.Dir, logFile))
		default:
		}
	}
	return nil
}

// ready asks a node whether it can serve.
func ready(ctx context.Context, n NodeInfo) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Admin+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("node %s: %s: %s", n.ID, resp.Status, body)
	}
	return err
}

func (d *demo) greet() {
	fmt.Fprintf(d.out, "The region serves. k=%d m=%d in each of zones a and b; the witness breaks ties.\n\n", d.info.Profile.K, d.info.Profile.M)
	for _, zone := range []string{"a", "b"} {
		fmt.Fprintf(d.out, "  zone %s   %v\n", zone, d.info.Endpoints[zone])
	}
	a, b := d.info.Endpoints["a"][0], d.info.Endpoints["b"][0]
	fmt.Fprintf(d.out, `
Paste this into another terminal:

  export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_DEFAULT_REGION=%s
  aws --endpoint-url %s s3 mb s3://hello
  aws --endpoint-url %s s3 cp /etc/services s3://hello/
  %s demo zone stop a --dir %s
  aws --endpoint-url %s s3 cp s3://hello/services -
  %s demo zone start a --dir %s
  %s status --dir %s

Ctrl-C stops everything; the same --dir resumes it.
`, d.info.AccessKey, d.info.SecretKey, d.info.Region, a, a, d.o.Binary, d.o.Dir, b, d.o.Binary, d.o.Dir, d.o.Binary, d.o.Dir)
}

// supervise starts again what StartZone asks for, and says when a server ends;
// it restarts nothing by itself.
func (d *demo) supervise(ctx context.Context) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(d.out, "Stopping.")
			return nil
		case <-t.C:
		}
		changed := false
		for i := range d.info.Nodes {
			n := &d.info.Nodes[i]
			if p := d.procs[i]; p != nil {
				select {
				case err := <-p.done:
					fmt.Fprintf(d.out, "node %s ended: %v\n", n.ID, err)
					d.procs[i], n.PID, changed = nil, 0, true
					if err := p.log.Close(); err != nil {
						return err
					}
				default:
				}
				continue
			}
			if err := os.Remove(filepath.Join(n.Dir, startFile)); err == nil {
				if err := d.start(i); err != nil {
					return err
				}
				fmt.Fprintf(d.out, "node %s started\n", n.ID)
				changed = true
			} else if !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if changed {
			if err := d.info.write(d.o.Dir); err != nil {
				return err
			}
		}
	}
}

// stopAll drains every server and kills what does not end.
func (d *demo) stopAll() error {
	var errs []error
	for _, p := range d.procs {
		if p != nil {
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				errs = append(errs, err)
			}
		}
	}
	late := time.After(30 * time.Second)
	for i, p := range d.procs {
		if p == nil {
			continue
		}
		select {
		case <-p.done:
		case <-late:
			errs = append(errs, fmt.Errorf("node %s did not drain and was killed", d.info.Nodes[i].ID), p.cmd.Process.Kill())
			<-p.done
		}
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}

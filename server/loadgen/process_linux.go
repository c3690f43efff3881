package loadgen

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// clockTicks is USER_HZ, the unit of /proc/PID/stat: 100 wherever Go runs.
const clockTicks = 100

// processWatch remembers what the processes had spent when it began.
type processWatch struct {
	servers []int
	own     float64
	spent   float64
}

// watchProcesses begins to watch. No servers: nothing is watched, and end
// returns nil.
func watchProcesses(servers []int) (*processWatch, error) {
	w := &processWatch{servers: servers}
	if len(servers) == 0 {
		return w, nil
	}
	for _, pid := range servers {
		// 5 lowers the peak to what is resident now (proc(5)).
		if err := os.WriteFile(procFile(pid, "clear_refs"), []byte("5"), 0); err != nil {
			return nil, err
		}
	}
	var err error
	w.own, w.spent, err = w.read()
	return w, err
}

func (w *processWatch) end() (*Use, error) {
	if len(w.servers) == 0 {
		return nil, nil
	}
	own, spent, err := w.read()
	if err != nil {
		return nil, err
	}
	u := &Use{ClientCPU: own - w.own, ServerCPU: spent - w.spent}
	for _, pid := range w.servers {
		peak, err := peakBytes(pid)
		if err != nil {
			return nil, err
		}
		u.ServerPeak = max(u.ServerPeak, peak)
	}
	return u, nil
}

// read returns the CPU seconds of this process and of all servers.
func (w *processWatch) read() (own, servers float64, err error) {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0, 0, fmt.Errorf("getrusage: %w", err)
	}
	own = float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
	for _, pid := range w.servers {
		s, err := cpuSeconds(pid)
		if err != nil {
			return 0, 0, err
		}
		servers += s
	}
	return own, servers, nil
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func cpuSeconds(pid int) (float64, error) {
	raw, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything; after it come state and numbers.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%s: %d fields after the name", procFile(pid, "stat"), len(f))
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64) // field 14 of proc(5)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return float64(user+system) / clockTicks, errors.Join(err1, err2)
}

func peakBytes(pid int) (int64, error) {
	raw, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no VmHWM", procFile(pid, "status"))
}

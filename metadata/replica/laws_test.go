package replica

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

type noTransport struct{}

func (noTransport) SendRaft(ReplicaID, []byte) bool { return true }
func (noTransport) SendSnapshot(context.Context, ReplicaID, []byte, io.Reader) error {
	return errors.New("no transport")
}

// single opens a host that is the only voter of group 0, to be stepped by hand.
func single(t *testing.T, log LogStore, disk *kvDisk, tune func(*Config)) (*Host, error) {
	t.Helper()
	if disk.image.KV == nil {
		if err := disk.load(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{
		Replica: 1, Dir: t.TempDir(), Log: log, Transport: noTransport{}, Seed: 5,
		NewStateMachine:     func(GroupID) (StateMachine, error) { return openKV(disk), nil },
		RestoreStateMachine: func(_ GroupID, path string) (StateMachine, error) { return restoreKV(disk, path) },
	}
	if tune != nil {
		tune(&cfg)
	}
	return Open(cfg)
}

func mustSingle(t *testing.T, log LogStore, disk *kvDisk, tune func(*Config)) *Host {
	t.Helper()
	h, err := single(t, log, disk, tune)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// settle turns until nothing is left to do; apply says whether appliers run.
func settle(h *Host, apply bool) error {
	for range 1000 {
		more, err := h.turn()
		if err != nil {
			return err
		}
		for _, g := range h.all() {
			for busy := apply; busy; {
				if busy, err = g.ap.step(); err != nil {
					return err
				}
			}
		}
		if !more {
			return nil
		}
	}
	return errors.New("never settles")
}

func elect(t *testing.T, h *Host) {
	t.Helper()
	for range 3 * electionTicks {
		h.in.tick()
		if err := settle(h, true); err != nil {
			t.Fatal(err)
		}
	}
	if h.Leader(0) != h.cfg.Replica {
		t.Fatal("no leader")
	}
}

func offer(h *Host, data []byte) *proposal {
	p := &proposal{seq: h.seq.Add(1), done: make(chan outcome, 1)}
	p.data = encodeEntry(h.cfg.Replica, p.seq, data)
	h.in.addProposal(p)
	return p
}

func answerOf(t *testing.T, p *proposal) outcome {
	t.Helper()
	select {
	case out := <-p.done:
		return out
	default:
		t.Fatal("no answer")
		return outcome{}
	}
}

func TestBootReconcilesLogAndState(t *testing.T) {
	conf, err := marshalConf(&raftpb.ConfState{Voters: []uint64{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		log      Update
		at       Applied
		mark     uint64 // after the boot
		last     uint64
		rebuilds bool
	}{
		{"state within the log", Update{HardState: hardState(2, 0, 4), Entries: entriesAt(2, 1, 6)}, Applied{4, 2, conf}, 0, 6, false},
		{"state beyond the commit index saved", Update{HardState: hardState(2, 0, 1), Entries: entriesAt(2, 1, 6)}, Applied{4, 2, conf}, 0, 6, false},
		{"snapshot installed, log shorter", Update{HardState: hardState(2, 1, 3), Entries: entriesAt(2, 1, 6)}, Applied{20, 5, conf}, 20, 20, false},
		{"snapshot installed, log has entries never committed there",
			Update{HardState: hardState(2, 1, 1), Entries: entriesAt(2, 1, 30)}, Applied{20, 5, conf}, 20, 20, false},
		{"state rolled back behind the log", Update{HardState: hardState(2, 0, 9), Reset: &Mark{Index: 9, Term: 2}}, Applied{4, 2, conf}, 0, 0, true},
		{"state of another history", Update{HardState: hardState(2, 0, 6), Entries: entriesAt(2, 1, 6)}, Applied{4, 1, conf}, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := newMemLog()
			if err := log.Save([]Update{c.log}, true); err != nil {
				t.Fatal(err)
			}
			h, err := single(t, log, &kvDisk{image: kvImage{At: c.at, KV: map[string]string{}, Done: map[string]string{}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.rebuilds {
				if st := h.Status()[0]; st.Role != RoleRebuilding || !errors.Is(st.Halted, ErrDamaged) {
					t.Fatalf("%+v", st)
				}
				return
			}
			g := h.group(0)
			if g.st.mark.Index != c.mark || g.st.last != c.last || g.commit < c.at.Index || g.st.hs.GetTerm() < c.at.Term {
				t.Fatalf("log (%d, %d], hard state %v", g.st.mark.Index, g.st.last, g.st.hs)
			}
			if st, err := log.InitialState(0); err != nil || st.Mark.Index != c.mark || st.LastIndex != c.last {
				t.Fatalf("stored %+v %v", st, err)
			}
		})
	}
}

// An entry of a later version stops the group, and what came before it is applied.
func TestUnknownEntryHaltsTheGroup(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	elect(t, h)
	good := offer(h, command("a", "k", "v"))
	bad := offer(h, command("b", "k", "w"))
	bad.data[0] = entryVersion + 1
	later := offer(h, command("c", "k", "x"))
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if out := answerOf(t, good); out.err != nil {
		t.Fatal(out.err)
	}
	for _, p := range []*proposal{bad, later} {
		if out := answerOf(t, p); !errors.Is(out.err, ErrUnknown) || !errors.Is(out.err, ErrHalt) {
			t.Fatal(out.err)
		}
	}
	if st := h.Status()[0]; st.Role != RoleHalted || st.Halted == nil {
		t.Fatalf("%+v", st)
	}
	after := offer(h, command("d", "k", "y"))
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if out := answerOf(t, after); !errors.Is(out.err, ErrHalt) || errors.Is(out.err, ErrUnknown) {
		t.Fatal(out.err)
	}
}

// A command that the state machine does not know halts its group as well.
func TestStateMachineMayHalt(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	elect(t, h)
	offer(h, []byte("nonsense"))
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if h.Status()[0].Role != RoleHalted {
		t.Fatal("went on")
	}
}

type failingLog struct {
	*memLog
	err error
}

func (l *failingLog) Save(us []Update, sync bool) error {
	if l.err != nil {
		return l.err
	}
	return l.memLog.Save(us, sync)
}

// A failed save ends Run at once; nothing is acknowledged after it.
func TestSaveErrorIsFatal(t *testing.T) {
	log := &failingLog{memLog: newMemLog()}
	h := mustSingle(t, log, &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	elect(t, h)
	log.err = errors.New("EIO")
	p := offer(h, command("a", "k", "v"))
	err := h.Run(context.Background())
	if !errors.Is(err, log.err) {
		t.Fatal(err)
	}
	if out := p.abandon(ErrDropped, ErrUnknown); !errors.Is(out.err, ErrUnknown) {
		t.Fatal(out)
	}
	if _, err := h.Propose(context.Background(), 0, nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := h.Run(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

type failingFlush struct{ *kv }

func (failingFlush) Flush() (Applied, error) { return Applied{}, errors.New("EIO on flush") }

func TestFlushErrorIsFatal(t *testing.T) {
	disk := &kvDisk{}
	log := newMemLog()
	h := mustSingle(t, log, disk, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	h = mustSingle(t, log, disk, func(c *Config) {
		c.Tick = time.Millisecond
		c.NewStateMachine = func(GroupID) (StateMachine, error) { return failingFlush{openKV(disk)}, nil }
	})
	if err := h.Run(testContext(t)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("went on after a failed flush: %v", err)
	}
}

// A state machine that stands still fills its queue, then the group pauses, then
// proposals are refused; memory stays bounded and nothing accepted is lost.
func TestSlowStateMachineIsBackPressure(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, func(c *Config) { c.ApplyQueueBytes, c.ProposalBytes = 64<<10, 32<<10 })
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	elect(t, h)
	var taken []*proposal
	refused := false
	for i := 0; i < 500 && !refused; i++ {
		p := &proposal{seq: h.seq.Add(1), done: make(chan outcome, 1)}
		p.data = encodeEntry(1, p.seq, command(string(rune('a'+i%26))+time.Duration(i).String(), "k", string(make([]byte, 1024))+"v"))
		if refused = !h.in.addProposal(p); refused {
			break
		}
		taken = append(taken, p)
		if i%8 == 0 && !h.group(0).ap.full() {
			if err := settle(h, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !refused || !h.group(0).ap.full() {
		t.Fatalf("took %d proposals and the queue is full: %v", len(taken), h.group(0).ap.full())
	}
	for range 3 {
		if err := settle(h, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range taken {
		if out := answerOf(t, p); out.err != nil {
			t.Fatal(out.err)
		}
	}
}

// What a peer may not send is dropped before raft sees it.
func TestHandleRaftRefuses(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, nil)
	ok := func() *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(1)}
	}
	for name, c := range map[string]struct {
		alter func(*raftpb.Message)
		taken int
	}{
		"sound":             {func(*raftpb.Message) {}, 1},
		"for another":       {func(m *raftpb.Message) { m.To = proto.Uint64(3) }, 0},
		"in another's name": {func(m *raftpb.Message) { m.From = proto.Uint64(3) }, 0},
		"proposal":          {func(m *raftpb.Message) { m.Type = raftpb.MsgProp.Enum() }, 0},
		"snapshot": {func(m *raftpb.Message) {
			m.Type, m.Snapshot = raftpb.MsgSnap.Enum(), &raftpb.Snapshot{}
		}, 0},
		"wish for a snapshot": {func(m *raftpb.Message) { m.Type = raftpb.MsgSnap.Enum() }, 1},
		"election":            {func(m *raftpb.Message) { m.Type = raftpb.MsgHup.Enum() }, 0},
		"local":               {func(m *raftpb.Message) { m.Type = raftpb.MsgStorageAppendResp.Enum() }, 0},
		"read of nothing":     {func(m *raftpb.Message) { m.Type = raftpb.MsgReadIndex.Enum() }, 0},
	} {
		m := ok()
		c.alter(m)
		b, err := appendMessage(nil, 0, 0, m)
		if err != nil {
			t.Fatal(err)
		}
		h.HandleRaft(2, b)
		if got := len(h.in.take().msgs); got != c.taken {
			t.Errorf("%s: %d taken", name, got)
		}
	}
	h.HandleRaft(2, []byte{9, 9})
	h.in.maxBytes = 100
	b, err := appendMessage(nil, 0, 0, ok())
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		h.HandleRaft(2, b)
	}
	if got := len(h.in.take().msgs); got > 3 {
		t.Errorf("a full inbox took %d messages", got)
	}
}

// A replica of another epoch is not heard, so it never votes again.
func TestOtherEpochIsNotHeard(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1, 2, 3}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		epoch uint32
		term  uint64 // after a message of term 7
	}{{1, 1}, {0, 7}} {
		h := mustSingle(t, h.cfg.Log, &kvDisk{image: h.group(0).ap.sm.(*kv).image()}, nil)
		b, err := appendMessage(nil, 0, c.epoch, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(7)})
		if err != nil {
			t.Fatal(err)
		}
		h.HandleRaft(2, b)
		if _, err := h.turn(); err != nil {
			t.Fatal(err)
		}
		if got := h.group(0).rn.BasicStatus().GetTerm(); got != c.term {
			t.Errorf("epoch %d: term %d", c.epoch, got)
		}
	}
}

// A caller that gives up before raft saw the proposal knows that it did not happen.
func TestAbandonedProposals(t *testing.T) {
	log := newMemLog()
	h := mustSingle(t, log, &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { _, err = h.Propose(ctx, 0, command("a", "k", "v")) })
	eventually(t, "the proposal to wait", func() bool {
		h.in.mu.Lock()
		defer h.in.mu.Unlock()
		return len(h.in.props) == 1
	})
	cancel()
	wg.Wait()
	if !errors.Is(err, ErrDropped) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	elect(t, h)
	if out, err := h.QueryLocal(0, []byte("k")); err != nil || string(out) != "" {
		t.Fatalf("an abandoned proposal happened: %q %v", out, err)
	}
	if _, err := h.Propose(ctx, 5, nil); !errors.Is(err, ErrDropped) {
		t.Fatal(err)
	}
	if _, err := h.Propose(context.Background(), 5, nil); !errors.Is(err, ErrNoGroup) {
		t.Fatal(err)
	}
}

func TestConfChangesThatMakeNoSense(t *testing.T) {
	cs := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
	for name, c := range map[string]ConfChange{
		"nothing":             {},
		"zero":                {AddLearners: []ReplicaID{0}},
		"twice":               {Promote: []ReplicaID{4}, Remove: []ReplicaID{4}},
		"demotes":             {AddLearners: []ReplicaID{1}},
		"promotes a stranger": {Promote: []ReplicaID{9}},
		"removes a stranger":  {Remove: []ReplicaID{9}},
		"too few left":        {Remove: []ReplicaID{1}},
	} {
		if err := checkConfChange(cs, c); !errors.Is(err, ErrBadConf) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]ConfChange{
		"learner":  {AddLearners: []ReplicaID{5}},
		"exchange": {Promote: []ReplicaID{4}, Remove: []ReplicaID{1}},
		"leave":    {Remove: []ReplicaID{4}},
	} {
		if err := checkConfChange(cs, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func confOf(voters ...uint64) *raftpb.ConfState { return &raftpb.ConfState{Voters: voters} }

// A leader that counts on entries which are not here: the log was replaced by an
// older one. raft would panic; the group leaves instead, and the others stay.
func TestForgottenEntriesHoldTheGroup(t *testing.T) {
	h := mustSingle(t, newMemLog(), &kvDisk{}, func(c *Config) {
		c.NewStateMachine = func(GroupID) (StateMachine, error) {
			d := &kvDisk{}
			if err := d.load(); err != nil {
				return nil, err
			}
			return openKV(d), nil
		}
	})
	for g := range GroupID(2) {
		if err := h.Bootstrap(g, []ReplicaID{1, 2, 3}, nil); err != nil {
			t.Fatal(err)
		}
	}
	before, err := h.cfg.Log.InitialState(1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := appendMessage(nil, 1, 0, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2),
		To: proto.Uint64(1), Term: proto.Uint64(7), Commit: proto.Uint64(500)})
	if err != nil {
		t.Fatal(err)
	}
	h.HandleRaft(2, b)
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if roleOf(h, 1) != RoleHeld || roleOf(h, 0) != RoleFollower {
		t.Fatalf("%+v", h.Status())
	}
	after, err := h.cfg.Log.InitialState(1)
	if err != nil || after.LastIndex != before.LastIndex || !proto.Equal(after.HardState, before.HardState) {
		t.Fatalf("the log of a held group changed: %+v %+v %v", before, after, err)
	}
	h.HandleRaft(2, b)
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

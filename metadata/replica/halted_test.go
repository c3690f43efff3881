package replica

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

// Whoever asks a group that has halted is sent away at once, and may ask elsewhere.
func TestHaltedGroupSendsReadersAway(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRegion(t, 1, 2, nil)
	r.leader(0)
	h := r.node(1).host
	if _, err := h.Propose(testContext(t), 0, []byte("junk")); err == nil {
		t.Fatal("junk is applied")
	}
	eventually(t, "the group to halt", func() bool { return roleOf(h, 0) == RoleHalted })
	if _, err := h.Query(testContext(t), 0, []byte("k")); !errors.Is(err, ErrHalt) {
		t.Errorf("a read: %v", err)
	}
	if _, err := h.Propose(testContext(t), 0, command("w1", "k", "v")); !errors.Is(err, ErrHalt) {
		t.Errorf("a write: %v", err)
	}
	r.leader(1)
	put(t, r.node(1).router, 1, "w1", "k", "v")
	r.close()
}

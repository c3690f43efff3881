package membership

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// How long a death takes to be seen, for a region of up to ten nodes:
//
//	until somebody probes the dead node        0..0.4 s  (every node probes one other each ProbeInterval)
//	until that probe is given up               0.2..0.4 s (ProbeInterval, doubled at worst)
//	suspicion, in which a live node refutes    1.2..2.4 s (shorter the more nodes accuse)
//	until all others have heard                0.1..0.3 s
//
// Three of seven killed at once are accused by all four survivors, which brings
// suspicion to about 1.4 s and the whole to about 2 s. Suspicion grows with
// log10 of the number of nodes: 2.4 s at a hundred.
//
// What keeps a busy node alive: a late answer to a UDP probe costs nothing by
// itself, for three others are asked to probe and a TCP ping goes out beside
// them. If all of that fails too the node is only suspected, hears so with the
// next packet, and refutes. To be declared dead falsely it must be silent for
// more than a second, long for a scheduler on two busy cores.
const (
	probeInterval = 200 * time.Millisecond
	// probeTimeout is far above a round trip inside a region (1-2 ms): it only
	// decides when the indirect probes start.
	probeTimeout  = 100 * time.Millisecond
	suspicionMult = 6
	// The default of 6 would let suspicion last 7 s where few can accuse, which
	// is just what is left when a zone has died.
	suspicionMaxTimeoutMult = 2
	// awarenessMax: a node whose helpers do not answer believes that it is itself
	// slow and probes more slowly. With a zone gone half its helpers are dead,
	// so it may slow down by no more than two.
	awarenessMax   = 2
	gossipInterval = 100 * time.Millisecond
	// pushPullInterval mends by a full exchange what gossip lost.
	pushPullInterval = 15 * time.Second
	tcpTimeout       = 2 * time.Second
	// deadReclaim: a member that died may come back under another address then.
	deadReclaim = 5 * time.Second
	// gossipToDead is how long memberlist itself still talks to the dead; the
	// rejoin loop goes on for ever.
	gossipToDead = 30 * time.Second
	// rejoinInterval and rejoinTries bound what the rejoin loop costs: a dial
	// to a dead address takes tcpTimeout.
	rejoinInterval = 3 * time.Second
	rejoinTries    = 3
	// maxMembers bounds the table.
	maxMembers = 4096
)

func tuned() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxTimeoutMult
	c.AwarenessMaxMultiplier = awarenessMax
	c.GossipInterval, c.GossipToTheDeadTime = gossipInterval, gossipToDead
	c.PushPullInterval = pushPullInterval
	c.TCPTimeout = tcpTimeout
	c.DeadNodeReclaimTime = deadReclaim
	c.EnableCompression = false // packets are small, processors are busy
	return c
}

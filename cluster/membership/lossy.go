package membership

import (
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// lossy loses what is sent to some addresses. Cut from both sides it is a link
// that is down.
type lossy struct {
	*memberlist.NetTransport
	lost func(addr string) bool
}

var _ memberlist.NodeAwareTransport = lossy{}

func newLossy(mc *memberlist.Config, lost func(string) bool) (memberlist.Transport, error) {
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{mc.BindAddr}, BindPort: mc.BindPort, Logger: mc.Logger,
	})
	if err != nil {
		return nil, err
	}
	return lossy{t, lost}, nil
}

func (t lossy) WriteTo(b []byte, addr string) (time.Time, error) {
	if t.lost(addr) {
		return time.Now(), nil
	}
	return t.NetTransport.WriteTo(b, addr)
}

func (t lossy) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t lossy) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if t.lost(addr) {
		return nil, fmt.Errorf("dial %s: lost", addr)
	}
	return t.NetTransport.DialTimeout(addr, timeout)
}

func (t lossy) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

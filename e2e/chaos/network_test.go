//go:build e2e

package chaos

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// network is the region's own internet: a namespace for every host, each on a
// cable to one router, which is a namespace too. Everything between two hosts
// crosses the router, and there it is cut, lost, refused or delayed. Its addresses
// exist nowhere else.
type network struct {
	router *namespace
	hosts  map[string]*host

	mu    sync.Mutex
	rules map[int]string // of the router, by the fault that has put them
	next  int
}

// host is one machine: it has an address and nothing else.
type host struct {
	*namespace
	name, zone, addr string
}

// zoneNumbers are the third numbers of the zones' addresses.
var zoneNumbers = map[string]int{"a": 1, "b": 2, "w": 3}

// subnet holds all addresses of a zone.
func subnet(zone string) string { return fmt.Sprintf("10.231.%d.0/24", zoneNumbers[zone]) }

const routerAddr = "10.231.0.1"

func newNetwork() (*network, error) {
	router, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n := &network{router: router, hosts: map[string]*host{}, rules: map[int]string{}}
	err = router.in(func() error {
		for name, v := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "0", "conf/default/rp_filter": "0",
			"conf/all/send_redirects": "0", "conf/default/send_redirects": "0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(v), 0); err != nil {
				return err
			}
		}
		return nil
	})
	return n, errors.Join(err, n.apply())
}

// plug adds a host.
func (n *network) plug(name, zone string, number int) (*host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &host{namespace: ns, name: name, zone: zone, addr: fmt.Sprintf("10.231.%d.%d", zoneNumbers[zone], number)}
	n.hosts[name] = h
	port := "to-" + name
	atRouter := fmt.Sprintf(`link add %s type veth peer name eth0 netns %s
addr add %s/32 dev %s
link set %s up
route add %s/32 dev %s
`, port, ns.path(), routerAddr, port, port, h.addr, port)
	atHost := fmt.Sprintf(`addr add %s/32 dev eth0
link set eth0 up
route add %s/32 dev eth0
route add default via %s
`, h.addr, routerAddr, routerAddr)
	return h, errors.Join(n.router.feed(atRouter, "ip", "-batch", "-"), ns.feed(atHost, "ip", "-batch", "-"))
}

// rule puts statements into the router's way and returns what takes them out.
func (n *network) rule(statements ...string) (undo func() error, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := n.next
	n.next++
	n.rules[id] = strings.Join(statements, "\n")
	if err := n.apply(); err != nil {
		delete(n.rules, id)
		return nil, err
	}
	return func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.rules, id)
		return n.apply()
	}, nil
}

// apply sets the router's rules, all at once.
func (n *network) apply() error {
	var b strings.Builder
	b.WriteString("table inet chaos\ndelete table inet chaos\ntable inet chaos {\nchain forward {\ntype filter hook forward priority 0; policy accept;\n")
	for _, id := range slices.Sorted(maps.Keys(n.rules)) {
		b.WriteString(n.rules[id] + "\n")
	}
	b.WriteString("}\n}\n")
	return n.router.feed(b.String(), "nft", "-f", "-")
}

// oneWay drops what goes from one address or subnet to another.
func oneWay(from, to, verdict string) string {
	return fmt.Sprintf("ip saddr %s ip daddr %s %s", from, to, verdict)
}

// bothWays does so in both directions.
func bothWays(x, y, verdict string) string {
	return oneWay(x, y, verdict) + "\n" + oneWay(y, x, verdict)
}

// lossy is the verdict that drops so many packets of a hundred.
func lossy(percent int) string { return fmt.Sprintf("numgen random mod 100 < %d drop", percent) }

func (n *network) close() error {
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(append(errs, n.router.close())...)
}

package lab

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridge joins the hosts by the kernel's bridge, in a namespace of its own.
// Each host has a veth pair to it. Links are cut by rules of the bridge family
// of nftables on pairs of ports, so that whatever a host sends is cut: address
// resolution, floating addresses and flooded frames as well.
type bridge struct {
	ns *namespace
	nl *netlink.Handle

	mu    sync.Mutex
	nft   *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
	cut   map[[2]int]bool   // by index of host, from and to
	count map[[2]int]uint64 // dropped frames of rules that are gone
}

// Ports of the bridge are named by the index of the host.
func portName(index int) string { return fmt.Sprintf("port%d", index) }

func newBridge() (_ *bridge, err error) {
	b := &bridge{cut: make(map[[2]int]bool), count: make(map[[2]int]uint64)}
	if b.ns, err = newNamespace(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	fd := int(b.ns.file.Fd())
	if b.nl, err = netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	snooping := false
	dev := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	dev.Name = "br0"
	if err := b.nl.LinkAdd(dev); err != nil {
		return nil, fmt.Errorf("add the bridge: %w", err)
	}
	// The namespace is only a wire: its own IPv6 stack stays silent.
	err = b.ns.do(func() error {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644)
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := b.nl.LinkSetUp(dev); err != nil {
		return nil, fmt.Errorf("bridge up: %w", err)
	}
	if b.nft, err = nftables.New(nftables.WithNetNSFd(fd)); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	b.table = b.nft.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: "lab"})
	b.chain = b.nft.AddChain(&nftables.Chain{
		Name: "forward", Table: b.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	if err := b.nft.Flush(); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return b, nil
}

func (b *bridge) attach(h *Host) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = portName(h.index)
	attrs.TxQLen = 10000
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: linkName, PeerHardwareAddr: h.mac,
		PeerNamespace: netlink.NsFd(h.ns.file.Fd()),
	}
	if err := b.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	port, err := b.nl.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	br, err := b.nl.LinkByName("br0")
	if err != nil {
		return err
	}
	if err := b.nl.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("join the bridge: %w", err)
	}
	// A host that only listens would never be learnt, and be flooded for.
	err = b.nl.NeighAppend(&netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State: netlink.NUD_NOARP, HardwareAddr: h.mac,
	})
	if err != nil {
		return fmt.Errorf("forwarding entry: %w", err)
	}
	if err := b.nl.LinkSetUp(port); err != nil {
		return err
	}
	return h.configure()
}

func (b *bridge) start(hosts []*Host) error {
	for _, h := range hosts {
		if err := waitUp(b.nl, portName(h.index)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bridge) set(from, to *Host, l Link) error {
	if l.shaped() {
		return fmt.Errorf("%w: the bridge can only cut; build the lab with Fabric: lab.Switch", ErrUnsupported)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := [2]int{from.index, to.index}
	if b.cut[key] == l.Cut {
		return nil
	}
	b.collect()
	if l.Cut {
		b.cut[key] = true
	} else {
		delete(b.cut, key)
	}
	// One transaction: no moment sees fewer cuts than before and after.
	b.nft.FlushChain(b.chain)
	for _, pair := range slices.SortedFunc(maps.Keys(b.cut), func(x, y [2]int) int { return slices.Compare(x[:], y[:]) }) {
		b.nft.AddRule(&nftables.Rule{
			Table: b.table, Chain: b.chain,
			UserData: []byte{byte(pair[0]), byte(pair[1])},
			Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: nameBytes(portName(pair[0]))},
				&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: nameBytes(portName(pair[1]))},
				&expr.Counter{},
				&expr.Verdict{Kind: expr.VerdictDrop},
			},
		})
	}
	if err := b.nft.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// nameBytes pads an interface name as the kernel compares it.
func nameBytes(s string) []byte {
	p := make([]byte, unix.IFNAMSIZ)
	copy(p, s)
	return p
}

// collect saves the counters of rules that are about to be replaced.
func (b *bridge) collect() {
	for pair, n := range b.counters() {
		b.count[pair] += n
	}
}

func (b *bridge) counters() map[[2]int]uint64 {
	found := make(map[[2]int]uint64)
	rules, err := b.nft.GetRules(b.table, b.chain)
	if err != nil {
		return found
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok && len(r.UserData) == 2 {
				found[[2]int{int(r.UserData[0]), int(r.UserData[1])}] += c.Packets
			}
		}
	}
	return found
}

func (b *bridge) stats(from, to *Host) LinkStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := [2]int{from.index, to.index}
	return LinkStats{Cut: b.count[key] + b.counters()[key]}
}

func (b *bridge) close() error {
	b.release()
	return nil
}

// release closes the handles; devices and rules go with the namespace.
func (b *bridge) release() {
	if b.nl != nil {
		b.nl.Close()
	}
	if b.ns != nil {
		b.ns.close()
	}
}

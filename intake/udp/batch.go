package udp

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2), which package unix lacks.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// Indexes into what SO_MEMINFO returns (linux/sock_diag.h).
const (
	memRmemAlloc = 0
	memDrops     = 8
	memCount     = 9
)

func memInfo(fd int) (m [memCount]uint32, err error) {
	size := uint32(unsafe.Sizeof(m))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return m, errno
	}
	return m, nil
}

// oobSize holds a time stamp and packet information: two headers of 16 bytes
// with 16 and 20 bytes of data, aligned.
const oobSize = 128

// batch is the memory that recvmmsg fills: it is made once and used again.
type batch struct {
	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6 // large enough for IPv4 too
	oob   []byte
	data  []byte
	apart bool // data is not of the Go heap
	out   []Datagram
	max   int
	zones map[uint32]string
}

func newBatch(size, maxSize int) *batch {
	b := &batch{
		hdrs: make([]mmsghdr, size), iovs: make([]unix.Iovec, size),
		names: make([]unix.RawSockaddrInet6, size), oob: make([]byte, size*oobSize),
		out: make([]Datagram, size), max: maxSize,
		zones: make(map[uint32]string),
	}
	// Pages that no datagram reaches are never touched, so that the usual short
	// messages use a small part of this. The collector would count all of it, and
	// let the heap grow by as much again.
	var err error
	b.data, err = unix.Mmap(-1, 0, size*maxSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if b.apart = err == nil; !b.apart {
		b.data = make([]byte, size*maxSize)
	}
	for i := range b.hdrs {
		b.iovs[i].Base = &b.data[i*maxSize]
		b.iovs[i].SetLen(maxSize)
		h := &b.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Control = &b.oob[i*oobSize]
	}
	return b
}

// free gives the memory back; what receive returned must not be used any more.
func (b *batch) free() {
	if b.apart {
		_ = unix.Munmap(b.data) // fails only for memory that is not ours
	}
	b.data = nil
}

// receive reads what waits in the socket, without waiting, and returns it with
// raw time stamps (0 where the kernel gave none). The result is valid until
// the next call.
func (b *batch) receive(fd int) ([]Datagram, error) {
	for i := range b.hdrs {
		h := &b.hdrs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
		h.SetControllen(oobSize)
		h.Flags = 0
	}
	// MSG_TRUNC makes the kernel report the true length of a cut datagram.
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])),
		uintptr(len(b.hdrs)), unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	for i := range int(n) {
		h := &b.hdrs[i]
		d := &b.out[i]
		*d = Datagram{Length: int(h.n), Truncated: h.hdr.Flags&unix.MSG_TRUNC != 0}
		kept := min(d.Length, b.max)
		d.Data = b.data[i*b.max : i*b.max+kept : i*b.max+kept]
		d.Source = b.source(i)
		b.control(d, b.oob[i*oobSize:i*oobSize+int(h.hdr.Controllen)])
	}
	return b.out[:n], nil
}

func (b *batch) source(i int) netip.AddrPort {
	sa := &b.names[i]
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
	switch sa.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case unix.AF_INET6:
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && a.Is6() {
			a = a.WithZone(b.zone(sa.Scope_id))
		}
		return netip.AddrPortFrom(a, port(&sa.Port))
	}
	return netip.AddrPort{}
}

// zone returns the text of an interface index, made once for each interface.
func (b *batch) zone(index uint32) string {
	z, ok := b.zones[index]
	if !ok {
		z = strconv.FormatUint(uint64(index), 10)
		b.zones[index] = z
	}
	return z
}

// control reads the control messages of one datagram (cmsg(3)).
func (b *batch) control(d *Datagram, oob []byte) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(oob) {
			return
		}
		body := oob[unix.SizeofCmsghdr:size]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(body) >= 16:
			ts := (*unix.Timespec)(unsafe.Pointer(&body[0]))
			d.At = ts.Nano()
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			d.Local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0])).Addr)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
			d.Local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&body[0])).Addr).Unmap()
		}
		next := unix.CmsgSpace(len(body))
		if next >= len(oob) {
			return
		}
		oob = oob[next:]
	}
}

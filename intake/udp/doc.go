// Package udp is the receive loop of every datagram receiver: it reads whole
// batches with recvmmsg(2), gives each datagram the kernel's own time of
// arrival, and counts what the kernel had to drop.
//
// The loop never waits inside a system call. It reads until the socket is
// empty, reports that moment, and then lets the runtime's poller wake it. So a
// process that was stopped for a minute and goes on reads what is in the
// socket's buffer before it says that anything before now has been handed over.
//
// Linux only.
package udp

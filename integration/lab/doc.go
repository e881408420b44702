// Package lab builds a small network of hosts on one machine and breaks it on
// purpose. Each host is a network namespace; processes are started in it,
// killed, frozen and thawed; links are cut in one or both directions, delayed
// and made lossy; disks fill up, slow down, fail and hang. Tests of the whole
// product are written against it (see integration/README.md).
//
// Nothing that the lab makes outlives the process that made it, whatever ends
// that process: namespaces are anonymous and die with their last user, started
// processes carry a parent-death signal, and mounts and files bear the owner's
// process id, so that the next lab on the machine sweeps up after a dead one.
//
// The lab needs Linux and the capabilities of root, or the right to make user
// namespaces (see [Main]). [Supported] tells whether it can run.
package lab

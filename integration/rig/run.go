package rig

// Run runs a command of the product on a host and returns what it printed.
func (r *Rig) Run(host string, args ...string) (string, error) { return r.try(host, "", args...) }

package manager

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// collector turns this member's own status into metrics: one source for the
// screen and for the graphs.
type collector struct{ m *Manager }

// desc makes a metric's description.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("futago_"+name, help, labels, nil)
}

var (
	descState    = desc("member_state", "1 for the state that this member is in.", "state")
	descApplied  = desc("applied_index", "Log entry up to which this member has applied.")
	descCommit   = desc("commit_index", "Log entry up to which this member knows the log committed.")
	descTerm     = desc("term", "Raft term.")
	descLeader   = desc("acting_leader", "1 on the member that acts as leader.")
	descDatabase = desc("database_bytes", "Size of the database files.")
	descLog      = desc("log_bytes", "Size of the Raft log file.")
	descFree     = desc("free_bytes", "Room on the data directory's file system.")
	descDepth    = desc("spool_depth", "Traps received and not committed yet.")
	descSpool    = desc("spool_bytes", "Bytes that the spool takes.")
	descAppended = desc("spool_appended_total", "Traps put into the spool.")
	descOverflow = desc("spool_overflowed_total", "Traps refused because the spool or the disk was full.")
	descReceived = desc("received_total", "Messages received.", "receiver")
	descRecvByte = desc("received_bytes_total", "Bytes received.", "receiver")
	descDropped  = desc("receiver_dropped_total", "Messages lost in the kernel's buffer or refused by the spool.", "receiver")
	descRefused  = desc("receiver_refused_total", "Connections and requests turned away.", "receiver")
	descUnparsed = desc("receiver_unparsed_total", "Messages recorded without being understood.", "receiver")
	descQueue    = desc("queue_depth", "Depth of an internal queue.", "queue")
	descQueueOut = desc("queue_dropped_total", "What an internal queue had no room for.", "queue")
	descVote     = desc("third_vote_reachable", "1 while the third vote's register answers.")
	descSolo     = desc("solo", "1 while this leader acknowledges writes alone.")
)

// descriptions are all of them; a member without a session gives fewer metrics.
var descriptions = []*prometheus.Desc{
	descState, descApplied, descCommit, descTerm, descLeader, descDatabase, descLog, descFree, descDepth, descSpool, descAppended,
	descOverflow, descReceived, descRecvByte, descDropped, descRefused, descUnparsed, descQueue, descQueueOut, descVote, descSolo,
}

// registerMetrics adds this member's metrics and those of its process.
func (m *Manager) registerMetrics() error {
	for _, c := range []prometheus.Collector{
		collector{m}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	l := c.m.localStatus()
	gauge(descState, 1, l.State)
	gauge(descDatabase, float64(l.DatabaseBytes))
	gauge(descFree, float64(l.FreeBytes))
	gauge(descDepth, float64(l.Spool.Depth))
	gauge(descSpool, float64(l.Spool.Bytes))
	counter(descAppended, l.Spool.Appended)
	counter(descOverflow, l.Spool.Overflowed)
	for _, r := range l.Receivers {
		counter(descReceived, r.Received, r.Name)
		counter(descRecvByte, r.Bytes, r.Name)
		counter(descDropped, r.Dropped, r.Name)
		counter(descRefused, r.Refused, r.Name)
		counter(descUnparsed, r.Unparsed, r.Name)
	}
	for _, q := range l.Queues {
		gauge(descQueue, float64(q.Depth), q.Name)
		counter(descQueueOut, q.Dropped, q.Name)
	}
	s, err := c.m.session()
	if err != nil {
		return
	}
	h := s.raft.Hello(0)
	gauge(descApplied, float64(h.Applied))
	gauge(descCommit, float64(h.Commit))
	gauge(descTerm, float64(h.Term))
	gauge(descLeader, number(h.Acting))
	gauge(descLog, float64(h.LogBytes))
	if v, ok := s.raft.VoteStatus(); ok {
		gauge(descVote, number(v.Reachable))
		gauge(descSolo, number(v.Solo))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

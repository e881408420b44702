// Package rules holds the rules of the third vote as pure functions: no Raft,
// no register, no clock, no goroutine. Each takes what is known and returns a
// decision with a named reason. The transport stub and the steward of the
// package thirdvote act on them, and so does the explicit-state model that
// searches them for lost writes: both run the same code.
//
// In short, with "solo(T)" a permission in memory to acknowledge for the third
// vote in leadership term T:
//
//	R0  every write is a compare-and-set on what was read           Change
//	R1  w acknowledges what is committed, or under solo(T)          Answer
//	R2  solo(T) comes from a write of this leadership, answered     WantSolo, PrepareSolo, GrantSolo
//	R3  back to both holders, in a fixed order                      Readmission
//	R4  votes go to holders, by compare-and-set                     Vote
//	R5  a good answer for w needs evidence                          Answer
//	R6  a directory that was never recorded has no say              FirstTerm, Admits, MayVote, MayCampaign
//	R7  the register never goes back                                Judge
//	R8  before a linearizable read                                  MayServeRead
//
// The caller keeps three things that no function can: at most one [Readmission]
// and one solo write at a time, both in the same goroutine; a new nonce in
// every record that it writes; and the highest [Mark] on disk before it acts on
// it.
package rules

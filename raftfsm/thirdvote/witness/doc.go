// Package witness is the server behind `futago witness`: a small HTTPS service
// that keeps one compare-and-set record for each of many clusters.
//
// The service holds no opinion on elections. All rules of the third vote live
// in the managers; what they need from here is that a record changes only by
// compare-and-set, and that a change which was answered 200 is on the disk.
//
//	GET /v1/clusters/{name}/record   the record, with a strong ETag
//	PUT /v1/clusters/{name}/record   If-Match: <ETag>: compare-and-set
//	                                 If-None-Match: *: create, once
//	GET /v1/health                   no credentials needed
//
// The record is a JSON object. Only its members "version" and "nonce" are read
// here, and together they are the ETag; everything else is kept byte for byte,
// so that one witness serves clusters of different releases.
//
// In the data directory:
//
//	lock                    held by the running process
//	identity.pem            key and certificate, made at the first start
//	clusters/NAME/record    the record
//	clusters/NAME/tokens    SHA-256 of each valid token
//
// Records and token lists end with a checksum of what precedes it. A file that
// fails it is named in the error and never served; other clusters go on.
//
// Never restore a data directory from a backup: a register that has forgotten
// a vote can hand out a second one.
package witness

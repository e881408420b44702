// Package customtrap receives custom traps: JSON posted over HTTP or HTTPS in
// the form that Hinemos defines.
//
//	{"FacilityID": "…", "DATA": [{"DATE": "…", "TYPE": "NUM", "KEY": "…", "MSG": "…"}, …]}
//
// [Server] checks a request as a whole. What it refuses leaves nothing behind
// and is answered with an error that names the element. What it takes becomes
// one record of the spool for each element, and the answer 200 is sent only
// when all of them are committed.
//
// The Raw of a record is a request body with that one element: members sorted
// by name, no blanks, strings in the shortest escapes, numbers as written.
// Members that are not known here are kept. [Decoder] reads such a record.
package customtrap

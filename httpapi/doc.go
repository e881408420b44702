// Package httpapi is the REST API of a manager (/api/v1, described by an
// OpenAPI 3.1 document made from the code) and the way in to the console.
// Handlers translate between HTTP and the Backend; they know neither Raft nor SQL.
//
// A request passes, in this order: panic guard, security headers, metrics,
// authentication, role of the operation, validation, handler. Errors leave as
// RFC 9457 problem documents.
package httpapi

package console

import (
	"bytes"
	"html/template"
	"net/http"
	"strconv"
)

// write executes a template into memory first, so that an error in it is not
// sent as half a page with status 200.
func (c *console) write(w http.ResponseWriter, status int, t *template.Template, name string, data any) {
	var buf bytes.Buffer
	if err := t.ExecuteTemplate(&buf, name, data); err != nil {
		c.log.Error("template failed", "template", name, "err", err)
		http.Error(w, "internal error; see this manager's log", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the reader has gone if this fails
}

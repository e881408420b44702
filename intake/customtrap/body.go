package customtrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits on a body.
const (
	// MaxElements is the most elements of DATA.
	MaxElements = 1000
	// maxFacility is the longest FacilityID in bytes: it is repeated in each
	// element's record.
	maxFacility = 512
)

// The values of TYPE.
const (
	typeNum    = "NUM"
	typeString = "STRING"
)

// body is a checked request.
type body struct {
	facility string
	elements []element
}

// element is one checked element of DATA.
type element struct {
	date string
	// at is what was understood of date; zero when there was none.
	at    time.Time
	typ   string
	key   string
	msg   string
	extra map[string]json.RawMessage
	// number says that MSG was a JSON number, not a string.
	number bool
	// hasDate says that DATE was a string, though perhaps an empty one.
	hasDate bool
}

// bodyError says what is wrong with a body.
type bodyError struct {
	// Element is the path of the wrong part, like "DATA[3].TYPE"; "" for the whole.
	Element string
	Message string
	// Offset is where in the body JSON is broken, counted from 0; -1 elsewhere.
	Offset int64
	// TooLarge is set when a limit is passed.
	TooLarge bool
}

func (e *bodyError) Error() string {
	s := e.Message
	if e.Element != "" {
		s = e.Element + " " + s
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return s
}

func wrong(path, format string, args ...any) *bodyError {
	return &bodyError{Element: path, Message: fmt.Sprintf(format, args...), Offset: -1}
}

// parseBody checks a body. Dates without a zone are taken to be in zone. The
// error is a *bodyError.
func parseBody(b []byte, zone *time.Location) (body, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if i := invalidUTF8(b); i >= 0 {
		return body{}, &bodyError{Message: "the body is not valid UTF-8", Offset: int64(i)}
	}
	if err := checkJSON(b); err != nil {
		return body{}, err
	}
	top, err := members(b, "")
	if err != nil {
		return body{}, err
	}
	var out body
	if raw, ok := top["FacilityID"]; ok && !isNull(raw) {
		if out.facility, ok = jsonString(raw); !ok {
			return body{}, wrong("FacilityID", "must be a string")
		}
		if len(out.facility) > maxFacility {
			return body{}, wrong("FacilityID", "is longer than %d bytes", maxFacility)
		}
	}
	data, ok := top["DATA"]
	if !ok || isNull(data) {
		return body{}, wrong("DATA", "is missing")
	}
	if data[0] != '[' {
		return body{}, wrong("DATA", "must be an array")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return body{}, wrong("DATA", "cannot be read")
	}
	switch {
	case len(list) == 0:
		return body{}, wrong("DATA", "has no element")
	case len(list) > MaxElements:
		e := wrong("DATA", "has %d elements, more than %d", len(list), MaxElements)
		e.TooLarge = true
		return body{}, e
	}
	out.elements = make([]element, len(list))
	for i, raw := range list {
		if out.elements[i], err = parseElement(raw, fmt.Sprintf("DATA[%d]", i), zone); err != nil {
			return body{}, err
		}
	}
	return out, nil
}

func parseElement(raw json.RawMessage, path string, zone *time.Location) (e element, err error) {
	m, err := members(raw, path)
	if err != nil {
		return e, err
	}
	take := func(name string) (json.RawMessage, bool) {
		v, ok := m[name]
		delete(m, name)
		return v, ok && !isNull(v)
	}
	if v, ok := take("DATE"); ok {
		if e.date, e.hasDate = jsonString(v); !e.hasDate {
			return e, wrong(path+".DATE", "must be a string")
		}
		if e.at, ok = parseDate(e.date, zone); !ok {
			return e, wrong(path+".DATE", `%q must be like "2006-01-02 15:04:05", with or without a fraction and a zone`, shorten(e.date))
		}
	}
	v, ok := take("TYPE")
	if !ok {
		return e, wrong(path+".TYPE", "is missing")
	}
	if e.typ, ok = jsonString(v); !ok || e.typ != typeNum && e.typ != typeString {
		return e, wrong(path+".TYPE", "must be NUM or STRING")
	}
	if v, ok = take("KEY"); !ok {
		return e, wrong(path+".KEY", "is missing")
	}
	if e.key, ok = jsonString(v); !ok || e.key == "" {
		return e, wrong(path+".KEY", "must be a string that is not empty")
	}
	if v, ok = take("MSG"); !ok {
		return e, wrong(path+".MSG", "is missing")
	}
	if err := e.setMsg(v, path+".MSG"); err != nil {
		return e, err
	}
	e.extra = m
	return e, nil
}

func (e *element) setMsg(v json.RawMessage, path string) error {
	var ok bool
	if e.msg, ok = jsonString(v); !ok {
		if e.typ != typeNum {
			return wrong(path, "must be a string")
		}
		if v[0] != '-' && (v[0] < '0' || v[0] > '9') {
			return wrong(path, "must be a number")
		}
		e.msg, e.number = string(v), true
	}
	if e.typ == typeNum && !isNumber(e.msg) {
		return wrong(path, "%q must be a number", shorten(e.msg))
	}
	return nil
}

var decimal = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// isNumber reports whether s is a decimal number that a float64 can hold, with
// blanks around it allowed, which scripts leave there.
func isNumber(s string) bool {
	s = strings.TrimSpace(s)
	if !decimal.MatchString(s) {
		return false
	}
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && !math.IsInf(f, 0)
}

// checkJSON finds what is no JSON and says where.
func checkJSON(b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return &bodyError{Message: "the body is empty", Offset: -1}
	}
	var any json.RawMessage
	err := json.Unmarshal(b, &any)
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &bodyError{Message: "the body is not valid JSON: " + s.Error(), Offset: max(s.Offset-1, 0)}
	}
	return &bodyError{Message: "the body is not valid JSON", Offset: -1}
}

// members reads the members of an object, none of them twice. The names are
// exact: package json would take them in any case. raw is valid JSON.
func members(raw []byte, path string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		if path == "" {
			return nil, wrong("", "the body must be a JSON object")
		}
		return nil, wrong(path, "must be an object")
	}
	m := make(map[string]json.RawMessage, 4)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, wrong(path, "cannot be read")
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, wrong(join(path, name), "cannot be read")
		}
		if _, twice := m[name]; twice {
			return nil, wrong(join(path, name), "is there twice")
		}
		m[name] = v
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, wrong(path, "cannot be read")
	}
	return m, nil
}

func join(path, name string) string {
	if path == "" {
		return shorten(name)
	}
	return path + "." + shorten(name)
}

// shorten keeps what an error quotes to a readable length.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func jsonString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// canonical writes a body with one element: see the package comment.
func (e *element) canonical(facility string) ([]byte, error) {
	m := make(map[string]any, len(e.extra)+4)
	for name, raw := range e.extra {
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
		m[name] = v
	}
	if e.hasDate {
		m["DATE"] = e.date
	}
	m["TYPE"], m["KEY"], m["MSG"] = e.typ, e.key, e.msg
	if e.number {
		m["MSG"] = json.Number(e.msg)
	}
	top := map[string]any{"DATA": []any{m}}
	if facility != "" {
		top["FacilityID"] = facility
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(top); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

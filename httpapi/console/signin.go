package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/futago/futago"
)

// maxForm bounds the body of the sign-in form in bytes.
const maxForm = 8 << 10

// formTimeout bounds how long a client may take to send it.
const formTimeout = 10 * time.Second

type signInForm struct {
	Next    string
	Name    string
	Message string
	Action  string
}

func (c *console) toSignIn(w http.ResponseWriter, r *http.Request) {
	to := "/sign-in"
	if next := r.URL.RequestURI(); r.Method == http.MethodGet && next != "/" {
		to += "?next=" + url.QueryEscape(next)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (c *console) signInPage(w http.ResponseWriter, r *http.Request) {
	if _, err := c.o.Caller(r); err == nil {
		http.Redirect(w, r, local(r.URL.Query().Get("next")), http.StatusSeeOther)
		return
	}
	c.render(w, http.StatusOK, "sign-in", page{Title: "Sign in", Body: signInForm{Next: local(r.URL.Query().Get("next"))}})
}

// local keeps a redirect on this site: a path of our own, else the live page.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return "/"
	}
	return next
}

func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTimeout)) // a recorder of a test has none
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		c.problem(w, r, Caller{}, futago.Errorf(futago.CodeInvalid, "the form could not be read").WithAction("try again"))
		return
	}
	form := signInForm{Next: local(r.PostForm.Get("next")), Name: typed(r.PostForm.Get("name"))}
	err := c.o.SignIn(w, r, r.PostForm.Get("name"), r.PostForm.Get("password"))
	if err == nil {
		http.Redirect(w, r, form.Next, http.StatusSeeOther)
		return
	}
	status, ok := statusOf[futago.CodeOf(err)]
	e, isOurs := errors.AsType[*futago.Error](err)
	if !ok || !isOurs {
		c.problem(w, r, Caller{}, err)
		return
	}
	form.Message, form.Action = e.Message, e.Action
	c.render(w, status, "sign-in", page{Title: "Sign in", Body: form})
}

func (c *console) signOut(w http.ResponseWriter, r *http.Request) {
	c.o.SignOut(w)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

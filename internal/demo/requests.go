package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// regulars is how many visitors keep their cookies; each makes so many requests
	// before another one takes the place.
	regulars   = 30
	visitTakes = 40
	// underWay bounds the requests at a time.
	underWay = 32
	// answerWithin is how long a visitor waits for an answer.
	answerWithin = 10 * time.Second
	// echoBytes is what a visitor sends, in bytes.
	echoBytes = 2 << 10
)

// wish is a kind of request, and what the answer must be.
type wish struct {
	method, path string
	body         bool // it sends something, which must come back
	fresh        bool // on a new connection and without cookies
	plain        bool // to the plain address, which must redirect
	size         int  // of the answer; 0 = any
}

// wishes are what visitors ask for, in turn.
func wishes() []wish {
	page := wish{method: http.MethodGet, path: "/"}
	script := wish{method: http.MethodGet, path: "/chat.js"}
	return []wish{
		page, script, page,
		{method: http.MethodPost, path: "/echo", body: true},
		script,
		{method: http.MethodHead, path: "/"},
		page,
		{method: http.MethodGet, path: "/large", size: largeBytes},
		script,
		{method: http.MethodGet, path: "/", fresh: true},
		page,
		{method: http.MethodGet, path: "/", plain: true},
	}
}

// browsers are what requests are made with. They belong to the goroutine that
// makes requests begin.
type browsers struct {
	shared, fresh *http.Transport
	regular       []regular
}

// regular is a visitor who keeps the cookies.
type regular struct {
	client *http.Client
	left   int // requests until another one takes the place
}

func (v *Visitors) browsers() *browsers {
	transport := func() *http.Transport {
		return &http.Transport{TLSClientConfig: v.tls.Clone(), MaxIdleConnsPerHost: underWay, ResponseHeaderTimeout: answerWithin}
	}
	b := &browsers{shared: transport(), fresh: transport(), regular: make([]regular, regulars)}
	b.fresh.DisableKeepAlives = true
	return b
}

// next is the browser for a request.
func (b *browsers) next(w wish) *http.Client {
	if w.fresh || w.plain {
		return browser(b.fresh, nil)
	}
	r := &b.regular[rand.IntN(len(b.regular))]
	if r.left == 0 {
		jar, _ := cookiejar.New(nil) // never fails
		*r = regular{browser(b.shared, jar), 1 + rand.IntN(2*visitTakes)}
	}
	r.left--
	return r.client
}

func browser(transport *http.Transport, jar http.CookieJar) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, Jar: jar, CheckRedirect: stay, Timeout: answerWithin}
}

func (b *browsers) close() {
	b.shared.CloseIdleConnections()
	b.fresh.CloseIdleConnections()
}

// request makes requests at an even pace until the visitors go home.
func (v *Visitors) request(ctx context.Context) {
	if v.options.Requests <= 0 {
		return
	}
	b, all := v.browsers(), wishes()
	defer b.close()
	var open sync.WaitGroup
	defer open.Wait()
	places := make(chan struct{}, underWay)
	ticker := time.NewTicker(time.Second / time.Duration(v.options.Requests))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case places <- struct{}{}:
			wish := all[n%len(all)]
			client := b.next(wish)
			open.Go(func() {
				defer func() { <-places }()
				v.ask(ctx, client, wish)
			})
		default:
			v.note(func() { v.requests.Late++ })
		}
	}
}

// ask makes one request and judges its answer.
func (v *Visitors) ask(ctx context.Context, client *http.Client, w wish) {
	begin := time.Now()
	server, err := v.fetch(ctx, client, w)
	took := time.Since(begin)
	if ctx.Err() != nil {
		return // the visitor went home
	}
	v.answers.add(took)
	v.note(func() {
		v.requests.Total++
		if err != nil {
			v.requests.Failed++
			v.requests.LastFailure = err.Error()
		}
		if server == "" {
			return
		}
		if v.perServe[server] == nil {
			v.perServe[server] = &meter{}
		}
		v.perServe[server].add(took)
	})
	if err != nil {
		v.trouble(err.Error())
	}
}

// fetch makes one request; an error says what of the answer was wrong.
func (v *Visitors) fetch(ctx context.Context, client *http.Client, w wish) (server string, err error) {
	what := w.method + " " + w.path
	request, sent, err := v.newRequest(ctx, w)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, bare(err))
	}
	defer func() { _ = response.Body.Close() }()
	server = response.Header.Get(serverField)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return server, fmt.Errorf("%s: the answer broke off: %w", what, err)
	}
	if w.plain {
		return server, v.judgeRedirect(what, response)
	}
	switch {
	case response.StatusCode != http.StatusOK && server != "":
		return server, fmt.Errorf("%s: %s answered %d", what, server, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return server, fmt.Errorf("%s was answered %d", what, response.StatusCode)
	case server == "":
		return server, fmt.Errorf("%s: no server named itself", what)
	case w.size > 0 && len(body) != w.size:
		return server, fmt.Errorf("%s: %d of %d bytes came", what, len(body), w.size)
	case w.body && !bytes.Equal(body, sent):
		return server, fmt.Errorf("%s: what came back is not what was sent", what)
	}
	return server, nil
}

func (v *Visitors) judgeRedirect(what string, response *http.Response) error {
	to, err := url.Parse(response.Header.Get("Location"))
	if err != nil || response.StatusCode != http.StatusMovedPermanently || to.Scheme != "https" {
		return fmt.Errorf("%s in clear was answered %d, and not sent to HTTPS", what, response.StatusCode)
	}
	return nil
}

func (v *Visitors) newRequest(ctx context.Context, w wish) (*http.Request, []byte, error) {
	address := "https://" + v.options.Site
	if w.plain {
		address = "http://" + v.options.Plain
	}
	if !w.body {
		request, err := http.NewRequestWithContext(ctx, w.method, address+w.path, http.NoBody)
		return request, nil, err
	}
	word := fmt.Sprintf("%016x", rand.Uint64())
	sent := []byte(strings.Repeat(word, echoBytes/len(word)))
	request, err := http.NewRequestWithContext(ctx, w.method, address+w.path, bytes.NewReader(sent))
	return request, sent, err
}

// bare is what went wrong without the address, which the story needs not repeat.
func bare(err error) error {
	var outer *url.Error
	if !errors.As(err, &outer) {
		return err
	}
	if outer.Timeout() {
		return fmt.Errorf("no answer within %v", answerWithin)
	}
	return outer.Err
}

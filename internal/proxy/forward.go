package proxy

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"

	"sluis/internal/proxy/message"
	"sluis/internal/proxy/rule"
)

// The names of fields that Sluis writes itself.
var (
	forwardedForName   = []byte("X-Forwarded-For")
	forwardedProtoName = []byte("X-Forwarded-Proto")
	forwardedHostName  = []byte("X-Forwarded-Host")
	forwardedPortName  = []byte("X-Forwarded-Port")
	hstsName           = []byte("Strict-Transport-Security")
	contentTypeName    = []byte("Content-Type")
	cacheControlName   = []byte("Cache-Control")
	noCache            = []byte("no-cache")
	locationName       = []byte("Location")
	authenticateName   = []byte("WWW-Authenticate")
	schemeHTTP         = []byte("http")
	schemeHTTPS        = []byte("https")
)

// introduce tells the server who the client is, in place of what the client says
// of itself.
func (x *exchange) introduce(r *message.Request) {
	fe, c := x.fe, x.client
	if fe.forwardFor || fe.forwardProto || fe.forwardHost || fe.forwardPort {
		r.Remove(message.Forwarded) // it says each of these too (RFC 7239)
	}
	if fe.forwardFor {
		r.Remove(message.XForwardedFor)
		r.Add(forwardedForName, x.w.addressText(c.Remote().Addr()))
	}
	if fe.forwardProto {
		r.Remove(message.XForwardedProto)
		scheme := schemeHTTP
		if c.IsTLS() {
			scheme = schemeHTTPS
		}
		r.Add(forwardedProtoName, scheme)
	}
	if fe.forwardHost {
		r.Remove(message.XForwardedHost)
		if len(x.hostText) > 0 {
			r.Add(forwardedHostName, x.hostText)
		}
	}
	if fe.forwardPort {
		r.Remove(message.XForwardedPort)
		r.Add(forwardedPortName, c.bind.port)
	}
}

// addressText is an address as text; good until the next one is asked for.
func (w *worker) addressText(a netip.Addr) []byte {
	w.address = a.AppendTo(w.address[:0])
	return w.address
}

// hostOf is the name in an authority, without its port.
func hostOf(authority []byte) []byte {
	if len(authority) > 0 && authority[0] == '[' {
		if end := bytes.IndexByte(authority, ']'); end > 0 {
			return authority[1:end]
		}
	}
	if colon := bytes.LastIndexByte(authority, ':'); colon >= 0 {
		return authority[:colon]
	}
	return authority
}

// shown is a client's text for a log: bounded, and without bytes that do harm.
func shown(b []byte) string {
	const most = 100
	cut := ""
	if len(b) > most {
		b, cut = b[:most], "…"
	}
	quoted := strconv.Quote(string(b))
	return quoted[1:len(quoted)-1] + cut
}

// hash is the number by which a client or address always gets the same server.
func (k balanceKey) hash(seed maphash.Seed, r *message.Request, client netip.Addr) uint64 {
	var text []byte
	switch k.of {
	case hashSource:
		a := client.As16()
		return maphash.Bytes(seed, a[:])
	case hashHeader:
		text = r.Find(k.header)
	case hashPath:
		text = r.Path
		if k.query {
			text = r.Target
		}
		if k.depth > 0 {
			text = firstSegments(text, k.depth)
		}
		if k.length > 0 && len(text) > k.length {
			text = text[:k.length]
		}
	}
	return maphash.Bytes(seed, text)
}

// firstSegments is a path up to and without the slash after its depth's segment.
func firstSegments(path []byte, depth int) []byte {
	for i := 1; i < len(path); i++ {
		if path[i] == '?' {
			return path[:i]
		}
		if path[i] == '/' {
			if depth--; depth == 0 {
				return path[:i]
			}
		}
	}
	return path
}

// proxyHeader says who the client is before the first byte, as the PROXY protocol
// has it; nil where the server does not want it.
func proxyHeader(version proxyProtocol, c *clientConn) []byte {
	from, to := c.Remote(), c.Local()
	switch version {
	case proxyV1:
		family := "TCP4"
		if from.Addr().Is6() {
			family = "TCP6"
		}
		return []byte("PROXY " + family + " " + from.Addr().String() + " " + to.Addr().String() + " " +
			strconv.Itoa(int(from.Port())) + " " + strconv.Itoa(int(to.Port())) + "\r\n")
	case proxyV2:
		return proxyHeaderV2(from, to)
	}
	return nil
}

// proxyHeaderV2 is the binary form: signature, version 2 and command PROXY, family
// and stream, length, addresses, ports.
func proxyHeaderV2(from, to netip.AddrPort) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	a, z := from.Addr().AsSlice(), to.Addr().AsSlice()
	family := byte(0x11)
	if len(a) == 16 || len(z) == 16 {
		family = 0x21
		x, y := from.Addr().As16(), to.Addr().As16()
		a, z = x[:], y[:]
	}
	b = append(b, family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(a)+4))
	b = append(append(b, a...), z...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}

// secureCookies adds Secure to each cookie that lacks it (RFC 6265 section 5.2.5).
func secureCookies(r *message.Response, a *rule.Arena) {
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != message.SetCookie || hasAttribute(f.Value, "secure") {
			continue
		}
		f.Value = append(append(a.Take(len(f.Value)+len(secureAttribute)), f.Value...), secureAttribute...)
	}
}

var secureAttribute = []byte("; Secure")

// hasAttribute looks for an attribute behind a cookie's first semicolon.
func hasAttribute(cookie []byte, lower string) bool {
	_, rest, found := bytes.Cut(cookie, []byte(";"))
	for found {
		var part []byte
		part, rest, found = bytes.Cut(rest, []byte(";"))
		if message.EqualFold(bytes.TrimSpace(part), lower) {
			return true
		}
	}
	return false
}

// page is what stands in an answer of our own.
func (x *exchange) page(status int) errorPage {
	if x.be != nil {
		if p := x.be.pages[status]; p != nil {
			return x.fill(p, status)
		}
	}
	if p := x.fe.pages[status]; p != nil {
		return x.fill(p, status)
	}
	if status < 400 {
		return errorPage{}
	}
	text := message.StatusText(status)
	return errorPage{contentType: "text/html; charset=utf-8", body: "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>" +
		strconv.Itoa(status) + " " + text + "</title>\n<h1>" + strconv.Itoa(status) + " " + text + "</h1>\n<p>" + explanation(status) + "</p></html>\n"}
}

// fill puts what a page stands for into it.
func (x *exchange) fill(p *errorPage, status int) errorPage {
	body := strings.NewReplacer("{status}", strconv.Itoa(status), "{reason}", message.StatusText(status), "{request_id}", string(x.id())).Replace(p.body)
	return errorPage{contentType: p.contentType, body: body}
}

// id names the request in its log line and its error page.
// It is good until the loop's next one is made.
func (x *exchange) id() []byte {
	b := strconv.AppendUint(x.w.id[:0], x.w.proxy.requestSeed, 36)
	b = strconv.AppendInt(append(b, '-'), int64(x.w.index), 36)
	x.w.id = strconv.AppendUint(append(b, '-'), x.number, 36)
	return x.w.id
}

// explanation says to a visitor what an error means for them.
func explanation(status int) string {
	switch {
	case status == 408:
		return "The request took too long to arrive."
	case status == 413:
		return "What was sent is too large."
	case status == 503:
		return "The site can't answer at the moment. Try again in a minute."
	case status == 504:
		return "The site did not answer in time. Try again in a minute."
	case status >= 500:
		return "The site's answer could not be used. Try again in a minute."
	case status == 403:
		return "This request is not allowed here."
	case status == 421:
		return "This address does not serve the site that was asked for."
	}
	return "The request could not be understood."
}

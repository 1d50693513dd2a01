package accesslog

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the record as one JSON object without a line break. Times
// are in milliseconds; what was not reached or is empty is left out.
func AppendJSON(dst []byte, r *Record, redact bool) []byte {
	dst = append(dst, `{"time":"`...)
	dst = appendUTC(dst, r.Wall)
	dst = append(dst, '"')
	dst = jsonText(dst, "request_id", r.RequestID)
	if r.Client.IsValid() {
		dst = append(dst, `,"client":"`...)
		dst = r.Client.Addr().AppendTo(dst)
		dst = append(dst, '"')
		dst = jsonNumber(dst, "client_port", int64(r.Client.Port()))
	}
	dst = jsonText(dst, "frontend", r.Frontend)
	dst = jsonText(dst, "bind", r.Bind)
	dst = jsonText(dst, "backend", r.Backend)
	dst = jsonText(dst, "server", r.Server)
	dst = jsonText(dst, "method", r.Method)
	dst = jsonText(dst, "host", r.Host)
	dst = jsonURL(dst, "target", r.Target, redact)
	dst = jsonText(dst, "protocol", r.Proto)
	if r.Status > 0 {
		dst = jsonNumber(dst, "status", int64(r.Status))
	}
	dst = jsonText(dst, "reason", r.Reason)
	dst = jsonText(dst, "rule", r.Rule)
	dst = jsonNumber(dst, "bytes_in", r.BytesIn)
	dst = jsonNumber(dst, "bytes_out", r.BytesOut)
	dst = jsonMilliseconds(dst, "request_ms", r.Request)
	dst = jsonMilliseconds(dst, "queue_ms", r.Queue)
	dst = jsonMilliseconds(dst, "connect_ms", r.Connect)
	dst = jsonMilliseconds(dst, "response_ms", r.Response)
	dst = jsonMilliseconds(dst, "total_ms", r.Total)
	t := [4]byte{dash(r.Termination[0]), dash(r.Termination[1]), dash(r.Termination[2]), dash(r.Termination[3])}
	dst = jsonText(dst, "termination", t[:])
	dst = jsonNumber(dst, "active", int64(r.Active))
	dst = jsonNumber(dst, "frontend_active", int64(r.FrontendActive))
	dst = jsonNumber(dst, "backend_active", int64(r.BackendActive))
	dst = jsonNumber(dst, "server_active", int64(r.ServerActive))
	dst = jsonNumber(dst, "retries", int64(r.Retries))
	if r.Redispatched {
		dst = append(dst, `,"redispatched":true`...)
	}
	dst = jsonNumber(dst, "server_queue", int64(r.ServerQueue))
	dst = jsonNumber(dst, "backend_queue", int64(r.BackendQueue))
	dst = jsonText(dst, "tls_version", r.TLSVersion)
	dst = jsonText(dst, "cipher", r.Cipher)
	dst = jsonText(dst, "sni", r.SNI)
	dst = jsonText(dst, "user_agent", r.UserAgent)
	dst = jsonURL(dst, "referer", r.Referer, redact)
	return append(dst, '}')
}

func jsonKey(dst []byte, key string) []byte {
	dst = append(append(dst, `,"`...), key...)
	return append(dst, `":`...)
}

func jsonNumber(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(jsonKey(dst, key), n, 10)
}

// jsonMilliseconds writes whole microseconds: 12345678 ns is 12.345.
func jsonMilliseconds(dst []byte, key string, ns int64) []byte {
	if ns < 0 {
		return dst
	}
	us := ns / 1000
	dst = strconv.AppendInt(jsonKey(dst, key), us/1000, 10)
	if rest := us % 1000; rest != 0 {
		dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return dst
}

func jsonText[T string | []byte](dst []byte, key string, s T) []byte {
	if len(s) == 0 {
		return dst
	}
	return jsonString(jsonKey(dst, key), s)
}

func jsonURL(dst []byte, key string, s []byte, redact bool) []byte {
	if !redact || len(s) == 0 {
		return jsonText(dst, key, s)
	}
	dst = append(jsonKey(dst, key), '"')
	at := len(dst)
	dst = appendRedacted(dst, s)
	return append(escapeTail(dst, at, appendJSONEscaped), '"')
}

func jsonString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	at := len(dst)
	dst = append(dst, s...)
	return append(escapeTail(dst, at, appendJSONEscaped), '"')
}

// escapeTail escapes what stands in dst from at on. Nearly always there is nothing
// to escape; where there is, the raw text is escaped behind itself and moved.
func escapeTail(dst []byte, at int, escape func(dst, raw []byte) []byte) []byte {
	for _, c := range dst[at:] {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '#' {
			end := len(dst)
			// The raw text stays readable: escape appends behind it, and only reads before.
			dst = escape(dst, dst[at:end:end])
			return dst[:at+copy(dst[at:], dst[end:])]
		}
	}
	return dst
}

const lowerHex, upperHex = "0123456789abcdef", "0123456789ABCDEF"

// appendJSONEscaped escapes a text for a JSON string (RFC 8259 7); bytes that are
// no UTF-8 become U+FFFD, as encoding/json writes them. DEL is escaped too: some
// terminals act on it.
func appendJSONEscaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRune(raw[i:])
			// C1 controls and the separators U+2028 and U+2029 end a line for some readers.
			if r < 0xa0 || r == 0x2028 || r == 0x2029 {
				dst = append(dst, '\\', 'u', lowerHex[r>>12], lowerHex[r>>8&15], lowerHex[r>>4&15], lowerHex[r&15])
			} else {
				dst = utf8.AppendRune(dst, r)
			}
			i += size
		}
	}
	return dst
}

// maxRequestLine is where HAProxy cuts the request line (tune.http.logurilen less
// its closing zero), before it escapes it.
const maxRequestLine = 1023

// AppendHTTPLog appends the record as HAProxy's option httplog does, without a
// line break (HAProxy 2.6, configuration manual 8.2.3):
//
//	%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r
//
// The time is in the zone of r.Wall. Nothing is captured, so that the captured
// cookies are dashes and the captured header fields are absent.
func AppendHTTPLog(dst []byte, r *Record, redact bool) []byte {
	dst = httplogClient(dst, r)
	dst = appendLocal(dst, r.Wall)
	dst = append(dst, ' ')
	dst = append(dst, otherwise(r.Frontend, "-")...)
	if r.TLSVersion != "" {
		dst = append(dst, '~')
	}
	dst = append(dst, ' ')
	// A request that reached no backend shows the frontend's name there.
	dst = append(dst, otherwise(r.Backend, r.Frontend)...)
	dst = append(dst, '/')
	dst = append(dst, otherwise(r.Server, "<NOSRV>")...)
	for i, ns := range [...]int64{r.Request, r.Queue, r.Connect, r.Response, r.Total} {
		dst = append(dst, " ////"[i])
		dst = appendMilliseconds(dst, ns)
	}
	dst = append(dst, ' ')
	if r.Status > 0 {
		dst = strconv.AppendInt(dst, int64(r.Status), 10)
	} else {
		dst = append(dst, "-1"...)
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, r.BytesOut, 10)
	dst = append(dst, " - - "...)
	for _, c := range r.Termination {
		dst = append(dst, dash(c))
	}
	for i, n := range [...]int{r.Active, r.FrontendActive, r.BackendActive, r.ServerActive} {
		dst = append(dst, " ///"[i])
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	dst = append(dst, '/')
	if r.Redispatched {
		dst = append(dst, '+')
	}
	dst = strconv.AppendInt(dst, int64(r.Retries), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(r.ServerQueue), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(r.BackendQueue), 10)
	return httplogRequest(dst, r, redact)
}

func httplogClient(dst []byte, r *Record) []byte {
	if r.Client.IsValid() {
		dst = r.Client.Addr().AppendTo(dst)
	} else {
		dst = append(dst, '-')
	}
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, int64(r.Client.Port()), 10)
	return append(dst, ' ')
}

// otherwise is the name, or what stands for none. Names of the document hold no
// blanks, so that none can shift the fields of the line.
func otherwise(name, none string) string {
	if name == "" {
		return none
	}
	return name
}

func httplogRequest(dst []byte, r *Record, redact bool) []byte {
	if len(r.Method) == 0 {
		return append(dst, ` "<BADREQ>"`...)
	}
	dst = append(dst, ' ', '"')
	at := len(dst)
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	if redact {
		dst = appendRedacted(dst, r.Target)
	} else {
		dst = append(dst, r.Target...)
	}
	dst = append(dst, ' ')
	dst = append(dst, r.Proto...)
	dst = dst[:at+min(len(dst)-at, maxRequestLine)]
	return append(escapeTail(dst, at, appendHTTPLogEscaped), '"')
}

// appendHTTPLogEscaped escapes as HAProxy does: quotation mark, hash and all that
// isn't printable ASCII become a hash and two hexadecimal digits.
func appendHTTPLogEscaped(dst, raw []byte) []byte {
	for _, c := range raw {
		if c < ' ' || c >= 0x7f || c == '"' || c == '#' {
			dst = append(dst, '#', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func appendMilliseconds(dst []byte, ns int64) []byte {
	if ns < 0 {
		return append(dst, "-1"...)
	}
	return strconv.AppendInt(dst, ns/int64(time.Millisecond), 10)
}

// appendUTC writes 2026-01-02T15:04:05.123456Z (RFC 3339, RFC 5424 6.2.3).
func appendUTC(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), int(month), 2)
	dst = appendDigits(append(dst, '-'), day, 2)
	dst = appendDigits(append(dst, 'T'), hour, 2)
	dst = appendDigits(append(dst, ':'), minute, 2)
	dst = appendDigits(append(dst, ':'), second, 2)
	dst = appendDigits(append(dst, '.'), t.Nanosecond()/1000, 6)
	return append(dst, 'Z')
}

// appendLocal writes [02/Jan/2026:15:04:05.123] in the time's own zone.
func appendLocal(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendDigits(append(dst, '['), day, 2)
	dst = append(append(dst, '/'), month.String()[:3]...)
	dst = appendDigits(append(dst, '/'), year, 4)
	dst = appendDigits(append(dst, ':'), hour, 2)
	dst = appendDigits(append(dst, ':'), minute, 2)
	dst = appendDigits(append(dst, ':'), second, 2)
	dst = appendDigits(append(dst, '.'), t.Nanosecond()/int(time.Millisecond), 3)
	return append(dst, ']')
}

func appendDigits(dst []byte, n, digits int) []byte {
	for place := pow10[digits]; place > 1; {
		place /= 10
		dst = append(dst, byte('0'+n/place%10))
	}
	return dst
}

var pow10 = [...]int{1, 10, 100, 1000, 10000, 100000, 1000000}

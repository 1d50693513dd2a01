package http1

import (
	"fmt"
	"strings"
	"testing"

	"sluis/internal/proxy/message"
)

// line and with make requests of the table short.
func line(l string) string { return l + "\r\nHost: a\r\n\r\n" }

func with(fields string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + strings.ReplaceAll(fields, "|", "\r\n") + "\r\n\r\n"
}

// refused is one message that must be refused, and where the RFCs say so.
type refused struct {
	name, section string
	input         string
	status        int
	reason        Reason
}

// refusedRequests are malformed and ambiguous requests. "|" in with is CR LF.
var refusedRequests = []refused{
	{"TLS on a plain port", "9112 3.1", "\x16\x03\x01\x02\x00", 400, MethodMalformed},
	{"empty method", "9112 3.1", line(" / HTTP/1.1"), 400, MethodMalformed},
	{"method with a control byte", "9112 3.1", line("G\x01T / HTTP/1.1"), 400, MethodMalformed},
	{"method with a parenthesis", "9112 3.1", line("G(T / HTTP/1.1"), 400, MethodMalformed},
	{"method and tab", "9112 3.1", line("GET\t/ HTTP/1.1"), 400, MethodMalformed},
	{"two empty lines first", "9112 3.1", "\r\n\r\n" + line("GET / HTTP/1.1"), 400, MethodMalformed},
	{"bare LF first", "9112 3.1", "\n" + line("GET / HTTP/1.1"), 400, MethodMalformed},
	{"bare CR first", "9112 2.2", "\rGET", 400, BareCR},
	{"long method", "9112 3", strings.Repeat("A", 65), 501, MethodTooLong},
	{"CONNECT", "9110 9.3.6", line("CONNECT a:443 HTTP/1.1"), 501, MethodConnect},
	{"CONNECT with a path", "9110 9.3.6", line("CONNECT / HTTP/1.1"), 501, MethodConnect},

	{"two spaces before the target", "9112 3.2", line("GET  / HTTP/1.1"), 400, TargetMalformed},
	{"NUL in the target", "9112 3.2", line("GET /\x00 HTTP/1.1"), 400, TargetMalformed},
	{"tab in the target", "9112 3.2", line("GET /a\tb HTTP/1.1"), 400, TargetMalformed},
	{"DEL in the target", "9112 3.2", line("GET /\x7f HTTP/1.1"), 400, TargetMalformed},
	{"UTF-8 in the target", "9112 3.2", line("GET /caf\xc3\xa9 HTTP/1.1"), 400, TargetMalformed},
	{"fragment", "9112 3.2", line("GET /a#b HTTP/1.1"), 400, TargetMalformed},
	{"relative target", "9112 3.2", line("GET a HTTP/1.1"), 400, TargetMalformed},
	{"authority as target", "9112 3.2", line("GET a:80 HTTP/1.1"), 400, TargetMalformed},
	{"asterisk without OPTIONS", "9112 3.2", line("GET * HTTP/1.1"), 400, TargetMalformed},
	{"asterisk and more", "9112 3.2", line("OPTIONS *a HTTP/1.1"), 400, TargetMalformed},
	{"other scheme", "9112 3.2", line("GET ftp://a/ HTTP/1.1"), 400, TargetMalformed},
	{"scheme without authority", "9112 3.2", line("GET http:/a HTTP/1.1"), 400, TargetMalformed},
	{"absolute without host", "9110 4.2.1", line("GET http:///a HTTP/1.1"), 400, TargetHost},
	{"absolute with userinfo", "4.2.4", line("GET http://u@a/ HTTP/1.1"), 400, TargetHost},
	{"absolute with a bad port", "9110 4.2.1", line("GET http://a:x/ HTTP/1.1"), 400, TargetHost},
	{"target too long", "9112 3", "GET /" + strings.Repeat("a", DefaultLine), 414, TargetTooLong},

	{"no version", "9112 2.3", "GET /\r\n\r\n", 400, VersionMalformed},
	{"no target", "9112 2.3", "GET \r\n", 400, VersionMalformed},
	{"space in the target", "9112 2.3", line("GET /a b HTTP/1.1"), 400, VersionMalformed},
	{"two spaces before the version", "9112 2.3", line("GET /  HTTP/1.1"), 400, VersionMalformed},
	{"space after the version", "9112 2.3", line("GET / HTTP/1.1 "), 400, VersionMalformed},
	{"version in lower case", "9112 2.3", line("GET / http/1.1"), 400, VersionMalformed},
	{"version with two digits", "9112 2.3", line("GET / HTTP/1.10"), 400, VersionMalformed},
	{"version without a minor", "9112 2.3", line("GET / HTTP/1"), 400, VersionMalformed},
	{"another protocol", "9112 2.3", line("GET / RTSP/1.0"), 400, VersionMalformed},
	{"HTTP/0.9 named", "9110 2.5", line("GET / HTTP/0.9"), 505, VersionUnsupported},
	{"HTTP/2.0", "9110 2.5", line("GET / HTTP/2.0"), 505, VersionUnsupported},
	{"preface of HTTP/2", "9110 2.5", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, VersionUnsupported},
	{"bare LF after the version", "9112 2.2", "GET / HTTP/1.1\nHost: a\n\n", 400, BareLF},
	{"bare CR after the version", "9112 2.2", "GET / HTTP/1.1\rHost: a\r\n", 400, BareCR},

	{"no colon", "9112 5", with("Foo"), 400, ColonMissing},
	{"empty name", "9110 5.1", with(": x"), 400, NameEmpty},
	{"space before the colon", "9112 5.1", with("Content-Length : 5"), 400, SpaceBeforeColon},
	{"tab before the colon", "9112 5.1", with("Transfer-Encoding\t: chunked"), 400, SpaceBeforeColon},
	{"space in a name", "9112 5.1", with("Fo o: x"), 400, SpaceBeforeColon},
	{"folded line", "9112 2.2, 5.2", with("Foo: x| y"), 400, LineFolding},
	{"folded coding", "9112 6.1", with("Transfer-Encoding:|\tchunked"), 400, CodingMalformed},
	{"space before the first field", "9112 2.2", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, LineFolding},
	{"control byte in a name", "9110 5.1", with("Fo\x00o: x"), 400, NameMalformed},
	{"byte over 127 in a name", "9110 5.1", with("Fo\xe9: x"), 400, NameMalformed},
	{"brackets in a name", "9110 5.1", with("Foo[]: x"), 400, NameMalformed},
	{"NUL in a value", "9110 5.5", with("Foo: a\x00b"), 400, ControlByte},
	{"vertical tab before chunked", "9110 5.5", with("Transfer-Encoding: \x0bchunked"), 400, ControlByte},
	{"DEL in a value", "9110 5.5", with("Foo: abcdefghij\x7f"), 400, ControlByte},
	{"bare CR in a value", "9112 2.2", with("Foo: a\rb"), 400, BareCR},
	{"two CR at the end", "9112 2.2", with("Foo: a\r"), 400, BareCR},
	{"bare LF in a value", "9112 2.2", with("Foo: a\nTransfer-Encoding: chunked"), 400, BareLF},
	{"bare LF at the end", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, BareLF},
	{"bare CR at the end", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\rX", 400, BareCR},
	{"too many fields", "6585 5", with(strings.Repeat("a: b|", 100)), 431, TooManyFields},
	{"one large field", "6585 5", with("Foo: " + strings.Repeat("x", DefaultHead)), 431, HeadTooLarge},
	{"large name", "6585 5", with(strings.Repeat("x", DefaultHead)), 431, HeadTooLarge},
	{"too many options", "9110 7.6.1", with("Connection: " + strings.Repeat("a,", 33)), 400, TooManyOptions},
	{"too many lines of options", "9110 7.6.1", with(strings.Repeat("Connection: a|", 5) + "B: b"), 400, TooManyOptions},

	{"no Host", "9112 3.2", "GET / HTTP/1.1\r\n\r\n", 400, HostMissing},
	{"no Host but an absolute target", "9112 3.2", "GET http://a/ HTTP/1.1\r\n\r\n", 400, HostMissing},
	{"Host twice", "9112 3.2", with("Host: b"), 400, HostTwice},
	{"the same Host twice", "9112 3.2", with("host: a"), 400, HostTwice},
	{"two hosts in one", "9112 3.2", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, HostMalformed},
	{"two hosts joined", "9112 3.2", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, HostMalformed},
	{"Host with a path", "9112 3.2", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, HostMalformed},
	{"Host with userinfo", "9112 3.2", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, HostMalformed},
	{"Host with a bad port", "9112 3.2", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400, HostMalformed},
	{"Host with a large port", "9112 3.2", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, HostMalformed},
	{"Host with two ports", "9112 3.2", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400, HostMalformed},
	{"Host of a port alone", "9112 3.2", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, HostMalformed},
	{"Host over 127", "9112 3.2", "GET / HTTP/1.1\r\nHost: caf\xe9\r\n\r\n", 400, HostMalformed},
	{"Host with a bad escape", "9112 3.2", "GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", 400, HostMalformed},
	{"Host with an open bracket", "9112 3.2", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, HostMalformed},
	{"Host with a zone", "9112 3.2", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", 400, HostMalformed},
	{"IPv6 without brackets", "9112 3.2", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400, HostMalformed},
	{"other expectation", "9110 10.1.1", with("Expect: tea"), 417, ExpectUnknown},
	{"one expectation too many", "9110 10.1.1", with("Expect: 100-continue, tea"), 417, ExpectUnknown},
	{"empty expectation", "9110 10.1.1", with("Expect:"), 417, ExpectUnknown},

	{"length that is no number", "9110 8.6", with("Content-Length: five"), 400, LengthMalformed},
	{"empty length", "9110 8.6", with("Content-Length:"), 400, LengthMalformed},
	{"length with plus", "9110 8.6", with("Content-Length: +5"), 400, LengthMalformed},
	{"length with minus", "9110 8.6", with("Content-Length: -5"), 400, LengthMalformed},
	{"hexadecimal length", "9110 8.6", with("Content-Length: 0x5"), 400, LengthMalformed},
	{"length with a fraction", "9110 8.6", with("Content-Length: 5.0"), 400, LengthMalformed},
	{"length with space", "9110 8.6", with("Content-Length: 5 5"), 400, LengthMalformed},
	{"length with an underscore", "9110 8.6", with("Content-Length: 1_0"), 400, LengthMalformed},
	{"length and comma", "9110 8.6", with("Content-Length: 5,"), 400, LengthMalformed},
	{"length too large", "9110 8.6", with("Content-Length: 9223372036854775808"), 400, LengthTooLarge},
	{"length of 2^64 and 5", "9110 8.6", with("Content-Length: 18446744073709551621"), 400, LengthTooLarge},
	{"length twice", "9112 6.3", with("Content-Length: 5|Content-Length: 5"), 400, LengthTwice},
	{"list of the same lengths", "9112 6.3", with("Content-Length: 5, 5"), 400, LengthTwice},
	{"lengths that differ", "9112 6.3", with("Content-Length: 5|content-length: 6"), 400, LengthsDiffer},
	{"list of lengths that differ", "9112 6.3", with("Content-Length: 5, 6"), 400, LengthsDiffer},
	{"length and coding", "9112 6.1, 6.3", with("Content-Length: 5|Transfer-Encoding: chunked"), 400, LengthWithCoding},
	{"coding and length", "9112 6.1, 6.3", with("Transfer-Encoding: chunked|Content-Length: 0"), 400, LengthWithCoding},
	{"chunked twice", "9112 6.1", with("Transfer-Encoding: chunked, chunked"), 400, CodingTwice},
	{"chunked in two lines", "9112 6.1", with("Transfer-Encoding: chunked|Transfer-Encoding: chunked"), 400, CodingTwice},
	{"chunked not last", "9112 6.3", with("Transfer-Encoding: chunked, identity"), 400, CodingNotLast},
	{"chunked not in the last line", "9112 6.3", with("Transfer-Encoding: chunked|Transfer-Encoding: gzip"), 400, CodingNotLast},
	{"empty coding", "9112 6.1", with("Transfer-Encoding:"), 400, CodingMalformed},
	{"comma and coding", "9112 6.1", with("Transfer-Encoding: ,chunked"), 400, CodingMalformed},
	{"coding and comma", "9112 6.1", with("Transfer-Encoding: chunked,"), 400, CodingMalformed},
	{"quoted coding", "9112 6.1", with(`Transfer-Encoding: "chunked"`), 400, CodingMalformed},
	{"coding with a parameter", "9112 6.1", with("Transfer-Encoding: chunked;a=b"), 400, CodingMalformed},
	{"two words", "9112 6.1", with("Transfer-Encoding: x chunked"), 400, CodingMalformed},
	{"coding over 127", "9112 6.1", with("Transfer-Encoding: \xa0chunked"), 400, CodingMalformed},
	{"gzip and chunked", "9112 6.1", with("Transfer-Encoding: gzip, chunked"), 501, CodingUnknown},
	{"gzip alone", "9112 6.1", with("Transfer-Encoding: gzip"), 501, CodingUnknown},
	{"almost chunked", "9112 6.1", with("Transfer-Encoding: xchunked"), 501, CodingUnknown},
	{"identity", "9112 6.1", with("Transfer-Encoding: identity"), 501, CodingUnknown},
	{"coding in HTTP/1.0", "9112 6.1", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, CodingInHTTP10},
	{"coding and length in HTTP/1.0", "9112 6.1", "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n", 400, CodingInHTTP10},
}

// refusedResponses are hostile and broken responses to a GET.
var refusedResponses = []refused{
	{"not HTTP", "9112 4", "SSH-2.0-x\r\n", 502, StatusLineMalformed},
	{"empty line first", "9112 4", "\r\nHTTP/1.1 200 OK\r\n\r\n", 502, StatusLineMalformed},
	{"HTTP/2", "9112 4", "HTTP/2.0 200 OK\r\n\r\n", 502, StatusLineMalformed},
	{"HTTP/0.9", "9112 4", "HTTP/0.9 200 OK\r\n\r\n", 502, StatusLineMalformed},
	{"ICY", "9112 4", "ICY 200 OK\r\n\r\n", 502, StatusLineMalformed},
	{"two spaces", "9112 4", "HTTP/1.1  200 OK\r\n\r\n", 502, StatusLineMalformed},
	{"two digits", "9112 4", "HTTP/1.1 20 OK\r\n\r\n", 502, StatusLineMalformed},
	{"four digits", "9112 4", "HTTP/1.1 2000 OK\r\n\r\n", 502, StatusLineMalformed},
	{"status with a sign", "9112 4", "HTTP/1.1 +20 OK\r\n\r\n", 502, StatusLineMalformed},
	{"status 099", "9112 4", "HTTP/1.1 099 OK\r\n\r\n", 502, StatusLineMalformed},
	{"status 600", "9112 4", "HTTP/1.1 600 OK\r\n\r\n", 502, StatusLineMalformed},
	{"status and letters", "9112 4", "HTTP/1.1 200OK\r\n\r\n", 502, StatusLineMalformed},
	{"control byte in the phrase", "9112 4", "HTTP/1.1 200 O\x00K\r\n\r\n", 502, StatusLineMalformed},
	{"bare LF", "9112 2.2", "HTTP/1.1 200 OK\n\n", 502, BareLF},
	{"bare LF and no phrase", "9112 2.2", "HTTP/1.1 200\n\n", 502, BareLF},
	{"bare CR", "9112 2.2", "HTTP/1.1 200 O\rK\r\n\r\n", 502, BareCR},
	{"folded line", "5.2", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 502, LineFolding},
	{"space before the colon", "9112 5.1", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", 502, SpaceBeforeColon},
	{"too many fields", "6585 5", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 101), 502, TooManyFields},
	{"head too large", "6585 5", "HTTP/1.1 200 " + strings.Repeat("x", DefaultHead), 502, HeadTooLarge},
	{"length and coding", "9112 6.1, 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 502, LengthWithCoding},
	{"lengths that differ", "9112 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 502, LengthsDiffer},
	{"length twice", "9112 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", 502, LengthTwice},
	{"negative length", "9110 8.6", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502, LengthMalformed},
	{"length too large", "9110 8.6", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", 502, LengthTooLarge},
	{"unknown coding", "9112 6.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 502, CodingUnknown},
	{"chunked twice", "9112 6.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 502, CodingTwice},
	{"coding in HTTP/1.0", "9112 6.1", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 502, CodingInHTTP10},
	{"101 without Upgrade", "9110 15.2.2", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, SwitchWithoutUpgrade},
	{"101 to HTTP/2", "9110 15.2.2", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 502, SwitchWithoutUpgrade},
}

// Each message is refused with its status and reason, whole and byte by byte.
func TestRefused(t *testing.T) {
	run := func(kind string, cases []refused, parse func(b []byte) (int, *Error)) {
		for _, c := range cases {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				n, err := parse([]byte(c.input))
				if err == nil || err.Status != c.status || err.Reason != c.reason {
					t.Fatalf("n = %d, %s, want %d %q", n, told(err), c.status, c.reason)
				}
				if n != 0 {
					t.Errorf("n = %d beside an error", n)
				}
				if section := err.Reason.Section(); !strings.Contains(section, c.section) {
					t.Errorf("the reason cites %q, want %q", section, c.section)
				}
				for i := range len(c.input) {
					if i > 300 && i < len(c.input)-20 && i%997 != 0 {
						continue // a large one needs no look at each byte of its middle
					}
					n, early := parse([]byte(c.input[:i]))
					switch {
					case early != nil && early != err:
						t.Fatalf("after %d bytes %s, whole %s", i, told(early), told(err))
					case n != 0:
						t.Fatalf("complete after %d bytes", i)
					}
				}
			})
		}
	}
	var r message.Request
	run("request", refusedRequests, func(b []byte) (int, *Error) { return ParseRequest(b, &r, nil) })
	var a message.Response
	run("response", refusedResponses, func(b []byte) (int, *Error) { return ParseResponse(b, &a, message.GET, nil) })
}

func told(err *Error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("%d %q", err.Status, err.Reason)
}

// Every reason has a text, a section and a row in a table of this package.
func TestReasons(t *testing.T) {
	seen := map[Reason]bool{fine: true, more: true}
	for _, list := range [][]refused{refusedRequests, refusedResponses} {
		for _, c := range list {
			seen[c.reason] = true
		}
	}
	for _, c := range brokenBodies {
		seen[c.reason] = true
	}
	texts := map[string]Reason{}
	for r := range NumReasons {
		if twin, double := texts[r.String()]; double || r.String() == "" {
			t.Errorf("reason %d: text %q, also of %d", r, r.String(), twin)
		}
		texts[r.String()] = r
		if r > more && (r.Section() == "" || requestFaults[r].Status < 400 || responseFaults[r].Status != 502) {
			t.Errorf("%s: section %q, status %d", r, r.Section(), requestFaults[r].Status)
		}
		if !seen[r] {
			t.Errorf("no row shows %q", r)
		}
	}
	if got := NumReasons.String(); got != fine.String() {
		t.Errorf("a reason that is none reads %q", got)
	}
}

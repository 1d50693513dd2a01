package health

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"sluis/internal/text"
)

// maxInterim is how many 1xx answers may come before the answer (RFC 9110 15.2).
const maxInterim = 8

var errTooLong = fmt.Errorf("the answer's head is longer than %d KiB", maxAnswer>>10)

// http sends the request and judges the answer.
func (p *probe) http() verdict {
	_, err := p.recorder.Write(p.question.request)
	p.asked = time.Now()
	if err != nil && isTimeout(err) {
		return answering(p.timeout).failed(err)
	}
	// After another error of writing there may be an answer all the same: a server
	// that refuses a request early says so and closes.
	limited := &io.LimitedReader{R: &p.recorder, N: maxAnswer}
	answer, err := p.readAnswer(bufio.NewReader(limited))
	if err != nil {
		if limited.N <= 0 {
			p.checker.stats.cut.Add(1)
			return bad(L7RSP, text.M("the head of the answer is longer than {size}", "size", "64KiB"), errTooLong)
		}
		if p.brokeOff() {
			err = io.ErrUnexpectedEOF // and not what a head without its end looks like
		}
		return answering(p.timeout).failed(err)
	}
	// The body isn't closed: that would read the rest of it.
	v := p.judge(answer, limited)
	v.status = answer.StatusCode
	return v
}

// brokeOff tells a head that began well and ended too soon.
func (p *probe) brokeOff() bool {
	r := &p.recorder
	return r.ended && bytes.HasPrefix(r.received, []byte("HTTP/")) &&
		!bytes.Contains(r.received, []byte("\r\n\r\n")) && !bytes.Contains(r.received, []byte("\n\n"))
}

// readAnswer reads the head of the final answer.
func (p *probe) readAnswer(r *bufio.Reader) (*http.Response, error) {
	asked := &http.Request{Method: p.question.method} // ReadResponse needs it for the body
	for range maxInterim + 1 {
		answer, err := http.ReadResponse(r, asked)
		switch {
		case err != nil:
			return nil, err
		case answer.ProtoMajor != 1:
			return nil, fmt.Errorf("the version %q", answer.Proto)
		case answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols:
			return answer, nil
		}
	}
	return nil, errors.New("1xx answers without end")
}

// judge holds the answer against what is expected.
func (p *probe) judge(answer *http.Response, limited *io.LimitedReader) verdict {
	q := p.question
	if !q.expects(answer.StatusCode) {
		return bad(L7STS, text.M("the server answered with status {status}, and {expected} is expected",
			"status", answer.StatusCode, "expected", q.expected()), nil)
	}
	if q.text == "" || isRedirect(answer.StatusCode) {
		return good(L7OK, text.M("the server answered with status {status}", "status", answer.StatusCode))
	}
	found, err := contains(answer.Body, q.text)
	switch {
	case found:
		return good(L7OK, text.M("the server answered with status {status} and the expected text", "status", answer.StatusCode))
	case err != nil && limited.N > 0:
		return answering(p.timeout).failed(err)
	case limited.N <= 0:
		p.checker.stats.cut.Add(1)
		return bad(L7RSP, text.M("the first {size} of the answer don't have the text {text}", "size", "64KiB", "text", q.text), nil)
	}
	return bad(L7RSP, text.M("the answer doesn't have the text {text}", "text", q.text), nil)
}

// isRedirect tells a status that sends the client elsewhere (RFC 9110 15.4).
func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// contains looks for the text in what r yields, also where it is split over reads.
func contains(r io.Reader, text string) (bool, error) {
	want := []byte(text)
	buf := make([]byte, 0, 4096+len(want))
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if bytes.Contains(buf, want) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if tail := len(want) - 1; len(buf) > tail { // all but what may begin the text is done
			buf = buf[:copy(buf, buf[len(buf)-tail:])]
		}
	}
}

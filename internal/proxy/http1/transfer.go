package http1

import (
	"strconv"

	"sluis/internal/proxy/message"
)

// The bounds of what a chunked body may hold beside its data.
const (
	// maxChunkDigits bounds a chunk size: 2^52-1 fits, as in HAProxy, and so does
	// no number that somebody's arithmetic turns into another one.
	maxChunkDigits = 13
	// maxChunkLine is the most bytes of one chunk's extensions.
	maxChunkLine = 1 << 10
	// maxExtensions is the most bytes of extensions in a body, beyond one for each
	// dataPerExtension bytes of data (a signature of each chunk is in order, a body
	// that is all extensions is not).
	maxExtensions    = 16 << 10
	dataPerExtension = 64
	// maxTrailer is the most bytes of a trailer section; maxTrailerFields its
	// lines.
	maxTrailer       = 8 << 10
	maxTrailerFields = 32
)

// Transfer carries one body across: it takes the bytes of one framing and gives
// those of another. It keeps no byte; a trailer line that is not there as a whole
// is left to come again. Start begins a body; the zero Transfer is done.
type Transfer struct {
	// left is what is still to come: of a Sized body, or of the present chunk.
	left int64
	// carried counts the bytes of data.
	carried int64
	// extensions counts bytes of chunk extensions, less what data has paid for.
	extensions int
	// line counts the present chunk line's extension bytes; trailer and lines what
	// there was of the trailer section.
	line, trailer, lines int
	digits               uint8
	state                state
	in, out              message.BodyKind
}

// state is where in a chunked body the next byte stands (RFC 9112 7.1):
//
//	size ─┬─ extension… ─┬─► lineLF ─┬─► data ─► dataCR ─► dataLF ─► size
//	      └──────────────┘           └─► trailers ─► done
type state uint8

const (
	done          state = iota
	plain               // not chunked
	size                // hexadecimal digits
	sizeSpace           // white space behind the size, before ";"
	extension           // behind ";", before the name
	extensionName       // in the name
	nameSpace           // white space behind the name
	valueStart          // behind "="
	token               // in a value that is a token
	quoted              // in a value that is a quoted string
	quotedPair          // behind its backslash
	valueEnd            // behind a value
	lineLF              // behind the CR of the chunk's line
	data
	dataCR
	dataLF
	trailers
)

// Start begins a body that comes framed as in and leaves framed as out. None as
// out drops the body.
func (t *Transfer) Start(in message.Body, out message.BodyKind) {
	*t = Transfer{in: in.Kind, out: out}
	switch in.Kind {
	case message.None:
	case message.Sized:
		t.state, t.left = plain, in.Length
	case message.UntilClose:
		t.state = plain
	case message.Chunked:
		t.state = size
	}
}

// Step takes a part of the body. What is to be sent is out, which is dst and what
// was appended to it, then pass, which aliases in. taken is how much of in was
// used: all of it, but for what follows the body's end (done) or a trailer line
// that is not there as a whole; the caller offers that again with what follows.
// At most len(in)+32 bytes are appended to dst.
//
// After an error what was sent so far must not look complete: the caller breaks
// the connection.
func (t *Transfer) Step(dst, in []byte) (out, pass []byte, taken int, ended bool, err *Error) {
	switch t.state {
	case done:
		return dst, nil, 0, true, nil
	case plain:
		out, pass, taken = t.plain(dst, in)
	default:
		var why Reason
		out, pass, taken, why = t.chunked(dst, in)
		if why != fine {
			return dst, nil, 0, false, &requestFaults[why]
		}
	}
	return out, pass, taken, t.state == done, nil
}

// Finish ends a body because the connection it came on has ended: right for
// UntilClose, an error for others that are not complete (RFC 9112 8). It appends
// what is still to be sent.
func (t *Transfer) Finish(dst []byte) ([]byte, *Error) {
	switch {
	case t.state == done:
		return dst, nil
	case t.in != message.UntilClose:
		return dst, &requestFaults[BodyCutShort]
	}
	t.state = done
	if t.out == message.Chunked {
		dst = append(dst, "0\r\n\r\n"...)
	}
	return dst, nil
}

// Left is how many bytes of a Sized body are still to come; -1 for others.
func (t *Transfer) Left() int64 {
	if t.in != message.Sized {
		return -1
	}
	return t.left
}

// Carried is how many bytes of data there were so far, without any framing.
func (t *Transfer) Carried() int64 { return t.carried }

// Done says that the body is complete.
func (t *Transfer) Done() bool { return t.state == done }

// plain takes a part of a body that is not chunked.
func (t *Transfer) plain(dst, in []byte) (out, pass []byte, taken int) {
	run := in
	if t.in == message.Sized {
		if int64(len(run)) > t.left {
			run = run[:t.left]
		}
		t.left -= int64(len(run))
		if t.left == 0 {
			t.state = done
		}
	}
	t.carried += int64(len(run))
	switch t.out {
	case message.None:
		return dst, nil, len(run)
	case message.Sized, message.UntilClose:
		return dst, run, len(run)
	case message.Chunked:
	}
	if len(run) > 0 {
		dst = appendChunkLine(dst, int64(len(run)))
		dst = append(dst, run...)
		dst = append(dst, "\r\n"...)
	}
	if t.state == done {
		dst = append(dst, "0\r\n\r\n"...)
	}
	return dst, nil, len(run)
}

// chunked takes a part of a chunked body. All data that more follows is copied to
// dst, so that one part is one write; the last run is passed.
func (t *Transfer) chunked(dst, in []byte) (out, pass []byte, taken int, why Reason) {
	for i := 0; i < len(in); {
		switch t.state {
		case data:
			run := in[i:]
			if int64(len(run)) > t.left {
				run = run[:t.left]
			}
			t.left -= int64(len(run))
			t.carried += int64(len(run))
			i += len(run)
			if t.left == 0 {
				t.state = dataCR
			}
			switch {
			case t.out == message.None:
			case i == len(in):
				return dst, run, i, fine
			default:
				dst = append(dst, run...)
			}
		case trailers:
			n, why := t.trailerLine(&dst, in[i:])
			if why != fine || n == 0 {
				return dst, nil, i, why
			}
			if i += n; t.state == done {
				return dst, nil, i, fine
			}
		case size:
			why = t.sizeByte(in[i])
			i++
		case lineLF, dataCR, dataLF:
			dst, why = t.lineByte(dst, in[i])
			i++
		default:
			why = t.extensionByte(in[i])
			i++
		}
		if why != fine {
			return dst, nil, 0, why
		}
	}
	return dst, nil, len(in), fine
}

// sizeByte takes a byte of the chunk size. It is hexadecimal digits alone; a sign,
// "0x" or white space before it would be read differently by others.
func (t *Transfer) sizeByte(c byte) Reason {
	switch {
	case class[c]&hexByte != 0:
		if t.digits++; t.digits > maxChunkDigits {
			return ChunkTooLarge
		}
		t.left = t.left<<4 | int64(hexValue(c))
		return fine
	case c == ' ' || c == '\t':
		if t.digits == 0 {
			return ChunkSpace
		}
		t.state = sizeSpace
	case t.digits == 0:
		return ChunkSizeMalformed
	case c == ';':
		t.state = extension
	case c == '\r':
		t.state = lineLF
	case c == '\n':
		return ChunkLineEnd
	default:
		return ChunkSizeMalformed
	}
	return fine
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// lineByte takes what ends a chunk's line or its data.
func (t *Transfer) lineByte(dst []byte, c byte) ([]byte, Reason) {
	switch t.state {
	case dataCR:
		if c != '\r' {
			return dst, ChunkDataEnd
		}
		t.state = dataLF
	case dataLF:
		if c != '\n' {
			return dst, ChunkDataEnd
		}
		t.state, t.digits, t.line = size, 0, 0
		if t.out == message.Chunked {
			dst = append(dst, "\r\n"...)
		}
	default: // lineLF
		if c != '\n' {
			return dst, ChunkLineEnd
		}
		t.extensions = max(0, t.extensions-int(t.left/dataPerExtension))
		t.state = data
		if t.left == 0 {
			t.state = trailers
		}
		if t.out == message.Chunked {
			dst = appendChunkLine(dst, t.left)
		}
	}
	return dst, fine
}

// appendChunkLine appends a chunk's first line as we write it, without extensions:
// they are for the next hop alone (RFC 9112 7.1.1).
func appendChunkLine(dst []byte, n int64) []byte {
	dst = strconv.AppendInt(dst, n, 16)
	return append(dst, "\r\n"...)
}

// extensionByte takes a byte of the chunk's line behind the size (RFC 9112 7.1.1):
//
//	chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
//
// Extensions are counted, read only as far as it takes to know where they end, and
// dropped. White space that no ";" follows is not in this grammar.
func (t *Transfer) extensionByte(c byte) Reason {
	t.line++
	t.extensions++
	if t.line > maxChunkLine || t.extensions > maxExtensions {
		return ChunkExtensionTooLong
	}
	isToken := class[c]&tokenByte != 0
	isSpace := c == ' ' || c == '\t'
	if c == '\n' && t.state != quoted && t.state != quotedPair {
		return ChunkLineEnd
	}
	switch t.state {
	case sizeSpace:
		switch {
		case c == ';':
			t.state = extension
		case !isSpace:
			return ChunkSpace
		}
	case extension:
		if isToken {
			t.state = extensionName
		} else if !isSpace {
			return ChunkExtensionMalformed
		}
	case extensionName, nameSpace:
		return t.afterName(c, isToken && t.state == extensionName, isSpace)
	case valueStart:
		switch {
		case isToken:
			t.state = token
		case c == '"':
			t.state = quoted
		case !isSpace:
			return ChunkExtensionMalformed
		}
	case token, valueEnd:
		return t.afterValue(c, isToken && t.state == token, isSpace)
	default:
		return t.quotedByte(c)
	}
	return fine
}

func (t *Transfer) afterName(c byte, more, space bool) Reason {
	switch {
	case more:
	case space:
		t.state = nameSpace
	case c == '=':
		t.state = valueStart
	case c == ';':
		t.state = extension
	case c == '\r' && t.state == extensionName:
		t.state = lineLF
	case c == '\r':
		return ChunkSpace
	default:
		return ChunkExtensionMalformed
	}
	return fine
}

func (t *Transfer) afterValue(c byte, more, space bool) Reason {
	switch {
	case more:
	case space:
		t.state = sizeSpace // only ";" may follow
	case c == ';':
		t.state = extension
	case c == '\r':
		t.state = lineLF
	default:
		return ChunkExtensionMalformed
	}
	return fine
}

// quotedByte takes a byte of a quoted string (RFC 9110 5.6.4). No line can end in
// one: a CR or LF is as wrong there as any control byte.
func (t *Transfer) quotedByte(c byte) Reason {
	switch {
	case c < ' ' && c != '\t' || c == 0x7f:
		return ChunkExtensionMalformed
	case t.state == quotedPair:
		t.state = quoted
	case c == '\\':
		t.state = quotedPair
	case c == '"':
		t.state = valueEnd
	}
	return fine
}

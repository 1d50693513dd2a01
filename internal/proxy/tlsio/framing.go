package tlsio

// framing follows the records of a connection's input by their headers
// (RFC 8446 5.1), to know without asking crypto/tls that nothing is left inside:
// the question costs a failed read and an allocation there.
type framing struct {
	header [5]byte
	have   uint8  // bytes of header that are there
	body   uint16 // bytes of the record that are still to come
	// due is how many whole records went in and have not come out as data. It is
	// never too small: a record that holds no data, those of the handshake first of
	// all, is counted until crypto/tls itself says that it would block. So the first
	// Read after the handshake always asks.
	due int64
}

// pass sees the bytes that go in.
func (f *framing) pass(b []byte) {
	for len(b) > 0 {
		if f.body > 0 {
			n := min(len(b), int(f.body))
			b = b[n:]
			f.body -= uint16(n)
			if f.body == 0 {
				f.due++
			}
			continue
		}
		n := copy(f.header[f.have:], b)
		b = b[n:]
		f.have += uint8(n)
		if int(f.have) < len(f.header) {
			return
		}
		f.have = 0
		f.body = uint16(f.header[3])<<8 | uint16(f.header[4])
		if f.body == 0 {
			f.due++
		}
	}
}

// settled says that every byte that went in has come out as data.
func (f *framing) settled() bool { return f.due <= 0 && f.body == 0 && f.have == 0 }

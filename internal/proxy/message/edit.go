package message

// Get returns the value of the first field with this ID, nil if there is none.
// Other never matches: use Find.
func (r *Request) Get(id ID) []byte { return get(r.Fields, id) }

// Find returns the value of the first field with this name, in any case; nil if
// there is none. name is in lower case.
func (r *Request) Find(name string) []byte { return find(r.Fields, name) }

// Has says whether there is a field with this name, in lower case. A field with
// an empty value is there.
func (r *Request) Has(name string) bool { return index(r.Fields, name) >= 0 }

// Add appends a field line. name is as it is to be written; value must hold no
// control bytes (ValidValue). A second Host cannot be added: it is set.
func (r *Request) Add(name, value []byte) {
	id := Lookup(name)
	if id == Host {
		r.Set(name, value)
		return
	}
	r.Fields = append(r.Fields, Field{Name: name, Value: value, ID: id})
}

// Set gives the field this one value: the first field of this name takes it,
// others of this name are removed; where there is none it is added. Setting Host
// sets Authority.
func (r *Request) Set(name, value []byte) {
	r.Fields = set(r.Fields, name, value)
	if Lookup(name) == Host {
		r.Authority = value
	}
}

// Remove removes all fields with this ID and says how many. Other removes
// nothing. Host is not removed: without it the request has no addressee.
func (r *Request) Remove(id ID) int {
	if id == Host {
		return 0
	}
	return remove(r.Fields, id)
}

// RemoveName removes all fields with this name, given in lower case. Host is not
// removed.
func (r *Request) RemoveName(name string) int {
	if name == "host" {
		return 0
	}
	return removeName(r.Fields, name)
}

// SetTarget gives the request another target, in origin-form.
func (r *Request) SetTarget(target []byte) {
	r.Target, r.Path, r.Query, r.HasQuery = target, target, nil, false
	for i, c := range target {
		if c == '?' {
			r.Path, r.Query, r.HasQuery = target[:i], target[i+1:], true
			return
		}
	}
}

// Host is the name or address of Authority without its port and without the dot
// at its end; not in lower case. An IPv6 address keeps its brackets.
func (r *Request) Host() []byte {
	host, _ := SplitAuthority(r.Authority)
	if n := len(host); n > 1 && host[n-1] == '.' {
		return host[:n-1]
	}
	return host
}

// Port is the port of Authority; empty if it names none.
func (r *Request) Port() []byte {
	_, port := SplitAuthority(r.Authority)
	return port
}

// SplitAuthority takes "host:port" apart. The colons of an IPv6 address in
// brackets belong to the host.
func SplitAuthority(authority []byte) (host, port []byte) {
	for i := len(authority) - 1; i >= 0; i-- {
		switch c := authority[i]; {
		case c == ':':
			return authority[:i], authority[i+1:]
		case c-'0' > 9:
			return authority, nil
		}
	}
	return authority, nil
}

// Get returns the value of the first field with this ID, nil if there is none.
// Other never matches: use Find.
func (r *Response) Get(id ID) []byte { return get(r.Fields, id) }

// Find returns the value of the first field with this name, in any case; nil if
// there is none. name is in lower case.
func (r *Response) Find(name string) []byte { return find(r.Fields, name) }

// Has says whether there is a field with this name, in lower case.
func (r *Response) Has(name string) bool { return index(r.Fields, name) >= 0 }

// Add appends a field line, as that of Request.
func (r *Response) Add(name, value []byte) {
	r.Fields = append(r.Fields, Field{Name: name, Value: value, ID: Lookup(name)})
}

// Set gives the field this one value, as that of Request.
func (r *Response) Set(name, value []byte) { r.Fields = set(r.Fields, name, value) }

// Remove removes all fields with this ID and says how many.
func (r *Response) Remove(id ID) int { return remove(r.Fields, id) }

// RemoveName removes all fields with this name, given in lower case.
func (r *Response) RemoveName(name string) int { return removeName(r.Fields, name) }

// ValidValue says whether v may be the value of a field: no control byte but the
// tab (RFC 9110 5.5). What comes from a parser is valid; what an administrator
// wrote is checked once, when it is compiled.
func ValidValue(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func get(fields []Field, id ID) []byte {
	if id == Other {
		return nil
	}
	for i := range fields {
		if f := &fields[i]; f.ID == id && len(f.Name) > 0 {
			return present(f.Value)
		}
	}
	return nil
}

func find(fields []Field, name string) []byte {
	if i := index(fields, name); i >= 0 {
		return present(fields[i].Value)
	}
	return nil
}

// present keeps an empty value apart from no field.
func present(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}

func index(fields []Field, name string) int {
	if name == "" {
		return -1
	}
	for i := range fields {
		if EqualFold(fields[i].Name, name) {
			return i
		}
	}
	return -1
}

func set(fields []Field, name, value []byte) []Field {
	done := false
	for i := range fields {
		switch f := &fields[i]; {
		case !EqualFoldBytes(f.Name, name):
		case done:
			f.Name = nil
		default:
			f.Value, done = value, true
		}
	}
	if !done {
		fields = append(fields, Field{Name: name, Value: value, ID: Lookup(name)})
	}
	return fields
}

func remove(fields []Field, id ID) int {
	n := 0
	for i := range fields {
		if f := &fields[i]; id != Other && f.ID == id && len(f.Name) > 0 {
			f.Name = nil
			n++
		}
	}
	return n
}

func removeName(fields []Field, name string) int {
	n := 0
	for i := range fields {
		if f := &fields[i]; len(f.Name) > 0 && EqualFold(f.Name, name) {
			f.Name = nil
			n++
		}
	}
	return n
}

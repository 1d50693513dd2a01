package http1

// Error says why a message was refused. Values are made once; they are compared
// by Reason.
type Error struct {
	// Status is what a client is to be told: 400 and its like for a request, 502
	// for a response. The connection is closed after it.
	Status int
	Reason Reason
}

// Error is the reason in plain English.
func (e *Error) Error() string { return e.Reason.String() }

// Reason is one way for a message to be wrong.
type Reason uint8

// The reasons. more is none: the message is right as far as it goes.
const (
	fine Reason = iota
	more

	// The start line.
	MethodMalformed
	MethodTooLong
	MethodConnect
	TargetMalformed
	TargetTooLong
	TargetHost
	VersionMalformed
	VersionUnsupported
	StatusLineMalformed

	// Field lines.
	BareCR
	BareLF
	ControlByte
	ColonMissing
	NameMalformed
	NameEmpty
	SpaceBeforeColon
	LineFolding
	TooManyFields
	HeadTooLarge
	TooManyOptions

	// Host and Expect.
	HostMissing
	HostTwice
	HostMalformed
	ExpectUnknown

	// Framing.
	LengthMalformed
	LengthTooLarge
	LengthTwice
	LengthsDiffer
	LengthWithCoding
	CodingMalformed
	CodingTwice
	CodingNotLast
	CodingUnknown
	CodingInHTTP10
	SwitchWithoutUpgrade

	// Bodies.
	ChunkSizeMalformed
	ChunkTooLarge
	ChunkSpace
	ChunkExtensionMalformed
	ChunkExtensionTooLong
	ChunkLineEnd
	ChunkDataEnd
	TrailerMalformed
	TrailerTooLarge
	BodyCutShort

	// NumReasons is the number of reasons, for tables of counters.
	NumReasons
)

// String is the reason in plain English, as it stands in logs.
func (r Reason) String() string { return r.entry().text }

// Section is where the RFCs say so.
func (r Reason) Section() string { return r.entry().section }

func (r Reason) entry() *reasonEntry {
	if r >= NumReasons {
		r = fine
	}
	return &reasons[r]
}

type reasonEntry struct {
	// status is that of a request; a response's is always 502.
	status  int
	section string
	text    string
}

var reasons = [NumReasons]reasonEntry{
	fine: {0, "", "nothing is wrong"},
	more: {0, "", "the message is not complete"},

	MethodMalformed:     {400, "RFC 9112 3.1", "the method is not a token"},
	MethodTooLong:       {501, "RFC 9112 3", "the method is longer than any that is known"},
	MethodConnect:       {501, "RFC 9110 9.3.6, 15.6.2", "CONNECT is not done here"},
	TargetMalformed:     {400, "RFC 9112 3.2", "the request target has a form or a byte that is not allowed"},
	TargetTooLong:       {414, "RFC 9112 3", "the request target is too long"},
	TargetHost:          {400, "RFC 9110 4.2.1, 4.2.4", "the request target names no proper host"},
	VersionMalformed:    {400, "RFC 9112 2.3", "the request line does not end with a version"},
	VersionUnsupported:  {505, "RFC 9110 2.5, 15.6.6", "the version is not HTTP/1"},
	StatusLineMalformed: {400, "RFC 9112 4", "the status line is malformed"},

	BareCR:           {400, "RFC 9112 2.2", "a carriage return without a line feed"},
	BareLF:           {400, "RFC 9112 2.2, 11.2", "a line feed without a carriage return"},
	ControlByte:      {400, "RFC 9110 5.5", "a control byte in a field value"},
	ColonMissing:     {400, "RFC 9112 5", "a field line without a colon"},
	NameMalformed:    {400, "RFC 9110 5.1", "a field name is not a token"},
	NameEmpty:        {400, "RFC 9110 5.1", "a field line without a name"},
	SpaceBeforeColon: {400, "RFC 9112 5.1", "white space in a field name or before its colon"},
	LineFolding:      {400, "RFC 9112 2.2, 5.2", "a field line that begins with white space"},
	TooManyFields:    {431, "RFC 6585 5", "too many field lines"},
	HeadTooLarge:     {431, "RFC 6585 5", "the head is too large"},
	TooManyOptions:   {400, "RFC 9110 7.6.1", "too many members in Connection"},

	HostMissing:   {400, "RFC 9112 3.2", "no Host field"},
	HostTwice:     {400, "RFC 9112 3.2", "two Host fields"},
	HostMalformed: {400, "RFC 9112 3.2", "the Host field is not a host with an optional port"},
	ExpectUnknown: {417, "RFC 9110 10.1.1", "an expectation other than 100-continue"},

	LengthMalformed:      {400, "RFC 9110 8.6", "the Content-Length is not a number"},
	LengthTooLarge:       {400, "RFC 9110 8.6", "the Content-Length is too large a number"},
	LengthTwice:          {400, "RFC 9112 6.3", "two Content-Length values, although the same"},
	LengthsDiffer:        {400, "RFC 9112 6.3", "two Content-Length values that differ"},
	LengthWithCoding:     {400, "RFC 9112 6.1, 6.3", "both Content-Length and Transfer-Encoding"},
	CodingMalformed:      {400, "RFC 9112 6.1, 7", "the Transfer-Encoding is not a list of tokens"},
	CodingTwice:          {400, "RFC 9112 6.1", "chunked is named twice in Transfer-Encoding"},
	CodingNotLast:        {400, "RFC 9112 6.3", "chunked is not the last coding in Transfer-Encoding"},
	CodingUnknown:        {501, "RFC 9112 6.1", "a transfer coding that is not known here"},
	CodingInHTTP10:       {400, "RFC 9112 6.1", "Transfer-Encoding in HTTP/1.0"},
	SwitchWithoutUpgrade: {400, "RFC 9110 15.2.2", "101 without an Upgrade field"},

	ChunkSizeMalformed:      {400, "RFC 9112 7.1", "a chunk size that is not a hexadecimal number"},
	ChunkTooLarge:           {400, "RFC 9112 7.1", "a chunk size that is too large a number"},
	ChunkSpace:              {400, "RFC 9112 7.1", "white space in a chunk's first line"},
	ChunkExtensionMalformed: {400, "RFC 9112 7.1.1", "a malformed chunk extension"},
	ChunkExtensionTooLong:   {400, "RFC 9112 7.1.1", "too much of chunk extensions"},
	ChunkLineEnd:            {400, "RFC 9112 2.2, 7.1", "a chunk's first line that does not end with CR LF"},
	ChunkDataEnd:            {400, "RFC 9112 7.1", "a chunk whose data does not end with CR LF"},
	TrailerMalformed:        {400, "RFC 9112 7.1.2", "a malformed trailer field"},
	TrailerTooLarge:         {400, "RFC 9112 7.1.2", "the trailer section is too large"},
	BodyCutShort:            {400, "RFC 9112 6.3, 8", "the body ended too early"},
}

// requestFaults and responseFaults are the errors, made once.
var (
	requestFaults  = makeFaults(0)
	responseFaults = makeFaults(502) // RFC 9110 15.6.3
)

func makeFaults(status int) (out [NumReasons]Error) {
	for i := range out {
		out[i] = Error{Status: reasons[i].status, Reason: Reason(i)}
		if status != 0 {
			out[i].Status = status
		}
	}
	return out
}

package upstream

import "net/netip"

// Whether a server is used follows from four things that are kept apart: what the
// document says, what the operator set (Admin), what health checks say (Health),
// and whether a recovered server waits for the operator (AwaitsReady). The first
// line that fits holds; * is anything.
//
//	document             admin        health     awaits  new clients  bound clients
//	disabled             *            *          *       no           no
//	address not known    *            *          *       no           no
//	*                    maintenance  *          *       no           no
//	*                    *            down       *       no           no
//	*                    *            not down   yes     no           no
//	*                    drain        not down   no      no           yes
//	weight 0 (A)         ready        not down   no      no           yes
//	backup (B)           ready        not down   no      if needed    yes
//	active               ready        not down   no      yes          yes
//
// "Not down" is up, unknown (nobody asks) and checking (no answer yet): a server is
// believed to be well until a check says otherwise. Open exchanges go on in every
// line. (A) is the document's weight or the operator's. (B) the first backup in the
// document's order that could take clients, when no active server can.
//
// A server awaits the operator when all of this holds: its backend returns clients
// by hand, it is an active one, its health went from down to up, and another
// server can take clients meanwhile. When no other can any longer, it is in service
// again at once and awaits nothing: clients are never moved back by themselves, but
// neither are they turned away while a server is well. Backups never await: their
// return moves nobody.

// Health is what health checks say of a server.
type Health uint8

// The healths.
const (
	Unknown  Health = iota // nobody asks; it is believed to be up
	Checking               // no answer yet; it is believed to be up
	Up
	Down
)

func (h Health) String() string {
	return [...]string{"unknown", "checking", "up", "down"}[h]
}

// Admin is what the operator set a server to.
type Admin uint8

// The settings.
const (
	Ready       Admin = iota // takes clients
	Drain                    // takes only clients that are bound to it
	Maintenance              // takes none
)

func (a Admin) String() string {
	return [...]string{"ready", "drain", "maintenance"}[a]
}

// State is what is known of a server at one moment.
type State struct {
	Health Health
	Admin  Admin
	// AwaitsReady: it recovered and waits for the operator to bring it back.
	AwaitsReady bool
	// Disabled: the document takes it out.
	Disabled bool
	// Backup: the document makes it a backup.
	Backup bool
	// Weight is its share of the work, as the document or the operator says, rounded
	// up.
	Weight int
	// Start is how much of its weight and places a server has that starts slowly, in
	// percent; 100 = all.
	Start int
	// Usable: new clients may come (as to a backup: if it is needed).
	Usable bool
	// Bound: clients that are bound to it may come.
	Bound bool
	// Serving: new clients do come. Of the backups that is the one in use.
	Serving bool
	// Address is where it is; zero = not known yet.
	Address netip.AddrPort
	// Since is when health, admin or waiting last changed, in ns of the set's clock.
	Since int64
	// Reason is why the health is what it is, as the health check said.
	Reason string
}

// percent is 100 %.
const percent = 100

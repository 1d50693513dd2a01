package config

import "time"

// System holds the machine's own names, times and ways in.
type System struct {
	// Hostname is the machine's name without its domain: letters, digits, hyphens.
	Hostname string `json:"hostname" format:"label"`
	// Domain completes the host name.
	Domain string `json:"domain" format:"domain"`
	// DNSServers answer the appliance's own questions, asked in this order.
	DNSServers []string `json:"dns_servers" label:"DNS servers" format:"address"`
	// TimeServers keep the clock right (NTP), by name or address.
	TimeServers []string `json:"time_servers" format:"host"`
	// Timezone is the zone of times in pages, logs and files, by its name in the
	// time-zone database.
	Timezone string `json:"timezone" label:"Time zone" format:"timezone"`
	// Admin is how administrators reach the GUI and the API.
	Admin Admin `json:"admin"`
	// SSH is the secure shell on the machine.
	SSH SSH `json:"ssh" label:"SSH"`
	// OutgoingProxy is used for everything that the appliance itself fetches.
	OutgoingProxy OutgoingProxy `json:"outgoing_proxy"`
}

// Admin is how administrators reach the GUI and the API over the network. The
// machine itself (loopback and the local socket) always gets through to the
// login, so that nobody can shut out the person at the console.
type Admin struct {
	// Protocol is how the GUI and the API are spoken to.
	Protocol AdminProtocol `json:"protocol"`
	// Port is where they listen; choose another than 443 when sites use that.
	Port uint16 `json:"port" range:"1..65535"`
	// Certificate is shown to administrators' browsers; empty = a self-signed one
	// that Sluis makes for itself.
	Certificate string `json:"certificate" ref:"certificates" when:"protocol=https"`
	// RedirectHTTP answers port 80 of the appliance's own addresses with a redirect
	// to the GUI. Leave it off when sites use that port.
	RedirectHTTP bool `json:"redirect_http" label:"Redirect HTTP" when:"protocol=https"`
	// CheckFormOrigin refuses forms that another site's page has sent (by Origin,
	// fetch metadata and Referer).
	CheckFormOrigin bool `json:"check_form_origin" label:"Check where forms come from"`
	// OtherNames are further host names by which administrators reach this appliance.
	OtherNames []string `json:"other_names" label:"Other names of this appliance" format:"host"`
	// Interfaces are the only ones on which GUI and API answer; empty = all.
	Interfaces []string `json:"interfaces" label:"Management interfaces" ref:"interfaces" protects:"true"`
	// Sources are the only networks from which GUI and API answer: prefixes,
	// addresses or aliases of networks; empty = any.
	Sources []string `json:"sources" label:"Allowed sources" refs:"alias" format:"network" protects:"true"`
	// LoginBanner is shown before the login.
	LoginBanner string `json:"login_banner" format:"text"`
	// SessionTimeout ends a session that nobody uses.
	SessionTimeout Duration `json:"session_timeout" range:"1m..24h"`
	// LoginProtection slows down and blocks whoever guesses passwords.
	LoginProtection LoginProtection `json:"login_protection"`
}

// AdminProtocol is how the GUI and the API are spoken to.
type AdminProtocol string

// The admin protocols.
const (
	AdminHTTPS AdminProtocol = "https" // with a certificate
	AdminHTTP  AdminProtocol = "http"  // in clear: only for a network that nobody else can listen to
)

// Values lists the admin protocols.
func (AdminProtocol) Values() []string { return []string{"https", "http"} }

// LoginProtection slows down and blocks whoever guesses passwords.
type LoginProtection struct {
	// Threshold is how many wrong logins from one source within the detection time lead to a block.
	Threshold int `json:"threshold" unit:"wrong logins" range:"3..1000"`
	// BlockTime is how long the first block lasts; each further one lasts half as
	// long again.
	BlockTime Duration `json:"block_time" range:"10s..24h"`
	// DetectionTime is how long a wrong login is remembered.
	DetectionTime Duration `json:"detection_time" range:"1m..24h"`
	// PassList holds networks that are never blocked: prefixes, addresses or aliases.
	PassList []string `json:"pass_list" refs:"alias" format:"network"`
}

// SSH is the secure shell on the machine.
type SSH struct {
	// Enabled starts the secure shell server.
	Enabled bool `json:"enabled"`
	// Port is where it listens.
	Port uint16 `json:"port" range:"1..65535" when:"enabled=true"`
	// KeyOnly refuses passwords and takes public keys alone.
	KeyOnly bool `json:"key_only" label:"Public keys only" when:"enabled=true"`
}

// OutgoingProxy is an HTTP proxy between this appliance and the outside.
type OutgoingProxy struct {
	// URL is the proxy's address, such as http://proxy.example.net:3128; empty = none.
	URL string `json:"url" label:"URL" format:"proxy_url"`
	// Username is given to the proxy; empty = it asks for none.
	Username string `json:"username"`
	// Password is given to the proxy.
	Password Secret `json:"password"`
}

// Administrator is a person or a program that may log in.
type Administrator struct {
	// Name is typed at the login.
	Name string `json:"name" required:"true"`
	// FullName says who that is.
	FullName string `json:"full_name"`
	// Role says what the administrator may do.
	Role Role `json:"role"`
	// Objects limits an operator to these backends and frontends; empty = all.
	Objects []string `json:"objects" refs:"backend frontend" format:"none" when:"role=operator"`
	// Disabled refuses every login.
	Disabled bool `json:"disabled"`
	// Expires ends the account; absent = never.
	Expires *time.Time `json:"expires,omitempty"`
	// Password sets the password when the document is applied; empty = it is set by
	// the administrator and kept apart from the configuration.
	Password Secret `json:"password"`
	// SSHKeys are public keys for the secure shell, in authorized_keys form.
	SSHKeys []string `json:"ssh_keys" label:"SSH keys" format:"ssh_key"`
}

// Role says what an administrator may do.
type Role string

// The roles.
const (
	RoleAdministrator Role = "administrator" // everything
	RoleOperator      Role = "operator"      // look, and act on servers at run time
	RoleViewer        Role = "viewer"        // look
)

// Values lists the roles.
func (Role) Values() []string { return []string{"administrator", "operator", "viewer"} }

// Notifications say who is told what, and how.
type Notifications struct {
	// Channels are the ways to tell somebody.
	Channels []NotificationChannel `json:"channels"`
	// Rules say which events go to which channels.
	Rules []NotificationRule `json:"rules"`
}

// NotificationChannel is one way to tell somebody.
type NotificationChannel struct {
	// Name identifies the channel.
	Name string `json:"name" required:"true"`
	// Type is the kind of channel.
	Type ChannelType `json:"type"`
	// Description says whom it reaches.
	Description string `json:"description"`
}

// ChannelType is the kind of a notification channel.
type ChannelType string

// The kinds of notification channels.
const (
	ChannelEmail   ChannelType = "email"   // a mail by SMTP
	ChannelWebhook ChannelType = "webhook" // a POST to a URL
	ChannelSyslog  ChannelType = "syslog"  // a line to a log server
)

// Values lists the kinds of channels.
func (ChannelType) Values() []string { return []string{"email", "webhook", "syslog"} }

// NotificationRule sends events to channels.
type NotificationRule struct {
	// Name identifies the rule.
	Name string `json:"name" required:"true"`
	// Events are names of events, or their beginnings followed by a star
	// ("health.*").
	Events []string `json:"events" format:"event"`
	// Channels are told of them.
	Channels []string `json:"channels" ref:"notifications.channels"`
}

// Logging says where logs go and how long they are kept.
type Logging struct {
	// Targets are places outside this machine that get a copy.
	Targets []LogTarget `json:"targets"`
	// Retention is how long logs are kept on this machine.
	Retention Duration `json:"retention" range:"1h..87600h"`
	// MaxSize is how much room logs may take on this machine.
	MaxSize Size `json:"max_size" range:"1MiB..1024GiB"`
}

// LogTarget is a place outside this machine that gets a copy of the logs.
type LogTarget struct {
	// Name identifies the target.
	Name string `json:"name" required:"true"`
	// Type is how the target is spoken to.
	Type LogTargetType `json:"type"`
	// Address is the target's name or address, with a port if it isn't 514.
	Address string `json:"address" format:"host_port" required:"true"`
	// Description says whose it is.
	Description string `json:"description"`
}

// LogTargetType is how a log target is spoken to.
type LogTargetType string

// The ways to speak to a log target.
const (
	LogSyslogUDP LogTargetType = "syslog_udp" // RFC 5424 over UDP
	LogSyslogTCP LogTargetType = "syslog_tcp" // RFC 5424 over TCP
	LogSyslogTLS LogTargetType = "syslog_tls" // RFC 5424 over TLS
)

// Values lists the ways.
func (LogTargetType) Values() []string { return []string{"syslog_udp", "syslog_tcp", "syslog_tls"} }
